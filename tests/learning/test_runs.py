"""Runs: continued after any interruption, logged, ended cleanly; labels cost nothing."""

import re
from contextlib import nullcontext

import ase.io
import numpy as np
import pytest
from ase import Atoms
from learning_runs import crystal, do_run, in_processes, plan, without_seconds

import mlpot
from mlpot.errors import ExplodedError, LabelError, RunFolderError
from mlpot.labellers.faulty import calls
from mlpot.labels.store import LabelStore
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.dynamics import Course
from mlpot.learning.policy import Rules
from mlpot.learning.run_folder import RunFolder, read_state
from mlpot.report.log_file import read_log
from mlpot.report.run_report import write_run_report
from mlpot.units import BOLTZMANN

pytestmark = pytest.mark.usefixtures("labels_in_this_process")


@pytest.mark.parametrize(
    ("ensemble", "options"),
    [
        ("nvt", {}),
        pytest.param("nve", {}, marks=pytest.mark.slow),
        pytest.param("npt", {"pressure_GPa": 0.5}, marks=pytest.mark.slow),
        pytest.param("npt", {"whole_cell": True}, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_gives_the_same_trajectory(tmp_path, ensemble, options):
    the_plan = plan(ensemble=ensemble, **options)
    assert do_run(tmp_path / "whole", tmp_path / "calls1", the_plan)[0] == "finished"
    # each part goes further than the one before, so that the last one comes even if no checkpoint was due before
    for stop_after in range(7, 90, 20):
        resume = stop_after > 7
        with in_processes() if ensemble == "nvt" else nullcontext():
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


@pytest.mark.slow
def test_log_labels_and_report(tmp_path):
    _, run = do_run(tmp_path / "run", tmp_path / "calls", plan())
    log = read_log(tmp_path / "run" / "log.csv")
    np.testing.assert_array_equal(log["step"], np.arange(61))
    np.testing.assert_allclose(log["time_fs"], 2.0 * np.arange(61))
    assert log["labelled"][0] == 1 and np.isnan(log["max_energy_std_eV"][0])
    rows = LabelStore(tmp_path / "run").rows()
    assert len(rows) == log["labelled"].sum() == run.campaign.learner.n_labels
    labelled = log["labelled"] > 0
    np.testing.assert_array_equal(labelled, np.isin(log["reason"], ["no model", "untried", "uncertain", "novel"]))
    rules = run.campaign.learner.rules
    early = log["threshold"] / rules.target
    over = (log["expected_error_eV_per_A"] > log["threshold"]) | (
        log["expected_energy_error_eV_per_atom"] > early * rules.target_energy
    )
    assert over[log["reason"] == "uncertain"].all()  # what labels would not take away may be over where it is certain
    assert {"uncertain", "certain"} < set(log["reason"])
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


@pytest.mark.slow
def test_refused_folders(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=5))
    with pytest.raises(RunFolderError, match="--resume"):
        do_run(tmp_path / "run", tmp_path / "calls", plan(steps=5))
    for other in (plan(ensemble="nve"), [plan(), plan()]):
        with pytest.raises(RunFolderError, match="the run in this folder has"):
            do_run(tmp_path / "run", tmp_path / "calls", other, resume=True)
    with pytest.raises(RunFolderError, match=r"log\.csv"):
        read_log(tmp_path / "log.csv")


@pytest.mark.slow
def test_a_spent_budget_ends_cleanly_and_can_be_raised(tmp_path):
    tight = {"threshold": 1e-5}
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), rules=Rules(**tight, max_labels=3))
    assert status == "budget"
    assert len(LabelStore(tmp_path / "run")) == 3
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), resume=True, rules=Rules(**tight, max_labels=5))
    assert status == "budget"
    assert len(calls(tmp_path / "calls", "end")) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
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


@pytest.mark.slow
def test_check_labels_show_the_true_error_and_end_a_run_that_has_converged(tmp_path):
    rules = Rules(threshold=0.5, check_interval=10, novelty=1e9)
    the_plan = plan(steps=1000, ramp=(50.0, 50.0))
    for target, status in ((0.5, "converged"), (1e-9, "finished")):
        settings = RunSettings(converged_after=20, target_error=target)
        steps = the_plan if status == "converged" else plan(steps=80, ramp=(50.0, 50.0))
        folder = tmp_path / status
        found, run = do_run(folder, tmp_path / f"calls_{status}", steps, rules=rules, settings=settings)
        assert found == status
        checks = [row for row in LabelStore(folder).rows() if row.reason == "check"]
        assert len(checks) >= 3
        assert [row.force_error for row in checks][-3:] == pytest.approx(list(run.journal.convergence.errors))
        assert run.journal.convergence.verdict == ("converged" if status == "converged" else "stalled")
    assert run.walkers[0].dynamics.step == 80


