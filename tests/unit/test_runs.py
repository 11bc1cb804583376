"""Runs: continued after any interruption, logged, ended cleanly; labels cost nothing."""

import numpy as np
import pytest
from ase import Atoms
from learning_runs import crystal, do_run, plan, without_seconds

import mlpot
from mlpot.errors import RunFolderError
from mlpot.labellers.faulty import calls
from mlpot.learning.policy import Rules
from mlpot.learning.store import LabelStore
from mlpot.report.run_report import read_log, write_run_report


@pytest.mark.parametrize(
    ("ensemble", "options"), [("nve", {}), ("nvt", {}), ("npt", {"pressure_GPa": 0.5}), ("npt", {"whole_cell": True})]
)
def test_an_interrupted_run_gives_the_same_trajectory(tmp_path, ensemble, options):
    the_plan = plan(ensemble=ensemble, **options)
    assert do_run(tmp_path / "whole", tmp_path / "calls1", the_plan)[0] == "finished"
    # each part goes further than the one before, so that the last one comes even if no checkpoint was due before
    for stop_after in range(7, 90, 10):
        resume = stop_after > 7
        status, run = do_run(tmp_path / "parts", tmp_path / "calls2", the_plan, resume, stop_after)
        if status != "interrupted":
            break
    assert status == "finished"
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    assert (tmp_path / "parts" / "trajectory.xyz").read_text() == (tmp_path / "whole" / "trajectory.xyz").read_text()
    whole, parts = LabelStore(tmp_path / "whole"), LabelStore(tmp_path / "parts")
    for a, b in zip(whole.rows(), parts.rows(), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.forces, b.forces)
    finished = calls(tmp_path / "calls2", "end")
    assert len(finished) == len(set(finished)) == len(parts)
    assert run.dynamics.step == 60
    if ensemble == "npt":
        assert run.dynamics.atoms.get_volume() != pytest.approx(crystal().get_volume(), rel=1e-6)


def test_log_labels_and_report(tmp_path):
    _, run = do_run(tmp_path / "run", tmp_path / "calls", plan())
    log = read_log(tmp_path / "run" / "log.csv")
    np.testing.assert_array_equal(log["step"], np.arange(61))
    np.testing.assert_allclose(log["time_fs"], 2.0 * np.arange(61))
    assert log["labelled"][0] == 1 and np.isnan(log["max_energy_std_eV"][0])
    rows = LabelStore(tmp_path / "run").rows()
    assert len(rows) == log["labelled"].sum() == run.calculator.learner.n_labels
    labelled = log["labelled"] > 0
    over = log["max_energy_std_eV"] > log["threshold"]
    np.testing.assert_array_equal(labelled[1:], over[1:])
    np.testing.assert_allclose(log["energy_eV"][labelled], [row.energy for row in rows])
    assert rows[1].data["predicted_forces"].shape == (32, 3)
    page = write_run_report(tmp_path / "run").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert "http" not in page.replace("http-equiv", "")
    model = mlpot.load_model(tmp_path / "run" / "model.h5")
    np.testing.assert_array_equal(model.weights, run.calculator.learner.model.weights)


def test_refused_folders(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=5))
    with pytest.raises(RunFolderError, match="--resume"):
        calculator(tmp_path / "run", tmp_path / "calls")
    with pytest.raises(RunFolderError, match="ensemble"):
        do_run(tmp_path / "run", tmp_path / "calls", plan(ensemble="nve"), resume=True)
    with pytest.raises(RunFolderError, match=r"log\.csv"):
        read_log(tmp_path / "log.csv")


def test_a_spent_budget_ends_cleanly_and_can_be_raised(tmp_path):
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), threshold=1e-5, max_labels=3)
    assert status == "budget"
    assert len(LabelStore(tmp_path / "run")) == 3
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), resume=True, threshold=1e-5, max_labels=5)
    assert status == "budget"
    assert len(calls(tmp_path / "calls", "end")) == 5


def test_isolated_molecules_learn_too(tmp_path):
    """No cell, no stress."""
    atoms = Atoms("Si4", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0], [0, 0, 2.4]])
    with calculator(tmp_path / "run", tmp_path / "calls") as calc:
        run = LearningRun(atoms, plan(steps=10, ensemble="nvt"), calc)
        assert run.run() == "finished"
        assert "stress" not in calc.results


