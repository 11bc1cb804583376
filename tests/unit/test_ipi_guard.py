"""The end of a guarded connection, as its server sees it: no more to come, or a reset where only that is understood."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from mlpot.drivers.ipi_guard import FREE, HELD

SECONDS = 20
CLIENT = """
import os, signal, sys
from mlpot.drivers.ipi_socket import Address, guarded
connection = Address(path=sys.argv[1]).connect(10) if "/" in sys.argv[1] else Address.tcp("localhost", int(sys.argv[1])).connect(10)
with guarded(connection) as tell:
    for word in sys.argv[2:]:
        tell(word.encode())
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
    client = subprocess.Popen([sys.executable, "-c", CLIENT, name, *(word.decode() for word in words)])
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    assert connection.recv(5) == b"ready"
    connection.sendall(before)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    return connection


@pytest.mark.parametrize("words", [(), (HELD, FREE)])
def test_a_clean_end(listener, words):
    with connected_and_killed(listener, *words, before=b"POSDATA     ") as connection:
        assert connection.recv(1) == b""
        connection.sendall(b"more")  # is taken off the line


@pytest.mark.parametrize("late", [True, False])
def test_a_reset_where_a_clean_end_is_not_noticed(listener, late):
    """HAVEDATA was told: the server waits for FORCEREADY, and i-PI then takes no notice of a clean end."""
    header = b"GETFORCE    "
    with connected_and_killed(listener, FREE, HELD, before=b"" if late else header) as connection:
        if late:
            connection.sendall(header)
        with pytest.raises(ConnectionResetError):
            connection.recv(12)
