"""dscribe's symmetry functions, values and numerical derivatives."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from mlpot.descriptors.acsf import ACSF
from mlpot.neighbours import find_pairs

dscribe = pytest.importorskip("dscribe.descriptors", reason="dscribe is not installed")
G2 = [[0.5, 1.0], [2.0, 2.0]]
G3 = [1.5]
G4 = [[0.01, 2.0, 1.0], [0.01, 2.0, -1.0], [0.1, 1.5, 1.0]]
G5 = [[0.02, 4.0, 1.0], [0.02, 3.0, -1.0], [0.005, 16.0, 1.0], [0.1, 2.5, -1.0]]


def rock_salt():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def both(atoms, cutoff):
    numbers = tuple(sorted(set(atoms.numbers.tolist())))
    functions = [
        ["G1"],
        *(["G2", *g] for g in G2),
        *(["G3", g] for g in G3),
        *(["G4", *g] for g in G4),
        *(["G5", *g] for g in G5),
    ]
    theirs = dscribe.ACSF(
        r_cut=cutoff,
        g2_params=G2,
        g3_params=G3,
        g4_params=G4,
        g5_params=G5,
        species=numbers,
        periodic=bool(atoms.pbc.any()),
    )
    return ACSF(numbers, cutoff, functions), theirs


@pytest.mark.parametrize(("atoms", "cutoff"), [(molecule("H2O"), 4.0), (molecule("CH3CH2OH"), 5.0), (rock_salt(), 5.0)])
def test_values(atoms, cutoff):
    ours, theirs = both(atoms, cutoff)
    np.testing.assert_allclose(ours.compute(find_pairs(atoms, cutoff)), theirs.create(atoms), rtol=0, atol=1e-10)


def test_derivatives():
    """Of an energy that is linear in the features, by their numerical derivatives."""
    atoms = molecule("CH3OH")
    ours, theirs = both(atoms, 4.0)
    derivatives, values = theirs.derivatives(atoms, method="numerical", attach=True)
    cotangent = np.random.default_rng(0).normal(size=values.shape)
    pairs = find_pairs(atoms, 4.0)
    expected = -np.einsum("caxf,cf->ax", derivatives, cotangent)
    np.testing.assert_allclose(pairs.forces(ours.vjp(pairs, cotangent)), expected, atol=1e-5)
