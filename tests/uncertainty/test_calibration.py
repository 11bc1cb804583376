"""Standard deviations are made as large as errors: on made-up errors, and on structures that a fit did not know."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, lennard_jones, make_frames
from scipy.linalg import solve_triangular

import mlpot
from mlpot.fitting.batch import adapted_fit, fit_terms
from mlpot.fitting.label_check import leave_out, some_structures
from mlpot.fitting.task import FitTask
from mlpot.models.evaluate import evaluate, force_errors
from mlpot.neighbours import find_pairs
from mlpot.structures import all_labelled
from mlpot.terms.environments import LEAST_STRANGE
from mlpot.terms.layout import columns
from mlpot.uncertainty.calibration import (
    BEYOND,
    OPEN,
    SHARE,
    SYMMETRIC,
    UNCALIBRATED,
    WIDTH,
    Calibration,
    ErrorsAndDeviations,
    Law,
    Stated,
    binned,
    coverage,
    expected_normalised_error,
    fit_calibration,
    likeliest_law,
)
from mlpot.uncertainty.representatives import MOST_REPRESENTATIVES, NOVEL, RESOLUTION, choose
from mlpot.uncertainty.variances import force_variances

SOAP = SMALL_TERMS[1:]
NOTHING = ErrorsAndDeviations(np.empty(0), np.empty(0), None, 0)


def made_up(n=4000, scale=3.0, seed=0):
    """Errors (n, 3), and deviations that are too small by a factor."""
    rng = np.random.default_rng(seed)
    stated = np.exp(rng.normal(np.log(0.01), 1.0, (n, 3)))
    return scale * stated * rng.normal(size=stated.shape), stated


def kind(errors, deviations, numbers=None, n_structures=500, discrepancies=None):
    return ErrorsAndDeviations(np.ravel(errors), np.ravel(deviations), numbers, n_structures, discrepancies)


def calibrated(found, stated, numbers):
    """Deviations without discrepancy, calibrated."""
    return found.forces_std(stated, np.zeros_like(stated), numbers)


def test_the_law_in_numbers():
    """A factor, a floor and the third power of the strongest force, in quadrature."""
    law = Law(1.5, 0.1, 0.02)
    expected = np.sqrt([0.3**2 + 0.1**2 + 0.16**2, 0.6**2 + 0.1**2 + 0.54**2])
    np.testing.assert_allclose(law.sigma(np.array([0.2, 0.4]), np.array([2.0, 3.0])), expected)
    np.testing.assert_allclose(law.times(2.0).sigma(np.array([0.2, 0.4]), np.array([2.0, 3.0])), 2 * expected)


@pytest.mark.parametrize(("floor", "growth"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.02), (0.1, 0.02)])
def test_laws_have_the_parts_that_errors_ask_for(floor, growth):
    """Bins whose errors are those of a law, with deviations and forces that vary independently."""
    rng = np.random.default_rng(3)
    deviations, strongest = np.exp(rng.uniform(np.log(0.003), np.log(0.3), 200)), rng.uniform(0.2, 4.0, 200)
    errors = Law(2.0, floor, growth).sigma(deviations, strongest)
    found = likeliest_law(Stated(errors, deviations, strongest, np.ones(200)), OPEN)
    assert (found.floor > 0, found.growth > 0) == (floor > 0, growth > 0)
    assert (found.factor, found.floor, found.growth) == pytest.approx((2.0, floor, growth), rel=0.05)


def test_scales_are_found():
    errors, stated = made_up()
    rng = np.random.default_rng(1)
    energy_std, stress_std = rng.uniform(0.1, 1.0, (2, 2000))
    energies, stresses = 0.5 * energy_std * rng.normal(size=2000), 7.0 * stress_std * rng.normal(size=2000)
    found = fit_calibration(kind(errors, stated), kind(energies, energy_std), kind(stresses, stress_std))
    # errors beyond two deviations count less than a normal distribution asks for
    assert found.force_scale == pytest.approx(3.0, rel=0.1)
    assert found.energy_scale == pytest.approx(0.5, rel=0.1)
    assert found.stress_scale == pytest.approx(7.0, rel=0.1)
    assert (found.n_forces, found.n_energies, found.of_elements) == (12000, 2000, {})
    std = calibrated(found, stated, np.full(len(stated), 14))
    assert coverage(errors, std, 1) == pytest.approx(0.68, abs=0.04)
    assert coverage(errors, std, 2) == pytest.approx(0.95, abs=0.02)
    assert expected_normalised_error(errors.ravel(), std.ravel()) < 0.12


def test_a_factor_of_any_size_is_found():
    """A model whose deviations are wrong by orders of magnitude: the search must reach them."""
    for scale in (0.02, 300.0):
        found = fit_calibration(kind(*made_up(scale=scale), n_structures=100_000), NOTHING, NOTHING)
        assert found.force_scale == pytest.approx(scale, rel=0.1)  # normal errors count a little less than they are


def test_elements_have_factors_of_their_own():
    """Where there are enough of them; the others have the factor of all."""
    (errors, stated), (few_errors, few) = made_up(4000, 3.0), made_up(5, 1.0)
    numbers = np.repeat([1, 8], [6000, 6000])
    errors.reshape(-1)[6000:] *= 0.25
    found = fit_calibration(
        kind(
            np.concatenate([errors, few_errors]), np.concatenate([stated, few]),
            np.concatenate([numbers, np.full(15, 14)]),
        ), NOTHING, NOTHING,
    )  # fmt: skip
    assert found.of_elements[1] == pytest.approx(3.0, rel=0.1)
    assert found.of_elements[8] == pytest.approx(0.75, rel=0.1)
    np.testing.assert_array_equal(
        calibrated(found, np.ones((3, 3)), np.array([8, 1, 79]))[:, 0],
        [found.of_elements[8], found.of_elements[1], found.force_scale],
    )
    assert found.by_atom(np.array([14]))[0] == pytest.approx(found.force_scale, rel=1.0)


def test_one_structure_says_little():
    """Errors that are three times or a tenth of what was expected, all from one structure: a factor of less than two; however
    wrong it is, of exp(w^2 (k^2 - 1))."""
    errors, stated = made_up(scale=1e6)
    limit = np.exp(WIDTH**2 * (BEYOND**2 - 1))
    assert fit_calibration(kind(errors, stated, n_structures=1), NOTHING, NOTHING).force_scale == pytest.approx(
        OPEN * limit, rel=1e-3
    )
    for factor in (3.0, 0.1):
        errors, stated = made_up(scale=OPEN * factor)
        found = fit_calibration(kind(errors, stated, n_structures=1), NOTHING, NOTHING)
        assert 0.5 < found.force_scale / OPEN < 2.0
        more = fit_calibration(kind(errors, stated, n_structures=100), NOTHING, NOTHING)
        assert abs(np.log(more.force_scale / (OPEN * factor))) < 0.2


def test_it_is_the_most_likely_factor():
    """The formula on a grid, errors within and beyond two standard deviations, which count fully."""
    errors, stated = made_up(50, 4.0)
    ratios, n_structures = np.abs(errors / stated).ravel(), 3
    factors = np.exp(np.linspace(-3, 3, 60001))
    surprise = []
    for factor in factors[::10]:
        z = ratios / factor
        losses = np.where(z < 2, z**2 / 2, 4 * (0.5 + np.log(np.maximum(z, 2) / 2)))
        surprise.append(n_structures * (np.log(factor) + losses.mean()) + np.log(factor / OPEN) ** 2 / (2 * WIDTH**2))
    found = fit_calibration(kind(errors, stated, n_structures=n_structures), NOTHING, NOTHING)
    assert found.force_scale == pytest.approx(factors[::10][np.argmin(surprise)], rel=2e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_the_discrepancy_that_counts(share):
    """Errors made of what the data leave open, three times too small, and of a part of the discrepancy."""
    (_, left_open), rng = made_up(), np.random.default_rng(2)
    discrepancies = np.full_like(left_open, 0.03)
    errors = 3.0 * np.hypot(left_open, share * discrepancies) * rng.normal(size=left_open.shape)
    found = fit_calibration(kind(errors, left_open, discrepancies=discrepancies.ravel()), NOTHING, NOTHING)
    assert found.discrepancy_share == pytest.approx(share, rel=0.15, abs=0.03)
    assert found.force_scale == pytest.approx(3.0, rel=0.1)
    std = found.forces_std(left_open, discrepancies, np.full(len(left_open), 14))
    for part in (left_open < 0.01, left_open > 0.03):  # at every size
        assert coverage(errors[part], std[part], 1) == pytest.approx(0.68, abs=0.05)


def test_without_errors_the_discrepancy_counts_little():
    std = UNCALIBRATED.forces_std(np.array([[3.0]]), np.array([[40.0]]), np.array([14]))
    assert std[0, 0] == pytest.approx(OPEN * np.hypot(3.0, 40.0 * SHARE))


def test_a_few_wrong_labels_change_little():
    errors, stated = made_up()
    right = fit_calibration(kind(errors, stated), NOTHING, NOTHING)
    errors[:4] += 50.0
    wrong = fit_calibration(kind(errors, stated), NOTHING, NOTHING)
    assert wrong.force_scale == pytest.approx(right.force_scale, rel=0.05)
    assert wrong.energy_scale == wrong.stress_scale == wrong.force_scale / OPEN and wrong.n_energies == 0


def test_what_symmetry_makes_zero_is_left_out():
    errors, stated = made_up(1000)
    zeros = np.zeros((500, 3))
    some = fit_calibration(kind(errors, stated), NOTHING, NOTHING)
    more = fit_calibration(
        kind(np.concatenate([errors, zeros]), np.concatenate([stated, zeros + 0.1 * SYMMETRIC])), NOTHING, NOTHING
    )
    assert more == some


def test_few_errors_calibrate_nothing():
    few, many = np.ones(3), np.ones(12)
    assert fit_calibration(kind(few, few), kind(few, few), NOTHING) == UNCALIBRATED
    only = fit_calibration(NOTHING, kind(2.0 * many, many), NOTHING)
    assert only.force_scale / OPEN == only.energy_scale == pytest.approx(2.0, rel=0.01) and only.n_forces == 0
    assert fit_calibration(NOTHING, kind(many, np.zeros(12)), NOTHING) == UNCALIBRATED


def test_expected_normalised_error_by_hand():
    std = np.repeat([1.0, 2.0], 5)
    assert expected_normalised_error(np.repeat([1.0, 1.0], 5), std) == pytest.approx(0.25)
    assert expected_normalised_error(np.repeat([1.0, -2.0], 5), std) == 0.0


def test_bins_hold_five_errors_at_least_and_are_ten_at_most():
    counts = {n: len(binned(np.ones(n), np.ones(n))[0]) for n in (3, 10, 49, 1000)}
    assert counts == {3: 1, 10: 2, 49: 9, 1000: 10}


def test_variance_of_a_direction_is_between_its_own_and_the_atoms():
    forces = np.zeros((1, 3, 8))
    forces[0, 0], forces[0, 1] = 3.0, 1.0
    mean = (9.0 + 1.0) / 3
    np.testing.assert_allclose(force_variances(forces), [[3 * np.sqrt(mean), np.sqrt(mean), 0.0]])


@pytest.fixture(scope="module", params=[40, 160])
def left_out(request):
    """Errors of the first structure by the fit to all, and by a fit without it; with all points, and with some that stand
    for all."""
    frames = make_frames(5)
    structures = all_labelled(frames)
    terms = [{**SOAP[0], "n_sparse": request.param, "energy_scale": 1.0}]
    whole = mlpot.fit(frames, mlpot.FitConfig(terms=terms, jitter=1e-6, **NOISES))
    task = FitTask(structures, whole.species, whole.baseline, whole.config)
    (found, *_) = leave_out(task.design(whole.terms), adapted_fit(task, whole.terms), structures, task.progress, None)
    without = fit_terms(structures[1:], whole.species, whole.terms, whole.baseline, whole.config)
    return found.alone, without, structures[0]


def open_to(model, chosen, covariances):
    """k (K_ss + K_sn Sigma^-1 K_ns)^-1 k (n,) of covariances (n, n_chosen) with some sparse points, what the data leave."""
    upper = np.linalg.qr(model.factor[:, chosen]).R
    return np.sum(np.linalg.solve(upper.T, covariances.T) ** 2, axis=0)


def test_deviations_of_a_structure_left_out(left_out):
    """That of the energy exactly; those of forces are drawn, and as large on the whole."""
    found, without, structure = left_out
    pairs = find_pairs(structure.atoms, without.cutoff)
    chosen = without.choice.columns
    total = without.terms[0].covariances(pairs).sum(axis=0)[chosen]
    share = without.n_sparse / len(chosen)
    variance = share * open_to(without, chosen, total[None])[0] + 32 * NOISES["energy_noise"] ** 2
    assert found.energy_std == pytest.approx(np.sqrt(variance), rel=1e-4)
    p = without.predict(structure.atoms, True)
    np.testing.assert_allclose(found.forces, p.forces - structure.forces, atol=1e-5)
    stated = UNCALIBRATED.forces_std(found.forces_std, found.forces_discrepancy, structure.atoms.numbers)
    size, theirs = (np.sqrt(np.mean(std**2)) for std in (stated, p.forces_std))
    assert size == pytest.approx(theirs, rel=0.3)


def test_members_have_the_deviation_of_the_posterior(model, frames):
    """Force rows times the factor: exact, where 8 members err by a quarter."""
    rep, pairs = model.representatives, find_pairs(frames[3], model.cutoff)
    rows, energy = np.zeros((96, len(rep.upper))), np.zeros(len(rep.upper))
    for term, part in zip(rep.terms, columns(rep.terms), strict=True):
        term.add_rows(pairs, energy[part], rows[:, part], None)
    exact = np.sum(solve_triangular(rep.upper, rows.T, trans="T") ** 2, axis=0)
    drawn = np.mean(pairs.forces(rep.member_gradients(pairs, np.zeros(32))) ** 2, axis=2)
    assert np.mean(drawn) == pytest.approx(np.mean(exact), rel=0.5)
    assert np.std(np.log(drawn.ravel() / exact)) < 0.8


def test_a_fit_calibrates_itself(model):
    c = model.calibration
    assert c.n_forces > 700 and c.force_scale > 0 and c.energy_scale > 0
    assert 0.5 < model.report.coverage["force_coverage_1_sigma"] < 0.85
    quick = mlpot.fit(make_frames(8), mlpot.FitConfig(terms=SMALL_TERMS, check_labels=False))
    assert quick.calibration == c and not quick.report.left_out  # so few structures are all in the sample


def test_a_sample_of_many_structures(frames):
    structures = all_labelled(frames) * 10
    some = some_structures(structures, 3)
    assert sum(s.n_atoms for s in some) == 32 * 32
    assert [id(s) for s in some] == [id(s) for s in some_structures(structures, 3)]


def test_another_calibration_costs_nothing(model, frames):
    before = model.predict(frames[2], True)
    other = model.calibrated(Calibration(3.0, 2.0, 5.0))
    after = other.predict(frames[2], True)
    assert other.compiled.terms is model.compiled.terms and other.compiled._spread is model.compiled._spread
    raw = model.calibrated(UNCALIBRATED).predict(frames[2], True)
    np.testing.assert_allclose(after.forces_std, 3 / OPEN * raw.forces_std)
    np.testing.assert_allclose(after.stress_std, 5 * raw.stress_std)
    np.testing.assert_array_equal(after.forces, before.forces)
    same = replace(model, calibration=Calibration(3.0, 2.0, 5.0)).predict(frames[2], True)
    np.testing.assert_array_equal(same.energies_std, after.energies_std)


def test_old_files_are_not_calibrated(model, tmp_path):
    import json

    from h5_edits import edited

    model.save(tmp_path / "m.h5")
    assert mlpot.load_model(tmp_path / "m.h5").calibration == model.calibration
    with edited(tmp_path / "m.h5") as h5:
        header = json.loads(h5.attrs["header"])
        del header["calibration"]
        h5.attrs["header"] = json.dumps(header)
    assert mlpot.load_model(tmp_path / "m.h5").calibration == Calibration(1.0, discrepancy_share=1.0)


def test_what_is_strange_is_measured_by_the_reach_of_the_kernel(frames):
    """A kernel that is sure of much has little left even where there are no atoms; a lone atom in the data is no measure."""
    left = {}
    for zeta, width in ((4, 0.5), (1, 3.0)):
        terms = [{**SOAP[0], "zeta": zeta, "cutoff_width": width}]
        left[zeta] = mlpot.fit(frames, mlpot.FitConfig(terms=terms)).terms[0].strangest(14)
    assert LEAST_STRANGE <= left[1] < 0.5 * left[4] <= 0.5
    alone = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.22]], calculator=lennard_jones())
    alone.calc = SinglePointCalculator(alone, energy=alone.get_potential_energy(), forces=alone.get_forces())
    lone = Atoms("Si")
    lone.calc = SinglePointCalculator(lone, energy=0.0, forces=np.zeros((1, 3)))
    terms = [{**SOAP[0], "n_sparse": 500}]
    assert mlpot.fit([*frames, alone, lone], mlpot.FitConfig(terms=terms)).terms[0].strangest(14) == LEAST_STRANGE


def test_some_points_stand_for_all(frames):
    """Every number from its formula, by explicit inverses."""
    terms = [{**SOAP[0], "n_sparse": 200, "energy_scale": 2.0, "zeta": 4}]
    model = mlpot.fit(frames, mlpot.FitConfig(terms=terms, jitter=1e-6)).calibrated(Calibration(1.0, 3.0))
    choice = choose(model.terms, model.species)
    chosen = choice.columns
    assert len(set(chosen)) == MOST_REPRESENTATIVES < 200
    share, term = 200 / MOST_REPRESENTATIVES, model.terms[0]
    prior, unit = term.prior()[0], np.eye(MOST_REPRESENTATIVES)
    inverse = np.linalg.inv(prior[np.ix_(chosen, chosen)] + 4e-6 * unit)
    as_chosen = np.linalg.inv(prior[np.ix_(chosen, chosen)] + 4e-10 * unit)
    reach = choice.terms[0].strangest(14)
    known = max(np.quantile(1 / np.diag(inverse), 0.9), 4.0 * RESOLUTION * reach)
    left = 4.0 - np.einsum("as,st,at->a", prior[:, chosen], as_chosen, prior[:, chosen])
    expected = max(left[np.setdiff1d(np.arange(200), chosen)].max(), NOVEL**2 * known)
    strange = make_frames(1, seed=9)[0]
    del strange[np.flatnonzero(strange.get_distances(0, range(32), mic=True) < 3.0)[1:]]  # an atom alone in a hole
    k = term.covariances(find_pairs(strange, model.cutoff))[:, chosen]
    unexplained = 4.0 - np.einsum("as,st,at->a", k, inverse, k)
    beyond = np.maximum(unexplained - expected, 0.0)
    assert 0 < np.count_nonzero(beyond) < len(strange)
    p = model.predict(strange, True)
    noise = model.noises.energy**2
    expected = 9 * (share * open_to(model, chosen, k) + noise) + beyond
    np.testing.assert_allclose(p.energies_std**2, expected, rtol=1e-3)
    total = share * open_to(model, chosen, k.sum(axis=0)[None])[0] + len(strange) * noise
    assert p.energy_std**2 == pytest.approx(9 * total + beyond.sum(), rel=1e-3)
    np.testing.assert_allclose(p.novelty, np.sqrt(unexplained / known), rtol=1e-2)
    drawn = choice.factor(model.factor) @ model.representatives.members
    assert np.mean(drawn**2) == pytest.approx(share, rel=0.15)


def test_novelty(model, frames):
    """About one or less at what the model knows; a dimer, an atom alone and a cell torn apart are novel."""
    known = np.concatenate([model.predict(atoms, True).novelty for atoms in frames])
    assert np.mean(known > NOVEL) < 0.02
    torn = frames[0].copy()
    torn.set_cell(1.7 * torn.cell.array, scale_atoms=True)
    for strange in (Atoms("Si"), Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.4]]), torn):
        for calibration in (UNCALIBRATED, Calibration(1e3, 1e3)):
            assert model.calibrated(calibration).predict(strange, True).novelty.min() > NOVEL


def test_an_element_and_a_term_without_points(frames):
    """A fit that grows knows of elements before it has met them."""
    terms = [SMALL_TERMS[0], SOAP[0], {**SOAP[0], "cutoff": 3.0}]
    fit = mlpot.Fit(mlpot.FitConfig(terms=terms), species=[6, 14])
    points = fit.propose(frames[:2])
    alloy = frames[3].copy()
    alloy.numbers[::4] = 6
    for given in (points, {(1, 14): points[1, 14]}, {}):
        fit = mlpot.Fit(mlpot.FitConfig(terms=terms), species=[6, 14])
        fit.update(frames[:2], given)
        p, exact = fit.model.predict(alloy, True), fit.model.predict_directly(alloy, True)
        np.testing.assert_allclose(p.energies_std, exact.energies_std, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(p.novelty, exact.novelty, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(p.forces_std, exact.forces_std, rtol=0.1, atol=0.05 * exact.forces_std.max())
        if given:
            assert p.novelty[::4].min() > NOVEL


def test_forces_of_pairs_alone(frames):
    model = mlpot.fit(frames, mlpot.FitConfig(terms=SMALL_TERMS[:1]))
    errors, deviations = force_errors(evaluate(model, all_labelled(make_frames(3, seed=7))).comparisons)
    assert coverage(errors, deviations, 2) > 0.8
