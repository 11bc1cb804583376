"""i-PI's own input file: what a driver, and who writes one's configuration, can learn from it.

Read are addresses, batches, beads, temperature and the structure that the simulation starts from. Where an input has several
systems they are taken to be alike, as they are in replica exchange, and the first one counts.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from ase import Atoms
from ase.geometry import cellpar_to_cell

from ..data.ipi_xyz import length_unit, numbers_of, read_ipi_xyz
from ..errors import ConfigError, DataError, counted, quoted
from ..structures import read_structures
from ..units import BOLTZMANN, HARTREE
from .ipi_socket import PREFIX, Address

KELVIN = {"kelvin": 1.0, "": HARTREE / BOLTZMANN, "automatic": HARTREE / BOLTZMANN, "atomic_unit": HARTREE / BOLTZMANN}
"""Units of temperature by their names in i-PI."""
DEFAULT_HOST, DEFAULT_PORT = "localhost", 65535
"""i-PI's, where an <ffsocket> has none."""
WHICH = "give the file that i-pi is started with"
MOVING = ("npt", "nst", "scnpt")
"""Modes of i-PI's dynamics in which the cell moves."""
SENT = {"energy_uncertainty", "max_force_uncertainty", "max_novelty", "model_version", "n_labelled", "learned"}
"""Extra data that a driver sends to i-PI in addition to forces, see `ipi_evaluator.extras`."""
SENT_WITH_TARGETS = {"dipole", "BEC", "polarizability", "dipole_uncertainty", "polarizability_uncertainty"}
"""Further ones, with models that predict them."""


@dataclass(frozen=True)
class SocketInput:
    """An `<ffsocket>`.

    Parameters
    ----------
    name, mode, address : str
    port, batch_size : int
    reads_members : bool
        Whether it is the only one of an `<ffcommittee>` with `parse_json`, which wants the members in the extras.
    """

    name: str
    mode: str
    address: str
    port: int
    batch_size: int
    reads_members: bool

    def where(self, file: str, prefix: str = PREFIX) -> Address:
        """The address of a socket; ConfigError for mode='shm', which is not supported."""
        if self.mode == "unix":
            return Address.unix(self.address, prefix)
        if self.mode == "inet":
            return Address.tcp(self.address, self.port)
        raise ConfigError(
            f"{file}: <ffsocket name='{self.name}' mode='{self.mode}'> is not spoken here; write mode='unix' or mode='inet'"
        )


