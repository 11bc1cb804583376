"""Several descriptors as one, and terms without a descriptor: derivatives against finite differences."""

import numpy as np
import pytest
from ase.build import molecule

from mlpot.analysis.probes import random_structures
from mlpot.analysis.sources import source_of_settings
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import ModelSettings

SOAP = {"type": "soap", "n_max": 3, "l_max": 2, "cutoff": 4.0}
ZERNIKE = {"type": "zernike", "n_max": 3, "cutoff": 3.0}


@pytest.mark.parametrize("terms", [(SOAP, ZERNIKE), ({"type": "pair", "cutoff": 3.5, "n_sparse": 6},)])
def test_derivatives_and_invariances(terms):
    own = source_of_settings(ModelSettings(terms=terms), (1, 8), random_structures((1, 8), 3))
    atoms = molecule("H2O2")
    pairs = find_pairs(atoms, own.cutoff)
    cotangent = np.random.default_rng(0).standard_normal((len(atoms), own.n_features))
    pulled = np.einsum("pxf,pf->px", own.descriptor.jacobian(pairs), cotangent[pairs.i])
    np.testing.assert_allclose(own.descriptor.vjp(pairs, cotangent), pulled, atol=1e-10)
    h, atom, axis = 1e-4, 1, 2
    ends = []
    for shift in (-h, h):
        moved = atoms.copy()
        moved.positions[atom, axis] += shift
        ends.append(np.sum(cotangent * own.descriptor.compute(find_pairs(moved, own.cutoff))))
    slope = -pairs.forces(pulled)[atom, axis]
    assert abs((ends[1] - ends[0]) / (2 * h) - slope) < 1e-6


def test_parts_keep_their_columns():
    own = source_of_settings(ModelSettings(terms=(SOAP, ZERNIKE)), (1, 8), [])
    alone = source_of_settings(ModelSettings(terms=(ZERNIKE,)), (1, 8), [])
    atoms = molecule("H2O2")
    found = own.descriptor.compute(find_pairs(atoms, own.cutoff))
    np.testing.assert_array_equal(found[:, own.labels[0][1] :], alone.descriptor.compute(find_pairs(atoms, 3.0)))
    assert own.names[-1] == alone.names[-1]
