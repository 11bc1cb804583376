"""What a batch job runs: a Dask worker, and then the labels that go on after it has lost its scheduler.

The simulation holds the scheduler. When it is killed, the workers leave, but a label that has run for an hour need not: the
job stays until its labels have been delivered to the inbox, where the resumed simulation finds them. When the job is
cancelled, this process ends first and its labels follow.
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
"""In a row: a process that is just starting shows no environment for an instant."""


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