@dataclass(frozen=True)
class IpiInput:
    """Contents of an i-PI input.

    Parameters
    ----------
    file : Path
    sockets : tuple of SocketInput
    beads : int
    n_systems : int
    temperature : float or None
        K.
    moves_cell : bool
        Whether a barostat uses the virial.
    extras : frozenset of str
        Names under which trajectories store the extra data of the driver.
    start : Element or None
        `<initialize>` of the first system.
    """

    file: Path
    sockets: tuple[SocketInput, ...]
    beads: int
    n_systems: int
    temperature: float | None
    moves_cell: bool
    extras: frozenset[str]
    start: ElementTree.Element | None

    def socket(self, name: str | None = None) -> SocketInput:
        """The one of a name, or the only one.

        Raises
        ------
        ConfigError
            If there is none, or several and no name.
        """
        names = ", ".join(socket.name for socket in self.sockets)
        found = [socket for socket in self.sockets if name in (None, socket.name)]
        if not self.sockets:
            raise ConfigError(
                f"{self.file}: has no <ffsocket>, which a driver connects to; add one, as in inputs/ipi/nvt.xml"
            )
        if not found:
            raise ConfigError(f"{self.file}: has no <ffsocket name='{name}'>; there are {names}")
        if len(found) > 1:
            raise ConfigError(f"{self.file}: has several <ffsocket>: {names}; say which one with --forcefield NAME")
        return found[0]

    def structure(self) -> Atoms:
        """Initial structure of i-PI (the first frame if there are several, which are beads), A; periodic if it has a cell.

        Raises
        ------
        ConfigError
            If the input names no file, or one that only i-PI reads.
        DataError
            If the file cannot be read.
        """
        for what in ("file", "positions"):
            element = None if self.start is None else self.start.find(what)
            if element is not None:
                return self._with_cell(self._read(element))
        raise ConfigError(f"{self.file}: its <initialize> names no structure file; give it as --template")

    def _read(self, element: ElementTree.Element) -> Atoms:
        mode, file = element.get("mode", "manual"), _text(element)
        if mode not in ("xyz", "pdb", "ase"):
            raise ConfigError(
                f"{self.file}: it starts from <{element.tag} mode='{mode}'>, which only i-PI reads; give that structure as "
                "--template"
            )
        beside = self.file.parent / file
        path = str(beside if beside.exists() else file)
        if mode != "xyz":
            return read_structures(path)[0]
        try:
            return next(read_ipi_xyz(path, element.get("units", ""), element.get("cell_units", "")))
        except (StopIteration, OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read as i-PI's xyz: {error or 'it is empty'}; correct {self.file}"
            ) from error

    def _with_cell(self, atoms: Atoms) -> Atoms:
        """With the `<cell>` of the input, which replaces the file's."""
        element = None if self.start is None else self.start.find("cell")
        mode = "" if element is None else element.get("mode", "")
        if element is None or mode not in ("abc", "abcABC", "manual"):
            return atoms
        words = _list(element)
        try:
            factor = length_unit(element.get("units", ""), "cell")
            numbers = numbers_of(words, {"abc": 3, "abcABC": 6, "manual": 9}[mode])
        except DataError as error:
            raise ConfigError(f"{self.file}: <cell>: {error}") from error
        atoms.cell[:] = (
            numbers.reshape(3, 3).T * factor
            if mode == "manual"
            else cellpar_to_cell([*(numbers[:3] * factor), *(numbers[3:] if mode == "abcABC" else [90.0] * 3)])
        )
        atoms.pbc = True
        return atoms

    def check(self, template: Atoms, socket: SocketInput, committee: str = "none") -> None:
        """Problems that prevent a run with this template and driver.

        Raises
        ------
        ConfigError
            Other atoms or another order than in the file that i-PI starts from; a virial that the template's structure has not;
            members that no client sends.
        """
        own = self._own_structure()
        if own is not None and not np.array_equal(own.numbers, template.numbers):
            raise ConfigError(
                f"{self.file}: i-PI starts from {own.symbols} ({counted(len(own), 'atom')}), the template is {template.symbols} "
                f"({counted(len(template), 'atom')}); leave --template out, or put its atoms in i-PI's order"
            )
        if self.moves_cell and (not template.pbc.all() or template.cell.rank < 3):
            raise ConfigError(
                f"{self.file}: its cell moves, and the template is not periodic (pbc = {template.pbc.tolist()}): give the "
                "template cell and pbc, or simulate at constant volume"
            )
        if socket.reads_members and committee == "none":
            raise ConfigError(
                f"{self.file}: <ffcommittee> reads the members that {socket.name!r} sends (parse_json); start the driver with "
                "--committee members, or std"
            )

    def _own_structure(self) -> Atoms | None:
        try:
            return self.structure()
        except ConfigError:  # it starts from a checkpoint or names nothing: nothing to compare with
            return None

    def hints(self, socket: SocketInput, committee: str = "none") -> list[str]:
        """Warnings for a log: settings that work but are probably not intended."""
        found, whole = [], self.beads * self.n_systems
        if whole > 1 and socket.batch_size == 1:
            found.append(
                f"<batch_size>{whole}</batch_size> in <ffsocket> would send all {whole} structures of a step at once, to be "
                "answered by one version of the model"
            )
        elif whole % socket.batch_size:
            found.append(f"batch_size = {socket.batch_size} does not divide the {whole} structures of a step")
        unknown = self.extras - SENT - SENT_WITH_TARGETS
        if unknown and committee == "none" and not any(name.startswith(("committee_", "baseline_", "wb_")) for name in unknown):
            named = ", ".join(sorted(unknown))
            found.append(f"extra_type has {named}, which the driver does not send; there are {', '.join(sorted(SENT))}")
        return [f"{self.file}: {hint}" for hint in found]


