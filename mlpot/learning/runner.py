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
from dataclasses import asdict, dataclass, field, replace

from .calculator import BudgetSpent
from .campaign import Answer, Campaign
from .folder import GrowingFile
from .policy import Convergence
from .record import LOG, LOG_COLUMNS, TRAJECTORY, Step, frame_text
from .walker import Walker

log = logging.getLogger(__name__)
HOUR = 3600.0
Observer = Callable[[Step], None]


@dataclass(frozen=True)
class RunSettings:
    """How a run is written down, and when it ends before its last step.

    Parameters
    ----------
    interval : int
        Steps between frames of the trajectories.
    checkpoint_seconds : float
        Wall time between checkpoints; a label makes one as well.
    asynchronous : bool
        Whether queued labels come when they come; otherwise they are waited for, and a run can be repeated bit for bit.
    convergence : Convergence
    max_cpu_hours, max_wall_hours : float or None
        Budget of the whole run, over all its restarts; labels count with `cores_per_label`.
    cores_per_label : int
    at_once : int
        Labels of different walkers that are calculated at the same time, before the others look again.
    """

    interval: int = 10
    checkpoint_seconds: float = 10.0
    asynchronous: bool = False
    convergence: Convergence = field(default_factory=Convergence)
    max_cpu_hours: float | None = None
    max_wall_hours: float | None = None
    cores_per_label: int = 1
    at_once: int = 1


