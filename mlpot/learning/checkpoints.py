"""Files of a run: log.csv and the trajectories, which only grow, its state, and the resources it has used.

The files on disk are never behind the last checkpoint; a run that is resumed truncates them to it.
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
from .event_files import EVENTS, EventFiles
from .log_format import LOG, LOG_COLUMNS, Step
from .run_folder import GrowingFile
from .verdict import Convergence, Look, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spent:
    """Resources used by a run, s: wall time, processor time of this process, wall time of the labels that were calculated."""

    wall: float = 0.0
    cpu: float = 0.0
    labels: float = 0.0


class Journal:
    """Writes log.csv, trajectories and state.json of a run, and keeps account of its convergence and its resources.

    Parameters
    ----------
    campaign : Campaign
        Holds the run folder.
    settings : RunSettings

    Raises
    ------
    ConfigError
        If event files for TensorBoard are wanted, and tensorboardX is not installed.
    """

    def __init__(self, campaign: Campaign, settings: RunSettings):
        self.campaign, self.settings = campaign, settings
        self.convergence = Convergence(settings.converged_after, settings.target_error or 0.0)
        self.spent = Spent()
        self._files: dict[str, GrowingFile] = {}
        self._events = EventFiles(campaign.folder / EVENTS) if settings.tensorboard else None
        self._begin_clock()

    def begin(self, trajectories: Iterable[str]) -> dict[str, Any] | None:
        """Open log.csv and the trajectories as of the last checkpoint; returns its state, or None before the first checkpoint."""
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
        """Add a row to log.csv, and to the event files if there are any."""
        self._files[LOG].append(step.row())
        if self._events is not None:
            self._events.write(step)

    def append(self, trajectory: str, text: str) -> None:
        """Add frames to a trajectory."""
        self._files[trajectory].append(text)

    def count(self, n_steps: int, surprised: bool) -> None:
        """Count steps, some of which needed a label or not, for the convergence."""
        before = self.convergence.verdict
        self.convergence = self.convergence.stepped(n_steps, surprised)
        if before != "stalled" == self.convergence.verdict:
            log.warning(
                "stalled: no label was needed in %d steps, but check labels show errors of up to %.3g eV/A",
                self.convergence.calm, max(self.convergence.errors),
            )  # fmt: skip

    def settle_queue(self, wait: bool) -> None:
        """Learn the queued labels that have arrived, or wait for all of them."""
        for answer in self.campaign.poll(wait):
            self.settled(answer)

    def settled(self, answer: Answer) -> Answer:
        """Count the cost of a label and the error it has shown."""
        self.spent = replace(self.spent, labels=self.spent.labels + self.campaign.seconds_of(answer))
        outcome = answer.outcome
        if outcome is not None and outcome.force_error is not None:
            look = Look(outcome.force_error, outcome.expected_after, answer.query.reason == "check")
            self.convergence = self.convergence.looked(look)
        return answer

    def conclude(self, heated: bool = False, wanted: bool = False) -> Verdict:
        """The verdict if the run ended now; see `Convergence.conclude`."""
        return self.convergence.conclude(self.campaign.learner.rules.target, heated, wanted)

    def is_out_of_time(self) -> bool:
        """Whether the budget of wall time or processor time is spent."""
        spent, s = self._spent_now(), self.settings
        cpu = spent.cpu + s.cores * spent.labels
        out = (s.max_wall_hours is not None and spent.wall > s.max_wall_hours * HOUR) or (
            s.max_cpu_hours is not None and cpu > s.max_cpu_hours * HOUR
        )
        if out:
            log.warning(
                "the time budget is spent: %.3g h wall time, %.3g h processor time; increase max_wall_hours or max_cpu_hours",
                spent.wall / HOUR, cpu / HOUR,
            )  # fmt: skip
        return out

    @property
    def is_due(self) -> bool:
        """Whether the next checkpoint is due."""
        return time.monotonic() - self._last_checkpoint > self.settings.checkpoint_s

    def checkpoint(self, status: str, walkers: Sequence[dict[str, Any]], verdict: Verdict | None = None) -> None:
        """Save everything: first the files, then the state that refers to them.

        Parameters
        ----------
        status : str
            "running", or why the run has ended.
        walkers : sequence of dict
            States of the walkers.
        verdict : Verdict or None
            Verdict on a run that has ended; by default the one that follows from the labels.
        """
        verdict = verdict or self.conclude()
        is_over = status != "running"
        self.spent = self._spent_now()
        self._begin_clock()
        if self._events is not None:
            self._events.flush()
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
        """Record why the run ended, and the verdict, without changing the rest of the last checkpoint."""
        state = self.campaign.folder.load_state()
        if state is not None:
            convergence = {**state["convergence"], **verdict.state()}
            ended = {"status": status, "verdict": verdict.name, "convergence": convergence}
            self.campaign.folder.save_state({**state, **ended})

    def close(self) -> None:
        """Write and close the files."""
        for file in self._files.values():
            file.close()
        if self._events is not None:
            self._events.close()

    def _begin_clock(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._last_checkpoint = time.monotonic()

    def _spent_now(self) -> Spent:
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        return replace(self.spent, wall=self.spent.wall + wall, cpu=self.spent.cpu + cpu)
