"""The fit against a dense reference, and what it does with data that is incomplete or wrong."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames
from scipy.linalg import block_diag

import mlpot
from mlpot.errors import DataError, FitError, MlpotError
from mlpot.fitting.batch import fit_terms
from mlpot.fitting.design_matrix import Design
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.settings.presets import PRESETS, resolve
from mlpot.structures import all_labelled, labelled
from mlpot.terms.baseline import Baseline, zbl
from mlpot.terms.linear_algebra import prior_factor
from mlpot.terms.pair_kernel import bent
from mlpot.uncertainty.calibration import UNCALIBRATED


def dense(model, frames):
    """Everything held at once: whitened rows, whitened labels, K_mm."""
    rows, labels = zip(*(whitened(model, structure) for structure in all_labelled(frames)), strict=True)
    shifted = [
        block + model.jitter * scale**2 * np.eye(len(block))
        for term in model.terms
        for block, scale in zip(term.prior(), scales_with_points(term), strict=True)
    ]
    return np.concatenate(rows), np.concatenate(labels), block_diag(*shifted)


def scales_with_points(term):
    return [scale for scale, points in zip(term.energy_scales, term.points, strict=True) if len(points)]


def noise_in(model, group):
    """What the model says of the labels of a group; without config_types of their own."""
    return model.noises.forces[group.number] if group.label == "forces" else getattr(model.noises, group.label)


def whitened(model, structure):
    """Covariances (n_rows, M) of a structure's labels with the sparse points, and labels minus baseline, by their noises."""
    design = Design(model.terms, model.baseline, model.species)
    scales = np.concatenate(
        [np.full(len(p), s**2) for term in model.terms for s, p in zip(term.energy_scales, term.points, strict=True)]
    )
    energies = [model.baseline.isolated_atom_energies[z] for z in model.species]
    groups = {group: rows / noise_in(model, group) for group, rows in design.rows(structure).items()}
    rows = np.concatenate(list(groups.values()))
    n = len(scales)
    return rows[:, :n] * scales, rows[:, n] - rows[:, n + 1 :] @ energies


@pytest.mark.parametrize("which", ["frames", "two_species_frames"])
def test_weights_equal_a_dense_least_squares_solution(which, request):
    frames = request.getfixturevalue(which)
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, jitter=1e-4))
    rows, labels, prior = dense(model, frames)
    stacked = np.concatenate([rows, np.linalg.cholesky(prior).T])
    weights = np.linalg.lstsq(stacked, np.concatenate([labels, np.zeros(len(prior))]), rcond=None)[0]
    np.testing.assert_allclose(rows @ model.weights, rows @ weights, atol=1e-6 * np.abs(labels).max())
    np.testing.assert_allclose(model.factor.T @ model.factor, prior + rows.T @ rows, rtol=1e-8, atol=1e-6)


def test_uncertainty_equals_a_dense_gaussian_process(frames):
    """var = k_ii - k K_mm^-1 k + k (K_mm + K_mn Sigma^-1 K_nm)^-1 k + the model's discrepancy, all by explicit inverses."""
    terms = [{**SMALL_TERMS[1], "energy_scale": 0.05}]
    noises = {**NOISES, "energy_noise": 0.02}
    model = mlpot.fit(frames[:3], FitConfig(terms=terms, jitter=1e-4, **noises)).calibrated(UNCALIBRATED)
    rows, _, prior = dense(model, frames[:3])
    pairs = find_pairs(frames[5], model.cutoff)
    k = np.concatenate([term.covariances(pairs) for term in model.terms], axis=1)
    own = sum(term.variances(pairs) for term in model.terms)
    middle = np.linalg.inv(prior) - np.linalg.inv(prior + rows.T @ rows)
    expected = np.sqrt(own - np.einsum("as,st,at->a", k, middle, k) + noises["energy_noise"] ** 2)
    assert expected.min() < 2 * noises["energy_noise"]
    np.testing.assert_allclose(model.predict(frames[5], uncertainty=True).energies_std, expected, rtol=1e-5)


