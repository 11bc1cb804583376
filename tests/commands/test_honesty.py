"""benchmarks/honesty.py: the judge on made-up runs whose errors are known, and the parts of the benchmark, in small."""

import argparse
import json
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

import mlpot
from mlpot.commands.templates import template
from mlpot.config import read_config
from mlpot.settings.files import LearnFile

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PATTERN = np.array([0.5, -1.5, 2.5])
"""Errors of x, y and z in standard deviations: a third within one, two thirds within two."""
SIGMA = 0.04
"""eV/A"""


@pytest.fixture
def honesty(monkeypatch):
    """The modules of the benchmark by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import honesty
    import honesty_judge
    import honesty_systems
    import honesty_tables
    import honesty_tools

    return argparse.Namespace(
        main=honesty, judge=honesty_judge, systems=honesty_systems, tables=honesty_tables, tools=honesty_tools
    )


def frame(step, errors, deviations, labelled=False, numbers=None):
    """A frame of a trajectory whose predicted forces are off by `errors`, with the deviations said of them, eV/A."""
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=step)
    if numbers is not None:
        atoms.numbers = numbers
    atoms.calc = EMT()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    shape = forces.shape
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy + 0.64, forces=forces + np.broadcast_to(errors, shape), stress=stress + 0.01
    )
    atoms.info = {"step": step, "labelled": labelled, "energy_std": 0.32}
    if deviations is not None:
        atoms.arrays["forces_std"] = np.broadcast_to(deviations, shape).copy()
    return atoms


def run_folder(folder, frames, verdict="learning", n_labels=3):
    """A run folder with what the judge reads."""
    folder.mkdir()
    ase.io.write(folder / "trajectory.xyz", frames, format="extxyz")
    with connect(folder / "labels.db") as database:
        for k in range(n_labels):
            database.write(bulk("Cu", a=3.5 + 0.1 * k))
    (folder / "state.json").write_text(json.dumps({"status": "finished", "verdict": verdict}))
    return folder


def test_errors_and_deviations_that_are_known(honesty, tmp_path):
    frames = [frame(step, PATTERN * SIGMA, SIGMA) for step in range(0, 200, 20)]
    found = honesty.judge.judge(run_folder(tmp_path / "run", frames), EMT)
    rms = SIGMA * np.sqrt(np.mean(PATTERN**2))
    assert (found["said"], found["labels"], found["steps"], found["frames"]) == ("then", 3, 180, 9)
    assert found["rms"] == pytest.approx(rms, rel=1e-5)
    assert found["rms_second_half"] == pytest.approx(rms, rel=1e-5)
    assert found["rms_said"] == pytest.approx(SIGMA, rel=1e-5)
    assert found["coverage_1"] == pytest.approx({"Cu": 1 / 3})
    assert found["coverage_2"] == pytest.approx({"Cu": 2 / 3})
    assert (found["beyond_twice"], found["worst_beyond_3"]) == (0.0, 0.0)
    assert found["energy_rms"] == pytest.approx(640 / 32, rel=1e-5)
    assert found["energy_z"] == pytest.approx(2.0, rel=1e-5)
    assert found["stress_rms"] == pytest.approx(1.602, rel=1e-3)
    assert found["stress_z"] is None


def test_fractions_count_frames(honesty, tmp_path):
    """Of ten frames two are twice as wrong as was said, in another a single atom is more than three deviations off."""
    one_atom = np.zeros((32, 3))
    one_atom[5] = 3.1 * SIGMA
    errors = [2.05 * SIGMA] * 2 + [one_atom] + [1.95 * SIGMA] * 7
    frames = [frame(100 + k, error, SIGMA) for k, error in enumerate(errors)]
    found = honesty.judge.judge(run_folder(tmp_path / "run", frames), EMT)
    assert found["beyond_twice"] == pytest.approx(0.2)
    assert found["worst_beyond_3"] == pytest.approx(0.1)


def test_labels_and_the_first_tenth_are_not_judged(honesty, tmp_path):
    frames = [
        frame(0, 1.0, SIGMA), frame(19, 1.0, SIGMA), frame(20, 0.0, SIGMA), frame(50, 1.0, SIGMA, labelled=True),
        frame(109, 0.3, SIGMA), frame(110, 0.1, SIGMA), frame(200, 0.1, SIGMA),
    ]  # fmt: skip
    found = honesty.judge.judge(run_folder(tmp_path / "run", frames), EMT)
    assert found["frames"] == 4
    assert found["rms"] == pytest.approx(np.sqrt((0.09 + 0.01 + 0.01) / 4), rel=1e-5)
    assert found["rms_second_half"] == pytest.approx(0.1, rel=1e-5)


def test_only_so_many_frames_are_judged(honesty, tmp_path):
    frames = [frame(step, 0.1, SIGMA) for step in range(100, 123)]
    found = honesty.judge.judge(run_folder(tmp_path / "run", frames), EMT, n_judged=5)
    assert found["frames"] == 5


def test_coverage_is_that_of_elements_with_enough_components(honesty, tmp_path):
    """Ten atoms of Ag per frame are just enough, nine of Au in one frame are not."""
    numbers = np.array([29] * 13 + [47] * 10 + [79] * 9)
    errors = np.where(numbers == 47, 0.9, 1.1)[:, None] * SIGMA
    frames = [frame(100, errors, SIGMA, numbers=numbers)]
    found = honesty.judge.judge(run_folder(tmp_path / "run", frames), EMT)
    assert found["coverage_1"] == {"Cu": 0.0, "Ag": 1.0}


@pytest.mark.parametrize(
    ("error", "verdict", "honest"),
    [(0.19, "learning", True), (0.21, "learning", False), (0.21, "converged", False), (0.21, "not converged", True),
     (0.21, "stalled", True)],
)  # fmt: skip
def test_a_run_is_honest_when_it_is_right_or_says_that_it_is_not(honesty, tmp_path, error, verdict, honest):
    found = honesty.judge.judge(run_folder(tmp_path / "run", [frame(100, error, SIGMA)], verdict), EMT)
    assert (found["verdict"], found["honest"]) == (verdict, honest)


def test_the_final_model_answers_where_the_trajectory_has_no_deviations(honesty, tmp_path):
    frames = [frame(100 + k, 5.0, None) for k in range(3)]
    folder = run_folder(tmp_path / "run", frames)
    model = mlpot.fit([frame(k, 0.0, None) for k in range(4)], mlpot.FitConfig(preset="fast", cutoff=4.5))
    model.save(folder / "model.h5")
    found = honesty.judge.judge(folder, EMT)
    assert found["said"] == "final model"
    assert found["rms"] < 0.5
    assert found["energy_z"] is not None


class OftenFailing(EMT):
    """Converges where the first atom is left of its site."""

    def calculate(self, atoms=None, *arguments, **keywords):
        if atoms.positions[0, 0] > 0:
            raise CalculationFailed("SCF not converged")
        super().calculate(atoms, *arguments, **keywords)


def test_frames_on_which_the_reference_fails_are_left_out(honesty, tmp_path):
    frames = [frame(step, 0.1, SIGMA) for step in range(100, 110)]
    failing = sum(atoms.positions[0, 0] > 0 for atoms in frames)
    assert 0 < failing < 10
    found = honesty.judge.judge(run_folder(tmp_path / "run", frames), OftenFailing)
    assert (found["frames"], found["not_calculated"]) == (10 - failing, failing)
    assert found["rms"] == pytest.approx(0.1, rel=1e-5)
    right = run_folder(tmp_path / "none", [atoms for atoms in frames if atoms.positions[0, 0] > 0])
    with pytest.raises(ValueError, match="failed on all"):
        honesty.judge.judge(right, OftenFailing)


def test_a_run_without_predictions_cannot_be_judged(honesty, tmp_path):
    folder = run_folder(tmp_path / "run", [frame(10, 0.1, SIGMA, labelled=True)])
    with pytest.raises(ValueError, match="no predicted frame"):
        honesty.judge.judge(folder, EMT)


def test_only_what_a_user_has_to_say_is_changed_in_the_template(honesty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original = template("learn", "start.xyz", [6, 8, 29])
    system = honesty.systems.SYSTEMS["CuAu"]
    text = honesty.main.filled_in(original, system.values(7, "run"))
    Path("learn.toml").write_text(text)
    before, after = tomllib.loads(original), tomllib.loads(text)
    for section, key, value in (
        ("dynamics", "temperature_K", [300.0, 900.0]), ("dynamics", "steps", system.steps), ("dynamics", "seed", 7),
        ("labeller", "calculator", "ase.calculators.emt.EMT"), ("labeller", "parameters", {}), ("output", "folder", "run"),
    ):  # fmt: skip
        assert after[section][key] == value
        before[section][key] = value
    assert after == before
    assert read_config(Path("learn.toml"), LearnFile).fit.seed == 0
    with pytest.raises(KeyError, match=r"dynamics\.pressure"):
        honesty.main.filled_in(original, {("dynamics", "pressure"): 1.0})


def test_shipped_configurations_keep_all_but_their_folder(honesty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for shipped in honesty.systems.SHIPPED.values():
        before = tomllib.loads(shipped.text())
        Path("learn.toml").write_text(honesty.main.filled_in(shipped.text(), shipped.values(5, "run")))
        after = tomllib.loads(Path("learn.toml").read_text())
        read_config(Path("learn.toml"), LearnFile)
        assert Path(after["structure"]["file"]).exists()
        before["structure"]["file"], before["output"]["folder"] = after["structure"]["file"], "run"
        assert after == before


@pytest.mark.parametrize(("labels", "enough"), [(12, True), (13, False)])
def test_labels_of_a_shipped_configuration(honesty, labels, enough):
    """Its errors do not count among those of the template's defaults."""
    found = met(honesty, [record(), record("demo", labels=labels, beyond_twice=1.0)])
    assert found["demo: labels"] is enough
    assert found["frames beyon"]


