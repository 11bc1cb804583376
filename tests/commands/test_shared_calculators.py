"""Calculators in other people's hands: threads, copies, misspelt keywords, and what they print."""

import copy
import pickle
import threading

import numpy as np
import pytest
from conftest import make_frames
from learning_runs import calculator
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.errors import ConfigError, MlpotError

LONGEST_REPR = 200


def in_threads(ask, structures):
    """What each of the threads got; all begin at once."""
    found, gate = [None] * len(structures), threading.Barrier(len(structures))

    def work(k):
        gate.wait()
        found[k] = [ask(atoms) for atoms in structures[k]]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(structures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def answers(atoms):
    return atoms.get_potential_energy(), atoms.get_forces()


def test_threads_may_share_a_calculator(model):
    shared = mlpot.MlpotCalculator(model)
    structures = [make_frames(20, seed=seed) for seed in (3, 4, 5)]
    expected = [[model.predict(atoms).energy for atoms in frames] for frames in structures]
    forces = [[model.predict(atoms).forces for atoms in frames] for frames in structures]
    for frames in structures:
        for atoms in frames:
            atoms.calc = shared
    found = in_threads(answers, structures)
    for k, frames in enumerate(structures):
        np.testing.assert_allclose([energy for energy, _ in found[k]], expected[k], atol=1e-6)
        for j in range(len(frames)):
            np.testing.assert_allclose(found[k][j][1], forces[k][j], atol=1e-6)


@pytest.mark.slow
def test_threads_may_share_one_that_learns(tmp_path):
    with calculator(tmp_path / "run", tmp_path / "calls") as shared:
        structures = [make_frames(4, seed=seed) for seed in (3, 4)]
        for frames in structures:
            for atoms in frames:
                atoms.calc = shared
        found = in_threads(answers, structures)
        assert all(len(rows) == 4 for rows in found)
        model = shared.learner.model
        for frames, rows in zip(structures, found, strict=True):
            for atoms, (energy, forces) in zip(frames, rows, strict=True):
                assert energy == pytest.approx(model.predict(atoms).energy, abs=0.3)
                assert forces.shape == (len(atoms), 3)


def test_copies(model, tmp_path):
    """Of a fixed model each is a calculator of its own; two that learn would write one folder."""
    atoms = make_frames(1, seed=3)[0]
    fixed = mlpot.MlpotCalculator(model)
    for other in (copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed))):
        atoms.calc = other
        assert atoms.get_potential_energy() == pytest.approx(model.predict(atoms).energy, abs=1e-6)
    with calculator(tmp_path / "run", tmp_path / "calls") as learning:
        atoms.calc = learning
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(ConfigError, match=r"cannot be copied, since two would write to the same run folder") as error:
                attempt(learning)
            assert "\n" not in str(error.value)
        with pytest.raises(ConfigError, match="MlpotCalculator"):
            copy.deepcopy(atoms)


def test_misspelt_keywords(model, tmp_path):
    with pytest.raises(ConfigError, match="MlpotCalculator: unknown keyword 'uncertanty'; did you mean 'uncertainty'"):
        mlpot.MlpotCalculator(model, uncertanty=False)
    with pytest.raises(ConfigError, match="LearningCalculator: unknown keyword 'treshold'; did you mean 'threshold'"):
        calculator(tmp_path / "run", tmp_path / "calls", treshold=0.1)
    with pytest.raises(ConfigError, match="'xyzzy'; there are asynchronous, calculator"):
        calculator(tmp_path / "run", tmp_path / "calls", xyzzy=0.1)
    assert not (tmp_path / "run").exists()
    assert mlpot.MlpotCalculator(model, label="mine").label == "mine"


