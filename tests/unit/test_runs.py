"""Runs: continued after any interruption, logged, ended cleanly; labels cost nothing."""

import re

import numpy as np
import pytest
from ase import Atoms
from learning_runs import crystal, do_run, plan, without_seconds

import mlpot
from mlpot.errors import LabelError, RunFolderError
from mlpot.labellers.faulty import calls
from mlpot.learning.folder import RunFolder
from mlpot.learning.journal import RunSettings
from mlpot.learning.policy import Rules
from mlpot.learning.store import LabelStore
from mlpot.learning.verdict import Convergence
from mlpot.report.log_file import read_log
from mlpot.report.run_report import write_run_report


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
    walker = run.walkers[0]
    assert walker.dynamics.step == 60
    if ensemble == "npt":
        assert walker.atoms.get_volume() != pytest.approx(crystal().get_volume(), rel=1e-6)


def test_log_labels_and_report(tmp_path):
    _, run = do_run(tmp_path / "run", tmp_path / "calls", plan())
    log = read_log(tmp_path / "run" / "log.csv")
    np.testing.assert_array_equal(log["step"], np.arange(61))
    np.testing.assert_allclose(log["time_fs"], 2.0 * np.arange(61))
    assert log["labelled"][0] == 1 and np.isnan(log["max_energy_std_eV"][0])
    rows = LabelStore(tmp_path / "run").rows()
    assert len(rows) == log["labelled"].sum() == run.campaign.learner.n_labels
    labelled = log["labelled"] > 0
    over = log["expected_error_eV_per_A"] > log["threshold"]
    novel = log["novelty"] > run.campaign.learner.rules.novelty
    np.testing.assert_array_equal(labelled[1:], (over | novel)[1:])
    np.testing.assert_allclose(log["energy_eV"][labelled], [row.energy for row in rows])
    np.testing.assert_allclose(log["force_error_eV_per_A"][labelled][1:], [row.force_error for row in rows[1:]])
    assert set(log["walker"]) == {"w0"} and log["reason"][0] == "no model"
    assert rows[1].data["predicted_forces"].shape == (32, 3)
    assert [row.walker_step for row in rows] == np.flatnonzero(labelled).tolist()
    page = write_run_report(tmp_path / "run").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert "http" not in re.sub('base64,[^"]*', "", page)
    model = mlpot.load_model(tmp_path / "run" / "model.h5")
    np.testing.assert_array_equal(model.weights, run.campaign.learner.model.weights)
    assert model.calibration == run.campaign.learner.model.calibration


def test_refused_folders(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=5))
    with pytest.raises(RunFolderError, match="--resume"):
        do_run(tmp_path / "run", tmp_path / "calls", plan(steps=5))
    for other in (plan(ensemble="nve"), [plan(), plan()]):
        with pytest.raises(RunFolderError, match="its run has"):
            do_run(tmp_path / "run", tmp_path / "calls", other, resume=True)
    with pytest.raises(RunFolderError, match=r"log\.csv"):
        read_log(tmp_path / "log.csv")


def test_a_spent_budget_ends_cleanly_and_can_be_raised(tmp_path):
    tight = {"threshold": 1e-5}
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), rules=Rules(**tight, max_labels=3))
    assert status == "budget"
    assert len(LabelStore(tmp_path / "run")) == 3
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), resume=True, rules=Rules(**tight, max_labels=5))
    assert status == "budget"
    assert len(calls(tmp_path / "calls", "end")) == 5


def test_time_is_a_budget_too(tmp_path):
    """Over all restarts; a clean end at the step where it is spent."""
    settings = RunSettings(max_wall_hours=1e-9)
    assert do_run(tmp_path / "run", tmp_path / "calls", plan(), settings=settings)[0] == "budget"
    spent = RunFolder(tmp_path / "run", resume=True).load_state()["spent"]
    assert spent["wall"] > spent["labels"] > 0 and spent["cpu"] > 0
    cpu = (spent["cpu"] + spent["labels"]) / 3600
    settings = RunSettings(max_cpu_hours=cpu)
    assert do_run(tmp_path / "run", tmp_path / "calls", plan(), resume=True, settings=settings)[0] == "budget"
    assert len(read_log(tmp_path / "run" / "log.csv")["step"]) < 10
    settings = RunSettings(max_cpu_hours=cpu + 1)
    assert do_run(tmp_path / "run", tmp_path / "calls", plan(), resume=True, settings=settings)[0] == "finished"


def test_check_labels_show_the_true_error_and_end_a_run_that_has_converged(tmp_path):
    rules = Rules(threshold=0.5, check_interval=10, novelty=1e9)
    the_plan = plan(steps=1000, ramp=(50.0, 50.0))
    for target, status in ((0.5, "converged"), (1e-9, "finished")):
        settings = RunSettings(convergence=Convergence(after=20, target=target))
        steps = the_plan if status == "converged" else plan(steps=80, ramp=(50.0, 50.0))
        folder = tmp_path / status
        found, run = do_run(folder, tmp_path / f"calls_{status}", steps, rules=rules, settings=settings)
        assert found == status
        checks = [row for row in LabelStore(folder).rows() if row.reason == "check"]
        assert len(checks) >= 3
        assert [row.force_error for row in checks][-3:] == pytest.approx(list(run.journal.convergence.errors))
        assert run.journal.convergence.verdict == ("converged" if status == "converged" else "stalled")
    assert run.walkers[0].dynamics.step == 80


def test_isolated_molecules_learn_too(tmp_path):
    """No cell, no stress."""
    atoms = Atoms("Si4", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0], [0, 0, 2.4]])
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(steps=10), starts=[atoms])
    assert status == "finished"
    assert "stress" not in run.walkers[0].calculator.results


def test_a_failed_label_leaves_the_prediction_if_the_plan_says_so(tmp_path):
    """The second label and its second try fail: the run goes on with the model of the first, and says so."""
    faults = {"fail": ["", "nan", "nan"]}
    with pytest.raises(LabelError, match="delete it to ask again"):
        do_run(tmp_path / "stop", tmp_path / "calls0", plan(), plan_of_faults=faults)
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(), plan_of_faults=faults, on_failure="go on")
    assert status == "finished"
    log = read_log(tmp_path / "run" / "log.csv")
    failed = log["reason"] == "failed"
    assert failed.sum() == 1 and not log["labelled"][failed].any()
    assert len(list((tmp_path / "run" / "failed").glob("*.json"))) == 1
    assert len(LabelStore(tmp_path / "run")) == run.campaign.learner.n_labels
