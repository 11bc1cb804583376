"""A fit that grows equals a fit from scratch, whatever the order of what joins it."""

import numpy as np
import pytest
from ase import Atoms
from conftest import SMALL_TERMS, make_frames
from hypothesis import given
from hypothesis import strategies as st

import mlpot
from mlpot.errors import ConfigError, DataError, FitError, MlpotError, ModelFileError
from mlpot.fitting import incremental
from mlpot.fitting.batch import fit_terms
from mlpot.fitting.incremental import Fit
from mlpot.settings.fit import FitConfig
from mlpot.terms.pair import radii_down_to
from mlpot.terms.pair_kernel import bent

CONFIG = FitConfig(terms=SMALL_TERMS, config_type_noise={"odd": {"force_noise": 0.1}})


@pytest.fixture(scope="module", params=["frames", "two_species_frames"])
def case(request):
    """Frames, species, and sparse points by (term, element) from a fit."""
    frames = request.getfixturevalue(request.param)
    terms = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, check_labels=False)).terms
    species = tuple(sorted({int(z) for atoms in frames for z in atoms.numbers}))
    return frames, species, dict(zip(species, terms[1].sparse_features, strict=True))


def grown(case, seed=0, n_steps=12):
    """A fit to which structures and points came in random order, in random portions."""
    frames, species, features = case
    rng = np.random.default_rng(seed)
    fit = Fit(CONFIG, species)
    frames_at = rng.integers(0, n_steps, len(frames))
    points_at = {z: rng.integers(0, n_steps, len(f)) for z, f in features.items()}
    for step in range(n_steps):
        new = [frames[k] for k in np.flatnonzero(frames_at == step)]
        fit.update(new, {(1, z): features[z][at == step] for z, at in points_at.items() if np.any(at == step)})
    return fit


