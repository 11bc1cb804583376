"""A server's steps, evaluated by a model that learns: one version for all beads, everything on the disk before the answer."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from bead_server import LOOSE, N_BEADS, Server, beads_of, versions
from conftest import lennard_jones
from learning_runs import crystal, without_seconds

from mlpot.errors import ConfigError, LabelError, RunFolderError
from mlpot.learning.calculator import BudgetSpent
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.log_format import LOG
from mlpot.learning.policy import LOOK, Rules
from mlpot.learning.run_folder import read_state
from mlpot.models.prediction import least_certain
from mlpot.units import BOHR, HARTREE

pytestmark = pytest.mark.usefixtures("labels_in_this_process")


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_all_beads_are_answered_by_one_version(tmp_path):
    """That of the newest model, whoever was labelled; the labels are on the disk before."""
    server, seen = Server(tmp_path), []

    def after(step, found):
        learner = server.campaign.learner
        assert versions(found) == [learner.model_version] * N_BEADS
        for atoms, evaluation in zip(beads_of(step), found, strict=True):
            p = learner.model.predict(atoms, uncertainty=True)
            np.testing.assert_allclose(evaluation.forces, p.forces, atol=1e-10)
            np.testing.assert_allclose(evaluation.virial, p.virial, atol=1e-9)
            assert evaluation.energy == pytest.approx(p.energy, abs=1e-9)
            expected = evaluation.extras["max_force_uncertainty"] * HARTREE / BOHR
            assert expected == pytest.approx(least_certain(p.forces_std), rel=1e-6)
        state = read_state(server.folder)
        assert len(state["campaign"]["learned"]) == learner.n_labels == found[0].extras["n_labelled"]
        seen.append((learner.n_labels, found[0].extras["learned"]))

    server.run(range(12), after=after)
    counts = [count for count, _ in seen]
    assert counts[0] < counts[-1] == len(server.paid) == len(set(server.paid))
    assert [learned for _, learned in seen] == (np.diff([0, *counts]) > 0).tolist()


@pytest.mark.slow
def test_the_worst_bead_is_labelled(tmp_path):
    server, guesses = Server(tmp_path), []

    def after(step, found):
        model = server.campaign.learner.model
        following = beads_of(step + 1)
        doubts = [least_certain(model.predict(atoms, uncertainty=True).forces_std) for atoms in following]
        guesses.append(following[int(np.argmax(doubts))].positions)

    server.run(range(8), after=after)
    rows = [row for row in server.campaign.source.store.rows() if row.walker_step > 0]
    first = {row.walker_step: row.positions for row in reversed(rows)}
    assert len(first) > 1
    for step, positions in first.items():
        np.testing.assert_array_equal(positions, guesses[step - 1])


@pytest.mark.slow
def test_forces_are_those_of_the_labels(tmp_path):
    server, errors = Server(tmp_path), []

    def after(step, found):
        for atoms, evaluation in zip(beads_of(step), found, strict=True):
            atoms.calc = lennard_jones()
            errors.append(np.sqrt(np.mean((evaluation.forces - atoms.get_forces()) ** 2)))

    server.run(range(12), after=after)
    assert np.mean(errors[N_BEADS:]) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("order", [lambda step: (0, 2, 1), lambda step: np.roll(range(N_BEADS), step).tolist()])
def test_beads_that_come_one_by_one_see_one_version(tmp_path, order):
    """But for those that it cannot be trusted with; what these taught is there for all from the next step on."""
    server, answers = Server(tmp_path), []
    server.run(range(12), order, lambda step, found: answers.append(found))
    newest, held = 0, 0
    for found in answers:
        numbers, before = versions(found), max(newest, 1)
        assert all(number == before or number > newest for number in numbers)
        after_label = numbers[np.argmax(np.array(numbers) > before) :] if max(numbers) > before else []
        held += before in after_label
        newest = max(numbers)
    assert newest == server.campaign.learner.model_version > 2
    assert held, "no bead came after a label of its own step"
    assert server.n_rows == 12


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_a_step_of_which_the_rest_comes_after_a_restart_sees_one_version(tmp_path, monkeypatch):
    """The server knows what was answered, so the driver has to know it too."""
    first = Server(tmp_path, rules=LOOSE)

    def interrupted(query):
        raise SystemExit(143)

    with pytest.raises(SystemExit), first.campaign, first.evaluator.serving():
        for step in range(3):
            for k, atoms in enumerate(beads_of(step)):
                first.evaluator.evaluate([atoms], k)
        version = first.campaign.learner.model_version
        monkeypatch.setattr(first.campaign, "settle", interrupted)
        quiet, far = beads_of(2)[0], beads_of(30)[1]
        (answer,) = first.evaluator.evaluate([quiet], 0)
        assert versions([answer]) == [version] and not answer.extras["learned"]
        first.evaluator.evaluate([far], 1)
    second = Server(tmp_path, resume=True, rules=LOOSE)
    with second.campaign, second.evaluator.serving():
        (labelled,) = second.evaluator.evaluate([far], 1)
        (last,) = second.evaluator.evaluate(beads_of(0)[:1], 2)  # well known to every version
        (following,) = second.evaluator.evaluate([quiet], 0)
    assert versions([labelled, last]) == [version + 1, version] and versions([following]) > [version]


@pytest.mark.slow
def test_a_step_that_comes_in_parts_now_and_then(tmp_path):
    """As i-PI's thread may send a batch before its queue is full; steps stay what they are."""
    server = Server(tmp_path)
    with server.campaign, server.evaluator.serving():
        for step in range(8):
            beads = beads_of(step)
            if step in (3, 5):
                one = server.evaluator.evaluate(beads[:1], 0)
                rest = server.evaluator.evaluate(beads[1:], 1)
                quiet = [e for e in (*one, *rest) if not e.extras["learned"]]
                assert len(set(versions(quiet))) <= 1 or max(versions(quiet)) == server.campaign.learner.model_version
            else:
                assert len(set(versions(server.evaluator.evaluate(beads, 0)))) == 1
    assert server.n_rows == 8
    known = read_state(server.folder)["walkers"][0]
    assert (known["n_beads"], known["sizes"]) == (N_BEADS, {str(N_BEADS): 8})