def test_start_structures_are_sensible(honesty):
    for name, system in honesty.systems.SYSTEMS.items():
        atoms = system.make()
        distances = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
        assert distances.min() > 0.9, name
        if system.reference is honesty.systems.CHEAP:
            atoms.calc = system.reference.make()
            assert np.abs(atoms.get_forces()).max() < 15, name


def test_hydrogen_bonds_of_the_dimer(honesty):
    atoms = honesty.systems.formic_acid_dimer()
    distances = atoms.get_all_distances()
    assert distances[0, 7] == pytest.approx(2.7)
    assert distances[5, 2] == pytest.approx(2.7)
    assert distances[3, 7] == pytest.approx(2.7 - distances[0, 3])


def record(name="CuAu", seed=0, **values):
    """Results of a run that meets all bounds."""
    good = {
        "labels": 9, "rms": 0.1, "rms_second_half": 0.1, "rms_said": 0.1, "beyond_twice": 0.0, "worst_beyond_3": 0.0,
        "coverage_1": {"Cu": 0.7}, "coverage_2": {"Cu": 0.9}, "status": "finished", "verdict": "learning", "honest": True,
        "run_seconds": 1.0, "judge_seconds": 1.0,
    }  # fmt: skip
    return {"name": name, "seed": seed, **good, **values}