def test_prior_variance_of_the_pair_term(model, frames):
    """The double sum over neighbours, done by hand for one atom."""
    pairs = find_pairs(frames[0], model.cutoff)
    term = model.terms[0]
    distances = pairs.distances[pairs.offsets[3] : pairs.offsets[4]]
    distances = distances[distances < term.cutoff]
    contact = term.contact(0)
    to_bare = term.covariance(distances, bent(distances, contact)[0], term.energy_scales[0], contact)[0]
    by_hand = 0.25 * (to_bare * term.envelope(distances, contact)[0]).sum()
    assert by_hand > 0
    np.testing.assert_allclose(term.variances(pairs)[3], by_hand)


def test_uncertainty_falls_with_data_and_rises_away_from_it(frames):
    more = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS))
    few = fit_terms(all_labelled(frames[:2]), more.species, more.terms, more.baseline, more.config)
    unseen = make_frames(1, seed=9)[0]
    raw = more.calibrated(UNCALIBRATED).predict(unseen, True)
    assert np.all(raw.energies_std < few.predict(unseen, True).energies_std)
    strange = unseen.copy()
    strange.positions[0] += [0.7, 0.5, 0.3]
    assert more.predict(strange, True).energies_std[0] > 1.5 * more.predict(unseen, True).energies_std[0]
    alone = more.predict(Atoms("Si"), True).energies_std[0]
    assert alone > more.predict(unseen, True).energies_std.max()


def test_it_learns(model, frames):
    """Force errors on unseen structures are a small part of the forces."""
    unseen = make_frames(4, seed=5)
    errors = [model.predict(atoms).forces - atoms.get_forces() for atoms in unseen]
    assert np.sqrt(np.mean(np.square(errors))) < 0.25 * np.std([atoms.get_forces() for atoms in unseen])
    stresses = [model.predict(atoms).stress[0, 0] - atoms.get_stress()[0] for atoms in unseen]
    assert np.abs(stresses).max() < 0.3 * np.abs([atoms.get_stress()[0] for atoms in unseen]).max()


def test_stress_labels_alone_teach(frames):
    """Structures with nothing but a stress: the virial rows have the right sign and size."""
    only_stress = [relabel(atoms, stress=atoms.get_stress()) for atoms in frames]
    model = mlpot.fit(only_stress, FitConfig(terms=SMALL_TERMS, isolated_atom_energies={"Si": 0.0}, virial_noise=0.002))
    unseen = make_frames(3, seed=6)
    ours = np.array([model.predict(atoms).stress[[0, 1, 2], [0, 1, 2]] for atoms in unseen])
    theirs = np.array([atoms.get_stress()[:3] for atoms in unseen])
    assert np.abs(ours - theirs).max() < 0.3 * np.abs(theirs).max()


def relabel(atoms, **results):
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def test_missing_labels_per_structure(frames):
    mixed = [
        relabel(frames[0], energy=frames[0].get_potential_energy()),
        relabel(frames[1], forces=frames[1].get_forces()),
        *frames[2:],
    ]
    report = mlpot.fit(mixed, FitConfig(terms=SMALL_TERMS)).report
    assert (report.n_energies, report.n_force_components, report.n_virials) == (7, 7 * 96, 6)
    assert report.n_atoms == 8 * 32
    with pytest.raises(DataError, match="no energy"):
        mlpot.fit([*mixed, frames[0].copy()], FitConfig(terms=SMALL_TERMS))


def test_isolated_atom_energies_given_and_fitted(two_species_frames):
    given = mlpot.fit(two_species_frames, FitConfig(terms=SMALL_TERMS, isolated_atom_energies={"C": -1.0, "Si": -2.0}))
    assert not given.report.isolated_atom_energies_fitted
    assert given.predict(Atoms("C")).energy == pytest.approx(-1.0, abs=2.0)
    fitted = mlpot.fit(two_species_frames, FitConfig(terms=SMALL_TERMS))
    assert fitted.report.isolated_atom_energies_fitted
    assert set(fitted.report.isolated_atom_energies) == {6, 14}
    with pytest.raises(DataError, match=r"no entry for \['Si'\]"):
        mlpot.fit(two_species_frames, FitConfig(terms=SMALL_TERMS, isolated_atom_energies={"C": -1.0}))