@pytest.mark.slow
def test_a_ramp_is_not_bent_by_more_steps(tmp_path, caplog):
    """Steps of a run that is resumed with more are those of a run that was never interrupted; then the last temperature is held."""
    do_run(tmp_path / "long", tmp_path / "calls", plan(steps=30))
    rows = without_seconds(tmp_path / "long")
    first = plan_temperatures(tmp_path / "long", 30)
    status, run = do_run(tmp_path / "long", tmp_path / "calls", plan(steps=60), resume=True)
    assert status == "finished" and "kept until step 60" in caplog.text
    assert without_seconds(tmp_path / "long")[: len(rows)] == rows
    course = run.walkers[0].dynamics.course
    assert [course.temperature(step) for step in range(31)] == first
    assert {course.temperature(step) for step in range(30, 61)} == {500.0}
    # cut off in the middle of the ramp: what is left of it is what it would have been
    do_run(tmp_path / "cut", tmp_path / "calls", plan(steps=30), stop_after=20)
    do_run(tmp_path / "cut", tmp_path / "calls", plan(steps=60), resume=True)
    assert without_seconds(tmp_path / "cut") == without_seconds(tmp_path / "long")


def plan_temperatures(folder, last):
    course = Course(**RunFolder(folder, resume=True).load_state()["walkers"][0]["dynamics"]["course"])
    return [course.temperature(step) for step in range(last + 1)]


@pytest.mark.slow
def test_another_ramp_begins_where_the_run_is_resumed(tmp_path, caplog):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=20))
    other = plan(steps=40, ramp=(500.0, 100.0))
    do_run(tmp_path / "run", tmp_path / "calls", other, resume=True, stop_after=8)
    assert "goes from step 20 to step 40" in caplog.text
    _, run = do_run(tmp_path / "run", tmp_path / "calls", other, resume=True)
    course = run.walkers[0].dynamics.course
    assert [course.temperature(step) for step in (20, 30, 40)] == [500.0, 300.0, 100.0]


@pytest.mark.slow
def test_time_goes_on_with_another_time_step(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=10))
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=20).changed(timestep_fs=0.5), resume=True)
    time = read_log(tmp_path / "run" / "log.csv")["time_fs"]
    np.testing.assert_allclose(time, [*2.0 * np.arange(11), *20.0 + 0.5 * np.arange(1, 11)])


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_a_run_that_blows_up_stops_and_can_go_on(tmp_path, ensemble):
    """With a reason, and the checkpoint from before: with a smaller time step it is the run that it would have been."""
    rules = Rules(threshold=1e3, novelty=1e9)
    good = plan(steps=60, ensemble=ensemble, ramp=(300.0, 300.0))
    settings = RunSettings(interval=5, checkpoint_s=0.0)
    do_run(tmp_path / "run", tmp_path / "calls", good.changed(steps=20), rules=rules, settings=settings)
    with pytest.raises(ExplodedError, match="time step"):
        wild = good.changed(timestep_fs=60.0)
        do_run(tmp_path / "run", tmp_path / "calls", wild, True, rules=rules, settings=settings)
    state = read_state(tmp_path / "run")
    assert state["status"] == "exploded" and state["verdict"] == "not converged"
    assert "blown up" in state["convergence"]["reason"] and "timestep_fs = 60" in state["convergence"]["reason"]
    known = state["walkers"][0]["dynamics"]
    speeds = known["momenta"] / crystal().get_masses()[:, None]
    assert np.sum(known["momenta"] * speeds) / (3 * 32 * BOLTZMANN) < 10 * 300
    assert "Not converged: a simulation has blown up" in write_run_report(tmp_path / "run").read_text()
    n_labels = len(LabelStore(tmp_path / "run"))
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", good, True, rules=rules, settings=settings)
    assert status == "finished" and len(LabelStore(tmp_path / "run")) >= n_labels
    finished = calls(tmp_path / "calls", "end")
    assert len(finished) == len(set(finished))


