"""Files that survive a crash: written beside the old one, flushed to the disk, renamed in one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(file: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `file` when the block ends well, and vanishes when it does not.

    Raises
    ------
    OSError
        Folder missing or read-only, disk full; `file` is then what it was.
    """
    file = Path(file)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        flush(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, file)
        flush(file.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(file: str | Path, text: str) -> None:
    """Replace the content of a file atomically and durably."""
    with atomic_write(file) as temporary:
        temporary.write_text(text)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
