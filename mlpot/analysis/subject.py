"""The object that criteria are measured on: a term, a model, or a foreign descriptor, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..descriptors.protocol import Descriptor
from ..errors import DescriptorError, MlpotError, quoted
from ..neighbours import find_pairs
from .sources import FeatureSource

STEP = 1e-3
"""Displacement of finite differences, A; fourth order."""
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


@dataclass(frozen=True)
class Subject:
    """A descriptor under examination.

    Parameters
    ----------
    name : str
    calculate : callable
        Features (n_atoms, n_features) of a structure, or (1, n_features) of a descriptor of whole structures.
    species : tuple of int
        Sorted atomic numbers of the structures it is examined on.
    reach : float
        Its cutoff, A, or an assumed one.
    descriptor : Descriptor or None
        Where there is one, derivatives are analytic.
    remake : callable or None
        The same descriptor for other elements (atomic numbers).
    """

    name: str
    calculate: Callable[[Atoms], np.ndarray]
    species: tuple[int, ...]
    reach: float
    descriptor: Descriptor | None = None
    remake: Callable[[Sequence[int]], Subject] | None = None

    def compute(self, atoms: Atoms) -> np.ndarray:
        """Features (n_rows, n_features).

        Raises
        ------
        DescriptorError
            For anything that goes wrong in foreign code, and for results that are no table of numbers.
        """
        try:
            found = np.asarray(self.calculate(atoms), float)
        except MlpotError:
            raise
        except Exception as error:
            raise DescriptorError(f"{self.name}: {type(error).__name__}: {quoted(error, 200)}") from error
        if found.ndim != 2:
            raise DescriptorError(f"{self.name}: features have shape {found.shape}; must be (n_atoms, n_features)")
        return found

    def of_first(self, atoms: Atoms) -> np.ndarray:
        """Features (n_features,) of the first atom."""
        return self.compute(atoms)[0]

    def slopes(self, atoms: Atoms) -> np.ndarray:
        """Derivatives (3 (n_atoms - 1), n_features), 1/A, of the features of the first atom by the positions of the others."""
        if self.descriptor is None:
            return self._differences(atoms)
        pairs = find_pairs(atoms, self.descriptor.cutoff)
        own = pairs.i == 0
        found = np.zeros((len(atoms), 3, self.descriptor.n_features))
        np.add.at(found, pairs.j[own], self.descriptor.jacobian(pairs)[own])
        return found[1:].reshape(-1, found.shape[2])

    def _differences(self, atoms: Atoms) -> np.ndarray:
        rows = []
        for atom in range(1, len(atoms)):
            for axis in range(3):
                parts = []
                for shift, weight in STENCIL:
                    moved = atoms.copy()
                    moved.positions[atom, axis] += shift * STEP
                    parts.append(weight / STEP * self.of_first(moved))
                rows.append(np.sum(parts, axis=0))
        return np.array(rows)


def subject_of(
    source: FeatureSource, name: str, remake: Callable[[Sequence[int]], FeatureSource] | None = None
) -> Subject:
    """The features of terms or of a model as a subject; `remake` gives the source for other elements."""
    own = source.descriptor

    def again(species: Sequence[int]) -> Subject:
        return subject_of(remake(species), name)  # type: ignore[misc]

    return Subject(
        name,
        lambda atoms: own.compute(find_pairs(atoms, own.cutoff)),
        own.species,
        own.cutoff,
        own,
        None if remake is None else again,
    )
