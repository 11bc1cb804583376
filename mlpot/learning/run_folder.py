"""A run folder: one owner, an atomic state, and text files that only grow."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..durable import as_run_folder_error, remove_leftovers, write_text
from ..errors import MlpotError, RunFolderError, quoted
from ..labels import claims
from ..labels.inbox import INBOX
from ..labels.plan import FAILED, LabellingPlan, check_plan, cluster_executor, fallback_of, labeller_of, local_executor
from ..labels.requests import LabelSource
from ..labels.store import FILE as LABELS
from ..labels.store import LabelStore
from ..processes import identity, is_alive
from .level_fit import CHEAP
from .log_format import LOG, RUN_LOG, TRAJECTORY
from .run_environment import CONFIG, ENVIRONMENT

OWNER, STATE = "owner.json", "state.json"
FORMAT, SEAL, STATE_FORMAT = "format", "sha256", 2
"""Additional keys of state.json outside the state itself, and the value of the first; the seal covers the format too. Earlier
versions wrote neither."""
RUN_FILES = {OWNER, STATE, LABELS, INBOX}
"""A folder with any of these files holds a run."""
FIRST_FILES = {CONFIG, ENVIRONMENT, LOG, RUN_LOG, FAILED, CHEAP, f"{TRAJECTORY}.xyz"}
"""A folder with no other files than these holds a run that ended before its first label."""


class RunFolder:
    """The folder of one learning run; owned by this process from the start, as a context manager until the end of the block.

    Parameters
    ----------
    path : str or Path
    resume : bool
        Whether it may hold a run to be continued; otherwise it must be new or empty.

    Raises
    ------
    RunFolderError
        If it is not empty without `resume`, holds other files but no run, is in use by a running process, or cannot be written.
    """

    def __init__(self, path: str | Path, resume: bool = False):
        self.path = Path(path)
        with as_run_folder_error(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse(resume)
            self._claim()
            remove_leftovers(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception) -> None:
        self.release()

    def _refuse(self, resume: bool) -> None:
        present = {file.name for file in self.path.iterdir()}
        ours = claims.read(self.path / OWNER) == identity()
        if present and not resume and not (ours and present == {OWNER}):
            raise RunFolderError(
                f"{self.path}: the folder is not empty; continue its run with --resume, or choose another output.folder"
            )
        if resume and not present & RUN_FILES and not present <= FIRST_FILES:
            raise RunFolderError(f"{self.path}: the folder holds files but no run to resume; choose another output.folder")

    def _claim(self) -> None:
        holder = claims.take(self.path / OWNER)
        if holder is not None and holder != identity():
            raise RunFolderError(
                f"{self.path}: in use by process {holder['pid']} on {holder['host']}; wait for it or stop it "
                f"(delete {OWNER} only if that process has ended)"
            )

    def other_run(self, what: str) -> RunFolderError:
        """The error for a folder whose run has `what` and differs from the one to be resumed."""
        return RunFolderError(
            f"{self.path}: the run in this folder has {what}; resume it with its own configuration, or choose another folder"
        )

    def release(self) -> None:
        """End the ownership of the folder."""
        with as_run_folder_error(self.path):
            claims.release(self.path / OWNER)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace state.json; arrays and big integers are restored bit for bit.

        Raises
        ------
        RunFolderError
            If the disk is full or read-only; the previous state is kept.
        TypeError
            If the state holds something that could not be restored.
        """
        text = sealed(_encode(state))
        with as_run_folder_error(self.path / STATE):
            write_text(self.path / STATE, text)

    @contextmanager
    def taking_state(self) -> Iterator[None]:
        """Raise RunFolderError for errors in the block that come from a damaged state.json."""
        try:
            yield
        except MlpotError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            file = self.path / STATE
            if not file.exists():
                raise
            raise RunFolderError(
                f"{file}: has unexpected content ({type(error).__name__}: {quoted(error)}); restore it from a backup, or delete it "
                "and continue with --resume: the run then starts again and uses the labels it has"
            ) from error

    def load_state(self) -> dict[str, Any] | None:
        """The last saved state, or None if there is none.

        Raises
        ------
        RunFolderError
            If it cannot be read.
        """
        return read_state(self.path)


def read_state(folder: Path) -> dict[str, Any] | None:
    """The state that `RunFolder.save_state` left in a folder, or None; see `RunFolder.load_state` for errors."""
    file = folder / STATE
    try:
        with as_run_folder_error(file):
            state = _decode(unsealed(file.read_text(encoding="utf-8"))) if file.exists() else None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunFolderError(
            f"{file}: cannot be read: {error}; restore it from a backup, or delete it and continue with --resume: the "
            "run then starts again and uses the labels it has"
        ) from error
    if state is not None and not isinstance(state, dict):
        raise RunFolderError(f"{file}: holds {type(state).__name__}, not a state; delete it and continue with --resume")
    return state


def holder_of(folder: Path) -> dict | None:
    """Host and pid of the process that is running in a folder, or None; the folder is not changed."""
    owner = claims.read(folder / OWNER)
    return owner if owner and is_alive(owner) else None


