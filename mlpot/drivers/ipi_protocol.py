"""i-PI's protocol without a socket: bytes of a server in, messages out; answers as bytes.

Headers are 12 bytes, padded with blanks; integers are int32, numbers float64, of this machine's byte order, in atomic units.
The columns of i-PI's cells are the lattice vectors. Where INIT announced `batch_size:N`, POSDATA and the answer to GETFORCE
carry N structures:

    POSDATA      cell, inverse cell, n_atoms, positions         n_atoms, N x (cell, inverse cell), N x positions
    FORCEREADY   energy, n_atoms, forces, virial, extras        N energies, n_atoms, N x forces, N x virials, N x extras

Extras are their length in bytes and that many bytes of JSON. i-PI fills the last batch of a step with copies of its last
structure, which are not worth evaluating.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from ..errors import EvaluationError, ProtocolError, counted
from ..units import BOHR, HARTREE

T = TypeVar("T")
Reading = Generator[tuple[int, str], bytes, T]
"""Takes a number of bytes and what they are; returns the bytes read."""

HEADER = 12
MOST_TEXT = 2**20
"""Bytes of the text of INIT."""
MOST_BYTES = 2**31
"""Results of a batch of structures."""
FLATTEST = 1e-6
"""Volume of a cell that is none, in units of the product of its edges."""


@dataclass(frozen=True)
class Status:
    """The server asks how things are."""


@dataclass(frozen=True)
class Init:
    """The server says which bead it means, and its options by name."""

    bead: int
    options: Mapping[str, str]

    @property
    def batch_size(self) -> int:
        """Structures in each message from here on; ProtocolError when it is not a positive number."""
        text = self.options.get("batch_size", "1")
        if not text.isdecimal() or not 0 < int(text) < 2**31:
            raise ProtocolError(
                f"INIT: batch_size = {text!r} is not a positive number; correct <batch_size> in i-PI's input"
            )
        return int(text)


@dataclass(frozen=True)
class Positions:
    """Structures to evaluate.

    Parameters
    ----------
    cells : (n_beads, 3, 3) array
        A, rows are vectors.
    positions : (n_beads, n_atoms, 3) array
        A.
    request : int or None
        The server's own number of the first of them, the same in every step, where it was asked for; see `Session`.
    """

    cells: np.ndarray
    positions: np.ndarray
    request: int | None = None

    @property
    def n_beads(self) -> int:
        return len(self.positions)

    @property
    def n_distinct(self) -> int:
        """Structures before the copies of the last one that fill a batch."""
        last = self.n_beads - 1
        n = last
        while (
            n
            and (self.positions[n - 1] == self.positions[last]).all()
            and (self.cells[n - 1] == self.cells[last]).all()
        ):
            n -= 1
        return n + 1


@dataclass(frozen=True)
class GetForce:
    """The server wants energies, forces and virials of the last positions."""


@dataclass(frozen=True)
class Exit:
    """The server needs this client no more: its run is over, or it dropped the client."""


Message = Status | Init | Positions | GetForce | Exit


@dataclass(frozen=True)
class Evaluation:
    """Results for a structure, as sent to a server.

    Parameters
    ----------
    energy : float
        eV.
    forces : (n_atoms, 3) array
        eV/A.
    virial : (3, 3) array
        -dE/dstrain, eV.
    extras : mapping
        Travels as JSON, as it is: numbers in atomic units. The same keys every time, or i-PI stops.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    extras: Mapping[str, Any] = field(default_factory=dict)

    def atomic(self, n_atoms: int) -> tuple[float, np.ndarray, np.ndarray, str]:
        """Energy, forces (n_atoms, 3) and virial (3, 3), symmetrised, in atomic units; extras as ASCII JSON.

        Raises
        ------
        EvaluationError
            If something is not finite or not of its shape: i-PI would take NaN for a force and go on.
        """
        energy, virial = float(self.energy), np.asarray(self.virial, float)
        forces = np.ascontiguousarray(self.forces, float)
        if forces.shape != (n_atoms, 3) or virial.shape != (3, 3):
            raise EvaluationError(
                f"forces of shape {forces.shape} and a virial of shape {virial.shape} came out for {counted(n_atoms, 'atom')}; "
                "nothing was sent: correct the evaluator"
            )
        for name, value in (("energy", energy), ("forces", forces), ("virial", virial)):
            if not np.isfinite(value).all():
                raise EvaluationError(
                    f"{name} that came out are not finite ({np.size(value) - int(np.isfinite(value).sum())} of "
                    f"{np.size(value)} numbers); nothing was sent: look at the last structure of the run and at the model"
                )
        symmetric = (virial + virial.T) * (0.5 / HARTREE)
        return energy / HARTREE, forces * (BOHR / HARTREE), symmetric, json.dumps(self.extras)