@pytest.mark.slow
def test_calibration_of_beads_that_come_one_by_one(tmp_path):
    """Of several labels in a step, each is compared with what was predicted, raw: recalibration in between changes nothing."""
    rules = Rules(target=1e-4)
    server = Server(tmp_path, rules=rules)
    server.run(range(6), lambda step: range(N_BEADS))
    rows = [row for row in server.campaign.source.store.rows() if "seen_raw_rms" in row]
    steps = [row.walker_step for row in rows]
    assert len(steps) > len(set(steps)) and len(rows) > 4
    assert server.campaign.learner.calibration.of_elements[14] != pytest.approx(1.0, rel=0.01)
    for row in rows:
        deviation = np.sqrt(np.mean(row.data["predicted_forces_std"] ** 2))
        assert row.expected_error / row.seen_raw_max == pytest.approx(deviation / row.seen_raw_rms, rel=1e-6)


@pytest.mark.slow
def test_a_new_model_is_looked_at_when_a_bead_has_moved(tmp_path):
    """By the distance of each bead from the labelled structures, not by steps."""
    server = Server(tmp_path, rules=LOOSE)
    with server.campaign, server.evaluator.serving():
        for _ in range(60):
            server.evaluator.evaluate(beads_of(0), 7)
        assert server.campaign.learner.n_labels == 1
        moved = beads_of(0)
        moved[1].positions[5] += [0.0, 1.3 * LOOK, 0.0]
        server.evaluator.evaluate(moved, 7)
    rows = server.campaign.source.store.rows()
    assert [row.reason for row in rows] == ["no model", "untried"]
    np.testing.assert_array_equal(rows[1].positions, moved[1].positions)


