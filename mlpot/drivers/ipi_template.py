"""Checks of a server's structures against the template, and repair of molecules that the server wrapped into its cell.

i-PI sends positions without elements. Its first structure is usually the one in the template. If every atom lies on a site of the
template, the elements of these sites must be those that the template gives the atoms. i-PI also wraps atoms into its cell unless
`pbc='false'` is set, which splits a molecule that is not periodic for the model: it is unwrapped along the shortest distances of the
template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import primitive_neighbor_list
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from ..errors import StructureError
from ..units import BOHR

SAME_PLACE = 0.5
"""A: atoms nearer than this are on the same place; half of the shortest bond between heavy atoms."""
FACTOR = 0.05
"""Tolerance within which a ratio of two lengths is taken for a ratio of units."""


@dataclass(frozen=True)
class Template:
    """Elements in the server's order, and along which cell vectors they are periodic.

    Parameters
    ----------
    atoms : ase.Atoms
    """

    atoms: Atoms

    def check(self, first: Atoms) -> None:
        """Hold the first structure of a server against the template.

        Raises
        ------
        StructureError
            If its atoms are in another order, or its lengths in another unit.
        """
        self._check_unit(first)
        shown = list(_matches(self.atoms, first))
        if len({place for _, place in shown}) < len(first) or len(shown) != len(first):
            return  # it starts elsewhere, so that the order is unknown
        for atom, place in shown:
            own, other = (chemical_symbols[self.atoms.numbers[k]] for k in (atom, place))
            if own != other:
                raise StructureError(
                    f"atom {atom} of the server lies where the template has atom {place}: the template takes it for {own}, and "
                    f"there it has {other}; give a template in the server's order, such as the file that i-PI starts from"
                )

    def _check_unit(self, first: Atoms) -> None:
        lengths = [abs(np.linalg.det(atoms.cell.array)) ** (1 / 3) for atoms in (first, self.atoms)]
        if not self.atoms.pbc.all() or not all(lengths):
            return
        for factor, word in ((1 / BOHR, "too large"), (BOHR, "too small")):
            if abs(lengths[0] / lengths[1] / factor - 1) < FACTOR:
                raise StructureError(
                    f"the server's cell is {word} by the factor of angstrom and bohr ({lengths[0]:.3f} and {lengths[1]:.3f} A "
                    "across): give its units in i-PI's input, as in units='angstrom', or mend the template"
                )

    def mended(self, cell: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Positions (n_atoms, 3) of a server, A, where atoms follow each other over the borders of its cell (3, 3) along which the
        template is not periodic."""
        open_ends = ~self.atoms.pbc
        if not open_ends.any() or abs(np.linalg.det(cell)) == 0.0 or len(positions) < 2:
            return positions
        order, parents = self._tree
        children, before = order[1:], parents[order[1:]]
        places = np.linalg.solve(cell.T, positions.T).T
        across = np.round(places[children] - places[before]) * open_ends
        if not across.any():
            return positions
        jumps = np.zeros_like(places)
        for atom, parent, own in zip(children.tolist(), before.tolist(), across, strict=True):
            jumps[atom] = jumps[parent] + own
        return positions - jumps @ cell

    @cached_property
    def _tree(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms (n_atoms,) in an order in which each has a parent before it, and the parents: the shortest connections."""
        distances = squareform(pdist(self.atoms.positions))
        tree = minimum_spanning_tree(distances + SAME_PLACE)  # zeros would be no connection
        return breadth_first_order(tree, 0, directed=False)


def _matches(template: Atoms, first: Atoms) -> np.ndarray:
    """Pairs (n, 2) of an atom of the first structure and the place of the template on which it lies."""
    positions = np.concatenate([first.positions, template.positions])
    i, j = primitive_neighbor_list("ij", template.pbc, first.cell.array, positions, SAME_PLACE)
    n = len(first)
    between = (i < n) & (j >= n)
    return np.stack([i[between], j[between] - n], axis=1)