def met(honesty, records):
    """Which bounds are met, by the beginning of their names."""
    rows = [row.split(" | ") for row in honesty.tables.bound_rows(honesty.tables.BOUNDS, records)]
    return {row[0].strip("| ")[:12]: row[-1] == "yes |" for row in rows}


@pytest.mark.parametrize(
    ("bound", "values", "times", "enough"),
    [
        ("frames beyon", {"beyond_twice": 0.09}, 1, True), ("frames beyon", {"beyond_twice": 0.11}, 1, False),
        ("frames beyon", {"beyond_twice": 0.09}, 2, False), ("frames whose", {"worst_beyond_3": 0.5}, 1, True),
        ("frames whose", {"worst_beyond_3": 0.06}, 2, False), ("1-sigma cove", {"coverage_1": {"C": 0.51}}, 1, True),
        ("1-sigma cove", {"coverage_1": {"C": 0.91}}, 1, False), ("1-sigma cove", {"coverage_1": {"C": 0.49}}, 1, False),
        ("RMS in the s", {"rms_second_half": 0.3}, 1, True), ("RMS in the s", {"rms_second_half": 0.3}, 2, False),
        ("RMS in the s", {"rms_second_half": 0.3, "honest": False}, 1, False),
        ("CO/Cu(111): ", {"name": "CO/Cu(111)", "labels": 26}, 1, False),
        ("CO/Cu(111): ", {"name": "CO/Cu(111)", "labels": 25}, 1, True),
        ("CO/Cu(111): ", {"name": "CO/Cu(111)", "rms_second_half": 0.21}, 1, False),
    ],
)  # fmt: skip
def test_bounds(honesty, bound, values, times, enough):
    """Of eleven runs one or two are worse than the others."""
    records = [record(seed=k) for k in range(11 - times)] + [record(seed=20 + k, **values) for k in range(times)]
    assert met(honesty, records)[bound] == enough


def test_a_failed_run_is_in_the_tables(honesty):
    failed = {"name": "Pt13", "seed": 0, "failed": "RuntimeError: traceback"}
    assert "traceback" in honesty.tables.run_row(failed)
    assert met(honesty, [record(), failed])["runs and too"] is False
    assert "runs and too" not in met(honesty, [record()])