class GrowingFile:
    """A text file that is only appended to, and truncated to a known length when a run is resumed.

    Parameters
    ----------
    file : Path
    length : int
        Bytes of the existing file to keep.

    Raises
    ------
    RunFolderError
        If it cannot be written, or is shorter than `length`.
    """

    def __init__(self, file: Path, length: int = 0):
        self._file = file
        with as_run_folder_error(file):
            present = file.stat().st_size if file.exists() else 0
            if present < length:
                raise RunFolderError(
                    f"{file}: has {present} bytes, but the saved state needs {length}; restore it from a backup"
                )
            self._handle = open(file, "ab")  # open for the life of the run
            self._handle.truncate(length)
            self._handle.seek(0, os.SEEK_END)

    def append(self, text: str) -> None:
        """Add text."""
        with as_run_folder_error(self._file):
            self._handle.write(text.encode())

    def sync(self) -> int:
        """Write everything to disk; returns the length in bytes."""
        with as_run_folder_error(self._file):
            self._handle.flush()
            os.fsync(self._handle.fileno())
            return self._handle.tell()

    def close(self) -> None:
        """Write and close the file."""
        try:
            self.sync()
        finally:
            with as_run_folder_error(self._file):
                self._handle.close()


class AnsweredRequests:
    """Numbers of the messages of a step that were answered; they survive the end of this process, but not of the machine.

    Parameters
    ----------
    file : Path

    Raises
    ------
    RunFolderError
        In any method, if it cannot be written.
    """

    def __init__(self, file: Path):
        self._file = file
        with as_run_folder_error(file):
            self._handle = open(file, "a+b", buffering=0)  # open for the life of the run
            self._handle.seek(0)
            lines = self._handle.read().split(b"\n")[:-1]
        self.numbers = [int(line) for line in lines if line.removeprefix(b"-").isdigit()]

    def begin(self) -> None:
        """Delete all numbers."""
        with as_run_folder_error(self._file):
            self._handle.truncate(0)

    def add(self, number: int) -> None:
        """Add a number."""
        with as_run_folder_error(self._file):
            self._handle.write(b"%d\n" % number)

    def close(self) -> None:
        """Close the file."""
        with as_run_folder_error(self._file):
            self._handle.close()


def sealed(state: dict[str, Any]) -> str:
    """A state as text with its sha256, so that a damaged or edited file is noticed."""
    state = {FORMAT: STATE_FORMAT, **state}
    return json.dumps({**state, SEAL: _digest(state)})


def unsealed(text: str) -> Any:
    """The state in a text from `sealed`; states of earlier versions have no seal and are not checked.

    Raises
    ------
    ValueError
        If the text is not JSON, or the seal does not match.
    """
    state = json.loads(text)
    if not isinstance(state, dict) or not {FORMAT, SEAL} & set(state):
        return state
    if state.pop(SEAL, None) != _digest(state):
        raise ValueError(f"its content has changed since it was written ({SEAL} does not match)")
    if (found := state.pop(FORMAT, None)) != STATE_FORMAT:
        raise ValueError(f"its format is {quoted(found)}, but this version of mlpot reads {STATE_FORMAT}")
    return state


def _digest(state: dict[str, Any]) -> str:
    """sha256 of the values, independent of the order of keys and the spacing."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _encode(value: Any) -> Any:
    if isinstance(value, dict):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"the keys of a state must be strings, not {wrong[0]!r}")
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"an array of {value.dtype} cannot be part of a state")
        raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"__array__": raw, "dtype": value.dtype.str, "shape": list(value.shape)}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "__array__" in value:
        raw = base64.b64decode(value["__array__"], validate=True)
        return np.frombuffer(raw, value["dtype"]).reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


@contextmanager
def opened_source(
    plan: LabellingPlan, folder: str | Path, resume: bool, wanted: tuple[str, ...] = ()
) -> Iterator[tuple[RunFolder, LabelSource]]:
    """A run folder owned by this process and its label source, until the end of the block; labels under way are killed then.

    Labels have the results `wanted` besides energy and forces.

    Raises
    ------
    ConfigError
        If the plan cannot work. Nothing has been written then, except if the cluster is missing.
    RunFolderError
        If the folder cannot be used.
    """
    with checked_executor(plan, folder, wanted) as executor:
        with RunFolder(folder, resume) as run_folder, source_in(run_folder.path, plan, executor, wanted) as source:
            yield run_folder, source


@contextmanager
def checked_executor(plan: LabellingPlan, folder: str | Path, wanted: tuple[str, ...] = ()) -> Iterator[Executor]:
    """Processes on this machine that have made the calculators of a plan once; errors as of `opened_source`."""
    with ExitStack() as stack:
        executor: Executor = local_executor(plan, Path(folder))
        stack.callback(executor.shutdown, cancel_futures=True)
        # report a wrong name or parameter now, not at the first label
        executor.submit(check_plan, plan, wanted).result()
        yield executor


@contextmanager
def source_in(folder: Path, plan: LabellingPlan, executor: Executor, wanted: tuple[str, ...] = ()) -> Iterator[LabelSource]:
    """The label source of a folder that this process owns, with an executor from `checked_executor` for local labels."""
    with ExitStack() as stack:
        with as_run_folder_error(folder):
            folder.mkdir(exist_ok=True)
        if plan.executor != "local":
            executor.shutdown()
            executor = cluster_executor(plan, folder)
            stack.callback(executor.shutdown, cancel_futures=True)
        store = LabelStore(folder)
        yield LabelSource(labeller_of(plan, wanted), store, executor, plan.tries, fallback=fallback_of(plan, wanted))
