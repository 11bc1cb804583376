"""Ends a client's connection for it, in the only order that i-PI can stand. Run as a script, by `ipi_socket.guarded`.

A process that is killed while a message is on the line resets the connection, and at that i-PI's thread for clients dies and
its run hangs forever. So a second process holds the connection too: when the first has closed its end, or is gone, it says
that nothing more will be sent, takes off the line what still comes, and ends when the server has closed its side.

There are two exceptions. A server that has heard nothing yet, and has work to do, never looks again at a client that ends: it is
given the first answer, and notices at the second. And one that asks in turn (`consolidate_messages` False), has heard HAVEDATA and
now waits for FORCEREADY does not notice that nothing more will come, and spins. It does notice in the message that FORCEREADY
begins: so it is given that word and no message. Where it may not have heard HAVEDATA yet it is given both words: it passes over one
that it did not ask for. Where it may have got the beginning of the message already the word is taken for some of the rest, which
never is complete.

The first process says where it stands in a byte that both see, because a pipe would wake this one, and stop the other
just there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

CHUNK = 2**16
NEW, FREE, TELLING, TOLD = range(4)
"""Nothing was answered yet; nothing is held, or the beginning of the message was sent; HAVEDATA is about to be sent; it was."""
WORDS = {NEW: b"NEEDINIT    ", FREE: b"", TELLING: b"HAVEDATA    FORCEREADY  ", TOLD: b"FORCEREADY  "}
BEGINNING = 32
"""Bytes that the message begins with: FORCEREADY, an energy, a number of atoms, and one of at least three components of forces."""


def main(connection: int, alive: int, shared: int) -> None:
    """Guard the descriptor `connection` until reading from the pipe `alive` shows that its other end is closed; the first byte of
    the file `shared` says then what the server waits for."""
    if os.fork():
        return  # whoever started this waits for no longer than it takes to begin
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(alive, 1)
    with socket.socket(fileno=connection) as guarded:
        guarded.setblocking(True)
        try:
            guarded.sendall(WORDS[os.pread(shared, 1, 0)[0]])
            guarded.shutdown(socket.SHUT_WR)
            while guarded.recv(CHUNK):
                continue
        except OSError:  # the server is gone: nothing to close politely
            return


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
