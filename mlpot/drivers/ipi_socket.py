"""Address of an i-PI server, and waiting for it."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from ..errors import ConfigError, ServerError
from ..settings.driver import PREFIX, DriverSettings, check_address
from .ipi_guard import NEW

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts to connect: each pause is half as long again."""
ANSWER_TIME = 10.0
"""Seconds for one attempt to connect, and for a server to take an answer off the line."""

GUARD = Path(__file__).with_name("ipi_guard.py")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Address of a server.

    Parameters
    ----------
    path : str
        Of a UNIX socket; empty for TCP.
    host, port
        Of TCP.
    """

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def unix(cls, name: str, prefix: str = PREFIX) -> Address:
        """i-PI's `<address>` with mode="unix", and the prefix it was started with (`i-pi -S`)."""
        return cls.given(name, "", None, prefix)

    @classmethod
    def tcp(cls, host: str, port: int) -> Address:
        """i-PI's `<address>` and `<port>` with mode="inet"."""
        return cls.given(None, host, port, "")

    @classmethod
    def given(cls, unix: str | None, host: str, port: int | None, prefix: str) -> Address:
        """Either a UNIX socket or a TCP port.

        Raises
        ------
        ConfigError
            If none or both are given, for an empty name, and for an impossible port.
        """
        try:
            check_address(unix, port)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return cls(path=prefix + unix) if unix is not None else cls(host=host, port=port or 0)

    @classmethod
    def of(cls, settings: DriverSettings) -> Address:
        """The address in section [driver]."""
        return cls.given(settings.unix, settings.host, settings.port, settings.prefix)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def is_removed(self, patience: float = 0.0) -> bool:
        """Whether the file of a UNIX socket is gone, or disappears within `seconds`; TCP has none."""
        deadline = time.monotonic() + patience
        while self.path and os.path.exists(self.path) and time.monotonic() < deadline:
            time.sleep(SHORTEST_PAUSE)
        return bool(self.path) and not os.path.exists(self.path)

    def connect(self, timeout: float) -> socket.socket:
        """Connect; OSError when no server accepts yet, ServerError when none ever will."""
        if not self.path:
            try:
                connection = socket.create_connection((self.host, self.port), timeout)
            except socket.gaierror as error:
                raise ServerError(f"{self.host}: unknown host ({error}); correct --host") from error
            if connection.getsockname() == connection.getpeername():  # a port of its own choice met itself
                connection.close()
                raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a host that lost its power is silent
            return connection
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect(self.path)
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError) or "too long" in str(error):
                self._refuse(error)
            raise
        return connection

    def _refuse(self, error: OSError) -> NoReturn:
        raise ServerError(f"{self.path}: {error}; correct the name or the prefix of the socket") from error


def connect(address: Address, deadline: float) -> socket.socket | None:
    """A connection to a server that is there, or comes before `deadline` (of `time.monotonic`); None when none does.

    A killed i-PI leaves the file of its socket: an unused socket is no reason not to wait for the next server,
    and none to delete the file, which may belong to a server that is just starting.
    """
    pause, said = SHORTEST_PAUSE, False
    while True:
        left = deadline - time.monotonic()
        try:
            return address.connect(max(min(ANSWER_TIME, left), SHORTEST_PAUSE))
        except ServerError:
            raise
        except OSError as error:
            if left <= 0:
                return None
            if pause == LONGEST_PAUSE and not said:
                log.info("no server at %s (%s); waiting for one", address, error)
                said = True
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, LONGEST_PAUSE)


@contextmanager
def guarded(connection: socket.socket) -> Iterator[MutableSequence[int]]:
    """Close the connection at the end of the block so that its server sees a client that left, not a reset, and see to it
    that it does when this process is killed; `ipi_guard` says how, and what the one byte given is to be."""
    watched, alive = os.pipe()
    shared = _shared_byte()
    descriptors = connection.fileno(), watched, shared
    try:
        try:
            subprocess.run(
                [sys.executable, "-I", "-S", str(GUARD), *map(str, descriptors)],
                pass_fds=descriptors,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        finally:
            os.close(watched)
        with mmap.mmap(shared, 1) as stage:
            yield cast("MutableSequence[int]", stage)
    finally:
        connection.close()
        os.close(shared)
        os.close(alive)


def _shared_byte() -> int:
    """A file of one byte that has no name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mlpot")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.write(descriptor, bytes([NEW]))
    return descriptor
