"""When a run has to end early: its batch job ends, or a signal asks it to.

Such a run ends at a checkpoint and is continued with --resume. `mlpot learn` then exits with the code `GO_ON`, by which a job script
knows that it should submit the next job.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ..errors import ConfigError, MlpotError
from ..settings.learning import seconds_of

GO_ON = 75
"""Exit code EX_TEMPFAIL of sysexits.h: no error, try again later."""
OTHER_JOBS = {"PBS_JOBID": "PBS", "JOB_ID": "SGE", "LSB_JOBID": "LSF"}
log = logging.getLogger(__name__)


class OutOfTime(MlpotError, RuntimeError):
    """The deadline has come while a run waits for a label."""


class Deadline:
    """The time at which a run must end, known in advance or announced by a signal.

    Parameters
    ----------
    end : float or None
        Seconds since the epoch; None: only a signal ends the run.
    """

    def __init__(self, end: float | None = None):
        self._end = end
        self._asked = False

    @property
    def is_over(self) -> bool:
        """Whether the run must end now."""
        return self._asked or (self._end is not None and time.time() >= self._end)

    def check(self) -> None:
        """OutOfTime if the run must end now."""
        if self.is_over:
            raise OutOfTime(self.why)

    @property
    def why(self) -> str:
        """Reason for the end of the run."""
        return "ending as requested by a signal" if self._asked else "ending, since the deadline is near"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In the block SIGTERM requests the end of the run, and a second one ends the process at once. For the main thread."""

        def ask(number: int, frame: object) -> None:
            if self._asked:
                raise SystemExit(128 + number)
            self._asked = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def deadline_of(setting: str | None, margin: float = 0.0) -> Deadline:
    """The deadline given by a configuration.

    Parameters
    ----------
    setting : str or None
        "HH:MM", "HH:MM:SS" or "D-HH:MM:SS" from now; "auto": the end of the present Slurm job, no deadline outside of a
        job; None: no deadline.
    margin : float
        Seconds by which the run ends earlier.

    Raises
    ------
    ConfigError
        If the deadline cannot be determined, or has passed already.
    """
    end = end_of_job() if setting == "auto" else None if setting is None else time.time() + seconds_of(setting)
    if end is None:
        return Deadline()
    left = end - margin - time.time()
    if left <= 0:
        raise ConfigError(
            f"learning.deadline = {setting!r}: no time for the run: {left + margin:.0f} s are left, and {margin:g} s are reserved "
            "for its end; decrease learning.deadline_margin_s, or ask for a longer job"
        )
    log.info("the run will end within %.3g h", left / 3600)
    return Deadline(end - margin)


def end_of_job() -> float | None:
    """When the batch job of this process ends, in seconds since the epoch; None outside of a job, or without a time limit."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return float(end)
    if job := os.environ.get("SLURM_JOB_ID"):
        return _end_from_slurm(job)
    for name, system in OTHER_JOBS.items():
        # JOB_ID is a common name: only SGE spools its jobs
        if name in os.environ and (system != "SGE" or Path(os.environ.get("SGE_JOB_SPOOL_DIR", "")).is_dir()):
            raise ConfigError(
                f'learning.deadline = "auto": {system} does not say when a job ends; give a duration, such as "23:30:00"'
            )
    return None


def _end_from_slurm(job: str) -> float | None:
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%e"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
        return None if found in ("N/A", "NONE") else datetime.fromisoformat(found).timestamp()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f'learning.deadline = "auto": Slurm does not say when job {job} ends ({error}); give a duration such as "23:30:00"'
        ) from error
