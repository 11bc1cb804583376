"""A server's steps, evaluated by a model that learns: one version for all beads, everything on the disk before the answer."""

import numpy as np
import pytest
from conftest import lennard_jones
from learning_runs import campaign, crystal, without_seconds

from mlpot.errors import ConfigError, LabelError, RunFolderError
from mlpot.learning.beads import LearningEvaluator
from mlpot.learning.calculator import BudgetSpent
from mlpot.learning.folder import read_state
from mlpot.learning.journal import RunSettings
from mlpot.learning.policy import Rules
from mlpot.learning.record import LOG
from mlpot.models.prediction import least_certain
from mlpot.units import BOHR, HARTREE

N_BEADS = 3
STRICT = Rules(target=0.005)


def beads_of(step, n_beads=N_BEADS):
    """A ring polymer that spreads and gets warmer."""
    beads = [crystal() for _ in range(n_beads)]
    for k, atoms in enumerate(beads):
        atoms.rattle(0.004 * (step + 1) * (1 + 0.3 * k), seed=10 + k)
    return beads


class Server:
    """Asks for steps, all beads at a time or one by one, and remembers the answers."""

    def __init__(self, tmp_path, resume=False, rules=STRICT, settings=None, committee="none", **kwargs):
        self.folder, self.calls = tmp_path / "run", tmp_path / "calls"
        self.campaign = campaign(self.folder, self.calls, rules=rules, resume=resume, **kwargs)
        settings = settings or RunSettings(interval=2, checkpoint_seconds=1e9)
        self.evaluator = LearningEvaluator(self.campaign, crystal(), settings, committee)

    def run(self, steps, order=None, after=lambda step, found: None):
        """All beads at a time, or in the order of a step one by one."""
        with self.campaign, self.evaluator.serving():
            for step in steps:
                beads = beads_of(step)
                if order is None:
                    found = self.evaluator.evaluate(beads, 7)
                else:
                    found = [self.evaluator.evaluate([beads[k]], k)[0] for k in order(step)]
                after(step, found)

    @property
    def paid(self):
        return [line.split()[1] for line in self.calls.read_text().splitlines() if line.startswith("end")]

    @property
    def n_rows(self):
        return len((self.folder / LOG).read_text().splitlines()) - 1


def versions(found):
    return [evaluation.extras["model_version"] for evaluation in found]


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


def test_forces_are_those_of_the_labels(tmp_path):
    server, errors = Server(tmp_path), []

    def after(step, found):
        for atoms, evaluation in zip(beads_of(step), found, strict=True):
            atoms.calc = lennard_jones()
            errors.append(np.sqrt(np.mean((evaluation.forces - atoms.get_forces()) ** 2)))

    server.run(range(12), after=after)
    assert np.mean(errors[N_BEADS:]) < 0.05


@pytest.mark.parametrize("order", [lambda step: range(N_BEADS), lambda step: np.roll(range(N_BEADS), step).tolist()])
def test_beads_that_come_one_by_one_see_one_version(tmp_path, order):
    """But for those that had to be labelled; what they taught is there from the next step on."""
    server, answers = Server(tmp_path), []
    server.run(range(12), order, lambda step, found: answers.append(found))
    newest = 0
    for found in answers:
        quiet = [e.extras["model_version"] for e in found if not e.extras["learned"]]
        assert set(quiet) <= {max(newest, 1)}
        newest = max(versions(found))
    assert newest == server.campaign.learner.model_version > 2
    assert server.n_rows == 12


def test_a_step_of_which_the_rest_comes_after_a_restart_sees_one_version(tmp_path, monkeypatch):
    """The server knows what was answered, so the driver has to know it too."""
    first = Server(tmp_path)

    def interrupted(query):
        raise SystemExit(143)

    with pytest.raises(SystemExit), first.campaign, first.evaluator.serving():
        for step in range(3):
            for k, atoms in enumerate(beads_of(step)):
                first.evaluator.evaluate([atoms], k)
        version = first.campaign.learner.model_version
        monkeypatch.setattr(first.campaign, "settle", interrupted)
        quiet, far = beads_of(2)[0], beads_of(80)[1]
        (answer,) = first.evaluator.evaluate([quiet], 0)
        assert versions([answer]) == [version] and not answer.extras["learned"]
        first.evaluator.evaluate([far], 1)
    second = Server(tmp_path, resume=True)
    with second.campaign, second.evaluator.serving():
        (labelled,) = second.evaluator.evaluate([far], 1)
        (last,) = second.evaluator.evaluate([beads_of(2)[2]], 2)
        (following,) = second.evaluator.evaluate([quiet], 0)
    assert versions([labelled, last]) == [version + 1, version] and versions([following]) > [version]


def test_a_server_that_gives_no_numbers(tmp_path):
    """Every message is a step."""
    server = Server(tmp_path)
    with server.campaign, server.evaluator.serving():
        for step in range(4):
            server.evaluator.evaluate(beads_of(step)[:1])
    assert server.n_rows == 4


