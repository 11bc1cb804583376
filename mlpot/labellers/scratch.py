"""Scratch folders of calculations: on the local disk of the node, empty at the start, removed at the end.

A killed process cannot remove its folder, so the name of the folder has the pids of the process and of its executor, which removes
the folder or saves its files. If both were killed, the next process that makes labels on this machine removes the folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..processes import host, start_time

PREFIX = "mlpot-label"
OWNED = "MLPOT_SCRATCH_OWNED"
"""Environment variable of a worker: pid of its executor, which saves or removes the files of a failed label."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Work in an empty folder during the block; in a worker, the folder of a failed label is left to the executor.

    In a nested block the outer folder is used: removing a folder may take long, and the outer block ends when the label is saved.
    """
    home = Path.cwd()
    owner = os.environ.get(OWNED, str(os.getpid()))
    prefix = f"{PREFIX}-{host()}-{owner}-{os.getpid()}-"
    if home.name.startswith(prefix):
        yield home
        return
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    os.chdir(folder)
    failed = True
    try:
        yield folder
        failed = False
    except SystemExit:  # asked to end, as by a queue, which is not a failure
        failed = False
        raise
    finally:
        os.chdir(home)
        if not (failed and owner == str(os.getppid())):
            shutil.rmtree(folder, ignore_errors=True)


def left_by(pid: int) -> list[Path]:
    """Scratch folders of a process that has ended."""
    return sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}-{host()}-*-{pid}-*"))


def remove_left_by(pid: int) -> None:
    """Delete the scratch folders of a process that has ended."""
    for folder in left_by(pid):
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans() -> None:
    """Delete scratch folders whose process and executor have both ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}-{host()}-*-*-*"):
        owner, pid = folder.name.split("-")[-3:-1]
        if owner.isdigit() and pid.isdigit() and start_time(int(owner)) is None and start_time(int(pid)) is None:
            shutil.rmtree(folder, ignore_errors=True)
