"""What members of the ensemble are draws of: against the exact posterior, finite differences, and errors far from the data."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import SMALL_TERMS, make_frames
from finite_differences import position_gradient
from mlpot._ext.core import N_MEMBERS
from scipy.linalg import solve_triangular

import mlpot
from mlpot.neighbours import find_pairs
from mlpot.terms.layout import columns
from mlpot.uncertainty import representatives
from mlpot.uncertainty.calibration import SHARE, UNCALIBRATED
from mlpot.uncertainty.variances import NONE, force_variances

N_SEEDS = 40


@pytest.fixture(scope="module", params=["frames", "two_species_frames"])
def small(request):
    """A model of few points, all of which are representatives, a structure of which it knows little, and its pairs."""
    frames = request.getfixturevalue(request.param)
    model = mlpot.fit(frames[:3], mlpot.FitConfig(terms=SMALL_TERMS, jitter=1e-6, check_labels=False))
    assert model.choice.share == 1.0
    atoms = frames[5].copy()
    atoms.rattle(0.1, seed=1)
    return model.calibrated(UNCALIBRATED), atoms, find_pairs(atoms, model.cutoff)


def rows_of(model, pairs):
    """Covariances of forces (3 n_atoms, M) and of the virial (9, M) with all points."""
    m, n = model.n_sparse, 3 * pairs.n_atoms
    energy, forces, virial = np.zeros(m), np.zeros((n, m)), np.zeros((9, m))
    for term, part in zip(model.terms, columns(model.terms), strict=True):
        term.add_rows(pairs, energy[part], forces[:, part], virial[:, part])
    return forces, virial


def posterior_variances(model, rows):
    """k' (K_mm + K_mn Sigma^-1 K_nm)^-1 k (n,)."""
    return np.sum(solve_triangular(model.factor, rows.T, trans="T") ** 2, axis=0)


def with_seed(model, seed, monkeypatch):
    """The same model, whose members are drawn otherwise."""
    monkeypatch.setattr(representatives, "SEED", seed)
    return replace(model)


@pytest.mark.slow
def test_many_ensembles_have_the_variance_of_the_posterior(small, monkeypatch):
    """Forces and stress of the core's members, over many seeds."""
    model, atoms, pairs = small
    exact_forces, exact_virial = (posterior_variances(model, rows) for rows in rows_of(model, pairs))
    forces, virials, stated = np.zeros((pairs.n_atoms, 3)), np.zeros((3, 3)), []
    for seed in range(N_SEEDS):
        other = with_seed(model, seed, monkeypatch)
        members = other.compiled._spread._potentials(other.compiled._observing, pairs)
        forces += np.mean(members.forces**2, axis=2) / N_SEEDS
        virials += np.mean(members.virial**2, axis=-1).reshape(3, 3) / N_SEEDS
        stated.append(other.predict(atoms, True))
    ratios = forces.ravel() / exact_forces
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert np.std(ratios) < 1.5 * np.sqrt(2 / (N_SEEDS * N_MEMBERS))
    np.testing.assert_allclose(virials.ravel(), exact_virial, rtol=6 * np.sqrt(2 / (N_SEEDS * N_MEMBERS)))


@pytest.mark.slow
def test_a_prediction_states_posterior_and_discrepancy(small, monkeypatch):
    """forces_std and stress_std: as large on the whole, over many seeds, as the exact posterior and the noises together."""
    model, atoms, pairs = small
    exact_forces, exact_virial = (posterior_variances(model, rows) for rows in rows_of(model, pairs))
    unexplained = model.predict(atoms, True)
    forces, stresses = [], []
    for seed in range(N_SEEDS):
        other = with_seed(model, seed, monkeypatch)
        rep, own = other.representatives, pairs
        gradients = rep.member_gradients(own, np.zeros(own.n_atoms))
        forces.append(force_variances(own.forces(gradients)))
        stresses.append(np.mean(own.virial(gradients) ** 2, axis=-1))
    # the geometric mean of a direction and the atom is a tenth less than the variance
    assert np.mean(forces) == pytest.approx(exact_forces.mean(), rel=0.15)
    noise = model.noises.of_forces(atoms.numbers)[:, None] ** 2
    total = np.mean(exact_forces.reshape(-1, 3) + noise)
    assert np.mean(unexplained.forces_std**2) > 0.5 * total
    assert np.mean(unexplained.stress_std**2) > 0.2 * np.mean(exact_virial) / atoms.get_volume() ** 2
    assert np.mean(stresses) == pytest.approx(exact_virial.mean(), rel=0.25)


