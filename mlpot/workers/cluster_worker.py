"""The program of a batch job: a Dask worker, and after its end the labels that are still running.

The scheduler is part of the simulation. If the simulation is killed, the workers exit, but labels that may have run for an hour
go on: the job lasts until its labels are in the inbox, where the resumed simulation finds them. If the job is cancelled, this
process ends and its labels end with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ..processes import marked
from .cluster import GUARDIAN

LOOK_SECONDS = 1.0
QUIET_LOOKS = 2
"""Consecutive checks without a label before the job ends: the environment of a process that has just started cannot be read yet."""


def main() -> None:
    """Run `python -m distributed.cli.dask_worker` with the arguments of this program; end with its status."""
    mark = f"{GUARDIAN}={os.getpid()}"
    command = [sys.executable, "-m", "distributed.cli.dask_worker", *sys.argv[1:]]
    status = subprocess.call(command, env={**os.environ, GUARDIAN: str(os.getpid())})
    looks = 0
    while looks < QUIET_LOOKS:
        looks = 0 if marked(mark) else looks + 1
        time.sleep(LOOK_SECONDS)
    sys.exit(status)


if __name__ == "__main__":
    main()