def test_rows_have_as_many_columns_as_their_heads(honesty):
    assert honesty.tables.run_row(record()).count("|") == len(honesty.tables.RUN_HEADS) + 1
    answer = honesty.tools.Answer("phonons at X", "meV", [1.0, 2.1], relative=0.05)
    result = answer.compared(honesty.tools.Answer("phonons at X", "meV", [1.0, 2.0]))
    row = honesty.tables.tool_row({"name": "phonons", "labels": 3, "answers": [result]})
    assert row.count("|") == len(honesty.tables.TOOL_HEADS) + 1


@pytest.mark.parametrize(
    ("values", "bounds", "enough"),
    [
        ([1.04, 20.9], {"relative": 0.05}, True), ([1.06, 20.0], {"relative": 0.05}, False),
        ([1.4, 21.5], {"relative": 0.1, "absolute": 0.5}, True), ([0.4, 20.0], {"absolute": 0.5}, False),
    ],
)  # fmt: skip
def test_answers_are_compared_with_the_truth(honesty, values, bounds, enough):
    found = honesty.tools.Answer("x", "eV", values, **bounds).compared(honesty.tools.Answer("x", "eV", [1.0, 20.0]))
    assert found["met"] is enough
    assert found["largest_error"] == pytest.approx(max(abs(values[0] - 1.0), abs(values[1] - 20.0)))


@pytest.mark.parametrize(
    ("tool", "expected", "within"),
    [("relax cell Cu", [3.5898, 3.5898], 1e-3), ("phonons Cu", [22.5, 22.6, 33.1], 0.1), ("dimer Cu", [7.02], 0.01)],
)
def test_tools_with_the_reference_itself(honesty, tmp_path, tool, expected, within):
    """What the learning calculator is compared with."""
    answer = honesty.tools.TOOLS[tool].measure(EMT(), tmp_path / "direct")[0]
    np.testing.assert_allclose(answer.values[-len(expected) :], expected, atol=within)


def test_a_relaxation_goes_on_until_its_end_is_confirmed(honesty, monkeypatch):
    """The second label leaves the answer as it was."""
    answers, optimised = [False, True, True], []
    monkeypatch.setattr(honesty.tools, "confirmed", lambda calculator, atoms: answers.pop(0))

    class Optimiser:
        def __init__(self, atoms, logfile):
            self.atoms = atoms

        def run(self, fmax, steps):
            optimised.append((self.atoms, fmax))

    atoms = bulk("Cu")
    assert honesty.tools.relaxed("a filter", atoms, 0.01, Optimiser) is atoms
    assert optimised == [("a filter", 0.01)] * 2


def test_a_reference_needs_no_confirmation(honesty):
    assert honesty.tools.confirmed(EMT(), bulk("Cu"))


def test_finished_tasks_are_not_run_again(honesty, tmp_path):
    task = honesty.main.Task("Pt13", tmp_path / "Pt13-0", seed=0)
    task.folder.mkdir()
    task.result.write_text(json.dumps(record("Pt13")))
    assert honesty.main.perform(task) == record("Pt13")


def test_a_task_that_fails_is_reported_and_run_again(honesty, tmp_path, monkeypatch):
    calls = []

    def fail(folder):
        calls.append(folder)
        raise RuntimeError("no such thing")

    monkeypatch.setitem(honesty.main.TOOLS, "dimer Cu", fail)
    task = honesty.main.Task("dimer Cu", tmp_path / "dimer")
    for _ in range(2):
        assert honesty.main.perform(task)["failed"] == "RuntimeError: no such thing"
    assert len(calls) == 2


def test_unknown_systems_are_refused(honesty, capsys):
    with pytest.raises(SystemExit):
        honesty.main.main(["--systems", "CuAu,CuAg"])
    assert "unknown: CuAg" in capsys.readouterr().err


@pytest.mark.slow
def test_the_quick_version(honesty, tmp_path, capsys):
    """Three short runs and a dimer scan, as the command line starts them."""
    pytest.importorskip("tblite", reason="tblite is not installed")
    honesty.main.main(["--quick", "--folder", str(tmp_path / "runs"), "--json", str(tmp_path / "all.json")])
    results = {result["name"]: result for result in json.loads((tmp_path / "all.json").read_text())}
    assert set(results) == {"CO/Cu(111)", "CuAu", "ethanol", "dimer Cu"}
    assert not [result["failed"] for result in results.values() if "failed" in result]
    for name, elements in (("CO/Cu(111)", {"C", "O", "Cu"}), ("CuAu", {"Cu", "Au"}), ("ethanol", {"H", "C", "O"})):
        assert results[name]["said"] == "then"
        assert results[name]["rms"] < 1.0
        assert set(results[name]["coverage_1"]) == elements
        assert results[name]["frames"] >= 5
    assert results["dimer Cu"]["labels"] > 1
    assert "frames beyond twice what was said" in capsys.readouterr().out
