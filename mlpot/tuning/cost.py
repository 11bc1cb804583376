"""Measured cost of a prediction: processor time of energy, forces and stress per atom."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..models.sparse_gp import SparseGP
from ..structures import LabelledStructure
from ..threads import single_blas_thread

TIMED_ATOMS = 128
"""Periodic structures are repeated until they have this number of atoms: small ones measure Python."""
N_ROUNDS = 10
"""Short rounds: on a machine that others use too, some of them are undisturbed."""


def timed_structures(structures: Sequence[LabelledStructure], most: int = 1) -> list[Atoms]:
    """Structures on which models are timed: the largest of those that are given, repeated where they are periodic."""
    largest = sorted(structures, key=lambda s: (-s.n_atoms, s.name))[:most]
    return [_repeated(s.atoms) for s in largest]


def _repeated(atoms: Atoms) -> Atoms:
    found = atoms.copy()
    found.calc = None
    if not found.pbc.any():
        return found
    while len(found) < TIMED_ATOMS:
        lengths = np.where(found.pbc, found.cell.lengths(), np.inf)
        times = [1, 1, 1]
        times[int(np.argmin(lengths))] = 2
        found = found.repeat(times)
    return found


def microseconds_per_atom(model: SparseGP, structures: Sequence[Atoms]) -> float:
    """Processor time per atom on one thread of BLAS, us: the best of ten rounds after the model was compiled."""
    with single_blas_thread():
        rounds = []
        for _ in range(N_ROUNDS + 1):
            started = time.process_time()
            for atoms in structures:
                model.predict(atoms)
            rounds.append(time.process_time() - started)
    return 1e6 * min(rounds[1:]) / sum(map(len, structures))
