"""One task in a separate process.

The process imports what labels usually need and then waits, so that a spare worker is ready when a task comes. If the pipe is closed
without a task, the worker is not needed any more.
"""

from __future__ import annotations

import importlib
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any

from ..errors import LabelError
from ..processes import adopt_orphans, end_descendants, is_alive

GRACE_SECONDS = 5
"""Time (s) after the limit of its executor at which an orphaned worker ends itself."""
TERMINATED = 128 + signal.SIGTERM
LOOK_SECONDS = 0.5
"""Interval at which a worker checks whether its guardian lives."""


def main() -> None:
    """Read a pickled task, run it, write a pickled (succeeded, result or exception).

    Arguments of the program: pid of the parent, file descriptors of two pipes, modules to import beforehand.
    """
    adopt_orphans()
    parent, source, sink = (int(argument) for argument in sys.argv[1:4])
    for descriptor in (source, sink):
        # programs that the calculator starts must not keep the pipes open after the end of this process
        os.set_inheritable(descriptor, False)
    for module in sys.argv[4:]:
        with suppress(Exception):  # only saves time; an import error is reported by the task that needs the module
            importlib.import_module(module)
    # on SIGTERM, which queues send before they kill: release the claim and remove files
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    with os.fdopen(source, "rb") as pipe:
        data = pipe.read()
    # a task that has not started when its simulation is killed is left to the resumed simulation
    if not data or os.getppid() != parent:
        return
    pid = os.getpid()
    answer = _run(data, parent)
    if os.getpid() != pid:  # a fork made by the task must not answer
        os._exit(0)
    end_descendants(pid)
    # if the simulation has been killed meanwhile, the answer is not read; the result is in the inbox
    with suppress(BrokenPipeError), os.fdopen(sink, "wb") as pipe:
        pipe.write(answer)


def _run(data: bytes, parent: int) -> bytes:
    try:
        limit, guardian, task = pickle.loads(data)
        if guardian is not None:
            threading.Thread(target=_end_with, args=(parent, guardian), daemon=True).start()
        if limit is not None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even inside compiled code
            signal.alarm(math.ceil(limit) + GRACE_SECONDS)
        function, args, kwargs = pickle.loads(task)
        return _pickled((True, function(*args, **kwargs)))
    except Exception as error:  # returned to the caller, which raises it
        return _carried(error)


def _end_with(parent: int, guardian: dict) -> None:
    """Kill this process and everything it has started once parent and guardian have ended: on a cluster no other process does so."""
    while os.getppid() == parent or is_alive(guardian):
        time.sleep(LOOK_SECONDS)
    end_descendants(os.getpid())
    os.killpg(0, signal.SIGKILL)


def _pickled(answer: tuple[bool, Any]) -> bytes:
    data = pickle.dumps(answer)
    pickle.loads(data)  # some exceptions can be pickled but not unpickled
    return data


def _carried(error: Exception) -> bytes:
    """The exception with the traceback as a note; replaced by a LabelError if it cannot be pickled."""
    note = "".join(traceback.format_exception(error))
    try:
        error.add_note(note)
        return _pickled((False, error))
    except Exception:  # foreign classes may raise anything when they are pickled
        substitute = LabelError(f"{type(error).__name__}: {error}")
        substitute.add_note(note)
        return _pickled((False, substitute))
