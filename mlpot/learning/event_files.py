"""Rows of log.csv as scalars for TensorBoard: event files in a folder for each walker, written by tensorboardX.

A resumed run repeats the steps after its last checkpoint. It begins new files, which tell TensorBoard to drop those steps from the
files before them.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from ..durable import as_run_folder_error
from ..errors import ConfigError
from .log_format import LOG_COLUMNS, WORDS, Step

EVENTS = "tensorboard"
"""Folder of the event files in a run folder."""
SCALARS = tuple(name for name in LOG_COLUMNS if name not in ("step", *WORDS))


def load_tensorboardx() -> tuple[Any, Any]:
    """Modules of tensorboardX: its writer of event files, and its messages.

    Raises
    ------
    ConfigError
        If the package is not installed.
    """
    try:
        writer, *messages = map(importlib.import_module, ("tensorboardX.event_file_writer", "tensorboardX.proto.event_pb2"))
    except ImportError as error:
        raise ConfigError(
            f"output.tensorboard = true: tensorboardX cannot be imported ({error}); "
            'pip install "mlpot[tensorboard]", or remove the key'
        ) from error
    return writer, messages[0]


class EventFiles:
    """Event files of one run, all written by the calling thread.

    Parameters
    ----------
    folder : Path
        Made at the first step.

    Raises
    ------
    ConfigError
        If tensorboardX is not installed.
    RunFolderError
        In any other method, if the files cannot be written.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._library, self._messages = load_tensorboardx()
        self._writers: dict[str, Any] = {}

    def write(self, step: Step) -> None:
        """Add a step; cells that are empty in log.csv are left out."""
        event = self._messages.Event(wall_time=time.time(), step=step.step)
        for name in SCALARS:
            if (value := getattr(step, name)) is not None:
                event.summary.value.add(tag=name, simple_value=float(value))
        with as_run_folder_error(self._folder):
            if step.walker not in self._writers:
                self._writers[step.walker] = self._begun(step)
            self._writers[step.walker].write_event(event)

    def _begun(self, step: Step) -> Any:
        """A new file of a walker, which replaces what earlier ones have from this step on."""
        folder = self._folder / step.walker
        folder.mkdir(parents=True, exist_ok=True)
        # the library's names have a time in seconds; a run that is resumed within one must not overwrite its file
        writer = self._library.EventsWriter(str(folder / "events"), f".{sum(1 for _ in folder.iterdir()):05d}")
        start = self._messages.SessionLog(status=self._messages.SessionLog.START)
        writer.write_event(self._messages.Event(wall_time=time.time(), step=step.step, session_log=start))
        return writer

    def flush(self) -> None:
        """Bring everything to disk."""
        with as_run_folder_error(self._folder):
            for writer in self._writers.values():
                writer.flush()

    def close(self) -> None:
        """Bring everything to disk, and close the files."""
        with as_run_folder_error(self._folder):
            while self._writers:
                self._writers.popitem()[1].close()
