"""Claims: small files by which a process says "this is mine", and which outlive nobody.

A claim names host, pid and start time of its holder, so one left by a killed process is recognised and taken
over. Locks of the file system are not used: on network file systems they may not work.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..durable import create_text
from ..processes import identity, is_alive

BEAT_SECONDS = 15.0
"""A worker touches its claim this often."""
SILENCE_SECONDS = 300.0
"""A claim from another host, whose pid says nothing here, is dead when it was not touched for so long."""
POLL_SECONDS = 0.1
log = logging.getLogger(__name__)


def take(file: Path) -> dict | None:
    """Claim a file for this process: None when that succeeded, else the identity of the living holder.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    while True:
        try:
            create_text(file, json.dumps(identity()))
            return None
        except FileExistsError:
            holder = read(file)
            if holder is None:
                continue
            if holder and is_alive(holder):
                return holder
            remove(file, holder)


def read(file: Path) -> dict | None:
    """What a claim says; {} when it is not a claim, None when there is no such file."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return values if isinstance(values["host"], str) and isinstance(values["pid"], int) else {}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        return {}


def remove(file: Path, holder: dict) -> None:
    """Remove the claim of `holder`, and of nobody else who may have put another there in the meantime."""
    aside = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        os.rename(file, aside)
    except FileNotFoundError:
        return
    if read(aside) != holder:
        with suppress(FileExistsError):
            os.link(aside, file)
    aside.unlink()


def release(file: Path) -> None:
    """Give up a claim of this process."""
    if read(file) == identity():
        file.unlink(missing_ok=True)


@contextmanager
def beating(file: Path) -> Iterator[None]:
    """Touch a claim now and then while the block runs: how other hosts know that its holder lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_until_free(file: Path) -> None:
    """Return when nobody alive holds a claim; a dead holder's is removed."""
    last_beat, seen, waiting = None, time.monotonic(), False
    while (holder := read(file)) is not None:
        if not holder or not is_alive(holder):
            return remove(file, holder)
        beat = _touched(file)
        if beat != last_beat:
            last_beat, seen = beat, time.monotonic()
        if holder["host"] != platform.node() and time.monotonic() - seen > SILENCE_SECONDS:
            log.warning("%s: no sign of life from process %s on %s", file, holder["pid"], holder["host"])
            return remove(file, holder)
        if not waiting:
            log.info("process %s on %s is still at this label; waiting for it", holder["pid"], holder["host"])
        waiting = True
        time.sleep(POLL_SECONDS)


def _touched(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
