"""Densities of earlier labels, from which the next SCF starts: that of the nearest structure, which is mostly one of the same walker.

pw.x starts from a density as it is, without moving it along with the atoms. For silicon, 8 atoms, that makes 8 iterations into 5 or 6
when the cell is strained by 1 %, into 7 when the atoms have moved by 0.01 A, into 8 at 0.05 A, and 9 into 11 at 0.2 A: so a density
serves structures that are near (relaxations, strains, phonons), and all others start from the densities of free atoms.

They lie in a folder that all workers see. Several may write and delete there at the same time; a density that cannot be had only
means that the SCF starts from those of free atoms.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from .espresso_input import Setup

MOST_KEPT = 8
"""Of one composition and level of theory."""
NEAR = 0.03
"""A, root mean square, in scaled coordinates: how far atoms may have moved for a density to be worth more than none."""
SAME_CELL = 0.05
"""A density is taken for a cell whose vectors differ by less than this part of them."""
STRUCTURE = "structure.json"
LEFT_OUT = ("wfc", "mix")
"""Beginnings of the names of files that are large and say nothing about the density."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Densities:
    """Those in a folder.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def take(self, setup: Setup, atoms: Atoms, target: Path) -> bool:
        """Copy the density of the nearest structure; whether one was near."""
        found = [(_distance(kept, atoms), kept) for kept in self._all(setup, atoms)]
        for _, kept in sorted(pair for pair in found if pair[0] <= NEAR):
            try:
                shutil.copytree(kept, target)
                return True
            except OSError as error:  # another label has just removed it
                log.info("the density %s cannot be had: %s", kept, error)
                shutil.rmtree(target, ignore_errors=True)
        return False

    def keep(self, setup: Setup, atoms: Atoms, source: Path) -> None:
        """Keep a density for those that come; the oldest go. A full disk costs nothing but the density."""
        home = self._home(setup, atoms)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        aside = home / f".{name}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
            for file in source.iterdir():
                if file.is_file() and not file.name.startswith(LEFT_OUT):
                    shutil.copy(file, aside / file.name)
            structure = {"positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()}
            (aside / STRUCTURE).write_text(json.dumps(structure), encoding="utf-8")
            os.rename(aside, home / name)
        except OSError as error:
            log.warning("the density of a label cannot be kept in %s: %s", home, error)
            shutil.rmtree(aside, ignore_errors=True)
        for old in self._all(setup, atoms)[MOST_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _home(self, setup: Setup, atoms: Atoms) -> Path:
        """The folder for structures of these atoms, in this order, with these moments, at this level of theory."""
        what = [repr(setup), atoms.numbers.tolist(), atoms.get_initial_magnetic_moments().tolist()]
        return self.folder / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]

    def _all(self, setup: Setup, atoms: Atoms) -> list[Path]:
        """The newest first."""
        found = []
        for structure in self._home(setup, atoms).glob(f"[0-9]*/{STRUCTURE}"):
            try:
                found.append((structure.stat().st_mtime_ns, structure.parent))
            except FileNotFoundError:
                continue
        return [folder for _, folder in sorted(found, reverse=True)]


def _distance(kept: Path, atoms: Atoms) -> float:
    """Root mean square of how far the atoms have moved, A; infinite where that cannot be said, or the cell is another."""
    try:
        values = json.loads((kept / STRUCTURE).read_text(encoding="utf-8"))
        positions, cell = np.array(values["positions"], float), np.array(values["cell"], float)
    except (OSError, ValueError, KeyError) as error:
        log.info("the density %s cannot be had: %s", kept, error)
        return math.inf
    if np.abs(cell - atoms.cell.array).max() > SAME_CELL * np.abs(atoms.cell.array).max():
        return math.inf
    moved = np.linalg.solve(cell.T, positions.T).T - atoms.get_scaled_positions(wrap=False)
    moved -= np.round(moved)
    return float(np.sqrt(np.mean(np.sum((moved @ atoms.cell.array) ** 2, axis=1))))
