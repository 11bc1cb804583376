"""`mlpot watch`: the report of a run while it goes on; and `--watch` of `mlpot learn`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .console import console

LEAVE_SECONDS = 5.0
"""Time for the process of `--watch` to end."""


def watch(
    run: Annotated[Path, typer.Argument(help="The folder of a learning run, going on or ended.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; any free one by default.")] = 0,
) -> None:
    """Serve the report of a run to a browser on this machine, renewed while the run goes on; end it with Ctrl-C.

    From elsewhere, forward the port: ssh -L 8000:127.0.0.1:8000 HOST, with --port 8000.
    """
    from ..report.watch import Watcher

    if not run.is_dir():
        raise ConfigError(f"{run}: is not a folder; name the folder of a run")
    watcher = Watcher(run, port)
    console.print(watcher.address)
    watcher.serve()


@contextmanager
def watched(folder: Path, wanted: bool) -> Iterator[None]:
    """Serve the page of a run from a process of its own, which costs the simulation nothing, until the end of the block."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", "mlpot", "watch", str(folder)], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