def read_ipi_input(file: str | Path) -> IpiInput:
    """Read an input, or a checkpoint, of i-PI.

    Raises
    ------
    ConfigError
        If it is not XML, not i-PI's, or has a value that cannot be.
    """
    try:
        root = ElementTree.fromstring(Path(file).read_bytes())
        systems = _systems(root)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # also of strange encodings
        raise ConfigError(f"{file}: cannot be read as i-PI's input: {error}; {WHICH}") from error
    if root.tag != "simulation":
        raise ConfigError(f"{file}: begins with {quoted(root.tag)}, i-PI's input with <simulation>; {WHICH}")
    first = systems[0] if systems else ElementTree.Element("system")
    start, beads, mode = first.find("initialize"), first.find("beads"), first.find("motion/dynamics")
    counted = start if start is not None else beads
    temperature = first.find("ensemble/temperature")
    return IpiInput(
        file=Path(file),
        sockets=tuple(_sockets(root, file)),
        beads=1 if counted is None else _integer(counted.get("nbeads", "1"), "nbeads", file),
        n_systems=max(len(systems), 1),
        temperature=None if temperature is None else _temperature(temperature, file),
        moves_cell=mode is not None and mode.get("mode") in MOVING,
        extras=frozenset(
            name.strip() for t in root.iter("trajectory") for name in t.get("extra_type", "").split(",") if name.strip()
        ),
        start=start,
    )


def _systems(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Every `<system>`, a `<system_template>` expanded with the values of its instances."""
    found = root.findall("system")
    for template in root.findall("system_template"):
        labels, inner = _list(template.find("labels")), template.find("template/system")
        if inner is None:
            continue
        for instance in template.findall("instance"):
            text = ElementTree.tostring(inner, encoding="unicode")
            for label, value in zip(filter(None, labels), _list(instance), strict=False):
                value = escape(value).replace("\\", r"\\")
                text = re.sub(rf"\b{re.escape(label)}\b", value, text)
            found.append(ElementTree.fromstring(text))
    return found


def _sockets(root: ElementTree.Element, file: str | Path) -> Iterator[SocketInput]:
    readers = [name for committee in root.iter("ffcommittee") for name in _readers(committee)]
    for element in root.iter("ffsocket"):
        name = element.get("name", "")
        batch = _integer(element.findtext("batch_size", "1"), f"<batch_size> of {name}", file)
        yield SocketInput(
            name=name,
            mode=element.get("mode", "inet").strip(),
            address=element.findtext("address", DEFAULT_HOST).strip(),
            port=_integer(element.findtext("port", str(DEFAULT_PORT)), f"<port> of {name}", file),
            batch_size=batch,
            reads_members=name in readers,
        )


def _readers(committee: ElementTree.Element) -> list[str]:
    """The socket that tells an `<ffcommittee>` all members at once: the only one, apart from a baseline's."""
    baseline = committee.findtext("baseline_name", "").strip()
    names = [name for s in committee.findall("ffsocket") if (name := s.get("name", "")) != baseline]
    return names if len(names) == 1 and _is_true(committee.findtext("parse_json", "false")) else []


def _integer(text: str, what: str, file: str | Path) -> int:
    """A positive one."""
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or int(text) < 1:
        raise ConfigError(f"{file}: {what} = {quoted(text.strip())}: must be a positive integer")
    return int(text)


def _temperature(element: ElementTree.Element, file: str | Path) -> float:
    unit = element.get("units", "")
    try:
        (value,) = numbers_of([_text(element)], 1)
    except DataError as error:
        raise ConfigError(f"{file}: <temperature>: {error}") from error
    if unit not in KELVIN:
        raise ConfigError(f"{file}: <temperature units={quoted(unit)}>: known are kelvin and atomic_unit")
    return float(value) * KELVIN[unit]


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def _list(element: ElementTree.Element | None) -> list[str]:
    """i-PI's list: words between commas or blanks, in brackets."""
    text = "" if element is None else _text(element).strip("[]()")
    return [word.strip() for word in (text.split(",") if "," in text else text.split())]


def _is_true(text: str) -> bool:
    return text.strip().lower() == "true"