def to_angstrom(cells: np.ndarray, positions: np.ndarray) -> Positions:
    """i-PI's cells (n_beads, 3, 3) and positions (n_beads, n_atoms, 3), in bohr, as we mean them."""
    return Positions(np.ascontiguousarray(cells.transpose(0, 2, 1)) * BOHR, positions * BOHR)


def init_options(text: str) -> dict[str, str]:
    """Parse `name : value` parts between commas; other text belongs to other programs and is ignored."""
    parts = (part.partition(":") for part in text.split(","))
    return {name.strip(): value.strip() for name, colon, value in parts if colon}


class Session:
    """One connection, from the client's side: decodes what the server sends, however it was split, and encodes answers.

    Parameters
    ----------
    template : ase.Atoms
        How many atoms the server must speak of, and whether their cell must have a volume.
    identify : bool
        Ask for INIT before every `Positions`: it tells which of its structures the server sends.

    Attributes
    ----------
    unfinished : str
        What of a message is still to come; empty between messages.

    Notes
    -----
    `receive` may give several messages; they are answered in their order. `deliver` answers `Positions`, after which
    `status` is set and `forces` has the bytes.
    """

    def __init__(self, template: Atoms, identify: bool = False):
        self.unfinished = ""
        self._template, self._identify = template, identify
        self._request: int | None = None
        self._batch_size: int | None = None
        self._positions: Positions | None = None
        self._answer: bytes | None = None
        self._awaited = False
        self._error: ProtocolError | None = None
        self._buffer = bytearray()
        self._wanted = 0
        self._begin()

    def receive(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """The messages that these bytes complete.

        Raises
        ------
        ProtocolError
            For anything that is not i-PI's protocol, or not about the template's atoms; the session is then over.
        """
        if self._error:
            raise self._error
        self._buffer += data
        messages = []
        while len(self._buffer) >= self._wanted:
            with memoryview(self._buffer) as view:
                block = bytes(view[: self._wanted])
            del self._buffer[: self._wanted]
            try:
                self._wanted, self.unfinished = self._reader.send(block)
            except StopIteration as complete:
                messages.append(complete.value)
                self._begin()
            except ProtocolError as error:
                self._error = error
                raise
        if self._buffer and not self.unfinished:
            self.unfinished = "a header"
        return messages

    @property
    def has_data(self) -> bool:
        """Whether forces were delivered and not asked for yet."""
        return self._answer is not None

    def status(self) -> bytes:
        """The answer to `Status`."""
        if self.has_data:
            return _header("HAVEDATA")
        return _header("NEEDINIT" if self._request is None else "READY")

    def deliver(self, evaluations: Sequence[Evaluation]) -> None:
        """Hand over what the last `Positions` are answered with, one evaluation for each of the distinct structures.

        Raises
        ------
        EvaluationError
            If something is not finite or not of its shape, or their number is wrong.
        """
        positions = self._positions
        if positions is None or len(evaluations) != positions.n_distinct:
            asked = positions.n_distinct if positions else 0
            raise EvaluationError(
                f"{counted(len(evaluations), 'evaluation')} of {counted(asked, 'structure')}: correct the evaluator"
            )
        n_atoms = len(self._template)
        found = [evaluation.atomic(n_atoms) for evaluation in evaluations]
        found += found[-1:] * (positions.n_beads - len(found))
        energies, forces, virials, extras = zip(*found, strict=True)
        texts = [part for text in extras for part in (_count(len(text)), text.encode("ascii"))]
        self._answer = b"".join(
            [_header("FORCEREADY"), np.array(energies).tobytes(), _count(n_atoms), *forces, *virials, *texts]
        )

    def forces(self) -> bytes:
        """The answer to `GetForce`; EvaluationError when nothing was delivered."""
        if self._answer is None:
            raise EvaluationError("forces were asked for before they were delivered: correct the client")
        answer, self._answer, self._positions = self._answer, None, None
        if self._identify:
            self._request = None
        return answer

    def _begin(self) -> None:
        """Wait for the next message."""
        self._reader: Reading[Message] = self._message()
        self._wanted, self.unfinished = next(self._reader)

    def _message(self) -> Reading[Message]:
        header = yield HEADER, ""
        name = header.rstrip(b" ")
        if name == b"STATUS":
            return Status()
        if name == b"INIT":
            return (yield from self._init())
        if name == b"POSDATA":
            return (yield from self._posdata())
        if name == b"GETFORCE":
            if not self._awaited:
                raise ProtocolError(
                    "GETFORCE came before POSDATA: the server is not i-PI, or was interrupted; restart it"
                )
            self._awaited = False
            return GetForce()
        if name == b"EXIT":
            return Exit()
        raise ProtocolError(
            f"unknown header {header!r}: give the address of an i-PI server; its mode='shm' and ffmpi are not spoken here"
        )

    def _init(self) -> Reading[Init]:
        bead = _integer((yield 4, "the bead of INIT"))
        length = _integer((yield 4, "the length of INIT"))
        if not 0 <= length <= MOST_TEXT:
            raise ProtocolError(
                f"INIT: text of {length} bytes, between 0 and {MOST_TEXT} are possible; restart the server"
            )
        text = (yield length, "the text of INIT").decode("utf-8", errors="replace")
        init = Init(bead, init_options(text))
        n_bytes = 8 * init.batch_size * (3 * len(self._template) + 18)
        if n_bytes > MOST_BYTES:
            raise ProtocolError(
                f"INIT: batch_size = {init.batch_size} of {counted(len(self._template), 'atom')} are messages of {n_bytes} bytes, "
                f"more than {MOST_BYTES}; lower <batch_size> in i-PI's input"
            )
        self._batch_size, self._request = init.batch_size, init.bead
        return init

    def _posdata(self) -> Reading[Positions]:
        """A count is compared with the template before any data of that size is read."""
        n_beads, n_atoms = self._batch_size or 1, len(self._template)
        if n_beads > 1:
            self._check_count((yield 4, "the number of atoms"))
            cells = _numbers((yield 144 * n_beads, "cells"), "cell", n_beads, 6)
        else:
            cells = _numbers((yield 144, "the cell"), "cell", 1, 6)
            self._check_count((yield 4, "the number of atoms"))
        positions = _numbers((yield 24 * n_atoms * n_beads, "positions"), "positions", n_beads, n_atoms)
        self._positions = found = replace(to_angstrom(cells, positions), request=self._request)
        if self._template.pbc.all():
            edges = np.linalg.norm(found.cells, axis=2).prod(axis=1)
            if not (np.abs(np.linalg.det(found.cells)) > FLATTEST * edges).all():
                raise ProtocolError(
                    f"POSDATA: cell {found.cells.tolist()} A has no volume, and the template is periodic; correct the cell in "
                    "i-PI's input, or pbc in the template"
                )
        self._awaited, self._answer = True, None
        return found

    def _check_count(self, block: bytes) -> None:
        if _integer(block) != len(self._template):
            raise ProtocolError(
                f"POSDATA: the server has {_integer(block)} atoms, the template {len(self._template)}; make the template from "
                "the structure that i-PI starts from, atoms in the same order (mode='shm' is not spoken here)"
            )


def _header(name: str) -> bytes:
    return name.encode("ascii").ljust(HEADER)


def _count(number: int) -> bytes:
    return np.int32(number).tobytes()


def _integer(block: bytes) -> int:
    return int.from_bytes(block, sys.byteorder, signed=True)


def _numbers(block: bytes, name: str, n_beads: int, n_rows: int) -> np.ndarray:
    """Finite numbers (n_beads, n_rows, 3); of cells the first three rows, as the others are the inverse."""
    numbers = np.frombuffer(block, np.float64).reshape(n_beads, n_rows, 3)
    if name == "cell":
        numbers = numbers[:, :3]
    if not np.isfinite(numbers).all():
        bead, row, _ = np.argwhere(~np.isfinite(numbers))[0]
        raise ProtocolError(
            f"POSDATA: {name} of structure {bead} is not finite, row {row} is {numbers[bead, row].tolist()}: the run blew up "
            "before; shorten the time step"
        )
    return numbers
