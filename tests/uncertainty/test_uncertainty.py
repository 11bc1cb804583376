"""What the standard deviations mean, and how they are held against errors."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SMALL_TERMS
from scipy.linalg import block_diag

import mlpot
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.models.evaluate import Comparison, calibration
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.structures import labelled
from mlpot.terms.kernels import dot_product_kernel
from mlpot.terms.soap import SoapTerm
from mlpot.uncertainty.calibration import UNCALIBRATED


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_prior_variance_is_the_kernel_of_an_environment_with_itself(frames, constant):
    descriptor = SoapDescriptor((14,), GapRadialBasis(4, 3, 4.0, 0.5, 0.5), constant=constant)
    pairs = find_pairs(frames[0], 4.0)
    own = descriptor.compute(pairs)
    term = SoapTerm(descriptor, 3.0, 0.7, (own[:5],))
    expected = np.diag(dot_product_kernel(own, own, 0.7, 3.0))
    np.testing.assert_allclose(term.variances(pairs), expected, rtol=1e-12)


def prior_of(model):
    """K_mm with its jitter."""
    blocks = [
        block + model.jitter * scale**2 * np.eye(len(block))
        for term in model.terms
        for block, scale in zip(term.prior(), term.energy_scales, strict=True)
    ]
    return block_diag(*blocks)


def test_total_energy_deviation(frames):
    """Correlated through the weights, independent in what the sparse points cannot explain; by explicit inverses."""
    model = mlpot.fit(frames[:3], FitConfig(terms=[{**SMALL_TERMS[1], "energy_scale": 0.3}], jitter=1e-4))
    model = model.calibrated(UNCALIBRATED)
    pairs = find_pairs(frames[5], model.cutoff)
    k = np.concatenate([term.covariances(pairs) for term in model.terms], axis=1)
    prior = sum(term.variances(pairs) for term in model.terms)
    explained = np.einsum("as,st,at->a", k, np.linalg.inv(prior_of(model)), k)
    weights = np.linalg.inv(model.factor.T @ model.factor)
    total = k.sum(axis=0)
    discrepancy = len(frames[5]) * model.noises.energy**2
    expected = np.sqrt(np.sum(prior - explained) + total @ weights @ total + discrepancy)
    p = model.predict(frames[5], uncertainty=True)
    assert p.energy_std == pytest.approx(expected, rel=1e-4)
    assert p.energy_std < p.energies_std.sum()


def comparison(atoms, energy_error, energy_std, force_errors, energies_std):
    structure = labelled(atoms)
    return Comparison(structure, energy_error / len(atoms), force_errors, None, energies_std, energy_std)


def test_calibration_counts(frames):
    """Errors of 0.5, 1.5, 1.9 and 2.5 deviations; force errors in the order of the deviations, and against it."""
    spread = np.linspace(0.1, 1.0, 32)
    forces = spread[:, None] * np.ones(3)
    some = [comparison(frames[k], ratio * 0.2, 0.2, forces, spread) for k, ratio in enumerate((0.5, -1.5, 1.9, -2.5))]
    found = calibration(some)
    assert found["energy_coverage_1_sigma"] == 0.25
    assert found["energy_coverage_2_sigma"] == 0.75
    assert found["atom_rank_correlation"] == pytest.approx(1.0)
    against = calibration([comparison(frames[0], 0.1, 0.2, forces[::-1], spread)])
    assert against["atom_rank_correlation"] == pytest.approx(-1.0)


def test_structures_are_ranked_whatever_their_atoms(frames):
    """Every structure is as wrong as was said, every atom the wrong way round."""
    spread = np.linspace(0.1, 1.0, 32)
    vectors = spread[:, None] * np.ones(3)
    some = [
        replace(comparison(atoms, 0.1, 0.2, size * vectors[::-1], spread), forces_std=size * vectors)
        for size, atoms in enumerate(frames, 1)
    ]
    found = calibration(some)
    assert found["structure_rank_correlation"] == pytest.approx(1.0)
    assert found["force_rank_correlation"] < 0.9
    assert calibration(some[:2])["structure_rank_correlation"] is None


@pytest.mark.parametrize(("widest", "low", "high"), [(1.05, -0.2, 0.3), (1e4, 0.9, 1.0)])
def test_a_rank_correlation_is_held_against_what_it_can_be(frames, widest, low, high):
    """Atoms that are all about equally uncertain cannot be ranked, not even by a perfect uncertainty."""
    spread = np.geomspace(1.0, widest, 32)
    own = [comparison(atoms, 0.1, 0.2, np.ones((32, 3)), spread) for atoms in frames]
    found = calibration([replace(c, forces_std=spread[:, None] * np.ones(3)) for c in own])
    assert low < found["force_rank_correlation_attainable"] < high


def test_calibration_without_labels():
    found = calibration([])
    assert {found[key] for key in found if key not in ("energy_scale", "force_scale", "stress_scale")} == {None}
