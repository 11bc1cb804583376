"""HDF5 files that are whole or not there, sealed by a checksum, and errors that say what is wrong with one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from ..durable import atomic_write
from ..errors import DescriptorError, ModelFileError, quoted
from .h5_copy import clean_copy
from .stored import Stored, harmless

SEAL = b"mlpot sha256 "
"""First bytes of a sealed file; the digest of everything after the first `SEAL_SIZE` bytes follows."""
SEAL_SIZE = 512
"""HDF5's smallest user block: other programs pass over it."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNREADABLE = (OSError, LookupError, ValueError, TypeError, ArithmeticError, RuntimeError, AttributeError, MemoryError)
"""Exceptions of h5py, JSON and our own checks for invalid content."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Parameters
    ----------
    name : str
        As the file says it itself.
    version : int
        That this version of mlpot writes; older ones are read.
    what : str
        In messages: "model", "fit".
    source, remedy : str
        In messages: where such files come from, what to do without a readable one.
    """

    name: str
    version: int
    what: str
    source: str
    remedy: str

    @contextmanager
    def writing(self, file: str | Path) -> Iterator[h5py.File]:
        """A file to fill; a reader sees the old one or the new one, never a part.

        Raises
        ------
        ModelFileError
            If the folder is missing, read-only or full; an older file is left as it was.
        """
        try:
            # in memory first: HDF5 crashes when the disk is full while it closes a file
            content = io.BytesIO()
            with h5py.File(content, "w", userblock_size=SEAL_SIZE) as h5:
                h5.attrs["format"] = self.name
                h5.attrs["format_version"] = self.version
                yield h5
            with atomic_write(file) as temporary:
                temporary.write_bytes(content.getbuffer())
                seal(temporary)
        except ModelFileError:
            raise
        except OSError as error:
            said = quoted(error.strerror or error, 300)
            raise ModelFileError(f"{file}: cannot be written: {said}; make room, or name another place") from error

    @contextmanager
    def reading(self, file: str | Path) -> Iterator[Stored]:
        """Open a file for reading. Any problem found while reading, also inside the block, is an error of the file.

        Raises
        ------
        ModelFileError
            If the file is missing, truncated, changed since it was written, of another kind, written by a newer version of
            mlpot, or not as mlpot writes it.
        """
        try:
            is_there = Path(file).is_file()
        except OSError as error:  # a name that no file can have, a folder that may not be looked into
            raise ModelFileError(f"{quoted(file)}: {error.strerror}; give the path of a file written by {self.source}") from error
        if not is_there:
            raise ModelFileError(f"{file}: no such file; give the path of a file written by {self.source}")
        try:
            content = Path(file) if is_sealed(Path(file)) else io.BytesIO(clean_copy(Path(file)))
            with h5py.File(content, "r") as h5:
                version = self._check(h5, file)
                stored = Stored(harmless(h5, h5.id.get_filesize()), h5.attrs, version)
                yield stored
                stored.refuse_unread()
        except UNREADABLE as error:
            if isinstance(error, ModelFileError):
                raise
            if isinstance(error, DescriptorError):
                raise ModelFileError(f"{file}: needs the descriptor {error}") from error
            said = quoted(error, 300)
            raise ModelFileError(f"{file}: is not a readable {self.what} file ({said}); {self.remedy}") from error

    def _check(self, h5: h5py.File, file: str | Path) -> int:
        """The version of the format."""
        if "format" not in h5.attrs or h5.attrs["format"] != self.name:
            raise ModelFileError(f"{file}: is an HDF5 file but not a {self.what} of mlpot")
        version = int(h5.attrs["format_version"])
        if version > self.version:
            raise ModelFileError(
                f"{file}: has format version {version}, newer than {self.version}; upgrade mlpot to read it"
            )
        if version < 1:
            raise ValueError(f"format_version = {version}: must be positive")
        return version


def seal(file: Path) -> None:
    """Write the checksum of a closed file into its user block."""
    text = SEAL + _digest(file) + b"\n"
    with open(file, "r+b") as handle:
        handle.write(text.ljust(SEAL_SIZE, b"\0"))


def is_sealed(file: Path) -> bool:
    """Whether a file has a seal: HDF5 files of older versions have none. ValueError where the content differs from it."""
    with open(file, "rb") as handle:
        head = handle.read(SEAL_SIZE)
    if head.startswith(SIGNATURE):
        return False
    if not head.startswith(SEAL):
        raise ValueError(f"it begins with {quoted(head[:16])}, not as an HDF5 file")
    if not head.startswith(SEAL + _digest(file) + b"\n"):
        raise ValueError("its sha256 is not what was written: bytes have changed since")
    return True


def _digest(file: Path) -> bytes:
    with open(file, "rb") as handle:
        handle.seek(SEAL_SIZE)
        return hashlib.file_digest(handle, "sha256").hexdigest().encode()
