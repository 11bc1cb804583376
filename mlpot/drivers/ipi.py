"""The i-PI client: answers a server's questions, outlives it, and leaves so that the server does not hang."""

from __future__ import annotations

import logging
import select
import socket
import time
from collections import deque
from collections.abc import Mapping, MutableSequence
from enum import Enum
from itertools import groupby

from ase import Atoms
from ase.data import chemical_symbols

from ..errors import ProtocolError, ServerError, StructureError
from ..settings.driver import PATIENCE
from ..structures import bare_structure
from .ipi_evaluator import Evaluator
from .ipi_guard import BEGINNING, FREE, TELLING, TOLD
from .ipi_protocol import Exit, Init, Message, Positions, Session, Status
from .ipi_socket import ANSWER_TIME, Address, connect, guarded
from .ipi_template import Template

FAREWELL = 2.0
"""Seconds that it waits for one after EXIT, which a server also says to a client that it dropped."""
SUCCESSOR = 6.0
"""Seconds that it waits for one where a server has closed its socket in good order without EXIT, as ASE's SocketIOCalculator does.
A server that is killed leaves the file of its socket."""
NEXT_HEADER = 0.5
"""Seconds within which a server says what it wants after POSDATA, whether or not it waits for an answer."""
STALLED = 60.0
"""Seconds without a byte in the middle of a message."""
CHUNK = 2**18
"""Bytes taken off the line at once."""
LONGEST_ORDER = 100
"""Characters."""

log = logging.getLogger(__name__)


class Ending(Enum):
    """Reason for the end of a connection."""

    SILENT = "the server said nothing"
    LOST = "the server is gone"
    EXIT = "the server needs this client no more"
    CLOSED = "the server closed its socket and removed it"


WAITS = {Ending.EXIT: FAREWELL, Ending.CLOSED: SUCCESSOR}
"""Endings that need no further connection, and how long the client waits for one all the same."""


class _Gone(Exception):
    """The server is; of its own class, as an evaluator may raise any other."""


