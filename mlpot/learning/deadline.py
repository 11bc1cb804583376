"""When a run has to end though it has more to do: the batch job that it is in is over, or somebody asks it to.

A run that ends for that stands at a checkpoint and goes on with --resume; `mlpot learn` ends with `GO_ON` then, which a script that
submits the next job understands.
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
"""Exit code EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later."""
OTHER_JOBS = {"PBS_JOBID": "PBS", "JOB_ID": "SGE", "LSB_JOBID": "LSF"}
log = logging.getLogger(__name__)


class OutOfTime(MlpotError, RuntimeError):
    """The deadline is there while a run waits for a label."""


class Deadline:
    """The end of the time that a run has, known before or told by a signal.

    Parameters
    ----------
    end : float or None
        s since the epoch; None: until somebody asks.
    """

    def __init__(self, end: float | None = None):
        self._end = end
        self._asked = False

    @property
    def is_over(self) -> bool:
        """Whether to end now."""
        return self._asked or (self._end is not None and time.time() >= self._end)

    def check(self) -> None:
        """OutOfTime when it is over."""
        if self.is_over:
            raise OutOfTime(self.why)

    @property
    def why(self) -> str:
        """What has ended the run."""
        return "asked to end by a signal" if self._asked else "the deadline is near"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM asks for an end in the block, and a second one ends the process at once. For the main thread."""

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
    """The deadline that a configuration asks for.

    Parameters
    ----------
    setting : str or None
        "HH:MM", "HH:MM:SS" or "D-HH:MM:SS" from now; "auto": the end of the batch job of Slurm that this is, or none outside
        of one; None: none.
    margin : float
        s that it is earlier.

    Raises
    ------
    ConfigError
        If that cannot be known, or if it is over already.
    """
    end = end_of_job() if setting == "auto" else None if setting is None else time.time() + seconds_of(setting)
    if end is None:
        return Deadline()
    left = end - margin - time.time()
    if left <= 0:
        raise ConfigError(
            f"learning.deadline = {setting!r}: is over before the run begins: {left + margin:.0f} s are left, and it ends "
            f"{margin:g} s earlier; see learning.deadline_margin_s"
        )
    log.info("the run ends in %.3g h at the latest", left / 3600)
    return Deadline(end - margin)


def end_of_job() -> float | None:
    """When the batch job that this process belongs to ends, s since the epoch; None outside of one, or without a limit."""
    told = os.environ.get("SLURM_JOB_END_TIME", "")
    if told.isdigit():
        return float(told)
    if job := os.environ.get("SLURM_JOB_ID"):
        return _asked_of_slurm(job)
    for name, system in OTHER_JOBS.items():
        # JOB_ID is a common name: only SGE spools its jobs
        if name in os.environ and (system != "SGE" or Path(os.environ.get("SGE_JOB_SPOOL_DIR", "")).is_dir()):
            raise ConfigError(f'learning.deadline = "auto": {system} does not tell; give what the job asked for, such as "23:30:00"')
    return None


def _asked_of_slurm(job: str) -> float | None:
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%e"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
        return None if found in ("N/A", "NONE") else datetime.fromisoformat(found).timestamp()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f'learning.deadline = "auto": Slurm does not say when job {job} ends ({error}); give a duration such as "23:30:00"'
        ) from error
