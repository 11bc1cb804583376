"""Several walkers, one model: shared labels, repeatable steps, queued labels, restarts."""

from contextlib import nullcontext

import numpy as np
import pytest
from ase.build import bulk
from conftest import lennard_jones
from learning_runs import CONFIG, STRICT, campaign, crystal, do_run, in_processes, plan, run_and_die, without_seconds

from mlpot.errors import RunFolderError
from mlpot.labellers.faulty import calls
from mlpot.labels.store import LabelStore
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.cycle import obtain
from mlpot.learning.policy import Rules
from mlpot.learning.walker import Walker
from mlpot.report.log_file import read_log

pytestmark = pytest.mark.usefixtures("labels_in_this_process")
PLANS = [plan(steps=40, seed=1), plan(steps=25, seed=2, ramp=(300.0, 900.0)), plan(steps=40, seed=3, ensemble="npt")]


@pytest.mark.slow
def test_walkers_share_labels_and_model(tmp_path):
    # what one has taught, another need not ask: so strict that each of them does
    status, run = do_run(tmp_path / "run", tmp_path / "calls", PLANS, rules=STRICT.changed(target=0.003))
    assert status == "finished"
    log = read_log(tmp_path / "run" / "log.csv")
    for name, the_plan in zip(("w0", "w1", "w2"), PLANS, strict=True):
        np.testing.assert_array_equal(log["step"][log["walker"] == name], np.arange(the_plan.steps + 1))
    rows = LabelStore(tmp_path / "run").rows()
    assert {row.walker for row in rows} == {"w0", "w1", "w2"}
    assert run.campaign.learner.n_labels == len(rows) == log["labelled"].sum()
    # a version of the model reaches all: it never falls from one row to the next
    assert np.all(np.diff(log["model_version"]) >= 0)
    assert sorted(file.name for file in (tmp_path / "run").glob("*.xyz")) == [f"trajectory_w{k}.xyz" for k in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("rules", [STRICT, STRICT.changed(soft_fraction=0.5, check_interval=15)])
def test_interrupted_walkers_give_the_same_trajectories(tmp_path, rules):
    """With labels that are waited for, queued ones included, nothing depends on when it was killed."""
    assert do_run(tmp_path / "whole", tmp_path / "calls1", PLANS, rules=rules)[0] == "finished"
    for stop_after in range(20, 400, 30):
        with in_processes() if rules.soft_fraction else nullcontext():
            status, _ = do_run(tmp_path / "parts", tmp_path / "calls2", PLANS, stop_after > 20, stop_after, rules=rules)
        if status != "interrupted":
            break
    assert status == "finished"
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    for k in range(3):
        file = f"trajectory_w{k}.xyz"
        assert (tmp_path / "parts" / file).read_text() == (tmp_path / "whole" / file).read_text()
    # rows of labels calculated at once are in the order in which the workers finished; what was learned is the same
    parts, whole = (
        sorted((row.walker, row.walker_step, row.reason, row.energy) for row in LabelStore(tmp_path / name).rows())
        for name in ("parts", "whole")
    )
    assert parts == whole
    finished = calls(tmp_path / "calls2", "end")
    assert len(finished) == len(set(finished))


AT_ONCE = RunSettings(interval=5, workers=3)


@pytest.mark.slow
def test_trajectories_do_not_depend_on_who_is_faster(tmp_path):
    """Labels that are calculated at once by several workers are learned in an order of their own."""
    do_run(tmp_path / "a", tmp_path / "calls_a", PLANS, settings=AT_ONCE)
    slow = {"seconds": 0.05}
    with in_processes():
        do_run(tmp_path / "b", tmp_path / "calls_b", PLANS, settings=AT_ONCE, workers=3, plan_of_faults=slow)
    first, second = without_seconds(tmp_path / "a"), without_seconds(tmp_path / "b")
    assert first == second


@pytest.mark.slow
def test_the_least_certain_walker_is_labelled_first_and_the_others_look_again(tmp_path):
    """What one walker's label has taught, another need not ask."""
    asked, paid = {}, {}
    for at_once in (1, 3):
        folder, settings = tmp_path / f"{at_once}", RunSettings(interval=5, workers=at_once)
        do_run(folder, tmp_path / f"calls{at_once}", PLANS, settings=settings, rules=Rules(threshold=0.2))
        log = read_log(folder / "log.csv")
        asked[at_once] = [log["labelled"][log["step"] == step].sum() for step in range(41)]
        paid[at_once] = len(LabelStore(folder))
    assert (asked[1][0], asked[3][0]) == (1, 3)
    assert paid[1] < paid[3]


def test_the_order_of_doubt(tmp_path):
    with campaign(tmp_path / "run", tmp_path / "calls", Rules(threshold=1e-9)) as shared:
        walkers = [Walker(shared, f"w{k}", crystal(), plan(steps=9)) for k in range(2)]
        shared.prepare((14,), state={})
        assert not walkers[0].advance() and walkers[0].doubt == np.inf
        walkers[0].repeat(*obtain([walkers[0].waiting]))
        walkers[1].atoms.rattle(0.2, seed=0)
        assert not walkers[0].advance() and not walkers[1].advance()
        assert 0 < walkers[0].doubt < walkers[1].doubt < np.inf


@pytest.mark.slow
def test_a_step_that_needs_a_label_is_repeated_exactly(tmp_path):
    """Positions, momenta and random numbers are those of a run whose labels were there at once."""
    with campaign(tmp_path / "run", tmp_path / "calls", Rules(threshold=1e-6)) as shared:
        walker = Walker(shared, "w", crystal(), plan(steps=5))
        shared.prepare((14,), state={})
        reference = crystal()
        reference.calc = lennard_jones()
        twin = type(walker.dynamics)(reference, plan(steps=5))
        twin.begin()
        for k in range(6):
            if not walker.advance():
                walker.repeat(*obtain([walker.waiting]))
            if k:
                twin.advance()
            np.testing.assert_allclose(walker.atoms.positions, reference.positions, rtol=0, atol=1e-13)
            np.testing.assert_allclose(walker.atoms.get_momenta(), reference.get_momenta(), rtol=0, atol=1e-13)


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_queued_labels_arrive_while_the_simulation_goes_on(tmp_path):
    """A label takes longer than many steps; it is learned when it comes, and all are there at the end."""
    rules = Rules(threshold=5.0, soft_fraction=1e-7, novelty=1e9)
    settings = RunSettings(interval=5, asynchronous=True)
    faults = {"seconds": 0.4}
    status, run = do_run(
        tmp_path / "run", tmp_path / "calls", plan(steps=400), rules=rules, settings=settings, plan_of_faults=faults
    )
    assert status == "finished"
    log = read_log(tmp_path / "run" / "log.csv")
    rows = LabelStore(tmp_path / "run").rows()
    waited_for = log["reason"][log["labelled"] == 1]
    assert set(waited_for) <= {"no model", "untried"}  # the first one, and looks at models
    assert len(waited_for) <= 3 < len(rows)
    assert run.campaign.learner.n_labels == len(rows) and not run.campaign.queue
    soft = [row for row in rows if row.reason == "soft"]
    asked = np.array([row.walker_step for row in soft])
    learned = [np.flatnonzero(log["model_version"] >= row.model_version) for row in soft]
    waited = [steps[0] - step for steps, step in zip(learned, asked, strict=True) if len(steps)]
    assert waited and max(waited) > 3
    assert all(row.force_error > 0 for row in soft)


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_labels_under_way_when_a_run_is_killed_are_not_lost(tmp_path):
    rules = Rules(threshold=5.0, soft_fraction=1e-7, novelty=1e9, max_labels=4)
    settings = RunSettings(interval=5, asynchronous=True, checkpoint_s=0.0)
    options = {"rules": rules, "settings": settings, "plan_of_faults": {"seconds": 0.3}}
    run_and_die(tmp_path / "run", tmp_path / "calls", plan(steps=4000), stop_after=30, where=in_processes, **options)
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(steps=200), resume=True, **options)
    assert status == "finished"
    finished = calls(tmp_path / "calls", "end")
    assert len(finished) == len(set(finished))
    assert run.campaign.learner.n_labels == len(LabelStore(tmp_path / "run")) == len(finished)


