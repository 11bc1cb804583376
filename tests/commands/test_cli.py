"""The command line as users meet it: what it prints, writes, and how it fails."""

import json
import re

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import FIT_FILE, make_frames
from learning_runs import LEARN
from typer.testing import CliRunner

from mlpot.commands.main import app

FIT = (
    FIT_FILE.format(n_sparse=40, model="m.h5").replace('"train.xyz"', '"train.xyz"\ntest = "test.xyz"')
    + 'report = "fit.html"\n'
)
@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    ase.io.write("train.xyz", make_frames(6), format="extxyz")
    ase.io.write("test.xyz", make_frames(2, seed=3), format="extxyz")
    start = make_frames(1, seed=4)[0]
    start.calc = None
    ase.io.write("start.xyz", start)
    (tmp_path / "fit.toml").write_text(FIT)
    (tmp_path / "learn.toml").write_text(LEARN.replace("CALLS", str(tmp_path / "calls")))
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_fit_evaluate_check_report(work):
    result = run("fit", "fit.toml")
    assert result.exit_code == 0, result.output
    for words in ("train: even", "test: all", "fitted, as none were given", "condition number", "model: m.h5"):
        assert words in result.output
    assert "<img" in (work / "fit.html").read_text()
    result = run("evaluate", "m.h5", "test.xyz", "--json", "out.json", "--plot", "parity.png")
    assert result.exit_code == 0, result.output
    values = json.loads((work / "out.json").read_text())
    assert values["n_structures"] == 2 and values["n_atoms"] == 64
    for key in ("energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_ev_per_ang", "force_rmse_ev_per_ang"):
        assert values[key] > 0
    assert values["stress_rmse_gpa"] > 0
    assert -1 <= values["calibration"]["atom_rank_correlation"] <= 1
    assert (work / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert run("check", "m.h5").exit_code == 0
    assert run("report", "m.h5").exit_code == 0 and (work / "m.html").exists()


def test_evaluate_by_hand(work):
    """The numbers of --json, recomputed from predictions."""
    import mlpot

    run("fit", "fit.toml")
    run("evaluate", "m.h5", "test.xyz", "--json", "out.json")
    values, model = json.loads((work / "out.json").read_text()), mlpot.load_model("m.h5")
    frames = ase.io.read("test.xyz", ":")
    energies = [1e3 * (model.predict(a).energy - a.get_potential_energy()) / len(a) for a in frames]
    forces = np.concatenate([(model.predict(a).forces - a.get_forces()).ravel() for a in frames])
    stresses = np.concatenate([(model.predict(a).stress - a.get_stress(voigt=False)).ravel() for a in frames])
    assert values["energy_mae_mev_per_atom"] == pytest.approx(np.mean(np.abs(energies)))
    assert values["force_mae_ev_per_ang"] == pytest.approx(np.mean(np.abs(forces)))
    assert values["force_rmse_ev_per_ang"] == pytest.approx(np.sqrt(np.mean(forces**2)))
    assert values["stress_rmse_gpa"] == pytest.approx(160.21766208 * np.sqrt(np.mean(stresses**2)))


@pytest.mark.usefixtures("labels_in_this_process")
def test_learn_and_resume(work):
    result = run("learn", "learn.toml")
    assert result.exit_code == 0, result.output
    for name in ("labels.db", "model.h5", "state.json", "trajectory.xyz", "log.csv", "report.html", "run.log"):
        assert (work / "run" / name).exists(), name
    assert "finished" in result.output and "report.html" in result.output
    assert "converged: " in result.output and json.loads((work / "run" / "state.json").read_text())["verdict"]
    refused = run("learn", "learn.toml")
    assert refused.exit_code == 1 and "--resume" in refused.output
    calls = (work / "calls").read_text()
    assert run("learn", "learn.toml", "--resume").exit_code == 0
    assert (work / "calls").read_text() == calls
    assert run("report", "run").exit_code == 0
    assert (work / "run" / "config.toml").read_text() == (work / "learn.toml").read_text()
    assert not (work / "run" / "config_2.toml").exists()
    (work / "learn.toml").write_text((work / "learn.toml").read_text() + "interval = 7\n")
    assert run("learn", "learn.toml", "--resume").exit_code == 0
    assert (work / "run" / "config_2.toml").read_text() == (work / "learn.toml").read_text()


@pytest.mark.slow
def test_report_with_a_reference_and_export(work):
    assert run("learn", "learn.toml").exit_code == 0
    result = run("report", "run", "--reference", "run/trajectory.xyz", "-o", "page.html")
    assert result.exit_code == 0, result.output
    assert "Radial distributions" in (work / "page.html").read_text()
    result = run("export", "run", "-o", "out")
    assert result.exit_code == 0, result.output
    assert "python reproduce.py" in result.output
    assert (work / "out" / "run.toml").read_text() == (work / "learn.toml").read_text()
    (versions,) = json.loads((work / "out" / "environment.json").read_text())["run"]
    assert versions["calculators"].keys() == {"mlpot.labellers.faulty.FaultyCalculator"}
    refused = run("export", "run", "-o", "out")
    assert refused.exit_code == 1 and "not empty" in refused.output
    assert run("export", "run", "--format", "xyz", "-o", "labels.xyz").exit_code == 0
    assert len(ase.io.read("labels.xyz", ":")) == len(ase.io.read("out/labels.xyz", ":"))
    assert run("export", "empty", "-o", "other").exit_code == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fit", "missing.toml"], 2, "missing.toml"),
        (["evaluate", "missing.h5", "test.xyz"], 1, "missing.h5"),
        (["evaluate", "fit.toml", "test.xyz"], 1, "not a readable model file"),
        (["check", "missing.h5"], 1, "missing.h5"),
        (["report", "empty"], 1, "log.csv"),
        (["learn", "fit.toml"], 2, "data.test"),
    ],
)
def test_failures(work, words, code, message):
    (work / "empty").mkdir()
    before = sorted(file.name for file in work.iterdir())
    result = run(*words)
    assert result.exit_code == code
    if message != "data.test":
        assert message in result.output
    assert "Traceback" not in result.output
    assert sorted(file.name for file in work.iterdir()) == before


