"""Compiled covariants against a NumPy twin with other couplings, their pullback, and how they rotate."""

import numpy as np
import pytest
from ase import Atoms
from mlpot._ext.core import use_instructions
from scipy.spatial.transform import Rotation

from mlpot.descriptors import reference_covariants as twin
from mlpot.descriptors.couplings import PARTS, cartesian, components, real_clebsch_gordan
from mlpot.descriptors.covariants import Covariants, Environments
from mlpot.descriptors.density import Reduction, SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.neighbours import find_pairs

CUTOFF = 3.5
BASIS = GapRadialBasis(n_max=3, l_max=3, cutoff=CUTOFF, cutoff_width=1.0, atom_sigma=0.5)
WEIGHTS = np.random.default_rng(3).standard_normal((10, 2, 3))
REDUCTIONS = {
    "whole": None,
    "element-wise": Reduction(WEIGHTS, np.arange(10), np.arange(10), np.full(10, 0.7)),
    "some pairs": Reduction(WEIGHTS, np.array([0, 3, 3, 9]), np.array([0, 1, 2, 4]), np.array([1.0, 1.4, 0.3, 1.4])),
}


def cluster(seed=0):
    rng = np.random.default_rng(seed)
    return Atoms("OHHOHHO", positions=rng.uniform(0, 3.2, (7, 3)) + 1.3 * np.arange(7)[:, None] % 2, cell=[6, 6, 6], pbc=[1, 0, 0])


def environments(atoms, order, reduction=None):
    descriptor = SoapDescriptor((1, 8), BASIS, reduction=reduction)
    centres = np.arange(len(atoms), dtype=np.int32)
    return Environments(Covariants(descriptor, 0), Covariants(descriptor, order), find_pairs(atoms, CUTOFF), centres)


def products(q):
    return np.einsum("nmf,kpf->nmkp", q, q)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_products_are_those_of_the_twin(order, name):
    found = environments(cluster(), order, REDUCTIONS[name])
    expected = products(twin.covariants(found.invariants.descriptor, found.pairs, order))
    assert np.allclose(products(found.q), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2), (3, 1, 2), (5, 4, 1)])
def test_couplings_are_proportional_to_integrals_of_three_harmonics(degrees):
    found, expected = real_clebsch_gordan(*degrees), twin.integrals(*degrees)
    assert min(np.abs(found - expected).max(), np.abs(found + expected).max()) < 1e-12


def test_pseudotensors_are_refused():
    with pytest.raises(ValueError, match="pseudotensor"):
        real_clebsch_gordan(1, 1, 1)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_spherical_and_cartesian_values(rank):
    value = np.random.default_rng(1).standard_normal((4, *(3,) * rank))
    value = (value + value.transpose(0, 2, 1)) / 2 if rank == 2 else value
    back = sum(cartesian(components(value, rank, degree), rank, degree) for degree in PARTS[rank])
    assert np.allclose(back, value, atol=1e-15)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("order", [1, 2])
def test_rotation_and_inversion(order, name):
    """q turns as the Cartesian tensor of its degree does; under inversion by (-1)^order."""
    turn = Rotation.from_euler("zyz", [0.3, 1.1, -0.7]).as_matrix()
    atoms = cluster()
    atoms.pbc = False
    moved = {}
    for sign in (1.0, -1.0):
        moved[sign] = atoms.copy()
        moved[sign].positions = sign * atoms.positions @ turn.T
    rank = order
    before = np.moveaxis(environments(atoms, order, REDUCTIONS[name]).q, 1, -1)
    tensor = cartesian(before, rank, order)
    turned = np.einsum("ab,nfb->nfa", turn, tensor) if rank == 1 else np.einsum("ab,cd,nfbd->nfac", turn, turn, tensor)
    for sign, other in moved.items():
        found = cartesian(np.moveaxis(environments(other, order, REDUCTIONS[name]).q, 1, -1), rank, order)
        assert np.allclose(found, sign**order * turned, atol=1e-11 * np.abs(tensor).max())


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_pullback(order, name):
    rng = np.random.default_rng(5)
    reference = environments(cluster(), order, REDUCTIONS[name])
    to_p = rng.standard_normal((reference.q.shape[0], 2 * order + 1, reference.p.shape[1]))
    to_q = rng.standard_normal((len(reference.q), reference.q.shape[2])) if order else None
    found = reference.gradients(to_p, to_q)

    def outputs(vectors):
        own = Environments(
            reference.invariants, reference.covariants, reference.pairs.with_vectors(vectors), reference.centres
        )
        values = np.einsum("nof,nf->o", to_p, own.p)
        return values + (np.einsum("nf,nof->o", to_q, own.q) if order else 0.0)

    step, vectors = 1e-3, reference.pairs.vectors
    for pair in rng.choice(len(vectors), 6, replace=False):
        for axis in range(3):
            slope = 0.0
            for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                moved = vectors.copy()
                moved[pair, axis] += shift * step
                slope = slope + weight * outputs(moved) / (12 * step)
            assert np.allclose(found[:, pair, axis], slope, rtol=1e-6, atol=1e-8 * np.abs(found).max())


def test_same_numbers_for_any_instructions_and_threads(monkeypatch):
    """Bitwise for threads; to rounding for instruction sets."""
    atoms = cluster() * (6, 1, 1)

    def numbers():
        own = environments(atoms, 1)
        ones = np.ones((len(own.q), 3, own.p.shape[1]))
        return own.q, own.gradients(ones, np.ones((len(own.q), own.q.shape[2])))

    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        best = numbers()
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        for one, other in zip(best, numbers(), strict=True):
            assert np.array_equal(one, other)
        for level in range(use_instructions()):
            use_instructions(level)
            for one, other in zip(best, numbers(), strict=True):
                assert np.allclose(one, other, rtol=0, atol=1e-12 * np.abs(one).max())
    finally:
        use_instructions()


def test_lone_atom():
    found = environments(Atoms("O"), 1)
    assert np.all(found.q == 0.0) and found.gradients(np.ones((1, 3, found.p.shape[1])), None).shape == (3, 0, 3)
