"""Ends a client's connection for it, in the only order that i-PI can stand. Run as a script, by `ipi_socket.guarded`.

A process that is killed while a message is on the line resets the connection, and at that i-PI's thread for clients dies and
its run hangs for ever. So a second process holds the connection too: when the first has closed its end, or is gone, it says
that nothing more will be sent, takes off the line what still comes, and ends when the server has closed its side.

There is one exception, in which the reset is right. A server that asks in turn (`consolidate_messages` False), has heard HAVEDATA
and now waits for FORCEREADY never notices that a connection was closed, and spins. The first process says through the pipe when
it stands there; then its GETFORCE is left on the line, which makes closing a reset.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

CHUNK = 2**16
HELD, FREE = b"h", b"f"
"""HAVEDATA is about to be told; FORCEREADY has been sent."""


def main(connection: int, alive: int) -> None:
    """Guard the descriptor `connection` until reading from the pipe `alive` says that nobody holds its other end."""
    if os.fork():
        return  # whoever started this waits for no longer than it takes to begin
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = FREE
    while heard := os.read(alive, CHUNK):
        said = heard[-1:]
    with socket.socket(fileno=connection) as guarded:
        guarded.setblocking(True)
        try:
            if said == HELD:
                guarded.recv(1, socket.MSG_PEEK)
                return
            guarded.shutdown(socket.SHUT_WR)
            while guarded.recv(CHUNK):
                continue
        except OSError:  # the server is gone: there is nobody to be polite to
            return


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
