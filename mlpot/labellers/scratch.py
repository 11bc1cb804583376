"""Scratch folders of calculations: on the node's local disk, empty at the start, gone at the end.

A process that is killed cannot clean up after itself, so the name holds its pid, and whoever buries the
process removes the folder, or keeps it as evidence.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "mlpot-label"
OWNED = "MLPOT_SCRATCH_OWNED"
"""Set in a worker's environment: its executor keeps or removes what a failed label leaves."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Work in an empty folder, and come back; in a worker, that of a failed label stays for the executor."""
    home = os.getcwd()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-"))
    os.chdir(folder)
    failed = True
    try:
        yield folder
        failed = False
    except SystemExit:  # asked to end, as by a queue: that is no failure to be looked into
        failed = False
        raise
    finally:
        os.chdir(home)
        if not (failed and OWNED in os.environ):
            shutil.rmtree(folder, ignore_errors=True)


def left_by(pid: int) -> list[Path]:
    """Scratch folders of a process that has ended."""
    return sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}-{pid}-*"))


def remove_left_by(pid: int) -> None:
    """Delete them."""
    for folder in left_by(pid):
        shutil.rmtree(folder, ignore_errors=True)
