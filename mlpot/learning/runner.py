"""`mlpot learn`: simulations that learn while they run, and that can be killed at any time.

In a round all walkers make one step. Of those that need a label, the least certain ones are labelled first, as many as are
calculated at the same time; the labels are learned in that order, and the other walkers predict again with the new model. The
trajectories therefore depend on the labels only, not on which one arrived first. The state on disk is always the one after a
complete round. Later steps are repeated when the run is resumed, bit for bit, since the model depends on the labels and their
order only; labels that were calculated in the meantime are found in labels.db.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from ase import Atoms

from ..errors import ExplodedError
from .campaign import Answer, Campaign
from .checkpoints import Journal, RunSettings
from .cycle import Assessment, BudgetSpent, LearningCycle, obtain
from .deadline import Deadline, OutOfTime, deadline_of
from .log_format import TRAJECTORY, Step
from .verdict import Verdict

log = logging.getLogger(__name__)
Observer = Callable[[Step], None]


class RunWalker(Protocol):
    """One simulation of a run: `walker.Walker` moves its atoms itself, `lammps.walker.LammpsWalker` has LAMMPS do it."""

    name: str
    steps_made: int
    """Steps of the last `advance`; with a label that it needed, together with `repeat`."""

    @property
    def atoms(self) -> Atoms:
        """The present structure, or at least its elements."""

    @property
    def trouble(self) -> str | None:
        """Why the last step counts as an explosion, or None."""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to do."""

    @property
    def is_relaxed(self) -> bool:
        """Whether it is a relaxation that has ended."""

    @property
    def is_heated(self) -> bool:
        """Whether the temperature of its thermostat changes."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the present step may have to be taken back, so that it should not be saved."""

    @property
    def waiting(self) -> tuple[LearningCycle, Assessment]:
        """The structure that needs a label, for `cycle.obtain`."""

    @property
    def doubt(self) -> float:
        """Largest ratio of an expected error to its limit in that structure."""

    def advance(self) -> bool:
        """Make a step; False, with nothing changed, if a label is needed first."""

    def repeat(self, answer: Answer) -> None:
        """Make the step that needed the label."""

    def exploded(self, why: str) -> Exception:
        """The error for a step that has blown up."""

    def describe(self, seconds: float) -> Step:
        """The row of log.csv for the step just made."""

    def frame(self, info: dict[str, int]) -> str:
        """The present structure for the trajectory."""

    def verdict(self) -> Verdict | None:
        """The verdict of a relaxation; None where the labels decide."""

    def state(self) -> dict:
        """For `restore`."""

    def check(self, state: dict) -> None:
        """RunFolderError unless `state` belongs to this walker."""

    def restore(self, state: dict) -> None:
        """Continue from `state`."""