def test_no_checkpoint_is_made_of_what_may_be_the_beginning_of_an_explosion(tmp_path, monkeypatch):
    settings = RunSettings(checkpoint_s=0.0)
    monkeypatch.setattr("mlpot.learning.guards.DOUBTFUL", 0.0)
    do_run(tmp_path / "run", tmp_path / "calls", plan(), stop_after=10, settings=settings)
    assert read_state(tmp_path / "run") is None and len(LabelStore(tmp_path / "run")) > 0
    monkeypatch.setattr("mlpot.learning.guards.DOUBTFUL", 1.0)
    do_run(tmp_path / "run", tmp_path / "calls", plan(), True, stop_after=10, settings=settings)
    assert read_state(tmp_path / "run")["walkers"][0]["dynamics"]["step"] == 9


def test_no_label_is_paid_for_a_step_that_led_nowhere(tmp_path):
    """An atom that is fired at the others jumps farther than any step may."""
    start = crystal()
    start.set_momenta(np.zeros((32, 3)))
    momenta = start.get_momenta()
    momenta[0] = [3000.0, 0.0, 0.0]
    start.set_momenta(momenta)
    with pytest.raises(ExplodedError, match=r"atom 0 \(Si\) has moved"):
        do_run(tmp_path / "run", tmp_path / "calls", plan(), starts=[start], rules=Rules(threshold=1e-9))
    assert len(calls(tmp_path / "calls", "start")) == 1


@pytest.mark.slow
def test_the_verdict_is_in_the_state_of_every_run_that_ends(tmp_path):
    """Whichever way; the numbers are those of the labels."""
    ends = {
        "finished": (plan(steps=30), {}),
        "budget": (plan(steps=30), {"rules": Rules(threshold=1e-5, max_labels=3)}),
        "time": (plan(steps=300), {"settings": RunSettings(max_wall_hours=1e-9)}),
    }
    for name, (the_plan, options) in ends.items():
        status, run = do_run(tmp_path / name, tmp_path / f"calls_{name}", the_plan, **options)
        state = RunFolder(tmp_path / name, resume=True).load_state()
        told = state["convergence"]
        assert state["status"] == status == ("budget" if name == "time" else name)
        assert state["verdict"] == run.verdict.name and told["reason"] == run.verdict.reason
        errors = [row.force_error for row in LabelStore(tmp_path / name).rows() if "force_error" in row.key_value_pairs]
        assert told["target"] == run.campaign.learner.rules.target and told["n"] == len(errors[-5:])
        if errors:
            assert told["rms_error_of_last_labels"] == pytest.approx(np.sqrt(np.mean(np.square(errors[-5:]))))
    assert "increase max_labels" in RunFolder(tmp_path / "budget", resume=True).load_state()["convergence"]["advice"]


def test_frames_say_how_sure_the_model_was(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=12))
    log = read_log(tmp_path / "run" / "log.csv")
    frames = ase.io.read(tmp_path / "run" / "trajectory.xyz", ":")
    assert len(frames) >= 3
    for frame in frames:
        assert frame.arrays["forces_std"].shape == (32, 3) and frame.arrays["energies_std"].shape == (32,)
        assert frame.info["stress_std"].shape == (3, 3)
        if not frame.info["labelled"]:
            row = frame.info["step"]
            per_atom = log["expected_energy_error_eV_per_atom"][row]
            assert frame.info["energy_std"] == pytest.approx(32 * per_atom)
            assert frame.info["stress_std"].max() * 160.21766 == pytest.approx(
                log["expected_stress_error_GPa"][row], rel=1e-4
            )
            largest = np.linalg.norm(frame.get_forces(), axis=1).max()
            assert log["max_force_eV_per_A"][row] == pytest.approx(largest, abs=1e-6)


@pytest.mark.slow
def test_isolated_molecules_learn_too(tmp_path):
    """No cell, no stress."""
    atoms = Atoms("Si4", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0], [0, 0, 2.4]])
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(steps=10), starts=[atoms])
    assert status == "finished"
    assert "stress" not in run.walkers[0].calculator.results


@pytest.mark.slow
def test_a_failed_label_leaves_the_prediction_if_the_plan_says_so(tmp_path):
    """The second label and its second try fail: the run goes on with the model of the first, and says so."""
    faults = {"fail": ["", "nan", "nan"]}
    with pytest.raises(LabelError, match="delete it to try again"):
        do_run(tmp_path / "stop", tmp_path / "calls0", plan(), plan_of_faults=faults)
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(), plan_of_faults=faults, on_failure="go on")
    assert status == "finished"
    log = read_log(tmp_path / "run" / "log.csv")
    failed = log["reason"] == "failed"
    assert failed.sum() == 1 and not log["labelled"][failed].any()
    assert len(list((tmp_path / "run" / "failed").glob("*.json"))) == 1
    assert len(LabelStore(tmp_path / "run")) == run.campaign.learner.n_labels