@pytest.mark.slow
def test_walkers_of_different_compositions(tmp_path):
    starts = [crystal(), bulk("C", "fcc", a=3.4, cubic=True) * (2, 2, 2)]
    starts[1].rattle(0.03, seed=2)
    config = CONFIG.model_copy(update={"isolated_atom_energies": {"Si": 0.0, "C": 0.0}})
    status, run = do_run(tmp_path / "run", tmp_path / "calls", [plan(20), plan(20)], starts=starts, config=config)
    assert status == "finished"
    assert run.campaign.learner.species == (6, 14)
    assert {row.formula for row in LabelStore(tmp_path / "run").rows()} == {"Si32", "C32"}


@pytest.mark.slow
@pytest.mark.parametrize(("ensemble", "more"), [("nvt", 0), ("npt", 1)])
def test_the_stress_counts_at_constant_pressure(tmp_path, ensemble, more):
    rules = Rules(threshold=1e3, target_energy=1e3, target_stress=1e-12, novelty=1e9, check_interval="off")
    with campaign(tmp_path / "run", tmp_path / "calls", rules) as shared:
        walker = Walker(shared, "w", crystal(), plan(steps=5, ensemble=ensemble))
        shared.prepare((14,), state={})
        for seed in (1, 5, 6):  # the first model, and two that test it
            walker.atoms.positions = crystal().positions
            walker.atoms.rattle(0.1 * (seed > 1), seed=seed)
            if not walker.advance():
                walker.repeat(*obtain([walker.waiting]))
        before = shared.learner.n_labels
        assert before == 3
        walker.advance()
        assert (walker._needed is not None and walker._needed.decision.reason == "uncertain") == bool(more)


@pytest.mark.slow
def test_check_labels_come_ever_more_rarely(tmp_path):
    """Of all walkers together, as long as they find what is expected; a run that goes on knows when the next one is due."""
    rules = Rules(threshold=0.5, target_energy=1e3, novelty=1e9, min_interval=10)
    steps = [plan(steps=150, ramp=(50.0, 50.0), seed=seed) for seed in range(2)]
    assert do_run(tmp_path / "whole", tmp_path / "calls1", steps, rules=rules)[0] == "finished"
    checks = [row for row in LabelStore(tmp_path / "whole").rows() if row.reason == "check"]
    gaps = np.diff([0, *sorted({row.walker_step for row in checks})])
    assert 2 <= len(checks) <= 10 and gaps[-1] > gaps[0]
    assert checks[-1].check_interval > checks[0].check_interval
    do_run(tmp_path / "parts", tmp_path / "calls2", steps, stop_after=2 * 70, rules=rules)
    status, run = do_run(tmp_path / "parts", tmp_path / "calls2", steps, True, rules=rules)
    assert status == "finished" and without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    assert run.campaign.learner.check_interval == checks[-1].check_interval


@pytest.mark.slow
def test_another_walker_in_its_place_is_refused(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", PLANS[:2])
    with pytest.raises(RunFolderError, match="the run in this folder has"):
        do_run(tmp_path / "run", tmp_path / "calls", PLANS[1:], resume=True)