@pytest.mark.parametrize(("error", "stop_at"), [(KeyboardInterrupt, 1), (SystemExit, 5), (LabelError, 9)])
def test_what_was_interrupted_goes_on_as_if_nothing_had_been(tmp_path, error, stop_at):
    whole, first = Server(tmp_path / "whole"), Server(tmp_path / "parts")
    whole.run(range(12))

    def after(step, found):
        if step == stop_at:
            raise error("now")

    with pytest.raises(error):
        first.run(range(12), after=after)
    assert read_state(first.folder)["status"] == "running"
    second = Server(tmp_path / "parts", resume=True)
    second.run(range(stop_at, 12))  # a server repeats the step at which it was stopped
    assert without_seconds(second.folder) == without_seconds(whole.folder)
    assert second.paid == whole.paid
    assert (second.folder / "trajectory.xyz").read_text() == (whole.folder / "trajectory.xyz").read_text()


def test_interrupted_while_it_waits_for_a_label(tmp_path, monkeypatch):
    """The step is done again: no label is counted twice."""
    whole, first = Server(tmp_path / "whole"), Server(tmp_path / "parts")
    whole.run(range(12))
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
    second = Server(tmp_path / "parts", resume=True)
    second.run(range(reached[-1] + 1, 12))
    assert without_seconds(second.folder) == without_seconds(whole.folder)
    assert second.campaign.learner.state() == whole.campaign.learner.state()


def test_a_label_that_nobody_learned_is_learned_when_the_run_goes_on(tmp_path, monkeypatch):
    """As after a kill of everything: the server's positions come back rounded, so it would never be asked for again."""
    first = Server(tmp_path)
    learn = first.campaign.learner

    def learns_no_more(query, outcome):
        if first.campaign.learner.n_labels == 2:
            raise SystemExit(137)
        return answer(query, outcome)

    answer = first.campaign._answer
    monkeypatch.setattr(first.campaign, "_answer", learns_no_more)
    with pytest.raises(SystemExit):
        first.run(range(12))
    assert learn is None and len(first.paid) == 3
    second = Server(tmp_path, resume=True)
    second.run([])
    assert second.campaign.learner.n_labels == 3 == len(second.paid)
    assert [row.reason for row in second.campaign.source.store.rows()].count("found") == 1


def test_the_budget_ends_it_and_more_of_it_goes_on(tmp_path):
    server = Server(tmp_path, rules=Rules(target=0.005, max_labels=2))
    with pytest.raises(BudgetSpent, match=r"max_labels are spent.*--resume"):
        server.run(range(12))
    assert read_state(server.folder)["status"] == "budget"
    again = Server(tmp_path, resume=True)
    again.run(range(server.n_rows, 12))
    assert again.n_rows == 12 and again.campaign.learner.n_labels > 2


def test_time_is_a_budget_too(tmp_path):
    server = Server(tmp_path, settings=RunSettings(max_wall_hours=1e-9))
    with pytest.raises(BudgetSpent, match="budget of time"):
        server.run(range(2))


def test_soft_and_check_labels_come_later(tmp_path):
    rules = Rules(threshold=0.5, soft_fraction=0.02, check_interval=4)
    server = Server(tmp_path, rules=rules)
    server.run(range(14))
    reasons = [row.get("reason") for row in server.campaign.source.store.rows()]
    assert {"soft", "check"} & set(reasons) and len(reasons) == len(server.paid)
    assert server.campaign.queue == []


def test_a_label_that_fails(tmp_path):
    """Stops the run, or is done without where there is a model."""
    faults = {"fail": ["", *["raise"] * 20]}
    with pytest.raises(LabelError):
        Server(tmp_path / "stop", plan_of_faults=faults, tries=1).run(range(12))
    server, learned = Server(tmp_path / "on", plan_of_faults=faults, tries=1, on_failure="go on"), []
    server.run(range(6), after=lambda step, found: learned.append(found[0].extras["n_labelled"]))
    assert learned == [1] * 6
    assert "failed" in (server.folder / LOG).read_text()


@pytest.mark.parametrize(("committee", "n_members"), [("std", 2), ("members", 8)])
def test_committees(tmp_path, committee, n_members):
    def after(step, found):
        for evaluation in found:
            pot = np.array(evaluation.extras["committee_pot"]) * HARTREE
            assert pot.shape == (n_members,) and pot.mean() == pytest.approx(evaluation.energy, abs=1e-6)

    Server(tmp_path, committee=committee).run(range(4), after=after)


def test_another_run(tmp_path):
    Server(tmp_path).run(range(2))
    other = Server(tmp_path, resume=True)
    other.evaluator.template = crystal()[:-1]
    with pytest.raises(RunFolderError, match="of 32 atoms, where the template has 31"):
        other.run([])
    assert read_state(other.folder)["status"] == "finished"
    with pytest.raises(ConfigError, match="committee = 'many'"):
        Server(tmp_path / "new", committee="many")
