"""A fit to labels of two levels: a cheap one, and the difference of an expensive one from it.

The expensive energy is the sum of two independent processes, each with the terms of the configuration, its own sparse points, and its
own noises and energy scales by evidence:

    E_expensive(x) = E_cheap(x) + D(x),        var = var_cheap + var_D

The first is fitted to all cheap labels, the second to expensive minus cheap labels of the same structures. The expensive labels so
have to determine the difference only, which is small and smooth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import ConfigError
from ..fitting.incremental import Fit, SparsePoints
from ..models.sparse_gp import SparseGP
from ..models.summed import summed
from ..settings.fit import FitConfig
from ..structures import LabelledStructure, labelled, list_of, stress_voigt
from ..terms.calculator_baseline import BaselineResults
from ..terms.protocol import FittedTerm
from .saved_fits import is_beginning

CHEAP = "cheap"
"""Name of the cheap level in rows of labels.db, of its folder in a run folder, and the beginning of the name of its fit."""
LEAST_SHARE = 0.01
"""Smallest assumed size of the difference relative to the expensive energies, before its scale follows from the evidence."""


class TwoLevelFit:
    """Fits of a cheap level and of the difference, with the interface of `fitting.incremental.Fit` for expensive labels.

    Parameters
    ----------
    config : FitConfig
        Resolved, without baseline; used for both fits. Energies of isolated atoms are fitted at each level.
    species : sequence of int
        Atomic numbers that will occur.

    Attributes
    ----------
    cheap, difference : Fit
    structures : list of LabelledStructure
        Those with an expensive label, and that label.
    """

    beneath = None

    def __init__(self, config: FitConfig, species: Sequence[int]):
        if config.baseline is not None:
            raise ConfigError("[baseline] cannot be combined with two levels of labels: the cheap level takes its place; remove it")
        own = config.changed(isolated_atom_energies=None)
        self.cheap = Fit(own, species)
        self.difference = Fit(own.changed(repulsion=False), species)
        self.structures: list[LabelledStructure] = []
        self._sum: tuple[SparseGP, SparseGP, SparseGP] | None = None

    @property
    def terms(self) -> tuple[FittedTerm, ...]:
        """Terms of the cheap level; the ones of the difference differ in their sparse points and scales only."""
        return self.cheap.terms

    @property
    def is_whole(self) -> bool:
        """False after an interrupted update: the fit can no longer be used."""
        return self.cheap.is_whole and self.difference.is_whole

    @property
    def model(self) -> SparseGP:
        """The sum of both models; FitError before there is an expensive label."""
        cheap, difference = self.cheap.model, self.difference.model
        if self._sum is None or self._sum[0] is not cheap or self._sum[1] is not difference:
            self._sum = cheap, difference, summed(cheap, difference)
        return self._sum[2]

    def learn_cheap(self, frames: Iterable[Atoms]) -> None:
        """Add structures with labels of the cheap level."""
        frames = list_of(frames)
        self.cheap.update(frames, self.cheap.propose(frames))

    def propose(self, frames: Iterable[Atoms], coming: SparsePoints | None = None) -> dict[tuple[int, int], np.ndarray]:
        """Sparse points of the difference, see `Fit.propose`."""
        return self.difference.propose(frames, coming)

    def update(self, new_structures: Iterable[Atoms] = (), new_sparse_points: SparsePoints | None = None) -> None:
        """Add structures with expensive labels, whose cheap labels have been learned; errors as of `Fit.update`.

        Raises
        ------
        ConfigError
            If a cheap label has not been learned.
        """
        new = [labelled(a, f"structure {len(self.structures) + k}") for k, a in enumerate(list_of(new_structures))]
        differences = [self._difference(structure) for structure in new]
        known = [*self.difference.structures, *map(labelled, differences)]
        self.difference.least_scale = _share([*self.structures, *new], known)
        self.difference.update(differences, new_sparse_points)
        self.structures += new

    def adopt(self, saved: TwoLevelFit, cheap: Sequence[Atoms], expensive: Sequence[Atoms], n_data: int) -> None:
        """Take over saved fits to the first of these labels, as far as they agree with them.

        Parameters
        ----------
        saved : TwoLevelFit
        cheap, expensive : sequences of ase.Atoms
            All labels of each level, in their order.
        n_data : int
            Number of expensive labels, and of cheap ones, that are learned in one step.
        """
        if is_beginning(saved.cheap, self.cheap.config, self.cheap.species, cheap, n_data):
            self.cheap = saved.cheap
        known = {_key(structure): structure for structure in map(labelled, cheap)}
        whole = [labelled(atoms) for atoms in expensive]
        if all(_key(structure) in known for structure in whole):
            differences = [_with_results(_subtracted(s, known[_key(s)])) for s in whole]
            if is_beginning(saved.difference, self.difference.config, self.difference.species, differences, n_data):
                self.difference, self.structures = saved.difference, whole[: len(saved.difference.structures)]

    def save(self, file: str | Path) -> None:
        """Write the difference to `file` and the cheap level to `cheap_file(file)`; each replaces an older file atomically."""
        self.difference.save(file)
        self.cheap.save(cheap_file(file))

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """The fits written by `save`, for `adopt`; ModelFileError if a file is missing or damaged."""
        fit = cls.__new__(cls)
        fit.difference, fit.cheap, fit.structures, fit._sum = Fit.load(file), Fit.load(cheap_file(file)), [], None
        return fit

    def _difference(self, structure: LabelledStructure) -> Atoms:
        key = _key(structure)
        for known in reversed(self.cheap.structures):
            if _key(known) == key:
                return _with_results(_subtracted(structure, known))
        raise ConfigError(f"{structure.name}: has a label of the expensive level only; learn its label of the cheap level first")


def cheap_file(file: str | Path) -> Path:
    """Name of the file for the cheap level, from the one for the difference."""
    return Path(file).with_name(f"{CHEAP}_{Path(file).name}")


def _key(structure: LabelledStructure) -> bytes:
    atoms = structure.atoms
    arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def _share(whole: Sequence[LabelledStructure], differences: Sequence[LabelledStructure]) -> float:
    """Size of the difference relative to the expensive level, by root mean square forces: its energy scale starts there."""
    of_whole, of_difference = (
        sum(float(np.sum(s.forces**2)) for s in structures if s.forces is not None) for structures in (whole, differences)
    )
    return float(np.clip(np.sqrt(of_difference / of_whole), LEAST_SHARE, 1.0)) if of_whole > 0 else 1.0


def _subtracted(expensive: LabelledStructure, cheap: LabelledStructure) -> LabelledStructure:
    """Expensive minus cheap label; what one of them lacks, the difference lacks."""
    n = expensive.n_atoms
    kept = replace(
        expensive,
        forces=None if cheap.forces is None else expensive.forces,
        virial=None if cheap.virial is None else expensive.virial,
    )
    forces = np.zeros((n, 3)) if cheap.forces is None else cheap.forces
    virial = np.zeros((3, 3)) if cheap.virial is None else cheap.virial
    return BaselineResults(cheap.energy or 0.0, forces, virial).beneath(kept)


def _with_results(structure: LabelledStructure) -> Atoms:
    atoms = structure.atoms.copy()
    results = {"energy": structure.energy, "forces": structure.forces}
    if structure.virial is not None:
        results["stress"] = stress_voigt(-structure.virial / atoms.get_volume())
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in results.items() if value is not None})
    return atoms
