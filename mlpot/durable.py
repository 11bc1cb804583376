"""Files that survive a crash: written next to the old one, flushed to the disk, renamed in one step."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import RunFolderError
from .processes import host, start_time

TEMPORARY = re.compile(r"\..*\.(?P<pid>\d+)-[0-9a-f]+@(?P<host>.*?)\.tmp")
LINKS_UNKNOWN = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""Error codes of file systems without hard links."""


@contextmanager
def atomic_write(file: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder: replaces `file` when the block ends well, and vanishes otherwise.

    Raises
    ------
    OSError
        Folder missing or read-only, disk full; `file` is then what it was.
    """
    file = Path(file)
    with _temporary(file) as temporary:
        yield temporary
        flush(temporary)
        os.replace(temporary, file)
        flush(file.parent)


def write_text(file: str | Path, text: str) -> None:
    """Replace the content of a file atomically and durably."""
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_content(file: str | Path, content: bytes) -> None:
    """Replace the content of a file atomically and durably."""
    with atomic_write(file) as temporary:
        temporary.write_bytes(content)


def create_text(file: str | Path, text: str) -> None:
    """Make a file that does not exist yet, complete from the first instant that anybody sees it.

    Raises
    ------
    FileExistsError
        If it exists; of several processes that try at once, one succeeds.
    """
    file = Path(file)
    with _temporary(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        try:
            os.link(temporary, file)  # unlike a rename, it fails when the name is taken
        except OSError as error:
            if error.errno not in LINKS_UNKNOWN:
                raise
            if file.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file)) from error
            os.replace(temporary, file)
        flush(file.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(file: Path) -> Path:
    """A new name next to `file` for something unfinished; it says which process of which host is at it."""
    return file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}@{host()}.tmp")


def remove_leftovers(folder: Path, shared: bool = False) -> None:
    """Delete the temporary files of processes that were killed while writing into a folder.

    Their age plays no part: clocks jump, and differ from host to host.

    Parameters
    ----------
    folder : Path
    shared : bool
        Whether others may be writing right now: then only what a dead process of this host has left is deleted.
    """
    for file in folder.glob(".*.tmp*"):  # SQLite's journal of a temporary database is called .tmp-journal
        if not shared or _writer_is_dead(file.name):
            file.unlink(missing_ok=True)


def _writer_is_dead(name: str) -> bool:
    """Whether a temporary file belongs to a process of this host that has ended; False when that cannot be known."""
    found = TEMPORARY.match(name)
    return found is not None and found["host"] == host() and start_time(int(found["pid"])) is None


@contextmanager
def _temporary(file: Path) -> Iterator[Path]:
    """An empty file next to `file`, with the permissions of any new file; gone at the end of the block.

    Errors of the operating system name `file`: a write to a full disk names none, and people do not know the temporary one.
    """
    if not file.parent.is_dir():  # the system's message would name the temporary file
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", str(file))
    temporary = temporary_name(file)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
    except OSError as error:
        if error.filename in (None, str(temporary)) and error.errno is not None:
            error.filename = str(file)
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def private_folder(folder: Path) -> Path:
    """Create an empty folder that only its owner can access; an existing one is deleted first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


@contextmanager
def as_run_folder_error(path: Path) -> Iterator[None]:
    """Raise RunFolderError, naming `path`, for any error of the operating system or of SQLite in the block."""
    try:
        yield
    except RunFolderError:
        raise
    except (OSError, sqlite3.Error) as error:
        is_no_folder = isinstance(error, FileExistsError | FileNotFoundError | NotADirectoryError)
        remedy = (
            "name a folder that can be made" if is_no_folder
            else "free disk space or correct the permissions, then continue with --resume"
        )  # fmt: skip
        raise RunFolderError(f"{path}: cannot be used: {error}; {remedy}") from error
