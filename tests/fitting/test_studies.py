"""Learning curves and comparisons of presets: what is held out, what is fitted, and the command lines."""

import json

import ase.io
import numpy as np
import pytest
from conftest import FIT_FILE, NOISES, SMALL_TERMS, make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.errors import DataError
from mlpot.fitting import studies
from mlpot.fitting.studies import StudyRow, compare_presets, curve_words, learning_curve, preset_words, slope, study
from mlpot.models.evaluate import evaluate
from mlpot.models.report import Errors

CONFIG = mlpot.FitConfig(terms=SMALL_TERMS, **NOISES)


def family(n, name, seed, numbers=(14,)):
    frames = make_frames(n, numbers, seed)
    for atoms in frames:
        atoms.info["config_type"] = name
    return frames


@pytest.fixture(scope="module")
def frames():
    return family(20, "bulk", 1) + family(10, "surface", 2) + family(1, "dimer", 3)


def names(structures):
    return {s.name for s in structures}


def test_groups_of_every_family_are_held_out_and_never_fitted_to(frames):
    task = study(frames, CONFIG)
    assert not names(task.training) & names(task.test)
    assert len(task.training) + len(task.test) == len(frames)
    assert {s.config_type for s in task.test} == {"bulk", "surface"}
    held = sorted(int(s.name.split()[1]) for s in task.test)
    assert all(k + 1 in held or k - 1 in held for k in held), "frames that follow each other are held out together"
    assert names(study(frames, CONFIG, seed=1).test) != names(task.test)
    assert names(study(frames, CONFIG).test) == names(task.test)


def test_a_test_set_is_held_out_alone(frames):
    task = study(frames, CONFIG, test=make_frames(2, seed=9))
    assert len(task.training) == len(frames) and len(task.test) == 2


@pytest.mark.slow
def test_no_element_is_held_out_altogether():
    frames = family(4, "a", 1, (14, 32)) + family(2, "b", 2, (32,)) + family(3, "c", 3, (6,))
    for seed in range(5):
        task = study(frames, CONFIG, seed=seed)
        assert studies._elements(task.test) <= studies._elements(task.training)
        first = next(iter(learning_curve(task, (0.01,))))
        assert first.test.force_rmse_ev_per_ang > 0


def test_isolated_atoms_are_in_every_fit_and_held_out_of_none():
    atom = make_frames(1, stress=False)[0]
    alone = atom[:1]
    alone.set_pbc(False)
    alone.calc = type(atom.calc)(alone, energy=-0.75)
    task = study([alone, *make_frames(6)], CONFIG)
    assert len(task.always) == 1 and len(task.training) + len(task.test) == 6
    assert task.config.isolated_atom_energies == {"Si": -0.75}


def test_too_few_structures():
    with pytest.raises(DataError, match="4 structures: too few to hold some out; provide at least 5, or a test set"):
        study(make_frames(4), CONFIG)


def test_rows_are_those_of_fits_by_hand(frames):
    task = study(frames[:12], CONFIG)
    told = []
    rows = list(learning_curve(task, (0.1, 0.5, 1.0), told.append))
    assert [row.n_structures for row in rows] == [2, 5, len(task.training)] and len(told) == 3
    assert rows[-1].name == "100%"
    by_hand = mlpot.fit([s.atoms for s in task.training], CONFIG.model_copy(update={"check_labels": False}))
    expected = evaluate(by_hand, task.test).overall
    assert rows[-1].test.force_rmse_ev_per_ang == pytest.approx(expected.force_rmse_ev_per_ang, rel=1e-6)
    assert rows[-1].training.n_structures == len(task.training)
    assert rows[0].test.force_rmse_ev_per_ang > rows[-1].test.force_rmse_ev_per_ang
    assert 0 < rows[0].us_per_atom < rows[0].us_per_atom_with_uncertainty and rows[0].fit_seconds > 0


