"""One task in a process of its own: `python -m mlpot.labellers.worker IN OUT`, file descriptors of two pipes.

It imports what labels usually need, then waits: the spare worker of an executor has its start-up behind it when a task
comes. The end of the pipe without a task means that nobody needs it any more.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys


def main() -> None:
    """Read a pickled (function, args, kwargs), run it, write a pickled (succeeded, result or exception)."""
    source, sink = int(sys.argv[1]), int(sys.argv[2])
    for module in sys.argv[3:]:
        importlib.import_module(module)
    with os.fdopen(source, "rb") as pipe:
        data = pipe.read()
    if not data:
        return
    try:
        function, args, kwargs = pickle.loads(data)
        answer = (True, function(*args, **kwargs))
    except Exception as error:  # carried to the caller, who raises it
        answer = (False, error)
    with os.fdopen(sink, "wb") as pipe:
        pickle.dump(answer, pipe)


if __name__ == "__main__":
    main()
