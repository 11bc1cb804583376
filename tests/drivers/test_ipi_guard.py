"""The end of a guarded connection, as its server sees it: no more to come, after a word where only that is understood."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from mlpot.drivers import ipi_guard, ipi_socket
from mlpot.drivers.ipi_guard import FREE, NEW, TELLING, TOLD
from mlpot.drivers.ipi_protocol import _header

SECONDS = 20
CLIENT = """
import os, signal, sys
from mlpot.drivers.ipi_socket import Address, guarded
connection = Address(path=sys.argv[1]).connect(10) if "/" in sys.argv[1] else Address.tcp("localhost", int(sys.argv[1])).connect(10)
with guarded(connection) as stage:
    for word in sys.argv[2:]:
        stage[0] = int(word)
    connection.sendall(b"ready")
    signal.pause()
"""


@pytest.fixture(params=["unix", "tcp"])
def listener(request, tmp_path):
    if request.param == "tcp":
        found = socket.create_server(("localhost", 0))
    else:
        found = socket.socket(socket.AF_UNIX)
        found.bind(str(tmp_path / "s"))
        found.listen()
    with found:
        found.settimeout(SECONDS)
        yield found


def connected_and_killed(listener, *words, before=b""):
    """The server's end of a connection whose client has said these words to its guard and was killed, with a message unread."""
    address = listener.getsockname()
    name = address if isinstance(address, str) else str(address[1])
    client = subprocess.Popen([sys.executable, "-c", CLIENT, name, *map(str, words)])
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    assert connection.recv(5) == b"ready"
    connection.sendall(before)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    return connection


@pytest.mark.parametrize("words", [(FREE,), (FREE, TELLING, TOLD, FREE)])
def test_a_clean_end(listener, words):
    with connected_and_killed(listener, *words, before=b"POSDATA     ") as connection:
        assert connection.recv(1) == b""
        connection.sendall(b"more")  # is taken off the line


def test_an_end_before_the_first_answer(listener):
    """i-PI would not look again at a client that it never heard of; with an answer it asks again, and notices."""
    with connected_and_killed(listener, before=b"STATUS      ") as connection:
        assert connection.recv(12) == b"NEEDINIT    "
        assert connection.recv(1) == b""


@pytest.mark.parametrize("words", [(TELLING,), (TELLING, TOLD), (TELLING, TOLD, FREE, TELLING)])
@pytest.mark.parametrize("before", [b"", b"GETFORCE    "])
def test_an_end_that_is_noticed_while_forces_are_waited_for(listener, words, before):
    """i-PI's loop for FORCEREADY passes over other words but not over the end; with that word it reads on, and notices."""
    with connected_and_killed(listener, *words, before=before) as connection:
        if words[-1] == TELLING:
            assert connection.recv(12) == b"HAVEDATA    "
        assert connection.recv(12) == b"FORCEREADY  "
        assert connection.recv(1) == b""
        connection.sendall(b"EXIT        ")  # is taken off the line


def test_where_there_are_no_anonymous_files(listener, monkeypatch):
    """As on macOS."""
    monkeypatch.delattr("os.memfd_create")
    with socket.socketpair()[0] as connection, ipi_socket.guarded(connection) as stage:
        stage[0] = TOLD
        assert stage[0] == TOLD


def test_words_are_those_of_the_protocol():
    """The guard is a script that imports nothing of the package."""
    assert ipi_guard.WORDS[TELLING] == _header("HAVEDATA") + ipi_guard.WORDS[TOLD]
    assert ipi_guard.WORDS[TOLD] == _header("FORCEREADY")
    assert ipi_guard.WORDS[NEW] == _header("NEEDINIT")
