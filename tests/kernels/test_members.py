"""Pair gradients of an ensemble in the core against the formulas, finite differences and the symmetries of space."""

import numpy as np
import pytest
from ase import Atoms
from conftest import SMALL_TERMS
from finite_differences import position_gradient
from scipy.spatial.transform import Rotation

import mlpot
from mlpot.neighbours import find_pairs
from mlpot.terms import soap_ensemble as compiled_members
from mlpot.terms.core_terms import MemberSums, Sums, evaluate, no_members

SOAP = {**SMALL_TERMS[1], "n_max": 5, "l_max": 9, "zeta": 3}
HIGHER = {"order": 3, "order_channels": 3}
CASES = {
    "one element": ("frames", [SOAP]),
    "two elements, two terms": (
        "two_species_frames",
        [{**SOAP, "l_max": 4}, {**SOAP, "cutoff": 3.0, "l_max": 2, "zeta": 1}],
    ),
    "contractions of three densities": ("two_species_frames", [{**SOAP, "n_max": 3, "l_max": 4, **HIGHER}]),
    "mixed channels and contractions of four": (
        "two_species_frames",
        [
            {
                **SOAP,
                "l_max": 4,
                "mix": "both",
                "n_channels": 10,
                "symmetric": True,
                **HIGHER,
                "order": 4,
                "order_l_max": 2,
            }
        ],
    ),
    "zeta 2, fewer points for the energy": ("two_species_frames", [{**SOAP, "n_max": 2, "l_max": 1, "zeta": 2}]),
}


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    data, terms = CASES[request.param]
    frames = request.getfixturevalue(data)
    return mlpot.fit(frames[:4], mlpot.FitConfig(terms=terms, jitter=1e-6, check_labels=False)), frames


@pytest.fixture
def all_features(monkeypatch):
    """Members see every feature, and quadratic forms all directions."""
    monkeypatch.setattr(compiled_members, "MEMBER_ERROR", 0.0)
    monkeypatch.setattr(compiled_members, "FORM_ERROR", 0.0)


def members_of(model, pairs):
    """Pair gradients (n_pairs, 3, N_MEMBERS) as the core computes them."""
    members = no_members(pairs)
    observe(model, pairs, members=members)
    return members


def observe(model, pairs, **more):
    """Ask the core for the sums behind the uncertainty, and for more."""
    n_points = len(model.representatives.upper)
    own = Sums(np.zeros((pairs.n_atoms, n_points)), np.zeros((pairs.n_atoms, 2)), np.zeros(pairs.n_atoms), **more)
    evaluate(model.compile()._observing, pairs, own)


def potentials_of(model, pairs):
    """Of the members as potentials, without what the points do not explain."""
    members = no_members(pairs)
    evaluate(model.compile()._observing, pairs, Sums(members=members))
    return members


def twin_of(model, pairs):
    """Both by the formulas."""
    rep = model.representatives
    variances = rep.variances(pairs)
    nothing = np.zeros(pairs.n_atoms)
    everything = variances.unexplained + np.array([rep.expected[z] for z in pairs.numbers.tolist()])
    return rep.member_gradients(pairs, everything), rep.member_gradients(pairs, nothing)


@pytest.mark.usefixtures("instructions")
def test_equal_their_twin(fitted, all_features):
    model, frames = fitted
    atoms = frames[5] * (2, 1, 1)
    atoms.rattle(0.2, seed=1)
    some = (atoms, Atoms(frames[0].symbols[:3], positions=[[0, 0, 0], [0, 0, 2.5], [0, 2.0, 0.3]]), frames[0][:1])
    for structure in some:
        pairs = find_pairs(structure, model.cutoff)
        for found, exact in zip(
            (members_of(model, pairs), potentials_of(model, pairs)), twin_of(model, pairs), strict=True
        ):
            np.testing.assert_allclose(found, exact, atol=3e-5 * np.abs(exact).max(initial=0))