class IpiClient:
    """Computes for i-PI, or any other server that speaks its protocol.

    Parameters
    ----------
    address : Address
    template : ase.Atoms
        Elements in the order of the server's, and along which cell vectors they are periodic.
    evaluator : Evaluator
    patience : float
        Seconds to wait for a server, at the beginning and after one was lost.
    once : bool
        Whether to leave with the first server, however it ends.

    Attributes
    ----------
    n_served : int
        Structures that were answered, copies that fill a batch not counted.

    Raises
    ------
    StructureError
        If the template has no atoms.
    """

    def __init__(
        self, address: Address, template: Atoms, evaluator: Evaluator, patience: float = PATIENCE, once: bool = False
    ):
        if not len(template):
            raise StructureError("the template has no atoms; give the structure that i-PI starts from")
        self.address, self.template, self.evaluator, self.patience = address, template, evaluator, patience
        self.once = once
        self.n_served = 0
        self._beads: list[Atoms] = []
        self._places, self._is_known = Template(template), False
        self._options: Mapping[str, str] | None = None
        self._chunk = bytearray(CHUNK)

    def run(self) -> None:
        """Serve until a server says EXIT and none takes its place within `FAREWELL`, or closes its socket and none does within
        `SUCCESSOR`; with `once` until the first one ends.

        Raises
        ------
        ServerError
            If none came within `patience`.
        ProtocolError
            If what one said was not i-PI's protocol, or not about the template's atoms.
        EvaluationError
            If something came out that is not finite; it was not sent.
        MlpotError
            Whatever the evaluator raised.
        """
        deadline, ending = time.monotonic() + self.patience, Ending.LOST
        while (connection := connect(self.address, deadline)) is not None:
            with guarded(connection) as stage:
                now = self._serve(connection, stage)
            if now is Ending.SILENT:  # a proxy in front of no server, or a server closing down: no reason to hurry
                if time.monotonic() > deadline:
                    break
                time.sleep(NEXT_HEADER)
                if not self.address.is_removed():
                    continue
            if now is not Ending.EXIT and self.address.is_removed(NEXT_HEADER):
                now = Ending.CLOSED
            ending = now
            log.info("%s (%s); %d structures served", ending.value, self.address, self.n_served)
            if self.once:
                return
            deadline = time.monotonic() + WAITS.get(ending, self.patience)
        if ending not in WAITS:
            raise ServerError(f"{self.address}: no server for {self.patience:g} s; start i-PI, or correct the address")

    def _serve(self, connection: socket.socket, stage: MutableSequence[int]) -> Ending:
        """Answer until the connection ends."""
        log.info("connected to %s", self.address)
        session, messages, ending = Session(self.template, self.evaluator.identify), deque[Message](), Ending.SILENT
        connection.settimeout(ANSWER_TIME)
        try:
            while True:
                while not messages:
                    messages += self._receive(connection, session, STALLED if session.unfinished else None)
                ending = Ending.LOST
                message = messages.popleft()
                if isinstance(message, Exit):
                    return Ending.EXIT
                if isinstance(message, Positions):
                    # GETFORCE may be on the line already. Ending with it unread would reset the connection, which hangs i-PI:
                    # an empty line needs no guard, and a scheduler may kill the guard as well.
                    if not messages:
                        messages += self._next_header(connection, session)
                    self._evaluate(session, message)
                elif isinstance(message, Init):
                    self._introduce(message)
                else:
                    _answer(connection, session, message, stage)
        except _Gone:
            return ending

    def _evaluate(self, session: Session, structures: Positions) -> None:
        n = structures.n_distinct
        self._beads += [bare_structure(self.template) for _ in range(n - len(self._beads))]
        for atoms, cell, positions in zip(self._beads[:n], structures.cells, structures.positions, strict=False):
            atoms.cell[:] = cell
            atoms.positions[:] = self._places.mended(cell, positions)
        if not self._is_known:
            self._places.check(self._beads[0])
            self._is_known = True
        session.deliver(self.evaluator.evaluate(self._beads[:n], structures.request))
        self.n_served += n

    def _introduce(self, message: Init) -> None:
        """Say what the server wants when it says it first; it may introduce every structure in the same way."""
        if message.options != self._options:
            self._options = message.options
            options = ", ".join(f"{name} = {value}" for name, value in message.options.items())
            log.info("serving the server's structures%s", f" ({options})" if options else "")

    def _receive(self, connection: socket.socket, session: Session, patience: float | None) -> list[Message]:
        """The messages completed by what comes next; _Gone when nothing ever will.

        A server may think for days between two messages, but not within one.
        """
        if not select.select([connection], [], [], patience)[0]:
            raise ProtocolError(
                f"{session.unfinished} did not come for {patience:g} s in the middle of a message: the server stopped, or "
                "speaks another protocol (mode='shm' is not spoken here); restart it"
            )
        try:
            n_bytes = connection.recv_into(self._chunk)
        except OSError as error:
            raise _Gone from error
        if not n_bytes:
            raise _Gone
        return session.receive(memoryview(self._chunk)[:n_bytes])

    def _next_header(self, connection: socket.socket, session: Session) -> list[Message]:
        """Message of the server directly after POSDATA: GETFORCE or STATUS; empty if it has not sent any."""
        deadline, found = time.monotonic() + NEXT_HEADER, list[Message]()
        while not found and select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
            found = self._receive(connection, session, STALLED)
        return found


def _answer(connection: socket.socket, session: Session, message: Message, stage: MutableSequence[int]) -> None:
    """Everything in one piece, as i-PI gives up an answer of which nothing comes for two seconds; but after HAVEDATA its beginning
    goes first, so that it is known at every instant whether the server still waits for it (see `ipi_guard`)."""
    try:
        if isinstance(message, Status):
            if session.has_data:
                stage[0] = TELLING
            connection.sendall(session.status())
            stage[0] = TOLD if session.has_data else FREE
            return
        forces = memoryview(session.forces())
        if stage[0] == TOLD:
            connection.sendall(forces[:BEGINNING])
            forces = forces[BEGINNING:]
        stage[0] = FREE
        connection.sendall(forces)
    except OSError as error:
        raise _Gone from error


def order_of_species(template: Atoms) -> str:
    """Elements assumed for i-PI's atoms, in order, such as "O H2 O H2": runs of one element with their lengths."""
    runs = [(chemical_symbols[number], len(list(same))) for number, same in groupby(template.numbers.tolist())]
    text = " ".join(symbol if n == 1 else f"{symbol}{n}" for symbol, n in runs)
    return text if len(text) <= LONGEST_ORDER else text[:LONGEST_ORDER].rpartition(" ")[0] + " ..."