def test_a_misspelt_key_writes_nothing(work):
    (work / "fit.toml").write_text(FIT.replace("n_max", "nmax"))
    result = run("fit", "fit.toml")
    assert result.exit_code == 2
    assert "model.terms[1].nmax: unknown key; did you mean 'n_max'?" in result.output
    assert not (work / "m.h5").exists()


def test_wrong_data_and_structures(work):
    (work / "fit.toml").write_text(FIT.replace("train.xyz", "start.xyz"))
    assert "no energy" in run("fit", "fit.toml").output
    (work / "fit.toml").write_text(FIT.replace("train.xyz", "fit.toml"))
    assert "cannot be read" in run("fit", "fit.toml").output
    (work / "fit.toml").write_text(FIT.replace("m.h5", "nowhere/m.h5"))
    assert "does not exist" in run("fit", "fit.toml").output
    (work / "learn.toml").write_text(LEARN.replace("FaultyCalculator", "Nothing"))
    result = run("learn", "learn.toml")
    assert result.exit_code == 2 and "faulty has no 'Nothing'" in result.output
    assert not (work / "run" / "owner.json").exists()


@pytest.mark.slow
def test_a_run_that_blows_up_fails_with_a_reason_and_a_report(work):
    text = (work / "learn.toml").read_text()
    (work / "learn.toml").write_text(text.replace("timestep_fs = 2.0", "timestep_fs = 80.0"))
    result = run("learn", "learn.toml")
    assert result.exit_code == 1 and "time step (timestep_fs = 80" in result.output and "--resume" in result.output
    assert "blown up" in (work / "run" / "report.html").read_text()
    (work / "learn.toml").write_text(text)
    assert run("learn", "learn.toml", "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("dynamics", "message", "pbc"),
    [
        ('ensemble = "npt"', "needs three cell vectors and periodicity along at least one", False),
        ('ensemble = "npt"\npressure_GPa = 1.0', "act on the vacuum", (True, True, False)),
        ('ensemble = "relax"\nrelax = "cell"', "needs three cell vectors and periodicity along at least one", False),
        ('ensemble = "relax"\nrelax = "cell"', "are not along these axes; rotate the structure", (True, True, False)),
        ('ensemble = "nvt"\nrelax = "cell"', 'is for ensemble = "relax"', False),
    ],
)
def test_what_needs_a_cell_is_refused_before_anything_is_written(work, dynamics, message, pbc):
    start = make_frames(1)[0]
    start.calc, start.pbc = None, pbc
    ase.io.write("start.xyz", start)
    text = (work / "learn.toml").read_text()
    (work / "learn.toml").write_text(text.replace("[dynamics]\n", f"[dynamics]\n{dynamics}\n"))
    result = run("learn", "learn.toml")
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert not (work / "run").exists() and not (work / "calls").exists()


