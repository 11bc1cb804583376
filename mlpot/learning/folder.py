"""A run folder: one owner, an atomic state, and text files that only grow."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..durable import write_text
from ..errors import RunFolderError
from ..processes import identity, is_alive

OWNER, STATE = "owner.json", "state.json"


class RunFolder:
    """The folder of one learning run; use as a context manager, which holds its ownership.

    Parameters
    ----------
    path : str or Path
    resume : bool
        Whether it may hold a run to be continued; without, it must be new or empty.

    Raises
    ------
    RunFolderError
        Not empty without `resume`; nothing to resume; held by a living process; not writable.
    """

    def __init__(self, path: str | Path, resume: bool = False):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim()
        except OSError as error:
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(f"{self.path}: cannot be used as a run folder: {error}") from error
        present = [file.name for file in self.path.iterdir() if file.name not in (OWNER, STATE + ".lock")]
        if present and not resume:
            self.release()
            raise RunFolderError(
                f"{self.path}: is not empty; continue its run with --resume, or name another folder in output.folder"
            )

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception) -> None:
        self.release()

    def _claim(self) -> None:
        try:
            owner = json.loads((self.path / OWNER).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            owner = None
        if owner is not None and owner != identity() and is_alive(owner):
            raise RunFolderError(
                f"{self.path}: is in use by process {owner['pid']} on {owner['host']}; wait for it or stop it "
                f"(delete {OWNER} only if that process is gone)"
            )
        write_text(self.path / OWNER, json.dumps(identity()))

    def release(self) -> None:
        """Give the folder up."""
        (self.path / OWNER).unlink(missing_ok=True)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace state.json; arrays and big integers come back bit for bit."""
        try:
            write_text(self.path / STATE, json.dumps(_encode(state)))
        except OSError as error:
            raise RunFolderError(f"{self.path / STATE}: cannot be written: {error}; make room and --resume") from error

    def load_state(self) -> dict[str, Any] | None:
        """The last state saved, or None when the run ended before its first."""
        try:
            return _decode(json.loads((self.path / STATE).read_text()))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, OSError) as error:
            raise RunFolderError(f"{self.path / STATE}: cannot be read: {error}") from error


class GrowingFile:
    """A text file that is only appended to, and cut back to a known length when a run resumes.

    Parameters
    ----------
    file : Path
    length : int
        Bytes to keep of what is there.
    """

    def __init__(self, file: Path, length: int = 0):
        self._handle = open(file, "ab")  # noqa: SIM115  (open for the life of the run)
        self._handle.truncate(length)
        self._handle.seek(0, os.SEEK_END)

    def append(self, text: str) -> None:
        """Add text."""
        self._handle.write(text.encode())

    def sync(self) -> int:
        """Put everything on the disk; the length in bytes."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        return self._handle.tell()

    def close(self) -> None:
        """Finish."""
        self.sync()
        self._handle.close()


def _encode(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, np.ndarray):
        raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"__array__": raw, "dtype": value.dtype.str, "shape": list(value.shape)}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "__array__" in value:
        return np.frombuffer(base64.b64decode(value["__array__"]), value["dtype"]).reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value
