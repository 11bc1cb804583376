"""Radial distribution functions of trajectories.

    g_ab(r) = <n_ab(r)> / (N_a rho_b v(r)),     rho_b = N_b / V,     v(r) = 4 pi / 3 ((r + dr)^3 - r^3)

with n_ab(r) the number of directed pairs from an atom of a to an atom of b, images included, in the shell of a bin. Allen and
Tildesley, Computer Simulation of Liquids (2017), doi:10.1093/oso/9780198803195.001.0001, section 2.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from ..errors import StructureError
from ..neighbours import find_pairs
from ..structures import volume_of


@dataclass(frozen=True)
class RadialDistribution:
    """Radial distribution function of two elements.

    Parameters
    ----------
    edges : (n_bins + 1,) array
        Of the bins, A.
    values : (n_bins,) array
        g(r); 1 where atoms know nothing of each other.
    neighbours : (n_bins,) array
        Atoms of the second element around one of the first, per bin.
    """

    edges: np.ndarray
    values: np.ndarray
    neighbours: np.ndarray

    @property
    def radii(self) -> np.ndarray:
        """Middles of the bins (n_bins,), A."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def coordination(self, radius: float) -> float:
        """Atoms of the second element nearer than `radius` (A) to one of the first, to the resolution of the bins."""
        return float(self.neighbours[self.edges[1:] <= radius + 1e-9].sum())


def radial_distributions(
    frames: Iterable[Atoms], cutoff: float = 6.0, n_bins: int = 120
) -> dict[tuple[int, int], RadialDistribution]:
    """Averages over frames, for every pair of elements (atomic numbers, the smaller one first).

    Parameters
    ----------
    frames : iterable of ase.Atoms
        Of the same elements, in cells that are periodic in three dimensions; volumes may differ.
    cutoff : float
        A; it may exceed the cell.
    n_bins : int

    Raises
    ------
    StructureError
        Without frames, or for a cell that is not periodic in three dimensions.
    """
    edges = np.linspace(0, cutoff, n_bins + 1)
    shells = 4 * np.pi / 3 * np.diff(edges**3)
    counted: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for atoms in frames:
        volume = volume_of(atoms)
        if volume is None or not atoms.pbc.all():
            raise StructureError(
                f"pbc = {atoms.pbc.tolist()}: a radial distribution needs a cell that is periodic in three dimensions"
            )
        pairs = find_pairs(atoms, cutoff)
        first, second = pairs.numbers[pairs.i], pairs.numbers[pairs.j]
        for a, b in combinations_with_replacement(np.unique(pairs.numbers).tolist(), 2):
            found = np.histogram(pairs.distances[(first == a) & (second == b)], edges)[0]
            around = found / np.count_nonzero(pairs.numbers == a)
            density = np.count_nonzero(pairs.numbers == b) / volume
            counted.setdefault((a, b), []).append((around, around / (density * shells)))
    if not counted:
        raise StructureError("no frames: a radial distribution needs at least one")
    means = {pair: np.mean(each, axis=0) for pair, each in counted.items()}
    return {pair: RadialDistribution(edges, values, around) for pair, (around, values) in means.items()}