def test_what_they_print(model, tmp_path):
    atoms = make_frames(1, seed=3)[0]
    for thing, words in (
        (model, ("SparseGP(Si:", "pair + soap", "sparse points, cutoff")),
        (model.compiled, ("CompiledModel(SparseGP(Si:", "float64")),
        (model.predict(atoms), (f"Prediction({len(atoms)} atoms", "eV, largest force")),
        (model.predict(atoms, uncertainty=True), (" +- ", "expected error", "novelty")),
        (mlpot.FitConfig(), ("FitConfig()",)),
        (mlpot.FitConfig(preset="fast", cutoff=4.5), ("FitConfig(preset='fast', cutoff=4.5)",)),
        (mlpot.MlpotCalculator(model), ("MlpotCalculator(SparseGP(Si:", "uncertainty=True")),
    ):
        text = repr(thing)
        assert len(text) < LONGEST_REPR and all(word in text for word in words), text
    with calculator(tmp_path / "run", tmp_path / "calls") as learning:
        assert "nothing learned" in repr(learning) and str(tmp_path / "run") in repr(learning)
        atoms.calc = learning
        atoms.get_potential_energy()
        assert "1 label, SparseGP(Si:" in repr(learning)


LEARN = """[structure]
file = "start.xyz"
[labeller]
calculator = "{calculator}"
[output]
folder = "run"
{more}
"""


@pytest.mark.parametrize(
    ("calculator", "more", "words"),
    [
        ("ase.calculators.emtt.EMT", "", "No module named 'ase.calculators.emtt'"),
        ("ase.calculators.emt.EMTT", "", "ase.calculators.emt has no 'EMTT'; check the spelling"),
        ("EMT", "", "must be an import path"),
        ("ase.calculators.emt.EMT", '[dynamics]\nsteps = "many"', "dynamics.steps = 'many': must be a positive integer (steps)"),
        (
            "ase.calculators.emt.EMT",
            '[dynamics]\nensemble = "nvtt"',
            'dynamics.ensemble = \'nvtt\': must be "nve", "nvt"',
        ),
        ("ase.calculators.emt.EMT", "[learning]\ntarget = -1", "learning.target = -1: must be a positive number (eV/A)"),
        ("ase.calculators.emt.EMT", "[learning]\nasynchronous = 7", "learning.asynchronous = 7: must be true or false"),
    ],
)
def test_mistakes_in_files_are_one_line_in_our_words(tmp_path, monkeypatch, calculator, more, words):
    monkeypatch.chdir(tmp_path)
    make_frames(1)[0].write("start.xyz")
    (tmp_path / "learn.toml").write_text(LEARN.format(calculator=calculator, more=more))
    result = CliRunner().invoke(app, ["learn", "learn.toml"])
    said = " ".join(result.output.split())
    assert result.exit_code == 2 and words in said, said
    assert not any(word in said.lower() for word in ("pydantic", "traceback", "input should"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"preset": "fastest"}, 'preset = \'fastest\': must be "fast"'),
        ({"force_noise": "x"}, "force_noise"),
        ({"terms": 7}, "terms = 7: must be a list"),
        ({"cutof": 7.0}, "cutof: unknown key; did you mean 'cutoff'"),
    ],
)
def test_mistakes_in_python_are_too(keywords, words):
    with pytest.raises(ConfigError) as error:
        mlpot.FitConfig(**keywords)
    assert words in str(error.value) and "nput should" not in str(error.value) and "pydantic" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mlpot.fit("data.xyz"), "'data.xyz' instead of a structure"),
        (lambda: mlpot.fit(["data.xyz"]), "files are read by mlpot.read"),
        (lambda: mlpot.fit(None), "None instead of a structure"),
        (lambda: mlpot.fit(make_frames(1), {"preset": "fast"}), "write mlpot.FitConfig"),
        (lambda: mlpot.MlpotCalculator(None), "None: is no path of a model file"),
        (lambda: mlpot.LearningCalculator("run", make_frames(1)[0]), "must be an ASE calculator"),
    ],
)
def test_other_objects_than_are_needed(tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlpotError) as error:
        call()
    assert words in str(error.value) and len(str(error.value)) < 250 and not list(tmp_path.iterdir())
