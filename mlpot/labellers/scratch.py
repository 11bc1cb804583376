"""Scratch folders of calculations: on the node's local disk, empty at the start, gone at the end.

A process that is killed cannot clean up after itself, so the name holds its pid and that of its executor, which removes the
folder or keeps it as evidence. When both were killed, whoever makes labels on this machine next removes it.
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
"""The pid of a worker's executor, in its environment: that keeps or removes what a failed label leaves."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Work in an empty folder, and come back; in a worker, that of a failed label stays for the executor.

    Whoever is in one already stays there: to remove it may take long, and the outer block ends when the label is safe.
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
    except SystemExit:  # asked to end, as by a queue: that is no failure to be looked into
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
    """Delete them."""
    for folder in left_by(pid):
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans() -> None:
    """Delete those of which neither the process nor its executor is alive."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}-{host()}-*-*-*"):
        owner, pid = folder.name.split("-")[-3:-1]
        if owner.isdigit() and pid.isdigit() and start_time(int(owner)) is None and start_time(int(pid)) is None:
            shutil.rmtree(folder, ignore_errors=True)
