"""One task in a process of its own.

It imports what labels usually need, then waits: the spare worker of an executor has its start-up behind it
when a task comes. The end of the pipe without a task means that nobody needs it any more.
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
"""An orphaned worker ends itself this long after the limit that its executor would have enforced."""
TERMINATED = 128 + signal.SIGTERM
LOOK_SECONDS = 0.5
"""How often a worker looks after its guardian."""


def main() -> None:
    """Read a pickled task, run it, write a pickled (succeeded, result or exception).

    Arguments of the program: pid of the parent, file descriptors of two pipes, modules to import beforehand.
    """
    adopt_orphans()
    parent, source, sink = (int(argument) for argument in sys.argv[1:4])
    for descriptor in (source, sink):
        # a program that the calculator starts must not hold the pipes open after this process is gone
        os.set_inheritable(descriptor, False)
    for module in sys.argv[4:]:
        with suppress(Exception):  # this saves time; what cannot be imported is an error of the task that needs it
            importlib.import_module(module)
    # asked to end, as by a queue before it kills: give the claim up and leave no files
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    with os.fdopen(source, "rb") as pipe:
        data = pipe.read()
    # A task that has not begun when its simulation is killed is left to the one that resumes.
    if not data or os.getppid() != parent:
        return
    pid = os.getpid()
    answer = _run(data, parent)
    if os.getpid() != pid:  # the task has forked; only the worker itself speaks for it
        os._exit(0)
    end_descendants(pid)
    # nobody listens any more when the simulation was killed meanwhile; the result is in the inbox then
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
    except Exception as error:  # carried to the caller, who raises it
        return _carried(error)


def _end_with(parent: int, guardian: dict) -> None:
    """End this process, and all that it started, when parent and guardian are gone: nobody else would, on a cluster."""
    while os.getppid() == parent or is_alive(guardian):
        time.sleep(LOOK_SECONDS)
    end_descendants(os.getpid())
    os.killpg(0, signal.SIGKILL)


def _pickled(answer: tuple[bool, Any]) -> bytes:
    data = pickle.dumps(answer)
    pickle.loads(data)  # some exceptions can be written but not read again
    return data


def _carried(error: Exception) -> bytes:
    """The exception, with the traceback as a note; LabelError in its place when it cannot travel."""
    note = "".join(traceback.format_exception(error))
    try:
        error.add_note(note)
        return _pickled((False, error))
    except Exception:  # whatever a foreign class does when it is pickled
        substitute = LabelError(f"{type(error).__name__}: {error}")
        substitute.add_note(note)
        return _pickled((False, substitute))
