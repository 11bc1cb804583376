"""The main job: simulations that learn while they run, and survive being killed at any instant.

All walkers make one step each, a round. Of those that need a label the least certain get theirs first, as many as are calculated
at the same time; they are learned in that order, and the others look again with the new model. So the trajectories depend on the
labels and not on who was faster. The state on disk is always that after a whole round. What came after it is done again when the
run resumes, and since the model is a function of the labels in their order, it is done again bit for bit; labels that were paid
for in the meantime are found in labels.db.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import ExplodedError
from .campaign import Campaign
from .checkpoints import Journal, RunSettings
from .deadline import Deadline, OutOfTime, deadline_of
from .events import BudgetSpent
from .log_format import TRAJECTORY, Step, frame_text
from .verdict import Verdict
from .walker import Walker

log = logging.getLogger(__name__)
Observer = Callable[[Step], None]


class LearningRun:
    """Walkers of one campaign, logged, checkpointed, resumable.

    Parameters
    ----------
    campaign : Campaign
        Holds the run folder.
    walkers : sequence of Walker
    settings : RunSettings
    observer : callable
        Called with every `Step`.
    deadline : Deadline or None
        When the run must end; that of the settings by default.

    Raises
    ------
    ConfigError
        If the deadline of the settings is over, or cannot be known.
    """

    def __init__(
        self,
        campaign: Campaign,
        walkers: Sequence[Walker],
        settings: RunSettings | None = None,
        observer: Observer = lambda step: None,
        deadline: Deadline | None = None,
    ):
        self.campaign, self.walkers, self.settings = campaign, tuple(walkers), settings or RunSettings()
        self.observer = observer
        self.deadline = deadline or deadline_of(self.settings.deadline, self.settings.deadline_margin_s)
        self.journal = Journal(campaign, self.settings)
        self.verdict: Verdict | None = None
        """How far the run has come; None until it ends."""

    def run(self) -> str:
        """Run to the last step of all walkers, or to an earlier end; what that was.

        "finished"; "deadline" when its time is over or a signal asks it to end; "budget" when a label was needed that
        `max_labels` did not allow, or a budget of hours was spent; "converged" when there was nothing more to learn, or all
        walkers were relaxations that have ended. `verdict` says what the result is worth.

        Raises
        ------
        ExplodedError
            If a simulation blows up: state.json then has the status "exploded" and is otherwise the last checkpoint.
        """
        self.campaign.source.interrupt = self.deadline.check
        try:
            with self.campaign.folder.taking_state():
                self._begin(self.journal.begin(map(self.trajectory, self.walkers)))
            status = self._rounds()
            if status != "deadline":
                self.journal.settle_queue(wait=True)
            self.verdict = self._conclude()
            self._checkpoint(status)
            return status
        except OutOfTime as end:  # the step that waits for a label is done again
            log.warning("%s", end)
            self.verdict = self._conclude(wanted=True)
            self.journal.mark("deadline", self.verdict)
            return "deadline"
        except BudgetSpent as end:
            log.warning("%s", end)
            self.campaign.wait_for_queue()
            self.verdict = self._conclude(wanted=True)
            self.journal.mark("budget", self.verdict)
            return "budget"
        except ExplodedError as end:
            log.warning("%s", end)
            self.campaign.wait_for_queue()
            told = self.journal.conclude()
            self.verdict = Verdict("not converged", f"a simulation has blown up: {end}", "", told.numbers)
            self.journal.mark("exploded", self.verdict)
            raise
        finally:
            self.journal.close()

    def trajectory(self, walker: Walker) -> str:
        """File of a walker's frames."""
        return f"{TRAJECTORY}.xyz" if len(self.walkers) == 1 else f"{TRAJECTORY}_{walker.name}.xyz"

    def _begin(self, state: dict | None) -> None:
        """Start, or stand where the last checkpoint was."""
        species = tuple(sorted({int(z) for walker in self.walkers for z in walker.atoms.numbers}))
        known = [] if state is None else state["walkers"]
        if state is not None and len(known) != len(self.walkers):
            raise self.campaign.folder.other_run(f"{len(known)} walkers, not {len(self.walkers)}")
        for walker, values in zip(self.walkers, known, strict=False):
            walker.check(values)
        self.campaign.prepare(species, {} if state is None else state["campaign"])
        for walker, values in zip(self.walkers, known, strict=False):
            walker.restore(values)

    def _rounds(self) -> str:
        """Rounds until the end; why it ended."""
        while active := [walker for walker in self.walkers if not walker.is_done]:
            if self.deadline.is_over:
                log.warning("%s", self.deadline.why)
                return "deadline"
            n_labels = self.campaign.learner.n_labels
            self.journal.settle_queue(wait=not self.settings.asynchronous)
            self._round(active)
            is_due = self.journal.is_due or self.campaign.learner.n_labels > n_labels
            if is_due and not any(walker.dynamics.is_doubtful for walker in active):
                self._checkpoint("running")
            if self.journal.convergence.verdict == "converged":
                return "converged"
            if self.journal.is_out_of_time():
                return "budget"
        return "converged" if all(walker.is_relaxed for walker in self.walkers) else "finished"

    def _conclude(self, wanted: bool = False) -> Verdict:
        """The worst verdict on relaxations and on what labels show of dynamics, with the numbers of all labels."""
        told = self.journal.conclude(any(walker.plan.is_heated for walker in self.walkers), wanted)
        found = [walker.verdict() for walker in self.walkers if walker.relaxation is not None]
        if len(found) < len(self.walkers):
            found.append(told)
        worst = min(found, key=lambda verdict: verdict.is_converged)
        return replace(worst, numbers=told.numbers)

    def _round(self, active: Sequence[Walker]) -> None:
        """One step of each walker."""
        waiting = self._advanced(active)
        surprised = bool(waiting)
        while waiting:
            waiting = sorted(waiting, key=lambda walker: -walker.doubt)
            self._label(waiting[: self.settings.workers])
            waiting = self._advanced(waiting[self.settings.workers :])
        self.journal.count(len(active), surprised)

    def _advanced(self, walkers: Sequence[Walker]) -> list[Walker]:
        """Make a step of each; those that could not, for want of a label."""
        waiting = []
        for walker in walkers:
            started = time.perf_counter()
            if walker.advance():
                self._write(walker, time.perf_counter() - started)
            else:
                waiting.append(walker)
        return waiting

    def _label(self, waiting: Sequence[Walker]) -> None:
        """Labels for all that wait, at the same time; then their steps, with the model of all these labels."""
        started = time.perf_counter()
        queries = []
        for walker in waiting:
            self._afford(walker)
            queries.append(walker.query())  # all are under way before any is waited for
        answers = [self.journal.settled(self.campaign.settle(query)) for query in queries]
        seconds = (time.perf_counter() - started) / len(waiting)
        for walker, answer in zip(waiting, answers, strict=True):
            started = time.perf_counter()
            walker.repeat(answer)
            self._write(walker, seconds + time.perf_counter() - started)

    def _afford(self, walker: Walker) -> None:
        """Another walker of the same round may have had the last label of the budget."""
        asked = self.campaign.learner.n_asked
        if self.campaign.learner.rules.are_spent(asked):
            raise BudgetSpent(
                f"walker {walker.name} needs a label and all {asked} of max_labels are spent; raise max_labels"
            )

    def _write(self, walker: Walker, seconds: float) -> None:
        """Write a step down."""
        step = walker.describe(seconds)
        self.journal.write(step)
        if step.step % self.settings.interval == 0 or step.labelled:
            info = {"step": step.step, "labelled": step.labelled, "model_version": step.model_version}
            text = frame_text(walker.atoms, walker.calculator.results, walker.calculator.uncertainty, info)
            self.journal.append(self.trajectory(walker), text)
        if walker.event.queued is not None:
            self.campaign.enqueue(walker.event.queued)
        self.observer(step)
        if walker.trouble is not None:
            raise walker.exploded(walker.trouble)

    def _checkpoint(self, status: str) -> None:
        self.journal.checkpoint(status, [walker.state() for walker in self.walkers], self.verdict)