@pytest.mark.usefixtures("instructions")
def test_forces_and_virial_are_sums_of_pair_gradients(fitted):
    """Both ways that the core has, in what follows from a prediction too."""
    model, frames = fitted
    for pairs in (find_pairs(atoms, model.cutoff) for atoms in (frames[5] * (2, 2, 1), frames[0][:1])):
        found, expected = MemberSums.none(pairs.n_atoms), MemberSums.of(pairs, members_of(model, pairs))
        observe(model, pairs, sums=found)
        compiled = model.compile()
        predicted = compiled._spread._observe(compiled._observing, pairs)[2][3]
        for own in (found, predicted):
            for part, exact in ((own.forces, expected.forces), (own.virial, expected.virial)):
                np.testing.assert_allclose(part, exact, atol=3e-6 * np.abs(exact).max(initial=0))


def test_fewer_features_to_the_tolerance(fitted):
    model, frames = fitted
    pairs = find_pairs(frames[5], model.cutoff)
    exact, _ = twin_of(model, pairs)
    error = members_of(model, pairs) - exact
    assert np.linalg.norm(error) < 5 * compiled_members.MEMBER_ERROR * np.linalg.norm(exact)


def test_forces_of_members_are_slopes_of_their_energies(fitted, all_features):
    """Energies of members by the formulas, forces by the core."""
    model, frames = fitted
    atoms, rep = frames[5][:6], model.representatives
    pairs = find_pairs(atoms, model.cutoff)
    forces = pairs.forces(potentials_of(model, pairs))
    scale = np.abs(forces).max()
    assert scale > 0
    for member in (0, 5):

        def energy(moved, weights=rep.members[:, member]):
            near = find_pairs(moved, model.cutoff)
            return float(np.concatenate([t.covariances(near) for t in rep.terms], axis=1).sum(axis=0) @ weights)

        np.testing.assert_allclose(forces[:, :, member], -position_gradient(energy, atoms), atol=1e-4 * scale)


def raw_forces_std(model, numbers, stated):
    """Of the ensemble, without the model's discrepancy."""
    discrepancy = model.calibration.discrepancy_share * model.noises.of_forces(numbers)[:, None]
    return np.sqrt(np.maximum(stated**2 - discrepancy**2, 0.0))


def test_symmetries(fitted):
    model, frames = fitted
    atoms = frames[5].copy()
    found = model.predict(atoms, True)

    def of(other):
        p = model.predict(other, True)
        return p.forces_std, p.novelty

    order = np.random.default_rng(0).permutation(len(atoms))
    moved, turned = atoms.copy(), atoms.copy()
    moved.positions += [3.3, -20.0, 7.7]
    for values, where in (
        (of(atoms[order]), order),
        (of(moved), slice(None)),
        (of(atoms * (2, 1, 1)), np.tile(range(32), 2)),
    ):
        np.testing.assert_allclose(values[0], found.forces_std[where], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(values[1], found.novelty[where], rtol=1e-6, atol=1e-9)
    turned.set_cell(atoms.cell.array @ Rotation.random(rng=np.random.default_rng(0)).as_matrix(), scale_atoms=True)
    raw = [
        raw_forces_std(model, other.numbers, model.predict(other, True).forces_stated_std) for other in (turned, atoms)
    ]
    # a direction's variance is the geometric mean of its own and the atom's: the squares add up to the same
    np.testing.assert_allclose(*(np.sum(std**4, axis=1) for std in raw), rtol=1e-2)


@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_change_no_bit(fitted, n_threads, monkeypatch):
    model, frames = fitted
    pairs = find_pairs(frames[5] * (2, 2, 2), model.cutoff)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one, sums = members_of(model, pairs), [MemberSums.none(pairs.n_atoms) for _ in range(2)]
    observe(model, pairs, sums=sums[0])
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads))
    np.testing.assert_array_equal(members_of(model, pairs), one)
    observe(model, pairs, sums=sums[1])
    np.testing.assert_array_equal(sums[1].forces, sums[0].forces)
    np.testing.assert_array_equal(sums[1].virial, sums[0].virial)


def test_what_symmetry_makes_zero_stays_zero(fitted):
    model, frames = fitted
    crystal = frames[0].copy()
    crystal.set_scaled_positions(np.round(crystal.get_scaled_positions() * 4) / 4)
    crystal.numbers[:] = 14
    assert model.predict(crystal, True).forces_std.max() < 1e-6