@pytest.mark.slow
def test_a_relaxation(work):
    text = (work / "learn.toml").read_text().replace("steps = 15", 'steps = 300\nensemble = "relax"')
    (work / "learn.toml").write_text(text)
    result = run("learn", "learn.toml")
    assert result.exit_code == 0, result.output
    assert "converged: main: the largest force in the label of the final structure" in result.output
    assert ",confirm," in (work / "run" / "log.csv").read_text()
    assert run("report", "run").exit_code == 0


@pytest.mark.parametrize(
    "command",
    ["fit", "evaluate", "check", "learn", "report", "export", "template", "bench", "compare", "learning-curve"],
)
def test_help_has_an_example(command):
    assert "Example:" in run(command, "--help").output


@pytest.mark.parametrize(("command", "sections"), [("fit", "[data] [model] [fit] [output]"), ("learn", "[structure] [labeller]")])
def test_help_shows_sections(command, sections):
    """They are no markup."""
    said = run(command, "--help").output
    assert all(section in said for section in sections.split())


@pytest.mark.parametrize("kind", ["fit", "learn"])
def test_template(work, kind):
    output = run("template", kind, "train.xyz").output
    assert "train.xyz" in output and "# eV/A" in output.replace("# eV/atom; ", "# ")


@pytest.mark.slow
def test_learning_that_starts_from_a_model_and_its_data(work):
    run("fit", "fit.toml")
    text = LEARN.replace("CALLS", str(work / "calls")).replace('[model]\npreset = "fast"\ncutoff = 4.0\n', "")
    (work / "learn.toml").write_text(text + '[data]\ntrain = "train.xyz"\n[learning]\nmodel = "m.h5"\n')
    result = run("learn", "learn.toml")
    assert result.exit_code == 0, result.output
    first_step = (work / "run" / "log.csv").read_text().splitlines()[1].split(",")
    assert float(first_step[4]) > 0  # an uncertainty from the first step on: there was a model
    (work / "learn.toml").write_text(text + '[learning]\nmodel = "m.h5"\n')
    assert "name it in data.train" in run("learn", "learn.toml").output


@pytest.mark.slow
def test_suspicious_labels_and_tuning_are_shown(work):
    frames = make_frames(12, seed=24)
    energy = frames[7].get_potential_energy() + 0.1 * len(frames[7])
    frames[7].calc = SinglePointCalculator(frames[7], energy=energy, forces=frames[7].get_forces())
    ase.io.write("train.xyz", frames, format="extxyz")
    result = CliRunner().invoke(app, ["fit", "fit.toml"])
    assert result.exit_code == 0, result.output
    assert "suspicious labels" in result.output
    assert "train.xyz[7]" in result.output
    assert "does not confirm" in (work / "fit.html").read_text()
    (work / "fit.toml").write_text(FIT + "[fit]\ntune = true\n")
    result = CliRunner().invoke(app, ["fit", "fit.toml"])
    assert result.exit_code == 0, result.output
    assert "Hyper-parameters" in result.output
    assert "cross-validation" in (work / "fit.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[model]", "[learning]\nmax_labels = 0\n[model]"), "allows not even the first label; raise it, or name data in data.train"),
        (("[model]", '[data]\nenergy_key = "x"\n[model]'), "data.energy_key: names labels of data that are not given"),
        (('folder = "run"', 'folder = "start.xyz"'), "start.xyz: cannot be used: .*; name a folder that can be made"),
    ],
)
def test_runs_that_cannot_begin(work, change, message):
    text = (work / "learn.toml").read_text()
    assert change[0] in text
    (work / "learn.toml").write_text(text.replace(*change))
    result = run("learn", "learn.toml")
    assert result.exit_code and re.search(message, " ".join(result.output.split())), result.output


def test_a_template_of_atoms_that_overlap(work):
    ase.io.write("overlap.xyz", ase.Atoms("Si2", np.zeros((2, 3)), cell=[9, 9, 9], pbc=True))
    for kind in ("learn", "ipi"):
        result = run("template", kind, "overlap.xyz")
        assert result.exit_code and "overlap.xyz: atoms 0 and 1 are 0 A apart" in result.output
    assert not (work / "input.xml").exists()