def test_known_structures_have_no_residual(small):
    """What is stated of them is the posterior and the discrepancy, number by number."""
    model, _, _ = small
    atoms = make_frames(1, numbers=model.species, seed=0 if len(model.species) == 1 else 1)[0]
    pairs = find_pairs(atoms, model.cutoff)
    rep = model.representatives
    unexplained = rep.variances(pairs).unexplained
    assert np.all(unexplained >= 0)
    p = model.predict_directly(atoms, True)
    own = force_variances(pairs.forces(rep.member_gradients(pairs, unexplained)))
    expected = np.sqrt(own + (SHARE * model.noises.of_forces(atoms.numbers)[:, None]) ** 2)
    np.testing.assert_allclose(p.forces_stated_std, expected, rtol=1e-9)
    virial = np.mean(pairs.virial(rep.member_gradients(pairs, unexplained)) ** 2, axis=-1)
    stress = np.sqrt(virial + len(atoms) * model.noises.virial**2) / atoms.get_volume()
    np.testing.assert_allclose(p.stress_std, stress, rtol=1e-9)


def test_the_residual_is_the_slope_of_a_linear_draw(small):
    """Against differences of sum_i a_i z.p_i, the amplitudes a held."""
    model, atoms, _ = small
    atoms = atoms[:8]
    pairs, rep, term = find_pairs(atoms, model.cutoff), model.representatives, model.terms[-1]
    unexplained = rep.variances(pairs).unexplained + np.array([rep.expected[z] for z in pairs.numbers.tolist()])
    assert unexplained.max() > 1e-3
    added = rep.member_gradients(pairs, unexplained) - rep.member_gradients(pairs, np.zeros(len(atoms)))
    amplitudes = np.sqrt(
        [max(u - rep.expected[z], 0.0) for u, z in zip(unexplained, pairs.numbers.tolist(), strict=True)]
    )
    slopes = {z: rep.residual(z).slopes for z in model.species}
    scale = np.abs(pairs.forces(added)).max()
    for member in (0, 3):

        def energy(moved, member=member):
            features = term.descriptor.compute(find_pairs(moved, model.cutoff))
            own = [features[i] @ slopes[z][:, member] for i, z in enumerate(moved.numbers.tolist())]
            return float(amplitudes @ own)

        exact = -position_gradient(energy, atoms, 1e-4)
        np.testing.assert_allclose(pairs.forces(added)[:, :, member], exact, atol=1e-5 * scale)


def test_the_residual_begins_where_all_points_leave_off(small):
    """Its amplitude is the root of what is left beyond the variance that is expected where representatives stand for all points."""
    model, atoms, pairs = small
    rep = replace(model.representatives)
    rep.__dict__["expected"] = dict.fromkeys(model.species, 0.01)

    def added(unexplained):
        gradients = np.zeros((pairs.n_pairs, 3, N_MEMBERS))
        rep.add_residual(pairs, np.full(len(atoms), unexplained), gradients, set(model.species))
        return gradients

    assert not added(0.002).any() and not added(0.01).any() and added(0.02).any()
    np.testing.assert_allclose(added(0.05), 2 * added(0.02), atol=1e-12)