@pytest.mark.slow
def test_the_stress_counts_where_the_cell_changes(tmp_path):
    """A server does not say whether it uses the virial; a restarted driver remembers."""
    rules = LOOSE.changed(target_stress=1e-12)
    server = Server(tmp_path, rules=rules)
    with server.campaign, server.evaluator.serving():
        for seed in range(4):
            server.evaluator.evaluate([crystal(seed)], 7)
        n_labels = server.campaign.learner.n_labels
        server.evaluator.evaluate([crystal(9)], 7)
        assert server.campaign.learner.n_labels == n_labels and not server.evaluator.wants_stress
        squeezed = crystal(9)
        squeezed.set_cell(squeezed.cell.array * 0.999, scale_atoms=True)
        server.evaluator.evaluate([squeezed], 7)
        assert server.campaign.learner.n_labels == n_labels + 1
    second = Server(tmp_path, resume=True, rules=rules)
    with second.campaign, second.evaluator.serving():
        assert second.evaluator.wants_stress


def killed_during_a_label(tmp_path):
    server = Server(tmp_path, plan_of_faults={"seconds": 5.0})

    def die(key):
        while not (server.calls.exists() and "start" in server.calls.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    server.campaign.source.wait = die
    server.run(range(1))


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_a_label_under_way_is_waited_for(tmp_path):
    """A worker that outlived its driver, and positions that come back rounded: nobody else would ask for its label."""
    process = multiprocessing.get_context("spawn").Process(target=killed_during_a_label, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    second = Server(tmp_path, resume=True, plan_of_faults={"seconds": 5.0})
    assert second.paid == []
    second.run([])
    assert len(second.paid) == 1 == second.campaign.learner.n_labels
    assert list((second.folder / "inbox").glob("*.json")) == []


def test_a_server_that_gives_no_numbers(tmp_path):
    """Every message is a step."""
    server = Server(tmp_path)
    with server.campaign, server.evaluator.serving():
        for step in range(4):
            server.evaluator.evaluate(beads_of(step)[:1])
    assert server.n_rows == 4


@pytest.fixture(scope="module")
def whole(labels_in_this_process, tmp_path_factory):
    """A server's 12 steps that nothing interrupts."""
    server = Server(tmp_path_factory.mktemp("whole"))
    server.run(range(12))
    return server


@pytest.mark.slow
@pytest.mark.parametrize(("error", "stop_at"), [(KeyboardInterrupt, 1), (SystemExit, 5), (LabelError, 9)])
def test_what_was_interrupted_goes_on_as_if_nothing_had_been(whole, tmp_path, error, stop_at):
    first = Server(tmp_path)

    def after(step, found):
        if step == stop_at:
            raise error("now")

    with pytest.raises(error):
        first.run(range(12), after=after)
    assert read_state(first.folder)["status"] == "running"
    second = Server(tmp_path, resume=True)
    second.run(range(stop_at, 12))  # a server repeats the step at which it was stopped
    assert without_seconds(second.folder) == without_seconds(whole.folder)
    assert second.paid == whole.paid
    assert (second.folder / "trajectory.xyz").read_text() == (whole.folder / "trajectory.xyz").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_interrupted_while_it_waits_for_a_label(whole, tmp_path, monkeypatch):
    """The step is done again: no label is counted twice."""
    first = Server(tmp_path)
    settle, n_settled = first.campaign.settle, []

    def stopped(query):
        n_settled.append(query)
        if len(n_settled) == 3:
            raise SystemExit(143)
        return settle(query)

    monkeypatch.setattr(first.campaign, "settle", stopped)
    reached = []
    with pytest.raises(SystemExit):
        first.run(range(12), after=lambda step, found: reached.append(step))
    second = Server(tmp_path, resume=True)
    second.run(range(reached[-1] + 1, 12))
    assert without_seconds(second.folder) == without_seconds(whole.folder)
    assert second.campaign.learner.state() == whole.campaign.learner.state()


@pytest.mark.slow
def test_a_label_that_nobody_learned_is_learned_when_the_run_goes_on(tmp_path, monkeypatch):
    """As after a kill of everything: the server's positions come back rounded, so it would never be asked for again."""
    first = Server(tmp_path)
    assert not first.campaign.is_prepared

    def learns_no_more(query, outcome):
        if first.campaign.learner.n_labels == 2:
            raise SystemExit(137)
        return answer(query, outcome)

    answer = first.campaign._answer
    monkeypatch.setattr(first.campaign, "_answer", learns_no_more)
    with pytest.raises(SystemExit):
        first.run(range(12))
    assert len(first.paid) == 3
    second = Server(tmp_path, resume=True)
    second.run([])
    assert second.campaign.learner.n_labels == 3 == len(second.paid)
    assert [row.reason for row in second.campaign.source.store.rows()].count("found") == 1


@pytest.mark.slow
def test_a_queued_label_is_known_to_a_run_that_goes_on(tmp_path, monkeypatch):
    """Told to leave while it waits for a check label: the query is in the state, and its error counts when it comes."""
    rules = Rules(threshold=0.5, check_interval=3)
    first = Server(tmp_path, rules=rules)

    def interrupted(wait):
        if first.campaign.queue:
            raise SystemExit(143)

    monkeypatch.setattr(first.evaluator.journal, "settle_queue", interrupted)
    with pytest.raises(SystemExit):
        first.run(range(12))
    queue = read_state(first.folder)["campaign"]["queue"]
    assert [query["reason"] for query in queue] == ["check"]
    second = Server(tmp_path, resume=True, rules=rules)
    second.run(range(first.n_rows, 12))
    assert len(second.evaluator.journal.convergence.errors) > 1
    reasons = [row.reason for row in second.campaign.source.store.rows()]
    assert "found" not in reasons and reasons.count("check") > 1


@pytest.mark.slow
def test_the_budget_ends_it_and_more_of_it_goes_on(tmp_path):
    server = Server(tmp_path, rules=Rules(target=0.005, max_labels=2))
    with pytest.raises(BudgetSpent, match=r"needed \(expected .*, but all labels .*max_labels = 2 .*increase max_labels .*--resume"):
        server.run(range(12))
    assert read_state(server.folder)["status"] == "budget"
    again = Server(tmp_path, resume=True)
    again.run(range(server.n_rows, 12))
    assert again.n_rows == 12 and again.campaign.learner.n_labels > 2


def test_time_is_a_budget_too(tmp_path):
    server = Server(tmp_path, settings=RunSettings(max_wall_hours=1e-9))
    with pytest.raises(BudgetSpent, match="used its time"):
        server.run(range(2))


@pytest.mark.slow
def test_soft_and_check_labels_come_later(tmp_path):
    rules = Rules(threshold=0.5, soft_fraction=0.02, check_interval=4)
    server = Server(tmp_path, rules=rules)
    server.run(range(14))
    reasons = [row.get("reason") for row in server.campaign.source.store.rows()]
    assert {"soft", "check"} & set(reasons) and len(reasons) == len(server.paid)
    assert server.campaign.queue == []


@pytest.mark.slow
def test_a_label_that_fails(tmp_path):
    """Stops the run, or is done without where there is a model."""
    faults = {"fail": ["", *["raise"] * 20]}
    with pytest.raises(LabelError):
        Server(tmp_path / "stop", plan_of_faults=faults, tries=1).run(range(12))
    server, learned = Server(tmp_path / "on", plan_of_faults=faults, tries=1, on_failure="go on"), []
    server.run(range(6), after=lambda step, found: learned.append(found[0].extras["n_labelled"]))
    assert learned == [1] * 6
    assert "failed" in (server.folder / LOG).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("committee", "n_members"), [("std", 2), ("members", 8)])
def test_committees(tmp_path, committee, n_members):
    def after(step, found):
        for evaluation in found:
            pot = np.array(evaluation.extras["committee_pot"]) * HARTREE
            assert pot.shape == (n_members,) and pot.mean() == pytest.approx(evaluation.energy, abs=1e-6)

    Server(tmp_path, committee=committee).run(range(4), after=after)


@pytest.mark.slow
def test_another_run(tmp_path):
    Server(tmp_path).run(range(2))
    other = Server(tmp_path, resume=True)
    other.evaluator.template = crystal()[:-1]
    with pytest.raises(RunFolderError, match="of 32 atoms, but the template has 31"):
        other.run([])
    assert read_state(other.folder)["status"] == "finished"
    with pytest.raises(ConfigError, match="committee = 'many'"):
        Server(tmp_path / "new", committee="many")
