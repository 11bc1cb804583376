"""Claims: small files by which a process says "this is mine", and which outlive nobody.

A claim names host, pid and start time of its holder, so one left by a killed process is recognised and taken
over. Locks of the file system are not used: on network file systems they may not work.
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
"""A worker touches its claim this often."""
SILENCE_SECONDS = 300.0
"""A claim from another host, whose pid says nothing here, is dead when it was not touched for so long."""
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


class Watch:
    """A look, now and then, at whether somebody still holds a claim.

    Of a holder on another host only its touches of the file are seen. What counts is that they change, by this
    process's own measure of time: neither host's clock has to be right.
    """

    def __init__(self, file: Path):
        self.file = file
        self._last_touch: int | None = None
        self._seen = time.monotonic()
        self._told = False

    def is_free(self) -> bool:
        """Whether nobody alive holds the claim; a dead holder's is removed."""
        holder = read(self.file)
        if holder is None:
            return True
        if not holder or not is_alive(holder) or (holder["host"] != host() and self._is_silent()):
            remove(self.file, holder)
            return True
        if not self._told:
            log.info("process %s on %s is still at this label; waiting for it", holder["pid"], holder["host"])
            self._told = True
        return False

    def _is_silent(self) -> bool:
        touch = _touched(self.file)
        if touch != self._last_touch:
            self._last_touch, self._seen = touch, time.monotonic()
        silent = time.monotonic() - self._seen > SILENCE_SECONDS
        if silent:
            log.warning("%s: no sign of life from its holder for %g s", self.file, SILENCE_SECONDS)
        return silent


def _touched(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