def test_noise_per_config_type(frames):
    """One family's energies are wrong by 1 eV per atom: it spoils the other one unless its noise says so."""
    wrong = []
    for atoms in frames:
        shift = 32.0 if atoms.info["config_type"] == "odd" else 0.0
        wrong.append(relabel(atoms, energy=atoms.get_potential_energy() + shift, forces=atoms.get_forces()))
    spoiled = mlpot.fit(wrong, FitConfig(terms=SMALL_TERMS)).report.residuals
    noisy = {"odd": {"energy_noise": 100.0}}
    saved = mlpot.fit(
        wrong, FitConfig(terms=SMALL_TERMS, config_type_noise=noisy, isolated_atom_energies={"Si": 0.0})
    ).report.residuals
    assert set(saved) == {"even", "odd"}
    assert spoiled["even"].energy_mae_mev_per_atom > 10 * saved["even"].energy_mae_mev_per_atom
    assert saved["odd"].energy_mae_mev_per_atom == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("species", [(14,), (1, 6, 8), (26,), (3, 55)])
def test_presets_resolve_for_any_elements(preset, species):
    config = resolve(FitConfig(preset=preset), species)
    assert 4.0 <= config.terms[1].cutoff <= 6.5
    assert config.force_noise and config.energy_noise and config.virial_noise
    assert resolve(FitConfig(preset=preset, cutoff=3.2), species).terms[0].cutoff == 3.2


def test_a_fit_needs_nothing_but_data(frames):
    model = mlpot.fit(frames[:2])
    assert model.report.n_sparse[1] > 20


def test_labels_that_are_not_finite(frames):
    broken = relabel(frames[0], energy=np.nan, forces=frames[0].get_forces())
    with pytest.raises(DataError, match="energy = nan"):
        mlpot.fit([frames[1], broken], FitConfig(terms=SMALL_TERMS))
    with pytest.raises(DataError, match="no structures"):
        mlpot.fit([], FitConfig(terms=SMALL_TERMS))


def test_atoms_without_neighbours_are_an_error(frames):
    with pytest.raises(MlpotError):
        mlpot.fit([relabel(Atoms("Si"), energy=1.0)], FitConfig(terms=[SMALL_TERMS[0]]))
    with pytest.raises(FitError, match="positive definite"):
        prior_factor(np.array([[1.0, 2.0], [2.0, 1.0]]), 1e-8)


def test_repulsion_is_a_derivative_and_ends_smoothly():
    z = np.full(2000, 14)
    r = np.linspace(0.3, 2.0, 2000)
    values, slopes = zbl(r, z, z)
    numerical = (zbl(r + 1e-5, z, z)[0] - zbl(r - 1e-5, z, z)[0]) / 2e-5
    np.testing.assert_allclose(slopes, numerical, rtol=1e-5, atol=1e-5)
    assert np.all(values[r > 0.8 * 2.22] == 0)
    assert np.all(np.diff(values[r < 1.7]) < 0)
    pairs = find_pairs(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0.9]]), 3.0)
    energies, gradients = np.zeros(2), np.zeros((2, 3))
    Baseline({14: -1.0}).predict(pairs, energies, gradients)
    np.testing.assert_allclose(energies.sum(), -2.0 + zbl(np.array([0.9]), z[:1], z[:1])[0][0])
    assert pairs.forces(gradients)[1, 2] > 0


def test_fit_of_given_terms_does_not_depend_on_threads(frames, monkeypatch):
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS))
    structures = all_labelled(frames)
    weights = []
    for n in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", n)
        weights.append(fit_terms(structures, model.species, model.terms, model.baseline, model.config).weights)
    np.testing.assert_array_equal(*weights)