def test_the_residual_has_the_slopes_of_the_prior(small):
    """Along a small step dp of a normalised feature vector a kernel of exponent zeta changes by zeta |dp|^2."""
    model, _, _ = small
    term, rep = model.terms[-1], model.representatives
    for z, points in zip(model.species, term.sparse_features, strict=True):
        slopes = rep.residual(z).slopes
        steps = np.diff(points[:20], axis=0)
        drawn = np.mean((steps @ slopes) ** 2) / np.mean(np.sum(steps**2, axis=1))
        assert drawn == pytest.approx(term.zeta, rel=0.5)
        assert np.mean(slopes**2) == pytest.approx(term.zeta, rel=0.15)
        assert rep.residual(z).prior == pytest.approx(term.energy_scales[model.species.index(z)] ** 2)


def labelled_copper(atoms):
    atoms = atoms.copy()
    judge = atoms.copy()
    judge.calc = EMT()
    results = {"energy": judge.get_potential_energy(), "forces": judge.get_forces(), "stress": judge.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module", params=["fast", "balanced"])
def one_crystal(request):
    """All that a model knows: copper, perfect."""
    return mlpot.fit(
        [labelled_copper(bulk("Cu", a=3.6) * (3, 3, 3))], mlpot.FitConfig(preset=request.param, cutoff=4.5)
    )


@pytest.mark.parametrize("distance", [0.02, 0.2, 0.5])
def test_a_model_of_one_crystal_does_not_know_displaced_atoms(one_crystal, distance):
    moved = bulk("Cu", a=3.6) * (3, 3, 3)
    moved.positions[0, 0] += distance
    moved = labelled_copper(moved)
    p = one_crystal.predict(moved, True)
    error = np.abs(p.forces - moved.get_forces())[0].max()
    assert error < p.forces_std[0].max() < 20 * error  # unknown, not certain; more careful than one crystal asks for


@pytest.mark.parametrize("scale", [0.97, 1.03])
def test_a_model_of_one_crystal_does_not_know_strained_cells(one_crystal, scale):
    strained = labelled_copper(bulk("Cu", a=3.6 * scale) * (3, 3, 3))
    p = one_crystal.predict(strained, True)
    error = np.abs(p.stress - strained.get_stress(voigt=False)).max()
    assert p.stress_std.max() > 0.5 * error > 0
    assert p.energy_std > 0.2 * abs(p.energy - strained.get_potential_energy())


def test_draws_are_orthogonal_in_blocks_and_normal():
    drawn = representatives.draws(4 * N_MEMBERS + 3)
    block = drawn[N_MEMBERS : 2 * N_MEMBERS]
    np.testing.assert_allclose(block @ block.T, N_MEMBERS * np.eye(N_MEMBERS), atol=1e-12)
    many = representatives.draws(4000)
    assert np.abs(many.mean(axis=0)).max() < 0.06 and many.std() == pytest.approx(1.0, abs=1e-3)
    pairs = many[:-1:2] @ many[1::2].T  # nothing in common between blocks
    assert np.abs(np.mean(pairs)) < 0.01


def test_members_of_few_points_have_the_covariance_of_the_posterior(few_points):
    """Any root of the covariance would do for many members; with no more points than members all of it is exact."""
    upper, members = few_points.upper, few_points.members
    np.testing.assert_allclose(members @ members.T / N_MEMBERS, np.linalg.inv(upper.T @ upper), rtol=1e-8)


def test_members_are_a_symmetric_root_in_coordinates_of_the_prior(few_points):
    """What turns the draws back is L' w: symmetric and positive."""
    drawn = representatives.draws(len(few_points.upper))
    root = few_points.lower.T @ few_points.members @ drawn.T / N_MEMBERS
    np.testing.assert_allclose(root, root.T, rtol=1e-8, atol=1e-10)
    assert np.linalg.eigvalsh(root).min() > 0


@pytest.fixture
def few_points():
    """Representatives with made-up covariances of six points and 20 labels."""
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(6, 9)), rng.normal(size=(20, 6))
    prior = points @ points.T
    found = representatives.Representatives(None, np.linalg.cholesky(prior + labels.T @ labels).T, 0.0, NONE)
    found.__dict__["lower"] = np.linalg.cholesky(prior)
    return found