class LearningRun:
    """Walkers of one campaign, logged, checkpointed, resumable.

    Parameters
    ----------
    campaign : Campaign
        Holds the run folder.
    walkers : sequence of RunWalker
    settings : RunSettings
    observer : callable
        Called with every `Step`.
    deadline : Deadline or None
        When the run must end; by default as given in the settings.

    Raises
    ------
    ConfigError
        If the deadline of the settings is over, or cannot be known.
    """

    def __init__(
        self,
        campaign: Campaign,
        walkers: Sequence[RunWalker],
        settings: RunSettings | None = None,
        observer: Observer = lambda step: None,
        deadline: Deadline | None = None,
    ):
        self.campaign, self.walkers, self.settings = campaign, tuple(walkers), settings or RunSettings()
        self.observer = observer
        self.deadline = deadline or deadline_of(self.settings.deadline, self.settings.deadline_margin_s)
        self.journal = Journal(campaign, self.settings)
        self.verdict: Verdict | None = None
        """Verdict on the run; None until it ends."""

    def run(self) -> str:
        """Run to the last step of all walkers, or to an earlier end; returns why the run has ended.

        "finished"; "deadline" if its time is over or a signal asks it to end; "budget" if a label was needed that
        `max_labels` did not allow, or the time budget was spent; "converged" if there was nothing more to learn, or all
        walkers were relaxations and have ended. `verdict` says how reliable the result is.

        Raises
        ------
        ExplodedError
            If a simulation blows up; state.json is then the last checkpoint with the status "exploded".
        """
        self.campaign.interrupt_with(self.deadline.check)
        try:
            with self.campaign.folder.taking_state():
                self._begin(self.journal.begin(map(self.trajectory, self.walkers)))
            status = self._rounds()
            if status != "deadline":
                self.journal.settle_queue(wait=True)
            self.verdict = self._conclude()
            self._checkpoint(status)
            return status
        except OutOfTime as end:  # the step that waits for a label is repeated when the run is resumed
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
            numbers = self.journal.conclude().numbers
            self.verdict = Verdict("not converged", f"a simulation has blown up: {end}", "", numbers)
            self.journal.mark("exploded", self.verdict)
            raise
        finally:
            self.journal.close()

    def trajectory(self, walker: RunWalker) -> str:
        """Name of the file with the frames of a walker."""
        return f"{TRAJECTORY}.xyz" if len(self.walkers) == 1 else f"{TRAJECTORY}_{walker.name}.xyz"

    def _begin(self, state: dict | None) -> None:
        """Start, or restore the last checkpoint."""
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
        """Make rounds until the end; returns why the run has ended."""
        while active := [walker for walker in self.walkers if not walker.is_done]:
            if self.deadline.is_over:
                log.warning("%s", self.deadline.why)
                return "deadline"
            n_labels = self.campaign.learner.n_labels
            self.journal.settle_queue(wait=not self.settings.asynchronous)
            self._round(active)
            is_due = self.journal.is_due or self.campaign.learner.n_labels > n_labels
            if is_due and not any(walker.is_doubtful for walker in active):
                self._checkpoint("running")
            if self.journal.convergence.verdict == "converged":
                return "converged"
            if self.journal.is_out_of_time():
                return "budget"
        return "converged" if all(walker.is_relaxed for walker in self.walkers) else "finished"

    def _conclude(self, wanted: bool = False) -> Verdict:
        """The worst verdict: of each relaxation, and of the labels for dynamics; with the numbers of all labels."""
        of_labels = self.journal.conclude(any(walker.is_heated for walker in self.walkers), wanted)
        found = [verdict for verdict in (walker.verdict() for walker in self.walkers) if verdict is not None]
        if len(found) < len(self.walkers):
            found.append(of_labels)
        worst = min(found, key=lambda verdict: verdict.is_converged)
        return replace(worst, numbers=of_labels.numbers)

    def _round(self, active: Sequence[RunWalker]) -> None:
        """Make one step of each walker."""
        waiting = self._advanced(active)
        surprised = bool(waiting)
        while waiting:
            waiting = sorted(waiting, key=lambda walker: -walker.doubt)
            self._label(waiting[: self.settings.workers])
            waiting = self._advanced(waiting[self.settings.workers :])
        self.journal.count(sum(walker.steps_made for walker in active), surprised)

    def _advanced(self, walkers: Sequence[RunWalker]) -> list[RunWalker]:
        """Make a step of each walker; returns those that need a label first."""
        waiting = []
        for walker in walkers:
            started = time.perf_counter()
            if walker.advance():
                self._write(walker, time.perf_counter() - started)
            else:
                waiting.append(walker)
        return waiting

    def _label(self, waiting: Sequence[RunWalker]) -> None:
        """Label the structures of all these walkers at the same time, then make their steps with the model that knows all labels."""
        started = time.perf_counter()
        answers = obtain([walker.waiting for walker in waiting], self.journal.settled)
        seconds = (time.perf_counter() - started) / len(waiting)
        for walker, answer in zip(waiting, answers, strict=True):
            started = time.perf_counter()
            walker.repeat(answer)
            self._write(walker, seconds + time.perf_counter() - started)

    def _write(self, walker: RunWalker, seconds: float) -> None:
        """Record a step."""
        step = walker.describe(seconds)
        self.journal.write(step)
        if step.step % self.settings.interval == 0 or step.labelled:
            info = {"step": step.step, "labelled": step.labelled, "model_version": step.model_version}
            self.journal.append(self.trajectory(walker), walker.frame(info))
        self.observer(step)
        if walker.trouble is not None:
            raise walker.exploded(walker.trouble)

    def _checkpoint(self, status: str) -> None:
        self.journal.checkpoint(status, [walker.state() for walker in self.walkers], self.verdict)
