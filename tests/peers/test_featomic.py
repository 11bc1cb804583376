"""featomic's power spectrum: another radial basis, so the kernels agree in the limit of many functions."""

import numpy as np
import pytest
from ase.build import molecule

from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.neighbours import find_pairs

featomic = pytest.importorskip("featomic", reason="featomic is not installed")
CUTOFF, WIDTH, SIGMA = 6.0, 0.5, 0.8


def kernel(features):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit.T


def our_features(atoms, n_max, l_max):
    species = tuple(sorted(set(atoms.numbers.tolist())))
    descriptor = SoapDescriptor(species, GapRadialBasis(n_max, l_max, CUTOFF, WIDTH, SIGMA))
    return descriptor.compute(find_pairs(atoms, CUTOFF))


def their_features(atoms, n_max, l_max):
    calculator = featomic.SoapPowerSpectrum(
        cutoff={"radius": CUTOFF, "smoothing": {"type": "ShiftedCosine", "width": WIDTH}},
        density={"type": "Gaussian", "width": SIGMA},
        basis={"type": "TensorProduct", "max_angular": l_max, "radial": {"type": "Gto", "max_radial": n_max - 1}},
    )
    found = calculator.compute(atoms).keys_to_samples("center_type")
    block = found.keys_to_properties(["neighbor_1_type", "neighbor_2_type"]).block()
    return block.values[np.argsort(block.samples["atom"])]


def test_kernels_converge_to_each_other():
    atoms = molecule("CH3CH2OH")
    coarse, fine = (
        np.abs(kernel(our_features(atoms, n, l)) - kernel(their_features(atoms, n, l))).max() for n, l in [(8, 6), (12, 8)]
    )
    assert fine < 4e-3
    assert fine < coarse / 5
