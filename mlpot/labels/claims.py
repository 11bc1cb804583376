"""Claims: small files by which a process reserves a label or a folder.

A claim names host, pid and start time of its holder, so a claim left by a killed process is recognised and taken over. File-system
locks are not used, since they may not work on network file systems.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..durable import create_text, temporary_name
from ..processes import host, identity, is_alive

BEAT_SECONDS = 15.0
"""Interval at which a worker touches its claim."""
SILENCE_SECONDS = 300.0
"""A claim from another host, whose processes cannot be seen, is dead if it has not been touched for this long."""
log = logging.getLogger(__name__)


def take(file: Path) -> dict | None:
    """Claim a file for this process; returns None on success, otherwise the identity of the living holder.

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
    """The holder named in a claim; {} if the file is not a claim, None if there is no file."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return values if isinstance(values["host"], str) and isinstance(values["pid"], int) else {}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        return {}


def remove(file: Path, holder: dict) -> None:
    """Remove the claim of `holder`, but not one that another process has created in the meantime."""
    aside = temporary_name(file)
    try:
        os.rename(file, aside)
    except FileNotFoundError:
        return
    if read(aside) != holder:
        with suppress(FileExistsError):
            os.link(aside, file)
    aside.unlink()


def release(file: Path) -> None:
    """Remove a claim of this process."""
    if read(file) == identity():
        file.unlink(missing_ok=True)


@contextmanager
def beating(file: Path) -> Iterator[None]:
    """Touch a claim regularly during the block, so that other hosts know that its holder is alive."""
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


class Watch:
    """Watches whether a claim is still held.

    Of a holder on another host only its touches of the file can be seen. They are timed by this process, so the clocks of the
    hosts need not agree.
    """

    def __init__(self, file: Path):
        self.file = file
        self._last_touch: int | None = None
        self._seen = time.monotonic()
        self._is_logged = False

    def is_free(self) -> bool:
        """Whether no living process holds the claim; the claim of a dead holder is removed."""
        holder = read(self.file)
        if holder is None:
            return True
        if not holder or not is_alive(holder) or (holder["host"] != host() and self._is_silent()):
            remove(self.file, holder)
            return True
        if not self._is_logged:
            log.info("process %s on %s is still calculating this label; waiting for it", holder["pid"], holder["host"])
            self._is_logged = True
        return False

    def _is_silent(self) -> bool:
        touch = _touched(self.file)
        if touch != self._last_touch:
            self._last_touch, self._seen = touch, time.monotonic()
        silent = time.monotonic() - self._seen > SILENCE_SECONDS
        if silent:
            log.warning("%s: its holder has not touched it for %g s and counts as dead", self.file, SILENCE_SECONDS)
        return silent


def _touched(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
