"""What a run keeps of itself: log.csv and trajectories that only grow, its state, and what it has spent.

The files on the disk are always those of the last checkpoint or ahead of it; a run that resumes cuts them back to it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..settings.run import RunSettings
from ..units import HOUR
from .campaign import Answer, Campaign
from .log_format import LOG, LOG_COLUMNS, Step
from .run_folder import GrowingFile
from .verdict import Convergence, Look, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spent:
    """Resources of a run, s: wall time, processor time of this process, wall time of labels that were paid for."""

    wall: float = 0.0
    cpu: float = 0.0
    labels: float = 0.0


class Journal:
    """Of the run of a campaign.

    Parameters
    ----------
    campaign : Campaign
        Holds the run folder.
    settings : RunSettings
    """

    def __init__(self, campaign: Campaign, settings: RunSettings):
        self.campaign, self.settings = campaign, settings
        self.convergence = Convergence(settings.converged_after, settings.target_error or 0.0)
        self.spent = Spent()
        self._files: dict[str, GrowingFile] = {}
        self._begin_clock()

    def begin(self, trajectories: Iterable[str]) -> dict[str, Any] | None:
        """Open log.csv and the trajectories as the last checkpoint left them; the state of that, None before the first."""
        state = self.campaign.folder.load_state()
        lengths = {} if state is None else state["files"]
        for name in (LOG, *trajectories):
            self._files[name] = GrowingFile(self.campaign.folder / name, lengths.get(name, 0))
        if state is None:
            self._files[LOG].append(",".join(LOG_COLUMNS) + "\n")
        else:
            self.convergence = self.convergence.restore(state["convergence"])
            self.spent = Spent(**{name: state["spent"][name] for name in Spent.__annotations__})
        self._begin_clock()
        return state

    def write(self, step: Step) -> None:
        """A row of log.csv."""
        self._files[LOG].append(step.row())

    def append(self, trajectory: str, text: str) -> None:
        """Frames."""
        self._files[trajectory].append(text)

    def count(self, n_steps: int, surprised: bool) -> None:
        """Steps were made, and some of them needed a label, or not; what that says of convergence."""
        before = self.convergence.verdict
        self.convergence = self.convergence.stepped(n_steps, surprised)
        if before != "stalled" == self.convergence.verdict:
            log.warning(
                "stalled: no label was needed in %d steps, yet check labels are off by up to %.3g eV/A",
                self.convergence.calm, max(self.convergence.errors),
            )  # fmt: skip

    def settle_queue(self, wait: bool) -> None:
        """Learn what has come of the labels that nobody waits for."""
        for answer in self.campaign.poll(wait):
            self.settled(answer)

    def settled(self, answer: Answer) -> Answer:
        """Take note of what a label cost and showed."""
        if answer.paid and answer.atoms is not None:
            seconds = self.campaign.source.store.seconds(answer.query.key)
            self.spent = replace(self.spent, labels=self.spent.labels + seconds)
        lesson = answer.lesson
        if lesson is not None and lesson.force_error is not None:
            look = Look(lesson.force_error, lesson.expected_after, answer.query.reason == "check")
            self.convergence = self.convergence.looked(look)
        return answer

    def conclude(self, heated: bool = False, wanted: bool = False) -> Verdict:
        """The verdict if the run ended now; see `Convergence.conclude`."""
        learner = self.campaign.learner
        if learner is None:
            raise RuntimeError("a verdict of a campaign that has no learner yet")
        return self.convergence.conclude(learner.rules.target, heated, wanted)

    def is_out_of_time(self) -> bool:
        """Whether the budget of wall or processor time is spent."""
        spent, s = self._spent_now(), self.settings
        cpu = spent.cpu + s.cores * spent.labels
        out = (s.max_wall_hours is not None and spent.wall > s.max_wall_hours * HOUR) or (
            s.max_cpu_hours is not None and cpu > s.max_cpu_hours * HOUR
        )
        if out:
            log.warning("the budget is spent: %.3g h wall time, %.3g h processor time", spent.wall / HOUR, cpu / HOUR)
        return out

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is too long ago."""
        return time.monotonic() - self._last_checkpoint > self.settings.checkpoint_s

    def checkpoint(self, status: str, walkers: Sequence[dict[str, Any]], verdict: Verdict | None = None) -> None:
        """Put everything on the disk: files first, then the state that refers to them.

        Parameters
        ----------
        status : str
            "running", or why the run has ended.
        walkers : sequence of dict
            Their states.
        verdict : Verdict or None
            Of a run that has ended; by default what the labels say.
        """
        verdict = verdict or self.conclude()
        is_over = status != "running"
        self.spent = self._spent_now()
        self._begin_clock()
        self.campaign.folder.save_state(
            {
                "status": status,
                "verdict": verdict.name if is_over else self.convergence.verdict,
                "walkers": list(walkers),
                "campaign": self.campaign.state(),
                "convergence": {**self.convergence.state(), **(verdict.state() if is_over else verdict.numbers)},
                "spent": {
                    **asdict(self.spent),
                    "cores_per_label": self.settings.cores,
                    "asynchronous": self.settings.asynchronous,
                },
                "files": {name: file.sync() for name, file in self._files.items()},
            }
        )

    def mark(self, status: str, verdict: Verdict) -> None:
        """Note why the run ended, and the verdict, without touching the last finished checkpoint."""
        state = self.campaign.folder.load_state()
        if state is not None:
            told = {**state["convergence"], **verdict.state()}
            self.campaign.folder.save_state({**state, "status": status, "verdict": verdict.name, "convergence": told})

    def close(self) -> None:
        """Finish the files."""
        for file in self._files.values():
            file.close()

    def _begin_clock(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._last_checkpoint = time.monotonic()

    def _spent_now(self) -> Spent:
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        return replace(self.spent, wall=self.spent.wall + wall, cpu=self.spent.cpu + cpu)