@dataclass(frozen=True)
class Spent:
    """Resources of a run, s: wall time, processor time of this process, wall time of labels that were paid for."""

    wall: float = 0.0
    cpu: float = 0.0
    labels: float = 0.0


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
    """

    def __init__(
        self,
        campaign: Campaign,
        walkers: Sequence[Walker],
        settings: RunSettings | None = None,
        observer: Observer = lambda step: None,
    ):
        self.campaign, self.walkers, self.settings = campaign, tuple(walkers), settings or RunSettings()
        self.observer = observer
        self.convergence = self.settings.convergence
        self.spent = Spent()
        self._files: dict[str, GrowingFile] = {}
        self._begin_clock()

    def run(self) -> str:
        """Run to the last step of all walkers, or to an earlier end; what that was.

        "finished"; "budget" when a label was needed that `max_labels` did not allow, or time was up; "converged" when there
        was nothing more to learn.
        """
        state = self.campaign.folder.load_state()
        lengths = {} if state is None else state["files"]
        try:
            for name in (LOG, *map(self.trajectory, self.walkers)):
                self._files[name] = GrowingFile(self.campaign.folder / name, lengths.get(name, 0))
            self._start() if state is None else self._resume(state)
            status = self._rounds()
            self._settle_queue(wait=True)
            self._checkpoint(status)
            return status
        except BudgetSpent as end:
            log.warning("%s", end)
            self.campaign.wait_for_queue()
            self._mark("budget")
            return "budget"
        finally:
            for file in self._files.values():
                file.close()

    def trajectory(self, walker: Walker) -> str:
        """File of a walker's frames."""
        return f"{TRAJECTORY}.xyz" if len(self.walkers) == 1 else f"{TRAJECTORY}_{walker.name}.xyz"

    @property
    def _species(self) -> tuple[int, ...]:
        return tuple(sorted({int(z) for walker in self.walkers for z in walker.atoms.numbers}))

    def _start(self) -> None:
        self.campaign.prepare(self._species, state={})
        self._files[LOG].append(",".join(LOG_COLUMNS) + "\n")

    def _resume(self, state: dict) -> None:
        if len(state["walkers"]) != len(self.walkers):
            raise self.campaign.folder.other_run(f"{len(state['walkers'])} walkers, not {len(self.walkers)}")
        for walker, values in zip(self.walkers, state["walkers"], strict=True):
            walker.check(values)
        self.campaign.prepare(self._species, state["campaign"])
        for walker, values in zip(self.walkers, state["walkers"], strict=True):
            walker.restore(values)
        self.convergence = self.convergence.restore(state["convergence"])
        self.spent = Spent(**{name: state["spent"][name] for name in Spent.__annotations__})
        self._begin_clock()

    def _rounds(self) -> str:
        """Rounds until the end; why it ended."""
        while active := [walker for walker in self.walkers if not walker.is_done]:
            n_labels = self.campaign.learner.n_labels
            self._settle_queue(wait=not self.settings.asynchronous)
            self._round(active)
            due = time.monotonic() - self._last_checkpoint > self.settings.checkpoint_seconds
            if due or self.campaign.learner.n_labels > n_labels:
                self._checkpoint("running")
            if self.convergence.verdict == "converged":
                return "converged"
            if self._is_out_of_time():
                return "budget"
        return "finished"

    def _round(self, active: Sequence[Walker]) -> None:
        """One step of each walker."""
        waiting = self._advanced(active)
        surprised = bool(waiting)
        while waiting:
            waiting = sorted(waiting, key=lambda walker: -walker.doubt)
            self._label(waiting[: self.settings.at_once])
            waiting = self._advanced(waiting[self.settings.at_once :])
        before = self.convergence.verdict
        self.convergence = self.convergence.stepped(len(active), surprised)
        if before != "stalled" == self.convergence.verdict:
            log.warning(
                "stalled: no label was needed in %d steps, yet check labels are off by up to %.3g eV/A",
                self.convergence.calm, max(self.convergence.errors),
            )  # fmt: skip

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
        answers = [self._settled(self.campaign.settle(query)) for query in queries]
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

    def _settle_queue(self, wait: bool) -> None:
        for answer in self.campaign.poll(wait):
            self._settled(answer)

    def _settled(self, answer: Answer) -> Answer:
        """Take note of what a label cost and showed."""
        if answer.paid and answer.atoms is not None:
            seconds = self.campaign.source.store.seconds(answer.query.key)
            self.spent = replace(self.spent, labels=self.spent.labels + seconds)
        error = None if answer.lesson is None else answer.lesson.force_error
        if answer.query.reason == "check" and error is not None:
            self.convergence = self.convergence.checked(error)
        return answer

    def _write(self, walker: Walker, seconds: float) -> None:
        """Write a step down."""
        step = walker.describe(seconds)
        self._files[LOG].append(step.row())
        if step.step % self.settings.interval == 0 or step.labelled:
            text = frame_text(walker.atoms, step, walker.calculator.uncertainty)
            self._files[self.trajectory(walker)].append(text)
        if walker.event.queued is not None:
            self.campaign.enqueue(walker.event.queued)
        self.observer(step)

    def _is_out_of_time(self) -> bool:
        """Whether the budget of wall or processor time is spent."""
        spent, s = self._spent_now(), self.settings
        cpu = spent.cpu + s.cores_per_label * spent.labels
        out = (s.max_wall_hours is not None and spent.wall > s.max_wall_hours * HOUR) or (
            s.max_cpu_hours is not None and cpu > s.max_cpu_hours * HOUR
        )
        if out:
            log.warning("the budget is spent: %.3g h wall time, %.3g h processor time", spent.wall / HOUR, cpu / HOUR)
        return out

    def _begin_clock(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._last_checkpoint = time.monotonic()

    def _spent_now(self) -> Spent:
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        return replace(self.spent, wall=self.spent.wall + wall, cpu=self.spent.cpu + cpu)

    def _checkpoint(self, status: str) -> None:
        self.spent = self._spent_now()
        self._begin_clock()
        self.campaign.folder.save_state(
            {
                "status": status,
                "verdict": self.convergence.verdict,
                "walkers": [walker.state() for walker in self.walkers],
                "campaign": self.campaign.state(),
                "convergence": self.convergence.state(),
                "spent": {
                    **asdict(self.spent),
                    "cores_per_label": self.settings.cores_per_label,
                    "asynchronous": self.settings.asynchronous,
                },
                "files": {name: file.sync() for name, file in self._files.items()},
            }
        )

    def _mark(self, status: str) -> None:
        """Note why the run ended, without touching the last finished checkpoint."""
        state = self.campaign.folder.load_state()
        if state is not None:
            self.campaign.folder.save_state({**state, "status": status})
