"""Atoms without neighbours and with given energies: local energies are measured relative to them.

If the energy e of a free atom is given, the energy of an atom in environment x is e + f(x) - f(lone atom of its element), so that a
lone atom has exactly the given energy, whatever the data. Rows of energies are differences of covariances; forces and virials are
not affected. A finished model subtracts f(lone atom) as one number per element (`Baseline.lone_atoms`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..neighbours import find_pairs
from .protocol import FittedTerm


def lone_covariances(terms: Sequence[FittedTerm], number: int) -> np.ndarray:
    """Covariances (M,) of the energy of a lone atom with the sparse points of all terms, eV^2."""
    alone = Atoms([number])
    return np.concatenate([np.empty(0), *(term.covariances(find_pairs(alone, term.cutoff))[0] for term in terms)])
