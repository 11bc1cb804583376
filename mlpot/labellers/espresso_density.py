"""Densities of earlier labels as starting points of the SCF: the density of the nearest structure, usually of the same walker.

pw.x uses a density as it is and does not move it along with the atoms. For 8 atoms of silicon this changes the number of
iterations from 8 to 5 or 6 if the cell is strained by 1 %, to 7 if the atoms are displaced by 0.01 A, to 8 at 0.05 A, and from 9
to 11 at 0.2 A. So a density is used for nearby structures only (relaxations, strains, phonons); all others start from superposed
atomic densities.

The densities are in a folder that all workers can access. Several may write and delete there at the same time; if a density cannot be
read, the SCF starts from superposed atomic densities.
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

from ..structure_encoding import encode, plain
from ..structures import bare_structure
from .espresso_input import Setup

MOST_KEPT = 8
"""Number of densities kept for each composition and level of theory."""
NEAR = 0.03
"""Largest root mean square displacement of the atoms, relative to the cell, for which a density is used, A."""
SAME_CELL = 0.05
"""Largest relative difference of the cell vectors for which a density is used."""
STRUCTURE = "structure.json"
LEFT_OUT = ("wfc", "mix")
"""Prefixes of large files that are not needed for the density."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Densities:
    """The densities in a folder.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def take(self, setup: Setup, atoms: Atoms, target: Path) -> bool:
        """Copy the density of the nearest structure to `target`; returns whether there was one near enough."""
        found = [(_distance(kept, atoms), kept) for kept in self._all(setup, atoms)]
        for _, kept in sorted(pair for pair in found if pair[0] <= NEAR):
            try:
                shutil.copytree(kept, target)
                return True
            except OSError as error:  # another label has just removed it
                log.info("the density %s cannot be used: %s", kept, error)
                shutil.rmtree(target, ignore_errors=True)
        return False

    def keep(self, setup: Setup, atoms: Atoms, source: Path) -> None:
        """Save a density for later labels and delete the oldest ones; a full disk is only logged."""
        home = self._home(setup, atoms)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        aside = home / f".{name}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
            for file in source.iterdir():
                if file.is_file() and not file.name.startswith(LEFT_OUT):
                    shutil.copy(file, aside / file.name)
            (aside / STRUCTURE).write_text(json.dumps(plain(encode(bare_structure(atoms)))), encoding="utf-8")
            os.rename(aside, home / name)
        except OSError as error:
            log.warning("the density of a label cannot be saved in %s: %s", home, error)
            shutil.rmtree(aside, ignore_errors=True)
        for old in self._all(setup, atoms)[MOST_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _home(self, setup: Setup, atoms: Atoms) -> Path:
        """The folder for structures of these atoms, in this order, with these moments, at this level of theory."""
        what = [repr(setup), atoms.numbers.tolist(), atoms.get_initial_magnetic_moments().tolist()]
        return self.folder / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]

    def _all(self, setup: Setup, atoms: Atoms) -> list[Path]:
        """Folders of the densities, the newest first."""
        found = []
        for structure in self._home(setup, atoms).glob(f"[0-9]*/{STRUCTURE}"):
            try:
                found.append((structure.stat().st_mtime_ns, structure.parent))
            except FileNotFoundError:
                continue
        return [folder for _, folder in sorted(found, reverse=True)]


def _distance(kept: Path, atoms: Atoms) -> float:
    """Root mean square displacement of the atoms, A; infinite if the density cannot be read or its cell is too different."""
    try:
        values = json.loads((kept / STRUCTURE).read_text(encoding="utf-8"))
        positions, cell = np.array(values["positions"], float), np.array(values["cell"], float)
    except (OSError, ValueError, KeyError) as error:
        log.info("the density %s cannot be used: %s", kept, error)
        return math.inf
    if np.abs(cell - atoms.cell.array).max() > SAME_CELL * np.abs(atoms.cell.array).max():
        return math.inf
    moved = np.linalg.solve(cell.T, positions.T).T - atoms.get_scaled_positions(wrap=False)
    moved -= np.round(moved)
    return float(np.sqrt(np.mean(np.sum((moved @ atoms.cell.array) ** 2, axis=1))))
