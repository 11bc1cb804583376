"""featomic's equivariant power spectrum: our couplings of its expansion coefficients give its covariants, up to normalisation."""

import numpy as np
import pytest
from ase.build import molecule

from mlpot.descriptors.covariants import Covariants, coupled_degrees
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis

featomic = pytest.importorskip("featomic", reason="featomic is not installed")
clebsch_gordan = pytest.importorskip("featomic.clebsch_gordan", reason="featomic has no Clebsch-Gordan products")
N_MAX, L_MAX, CUTOFF = 3, 3, 4.0


def expansion():
    return featomic.SphericalExpansion(
        cutoff={"radius": CUTOFF, "smoothing": {"type": "ShiftedCosine", "width": 1.0}},
        density={"type": "Gaussian", "width": 0.5},
        basis={"type": "TensorProduct", "max_angular": L_MAX, "radial": {"type": "Gto", "max_radial": N_MAX - 1}},
    )


def water():
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=2)
    return atoms


def their_coefficients(atoms, descriptor):
    """Its coefficients of the oxygen atom in the layout of our core."""
    found, blocks = expansion().compute(atoms), descriptor.blocks
    c = np.zeros((1, (L_MAX + 1) ** 2, blocks.n_padded))
    for key, block in found.items():
        if int(key["center_type"]) != 8 or not len(block.samples):
            continue
        first, degree = N_MAX * (1, 8).index(int(key["neighbor_type"])), int(key["o3_lambda"])
        c[0, degree**2 : (degree + 1) ** 2, blocks.channels[first : first + N_MAX]] = block.values[0].T
    return c


@pytest.mark.parametrize("order", [0, 1, 2])
def test_products_agree(order):
    atoms = water()
    descriptor = SoapDescriptor((1, 8), GapRadialBasis(N_MAX, L_MAX, CUTOFF, 1.0, 0.5))
    ours = Covariants(descriptor, order).compute(their_coefficients(atoms, descriptor))[0]
    calculator = clebsch_gordan.EquivariantPowerSpectrum(expansion())
    blocks = calculator.compute(atoms, neighbors_to_properties=True)
    block = blocks.block({"o3_lambda": order, "o3_sigma": 1, "center_type": 8})
    theirs, degrees = np.asarray(block.values)[0], np.stack([block.properties["l_1"], block.properties["l_2"]], axis=1)
    n, first = len(descriptor.blocks.channels), 0
    for pair in coupled_degrees(L_MAX, order):  # each pair of degrees with a weight of its own
        size = n * (n + 1) // 2 if pair[0] == pair[1] else n * n
        own, other = ours[:, first : first + size], theirs[:, np.all(degrees == pair, axis=1)]
        mine, expected = own @ own.T, other @ other.T
        scale = np.trace(mine) / np.trace(expected)
        assert np.allclose(mine, scale * expected, atol=1e-10 * np.abs(mine).max()), pair
        first += size
    assert first == ours.shape[1]