def assert_equals_scratch(fit, frames, tolerance=1e-6):
    model = fit.model
    other = fit_terms(fit.structures, fit.species, model.terms, model.baseline, fit.config, fit.levels.noises)
    for atoms in frames:
        a, b = model.predict(atoms, True), other.predict(atoms, True)
        assert abs(a.energy - b.energy) < tolerance * len(atoms)
        np.testing.assert_allclose(a.forces, b.forces, atol=tolerance)
        np.testing.assert_allclose(a.energies_std, b.energies_std, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("seed", range(4))
def test_growth_in_any_order_equals_a_fit_from_scratch(case, seed):
    fit = grown(case, seed)
    assert len(fit.structures) == len(case[0])
    assert sum(len(f) for f in fit.model.terms[1].sparse_features) == sum(map(len, case[2].values()))
    assert_equals_scratch(fit, case[0][:3])


@pytest.mark.slow
def test_two_hundred_updates(frames):
    """One structure or one sparse point at a time, the digits stay."""
    many = make_frames(140, seed=3)
    few = [{**SMALL_TERMS[0], "n_sparse": 8}, {**SMALL_TERMS[1], "n_sparse": 60}]
    features = mlpot.fit(many[::10], FitConfig(terms=few, check_labels=False)).terms[1].sparse_features[0]
    fit = Fit(FitConfig(terms=few), (14,))
    new = [(atoms, None) for atoms in many] + [(None, point) for point in features]
    for k in np.random.default_rng(0).permutation(len(new)):
        atoms, point = new[k]
        fit.update([] if atoms is None else [atoms], {} if point is None else {(1, 14): point[None]})
    assert len(new) == 200
    assert_equals_scratch(fit, frames)


def test_new_noises_and_scales_need_no_covariances(case, monkeypatch):
    fit = grown(case)
    monkeypatch.setattr(incremental.Design, "rows", None)
    monkeypatch.setattr(incremental.Design, "covariances", None)
    fit.reweigh(
        force_noise=0.2, energy_noise=0.01, config_type_noise={"even": {"energy_noise": 0.5}}, energy_scales=[2, 3]
    )
    monkeypatch.undo()
    assert fit.config.force_noise == 0.2
    assert [set(term.energy_scales) for term in fit.model.terms] == [{2.0}, {3.0}]
    [own] = [
        noise for group, noise in fit.levels.noises.items() if (group.label, group.config_type) == ("energy", "even")
    ]
    assert own == 0.5
    given = {group: noise for group, noise in fit.levels.noises.items() if group.config_type != "even"}
    assert {noise for group, noise in given.items() if group.label == "forces"} == {0.2}
    assert {noise for group, noise in given.items() if group.label == "energy"} == {0.01}
    assert_equals_scratch(fit, case[0][:2])
    with pytest.raises(ConfigError, match="jitter"):
        fit.reweigh(jitter=1e-3)


def test_a_saved_fit_goes_on_as_if_never_interrupted(case, tmp_path):
    frames, species, features = case
    fit = Fit(CONFIG, species)
    fit.update(frames[:3], {(1, z): f[:10] for z, f in features.items()})
    fit.update(frames[3:5], {(1, z): f[10:15] for z, f in features.items()})
    fit.save(tmp_path / "fit.h5")
    again = Fit.load(tmp_path / "fit.h5")
    np.testing.assert_array_equal(again.model.weights, fit.model.weights)
    assert again.model.provenance == fit.model.provenance
    for each in (fit, again):
        each.update(frames[5:], {(1, z): f[15:20] for z, f in features.items()})
    np.testing.assert_array_equal(again.model.weights, fit.model.weights)
    np.testing.assert_array_equal(again.model.factor, fit.model.factor)


def test_files_that_are_no_fits(model, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        Fit.load(tmp_path / "none.h5")
    model.save(tmp_path / "model.h5")
    with pytest.raises(ModelFileError, match="not a fit"):
        Fit.load(tmp_path / "model.h5")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError, match="not a readable fit"):
        Fit.load(tmp_path / "broken.h5")
    with pytest.raises(ModelFileError, match="cannot be written"):
        Fit(CONFIG, (14,)).save(tmp_path / "nowhere" / "fit.h5")


def test_what_cannot_be_used_changes_nothing(case):
    frames, species, _ = case
    fit = grown(case)
    before, n_columns = fit.model, fit.system.n_columns
    overlapping = frames[0].copy()
    overlapping.positions[1] = overlapping.positions[0]
    overlapping.calc = frames[0].calc
    n_features = fit.points_of(1, species[0]).shape[1]
    known = fit.points_of(1, species[0])[:1]
    for new, points, error in (
        ([Atoms("Si")], {}, DataError),
        ([overlapping], {}, MlpotError),
        ([], {(0, species[0]): known}, ConfigError),
        ([], {(1, 99): known}, ConfigError),
        ([], {(1, species[0]): np.ones((2, n_features + 1))}, ConfigError),
        ([], {(1, species[0]): np.full((2, n_features), np.nan)}, ConfigError),
    ):
        with pytest.raises(error):
            fit.update(new, points)
        assert fit.is_whole
        assert fit.model is before
        assert fit.system.n_columns == n_columns
    with pytest.raises(FitError, match="no structures yet"):
        _ = Fit(CONFIG, species).model


def test_points_that_would_make_the_prior_singular(case):
    """Far more jitter-free copies than rounding allows: an error, and the fit is as it was."""
    frames, species, features = case
    fit = Fit(CONFIG.model_copy(update={"jitter": 1e-30}), species)
    fit.update(frames[:2], {(1, species[0]): features[species[0]][:5]})
    before = fit.model
    with pytest.raises(FitError, match="positive definite"):
        fit.update([], {(1, species[0]): np.repeat(features[species[0]][:1], 5, axis=0)})
    assert fit.is_whole
    assert fit.model is before


def test_an_interrupted_update_is_not_saved(case, tmp_path, monkeypatch):
    fit = grown(case)
    monkeypatch.setattr(fit, "_settle", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fit.update(case[0][:1])
    with pytest.raises(FitError, match="interrupted"):
        fit.save(tmp_path / "fit.h5")
    assert not list(tmp_path.iterdir())


def test_round_off_of_the_normal_equations_is_refined_away(case):
    """Normal equations that have lost digits: the weights are those of the rows themselves."""
    fit = grown(case)
    rng = np.random.default_rng(1)
    for name, gram in fit.system.grams.items():
        fit.system.grams[name] = gram * (1 + 1e-12 * rng.standard_normal(gram.shape))
    fit.reweigh(force_noise=0.02, energy_noise=0.002, virial_noise=0.02)
    assert_equals_scratch(fit, case[0][:2])


def test_default_energy_scales_follow_the_data(frames):
    fit = Fit(FitConfig(terms=SMALL_TERMS, isolated_atom_energies={"Si": 5.0}), (14,))
    points = {(1, 14): mlpot.fit(frames, FitConfig(terms=SMALL_TERMS)).terms[1].sparse_features[0]}
    fit.update(frames[:2], points)
    assert fit.levels.factor_to(fit.levels) == 1.0
    assert fit.model.terms[1].energy_scales == (fit.levels.scales[1],) and fit.levels.scales[1] != 1.0
    assert_equals_scratch(fit, frames[:2])


def test_shorter_distances_bring_their_own_radii(frames):
    fit = Fit(CONFIG, (14,))
    fit.update(frames[:2])
    known = fit.model.terms[0].sparse_radii[0]
    near = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1.7]], cell=[9, 9, 9], pbc=True)
    near.calc = frames[0].calc.__class__(near, energy=1.0)
    fit.update([near])
    radii = fit.model.terms[0].sparse_radii[0]
    np.testing.assert_array_equal(radii[: len(known)], known)
    assert len(radii) > len(known)
    assert radii.min() <= bent(np.array([1.7]), fit.model.terms[0].contact(0))[0, 0]
    assert_equals_scratch(fit, frames[:2])


@given(st.floats(0.5, 3.9), st.floats(0.5, 3.9), st.integers(1, 30))
def test_radii_reach_down_evenly(first, second, n_sparse):
    radii = radii_down_to(first, np.empty(0), 4.0, n_sparse)
    assert len(radii) == n_sparse
    more = radii_down_to(second, radii, 4.0, n_sparse)
    if second >= first:
        assert not len(more)
    else:
        every = np.sort(np.concatenate([radii, more]))
        assert 0 < every[0] <= second
        np.testing.assert_allclose(np.diff(every)[1:], 4.0 - every[-1])