def test_presets_keep_cutoff_and_noises(monkeypatch, frames):
    fitted = []

    def fit_checked(structures, config):
        fitted.append(config)
        return mlpot.fit([s.atoms for s in structures], CONFIG.model_copy(update={"check_labels": False}))

    monkeypatch.setattr(studies, "fit_checked", fit_checked)
    config = mlpot.FitConfig(preset="fast", cutoff=4.2, force_noise=0.1)
    rows = list(compare_presets(study(frames[:6], config)))
    assert [row.name for row in rows] == [c.preset for c in fitted] == ["fast", "balanced", "accurate"]
    assert all(c.cutoff == 4.2 and c.force_noise == 0.1 for c in fitted)
    rows = list(compare_presets(study(frames[:6], CONFIG), ["fast"]))
    assert [row.name for row in rows] == ["the terms given", "fast"] and fitted[-1].terms == ()
    assert fitted[-2].terms == CONFIG.terms


def row(n, forces, energy=None, us=1.0, seconds=1.0, name="x"):
    test = Errors(12, 100, energy, energy, forces, forces, None)
    return StudyRow(name, n, n, 1, seconds, us, 2 * us, test, test)


def test_slopes_and_words_by_hand():
    rows = [row(n, 0.4 * n**-0.5, 3.0) for n in (10, 20, 40, 80)]
    assert slope(rows) == pytest.approx(-0.5)
    forces, energies = curve_words(rows)
    assert forces.startswith("forces: twice the data would multiply the RMS error by about 0.71; half the error needs about 4 times")
    assert energies.startswith("energies: twice the data would multiply the RMS error by about 1.00 (from")
    assert "half the error" not in curve_words([row(n, 0.4 * n**-0.2) for n in (10, 20, 40)])[0]
    assert slope(rows[:1]) is None and curve_words([row(10, None)]) == []
    (words,) = preset_words([row(9, 0.2, us=2.0, name="fast"), row(9, 0.1, us=8.0, seconds=3.0, name="balanced")])
    assert words == "balanced: 0.50 times the force error of fast, at 4.0 times the cost of a step and 3.0 times the cost of the fit"


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    ase.io.write("train.xyz", make_frames(8), format="extxyz")
    (tmp_path / "fit.toml").write_text(FIT_FILE.format(n_sparse=10, model="m.h5"))
    return tmp_path


@pytest.mark.slow
def test_the_commands(work):
    result = run("learning-curve", "fit.toml", "--json", "c.json", "--plot", "c.png")
    assert result.exit_code == 0, result.output
    assert "fitting: 100%" in result.output and "held out: errors are rough" in result.output
    found = json.loads((work / "c.json").read_text())
    assert [row["name"] for row in found["rows"]][-1] == "100%" and np.isfinite(found["force_slope"])
    assert {"n_structures", "fit_seconds", "us_per_atom", "force_rmse_ev_per_ang", "training"} <= set(found["rows"][0])
    assert (work / "c.png").read_bytes()[:4] == b"\x89PNG" and not (work / "m.h5").exists()
    result = run("compare", "train.xyz", "--preset", "fast", "--json", "p.json")
    assert result.exit_code == 0, result.output
    (only,) = json.loads((work / "p.json").read_text())["rows"]
    assert only["name"] == "fast" and only["n_test"] + only["n_structures"] == 8 and only["stress_rmse_gpa"] > 0


@pytest.mark.parametrize(
    "words, code, message",
    [
        (("learning-curve", "fit.toml", "--plot", "c.doc"), 2, "--plot c.doc: unknown kind of picture; end its name with"),
        (("learning-curve", "fit.toml", "--json", "no/c.json"), 2, "--json no/c.json: its folder does not exist; create it"),
        (("compare", "fit.toml", "--energy-key", "E"), 2, "--energy-key and the others are for structure files"),
        (("compare", "train.xyz@:3"), 1, "3 structures: too few to hold some out"),
        (("compare", "none.xyz"), 1, "none.xyz: no such file"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_begun(work, words, code, message):
    result = run(*words)
    assert result.exit_code == code and message in result.output, result.output
    assert "fitting" not in result.output
