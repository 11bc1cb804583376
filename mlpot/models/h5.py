"""HDF5 files that are whole or not there, and errors that say what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from ..durable import atomic_write
from ..errors import ModelFileError


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
            with atomic_write(file) as temporary, h5py.File(temporary, "w") as h5:
                h5.attrs["format"] = self.name
                h5.attrs["format_version"] = self.version
                yield h5
        except OSError as error:
            raise ModelFileError(f"{file}: cannot be written: {error}") from error

    @contextmanager
    def reading(self, file: str | Path) -> Iterator[h5py.File]:
        """A file to read.

        Raises
        ------
        ModelFileError
            If the file is missing, truncated, of another kind, or written by a newer version of mlpot.
        """
        if not Path(file).is_file():
            raise ModelFileError(f"{file}: no such file; give the path of a file written by {self.source}")
        try:
            with h5py.File(file, "r") as h5:
                self._check(h5, file)
                yield h5
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{file}: is not a readable {self.what} file ({error}); {self.remedy}") from error

    def _check(self, h5: h5py.File, file: str | Path) -> None:
        if h5.attrs.get("format") != self.name:
            raise ModelFileError(f"{file}: is an HDF5 file but not a {self.what} of mlpot")
        version = int(h5.attrs["format_version"])
        if version > self.version:
            raise ModelFileError(
                f"{file}: has format version {version}, newer than {self.version}; upgrade mlpot to read it"
            )
