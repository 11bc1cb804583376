"""A user's LAMMPS input run in legs: each ends when the model is unsure, and the next goes on from the same state.

LAMMPS waits between two legs, with positions, velocities and fixes as they are. A new model is loaded by another `pair_coeff`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase import Atoms, units

from ..durable import flush
from ..errors import LammpsError
from .process import LammpsProcess
from .script import Script

PICOSECOND = 1000.0 * units.fs
COLUMNS = "id type xu yu zu vx vy vz mass"
PLACEHOLDER = ("pair_style zero 6.0 nocoeff",)
"""Stands for the pair style until there is a model."""
GROUND = 1.1
"""Factor on the uncertainty that has stopped a leg and was accepted: the next leg stops above that."""


@dataclass(frozen=True)
class Bounds:
    """Bounds on the uncertainty, beyond which a leg stops.

    Parameters
    ----------
    force : float
        Expected force error, eV/A: root mean square of all atoms, or a `worst`-th of the least certain one's.
    worst : float
    novelty : float
    """

    force: float
    worst: float
    novelty: float


class Simulation:
    """A LAMMPS that follows an input.

    Parameters
    ----------
    script : Script
    process : LammpsProcess
    folder : Path
        For restart files, the log of LAMMPS, and what is exchanged with it.
    name : str
        Begins the names of these files.
    look_every : int
        Steps between looks at the uncertainty within a leg.
    """

    def __init__(self, script: Script, process: LammpsProcess, folder: Path, name: str, look_every: int):
        self.script, self.process, self.folder, self.name, self.look_every = script, process, folder, name, look_every
        self.has_model = False
        self._command = self.script.next_run(0)
        self._first, self._last = 0, 0
        self._is_watched = False
        self.step = 0
        self._saved: Path | None = None

    @property
    def is_done(self) -> bool:
        """Whether the input has come to its end."""
        return self._command is None

    @property
    def is_minimization(self) -> bool:
        """Whether the present command is minimize rather than run."""
        return self._command is not None and self.script.commands[self._command].name == "minimize"

    def begin(self, model: Path | None, saved: dict | None = None) -> None:
        """Carry out the input up to its first run, or up to the run in which `saved` was saved.

        Raises
        ------
        LammpsError
            If LAMMPS stops, or the restart file is missing.
        """
        restart = None if saved is None else self.folder / saved["restart"]
        if restart is not None and not restart.exists():
            raise LammpsError(f"{restart}: the restart file of the last checkpoint is missing; start again in a new folder")
        self._command = self.script.next_run(0) if saved is None else saved["command"]
        run = len(self.script.commands) if self._command is None else self._command
        mode = "" if saved is None else " append"
        lines = self.script.before(run, None if restart is None else str(restart))
        self.process.do(f"log {self.folder / f'{self.name}.log'}{mode}", *self._with_model(lines, model))
        self._note_step()
        if saved is None:
            self._enter_run()
        else:
            self._first, self._last, self._saved = saved["first"], saved["last"], restart

    def _with_model(self, lines: list[str], model: Path | None) -> list[str]:
        """Commands with the model file in its place; without a model, with a pair style that does nothing."""
        self.has_model = model is not None
        found: list[str] = []
        for line in lines:
            if line.startswith("pair_style") and model is None:
                found += PLACEHOLDER
            elif line.startswith("pair_coeff"):
                found += [] if model is None else [self.script.pair_coeff(model)]
            else:
                found.append(line)
        return found

    def use(self, model: Path) -> None:
        """Go on with this model file."""
        style = [c.text for c in self.script.commands if c.name == "pair_style"]
        self.process.do(*([] if self.has_model else style), self.script.pair_coeff(model))
        self.has_model = True

    def _note_step(self) -> None:
        self.step = int(self.process.value("$(step)"))

    def _enter_run(self) -> None:
        """Find where the present command begins and ends."""
        if self._command is None:
            return
        words = self.script.commands[self._command].words
        self._first = self._last = self.step
        if words[0] == "run":
            text = self.process.value(words[1])
            try:
                n_steps = int(text)
            except ValueError as error:
                raise LammpsError(f"{self.script.commands[self._command].place}: run {text}: is not a number of steps") from error
            self._last = n_steps if "upto" in words else self.step + n_steps

    def leg(self, most: int, bounds: Bounds) -> int:
        """Run up to `most` steps, or until a bound is exceeded; the number of steps made.

        A run that is complete is left for the next one, or for the end of the input; a minimization is one leg.
        """
        if self._command is None:
            raise LammpsError(f"{self.name}: the input has come to its end")
        command, before = self.script.commands[self._command], self.step
        if command.name == "minimize":
            self.process.do(command.text)
        else:
            self._watch(bounds)
            self.process.do(self._run(min(most, self._last - self.step)))
        self._note_step()
        return self.step - before

    def finish_run(self) -> None:
        """Go on to the next run of the input if the present one is complete."""
        while self._command is not None and (self.is_minimization or self.step >= self._last):
            following = self.script.next_run(self._command + 1)
            end = len(self.script.commands) if following is None else following
            self.process.do(*(c.text for c in self.script.commands[self._command + 1 : end]))
            self._command = following
            self._note_step()
            self._enter_run()
            if self.is_minimization:
                return

    def _run(self, n_steps: int) -> str:
        """The command for a leg, along which thermostats follow the ramp of the whole run."""
        words = self.script.commands[self._command or 0].words
        first, last = str(self._first), str(self._last)
        for key, value in pairwise(words):
            first = value if key == "start" else first
            last = value if key == "stop" else last
        return f"run {n_steps} start {first} stop {last} post no"

    def _watch(self, bounds: Bounds) -> None:
        """Have the leg end when a bound is exceeded."""
        if not self._is_watched:
            self.process.do(
                f"fix mlpot_look all pair {self.look_every} mlpot sigma 1 novelty 1",
                "compute mlpot_worst all reduce max f_mlpot_look[1] f_mlpot_look[2]",
                "compute mlpot_mean all reduce avesq f_mlpot_look[1]",
                "variable mlpot_unsure equal 0",
                f"fix mlpot_halt all halt {self.look_every} v_mlpot_unsure > 0.5 error continue message no",
            )  # fmt: skip
            self._is_watched = True
        self.process.do(
            f'variable mlpot_unsure equal "(c_mlpot_worst[1]>{bounds.worst * bounds.force:.17g})||'
            f'(sqrt(c_mlpot_mean)>{bounds.force:.17g})||(c_mlpot_worst[2]>{bounds.novelty:.17g})"'
        )

    def structure(self) -> tuple[Atoms, float]:
        """The present structure with velocities, atoms in the order of their IDs, and the time, fs."""
        file = self.folder / f".{self.name}.look"
        self.process.do(f'write_dump all custom {file} {COLUMNS} modify sort id format float "%.17g"')
        try:
            return atoms_of(file.read_text(encoding="utf-8"), self.script.elements), 1000.0 * float(self.process.value("$(time)"))
        finally:
            file.unlink(missing_ok=True)

    def save(self) -> dict:
        """Write a restart file, durably; for `begin`. The one before stays, to which state.json still refers."""
        file = self.folder / f"{self.name}.{self.step}.restart"
        self.process.do(f"write_restart {file}")
        flush(file)
        flush(self.folder)
        for old in self.folder.glob(f"{self.name}.*.restart"):
            if old not in (file, self._saved):
                old.unlink()
        self._saved = file
        return {"restart": file.name, "command": self._command, "first": self._first, "last": self._last}


def atoms_of(dump: str, elements: tuple[str, ...]) -> Atoms:
    """Atoms of a dump with `COLUMNS`, lengths in A, times in ps.

    Without any periodic direction there is no cell; else the box is the cell.
    """
    head, _, rows = dump.partition("ITEM: ATOMS")
    lines = head.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("ITEM: BOX BOUNDS"))
    pbc = [word == "pp" for word in lines[start].split()[-3:]]
    bounds = np.array([[float(x) for x in line.split()] for line in lines[start + 1 : start + 4]])
    numbers = np.array([[float(x) for x in row.split()] for row in rows.splitlines()[1:]])
    symbols = [elements[int(kind) - 1] for kind in numbers[:, 1]]
    found = Atoms(symbols, numbers[:, 2:5], cell=_cell(bounds) if any(pbc) else None, pbc=pbc)
    found.set_masses(numbers[:, 8])
    found.set_velocities(numbers[:, 5:8] / PICOSECOND)
    return found


def _cell(bounds: np.ndarray) -> np.ndarray:
    """Cell vectors from the bounds of a box, (3, 2), or with its three tilts (3, 3): then they enclose the tilted box."""
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] > 2 else np.zeros(3)
    corners = np.array([0.0, xy, xz, xy + xz])
    low[0] -= corners.min()
    high[0] -= corners.max()
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    a, b, c = high - low
    return np.array([[a, 0, 0], [xy, b, 0], [xz, yz, c]])