def test_labelled_reads_what_the_calculator_holds(frames):
    structure = labelled(frames[0])
    stress = frames[0].get_stress(voigt=False)
    np.testing.assert_allclose(structure.virial, -stress * frames[0].get_volume())
    assert structure.n_rows == 1 + 96 + 6
    assert structure.config_type == "even"


def test_rows_are_whitened_by_the_noises(frames):
    """Labels divided by their standard deviations: extensive ones grow with the root of the number of atoms."""
    config = FitConfig(terms=SMALL_TERMS, energy_noise=0.003, force_noise=0.07, virial_noise=0.02)
    model = mlpot.fit(frames[:2], config)
    structure = labelled(frames[0])
    _, labels = whitened(model, structure)
    known = model.baseline.energies(frames[0].numbers).sum()  # no two atoms are near enough for the repulsion
    root = np.sqrt(32)
    assert labels[0] == pytest.approx((structure.energy - known) / (0.003 * root))
    np.testing.assert_allclose(labels[1:97], structure.forces.ravel() / 0.07)
    six = structure.virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(labels[97:], six / (0.02 * root))


def test_rows_are_derivatives_of_the_energy_row(two_species_frames):
    """Force and virial rows of every sparse point against finite differences of its energy row."""
    from finite_differences import position_gradient, strain_gradient

    model = mlpot.fit(two_species_frames[:2], FitConfig(terms=SMALL_TERMS))
    atoms = two_species_frames[3][:6]
    column = int(np.random.default_rng(0).integers(40, model.n_sparse))
    pairs = find_pairs(atoms, model.cutoff)

    def energy_row(moved, only=column):
        found = find_pairs(moved, model.cutoff)
        return float(sum_of_rows(model, found)[0][only])

    energy, forces, virial = sum_of_rows(model, pairs)
    assert abs(energy[column]) > 1e-3
    np.testing.assert_allclose(forces[:, column].reshape(-1, 3), -position_gradient(energy_row, atoms, 1e-4), atol=1e-6)
    np.testing.assert_allclose(virial[:, column].reshape(3, 3), -strain_gradient(energy_row, atoms, 1e-4), atol=1e-5)


def sum_of_rows(model, pairs):
    """Energy (M,), force (3 n_atoms, M) and virial (9, M) rows of all terms."""
    rows = np.zeros((1 + 3 * pairs.n_atoms + 9, model.n_sparse))
    begin = 0
    for term in model.terms:
        part = slice(begin, begin + term.n_sparse)
        begin += term.n_sparse
        term.add_rows(pairs, rows[0, part], rows[1 : 1 + 3 * pairs.n_atoms, part], rows[1 + 3 * pairs.n_atoms :, part])
    return rows[0], rows[1 : 1 + 3 * pairs.n_atoms], rows[1 + 3 * pairs.n_atoms :]


def test_rows_of_few_points_in_environments_unlike_them(two_species_frames):
    """Sparse points of pure silicon: what an alloy has besides is in no sparse point, but in the norm of its environments."""
    terms = mlpot.fit(two_species_frames, FitConfig(terms=SMALL_TERMS[1:], check_labels=False)).terms
    pure = two_species_frames[0].copy()
    pure.numbers[:] = 14
    point = terms[0].descriptor.compute(find_pairs(pure, 4.0), np.array([3], np.int32))
    term = terms[0].with_points((np.empty((0, point.shape[1])), point))
    pairs = find_pairs(two_species_frames[1], 4.0)
    energy, forces = np.zeros(1), np.zeros((3 * pairs.n_atoms, 1))
    term.add_rows(pairs, energy, forces, None)
    np.testing.assert_allclose(energy, term.covariances(pairs).sum(axis=0), rtol=1e-9)
    values, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
    term.predict(pairs, np.ones(1), values, gradients)
    np.testing.assert_allclose(forces.reshape(-1, 3), pairs.forces(gradients), atol=1e-9)
