"""The choice of sparse points: what is chosen, from how much memory, with which bounds and quotas."""

import re
import tracemalloc

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import SMALL_TERMS, make_frames
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpot
from mlpot.descriptors.density import SoapDescriptor
from mlpot.errors import ConfigError
from mlpot.fitting import streamed_selection as candidates
from mlpot.fitting.streamed_selection import Environments, choose_sparse_points, until_explained
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig, SoapTermSettings
from mlpot.structures import all_labelled
from mlpot.terms.kernels import PolynomialKernel
from mlpot.terms.registry import empty_term
from mlpot.terms.selection import (
    Distinct,
    ExplainedVariance,
    by_distance,
    extend_by_variance,
    leverage_factor,
    leverage_scores,
)
from mlpot.terms.soap_settings import make_descriptor

SQUARE = PolynomialKernel(2)
METHODS = ["cur", "farthest", "random", "variance"]


def soap(**more):
    return SoapTermSettings(**{**SMALL_TERMS[1], "n_sparse": 10, **more})


def choose(frames, seed=0, progress=lambda *_: None, number=14, **more):
    structures, term = all_labelled(frames), soap(**more)
    species = tuple(sorted({int(z) for atoms in frames for z in atoms.numbers}))
    return choose_sparse_points(empty_term(term, species, 1.0), number, structures, term, np.random.default_rng(seed), progress)


def all_features(frames, **more):
    descriptor = make_descriptor(soap(**more), (14,))
    return np.concatenate([descriptor.compute(find_pairs(atoms, descriptor.cutoff)) for atoms in frames])


def count_among(points, features):
    """How many of the points are rows of `features`."""
    distances = np.linalg.norm(points[:, None] - features, axis=2)
    return int(np.count_nonzero(distances.min(axis=1) < 1e-9))


def unexplained(points, features, zeta=2):
    """Largest part of a prior variance that the points leave, by a dense solution."""
    cross = (points @ features.T) ** zeta
    return float(np.max(1 - np.sum(cross * np.linalg.solve((points @ points.T) ** zeta, cross), axis=0)))


@pytest.fixture
def tiny_chunks(monkeypatch):
    """Chunks of four times the sparse points."""
    monkeypatch.setattr(candidates, "CHUNK_VALUES", 1)


@pytest.mark.parametrize("method", METHODS)
def test_sparse_points_are_seeded_distinct_and_enough(frames, method):
    terms = [{**SMALL_TERMS[1], "sparse_method": method}]
    a, b, c = (mlpot.fit(frames, FitConfig(terms=terms, seed=seed)) for seed in (1, 1, 2))
    points = a.terms[0].sparse_features[0]
    assert len(points) == 40
    assert len(np.unique(points.round(8), axis=0)) == 40
    assert count_among(points, all_features(frames)) == 40
    np.testing.assert_array_equal(a.weights, b.weights)
    if method != "variance":
        assert not np.array_equal(points, c.terms[0].sparse_features[0])


@pytest.mark.parametrize("method", ["cur", "random"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_size_of_chunks_does_not_matter(frames, method, repeats, monkeypatch):
    found = []
    for values in (1, 4000, 1e9):
        monkeypatch.setattr(candidates, "CHUNK_VALUES", values)
        found.append(choose(frames * repeats, sparse_method=method))
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], atol=1e-12)


def test_core_sets_cover_nearly_as_well_as_the_whole(frames, monkeypatch):
    """Distance of the farthest environment, variance of the least explained one: within the factors of theory."""
    features = all_features(frames)
    radii, variances = [], []
    for values in (1e9, 1):
        monkeypatch.setattr(candidates, "CHUNK_VALUES", values)
        points = choose(frames, sparse_method="farthest")
        radii.append(np.sqrt(2 - 2 * np.max(features @ points.T, axis=1).min()))
        variances.append(unexplained(choose(frames, sparse_method="variance"), features))
        assert len(points) == len(np.unique(points.round(8), axis=0)) == 10
    assert radii[1] < 2 * radii[0]
    assert variances[1] < 2 * variances[0]


def test_one_chunk_gives_the_plain_algorithms(frames):
    features = all_features(frames)
    farthest = features[np.sort(by_distance(features, 10, features[:0], np.random.default_rng(0)))]
    np.testing.assert_array_equal(choose(frames, sparse_method="farthest"), farthest)
    variance = features[np.sort(extend_by_variance(features[:0], features, 10, SQUARE, 0.0))]
    np.testing.assert_array_equal(choose(frames, sparse_method="variance"), variance)


@pytest.mark.parametrize("more", [*({"sparse_method": m} for m in METHODS), {"n_sparse": "auto", "max_sparse": 10}])
def test_memory_does_not_grow_with_the_data(frames, more, tiny_chunks):
    """Four times the environments need hardly more memory than a fingerprint each."""
    peaks = []
    more = {"n_max": 8, "l_max": 8, "sparse_tolerance": 1e-9, **more}
    choose(frames, **more)  # the tables of the descriptor are made once
    for n_frames in (8, 32):
        structures = make_frames(n_frames, seed=3)
        tracemalloc.start()
        choose(structures, **more)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    n_new = 24 * 32
    assert peaks[1] - peaks[0] < 200 * n_new < 8 * 324 * n_new / 10


def test_random_points_cost_no_other_features(frames, monkeypatch):
    made = []

    class Counting(SoapDescriptor):
        def compute(self, pairs, centres=None):
            made.append(len(centres))
            return super().compute(pairs, centres)

    monkeypatch.setattr("mlpot.terms.soap_settings.SoapDescriptor", Counting)
    make_descriptor.cache_clear()
    choose(frames, sparse_method="random")
    make_descriptor.cache_clear()
    assert sum(made) == 10


@pytest.mark.parametrize("values", [1, 1e9])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
@pytest.mark.parametrize("quotas", [{}, {"odd": 3}])
def test_automatic_number_keeps_its_bound(frames, values, tolerance, quotas, monkeypatch, caplog):
    monkeypatch.setattr(candidates, "CHUNK_VALUES", values)
    more = {"max_sparse": 40} if tolerance == 1e-2 else {"max_sparse": 240}
    points = choose(frames, n_sparse="auto", sparse_tolerance=tolerance, config_type_n_sparse=quotas, **more)
    features = all_features(frames)
    assert unexplained(points, features) <= tolerance * (1 + 1e-5)
    assert not caplog.records
    fewest = len(extend_by_variance(features[:0], features, 256, SQUARE, tolerance))
    assert len(choose(frames[:1], n_sparse="auto", sparse_tolerance=tolerance)) < len(points) <= 1.3 * fewest + 3


class Given:
    """Environments of given features (n, n_features), in chunks of `size`."""

    number = 14

    def __init__(self, features, size):
        self.features, self.size = features, size

    def chunks(self, stage):
        return iter(np.split(self.features, range(self.size, len(self.features), self.size)))


@given(seed=st.integers(0, 10000), size=st.integers(20, 60))
@settings(deadline=None)
def test_a_second_pass_proves_the_bound(seed, size):
    """What the union of core-sets leaves unexplained is found by the pass over all environments."""
    features = unit_rows(120, 6, seed)
    term = soap(n_sparse="auto", sparse_tolerance=0.01, max_sparse=120)
    points = until_explained(Given(features, size), term, SQUARE, features[:0])
    assert unexplained(points, features) <= 0.01 * (1 + 1e-5)


@pytest.mark.parametrize("values", [1, 1e9])
@pytest.mark.parametrize("quotas", [{}, {"odd": 3}])
def test_a_bound_that_is_missed_is_told(frames, values, quotas, monkeypatch, caplog):
    monkeypatch.setattr(candidates, "CHUNK_VALUES", values)
    points = choose(frames, n_sparse="auto", max_sparse=8, config_type_n_sparse=quotas)
    assert len(points) == 8
    (record,) = caplog.records
    assert record.name.startswith("mlpot")
    text = record.getMessage()
    assert "8 sparse points of Si" in text
    assert "raise max_sparse" in text
    told = float(re.search(r"up to (\S+) of", text)[1])
    assert told == pytest.approx(unexplained(points, all_features(frames)), rel=0.06)


def test_n_sparse_per_element(two_species_frames):
    model = mlpot.fit(two_species_frames, FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": {"Si": 7, "C": 5}}]))
    assert [len(points) for points in model.terms[0].sparse_features] == [5, 7]
    mixed = {"Si": "auto", "C": 5, "O": 100}
    model = mlpot.fit(
        two_species_frames, FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": mixed, "sparse_tolerance": 0.01}])
    )
    assert len(model.terms[0].sparse_features[0]) == 5
    assert len(model.terms[0].sparse_features[1]) > 5
    with pytest.raises(ConfigError, match=r"n_sparse = .*has no entry for C, .*add one"):
        mlpot.fit(two_species_frames, FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": {"Si": 7}}]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [1, 1e9])
def test_quotas_of_config_types(frames, method, values, monkeypatch):
    monkeypatch.setattr(candidates, "CHUNK_VALUES", values)
    odd = all_features([atoms for atoms in frames if atoms.info["config_type"] == "odd"])
    points = choose(frames, config_type_n_sparse={"odd": 10}, sparse_method=method)
    assert len(points) == count_among(points, odd) == 10
    points = choose(frames, n_sparse=30, config_type_n_sparse={"odd": 13, "even": 8}, sparse_method=method)
    assert len(points) == len(np.unique(points.round(8), axis=0)) == 30
    assert count_among(points[:13], odd) == 13
    assert count_among(points[13:21], odd) == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_quota_that_a_config_type_cannot_fill_goes_to_the_others(frames, method):
    """All its environments, and the number of points stays what was asked for."""
    few = frames[0][:3]
    few.calc = SinglePointCalculator(few, energy=0.0)
    few.info["config_type"] = "few"
    points = choose([*frames, few], config_type_n_sparse={"few": 8}, sparse_method=method)
    assert count_among(points[:3], all_features([few])) == 3
    assert len(np.unique(points.round(8), axis=0)) == 10
    crystals = [*frames, *repeated_crystal("crystal")]
    points = choose(crystals, config_type_n_sparse={"crystal": 8}, sparse_method=method)
    assert len(np.unique(points.round(8), axis=0)) == len(points) == 10


def repeated_crystal(config_type):
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.calc = SinglePointCalculator(atoms, energy=-100.0, forces=np.zeros((64, 3)))
    atoms.info["config_type"] = config_type
    return [atoms]


@pytest.mark.parametrize("method", METHODS)
def test_perfect_crystals_do_not_make_it_singular(method, tiny_chunks):
    """Many equal environments: the sparse set holds one of them, beside those of strained and rattled copies."""
    frames = repeated_crystal("crystal")
    model = mlpot.fit(frames, FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": 8, "sparse_method": method}]))
    points, descriptor = model.terms[0].sparse_features[0], model.terms[0].descriptor
    own = descriptor.compute(find_pairs(frames[0], descriptor.cutoff))[0]
    assert np.sum(points @ own > 1 - 1e-9) == 1
    overlaps = points @ points.T - 2 * np.eye(len(points))
    assert len(points) <= 8 and overlaps.max() < 1 - 1e-9
    assert abs(model.predict(frames[0]).energy + 100.0) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_fewer_environments_than_points(frames, method):
    points = choose(frames[:1], n_sparse=100, sparse_method=method)
    assert len(np.unique(points.round(8), axis=0)) == len(points) == 32


def test_quotas_that_cannot_be_met(frames, tmp_path):
    with pytest.raises(
        ConfigError, match=r"no structure has config_type \['surface'\]; the data has \['even', 'odd'\]"
    ):
        choose(frames, config_type_n_sparse={"surface": 3})
    with pytest.raises(ConfigError, match="12 points in total exceed n_sparse = 10 of every element; reduce"):
        soap(config_type_n_sparse={"odd": 6, "even": 6})
    with pytest.raises(ConfigError, match="exceed n_sparse = 5 of C"):
        soap(config_type_n_sparse={"odd": 6}, n_sparse={"Si": 8, "C": 5})
    with pytest.raises(ConfigError, match=r"n_sparse = auto of every element \(max_sparse = 4\)"):
        soap(config_type_n_sparse={"odd": 6}, n_sparse="auto", max_sparse=4)


def test_every_pass_is_a_stage(frames, tiny_chunks):
    seen = []
    choose(frames, progress=lambda *step: seen.append(step), config_type_n_sparse={"odd": 3})
    stages = ["Si environments of odd", "Si leverage scores of odd", "Si environments", "Si leverage scores"]
    totals = [4, 4, 8, 8]
    assert seen == [(s, k + 1, n) for s, n in zip(stages, totals, strict=True) for k in range(n)]


@given(size=st.integers(1, 200), data=st.data())
@settings(max_examples=30, deadline=None)
def test_chunks_are_the_features_in_order(size, data):
    frames = make_frames(3, numbers=(6, 14), seed=4, stress=False)
    structures = all_labelled(frames)
    descriptor = make_descriptor(soap(), (6, 14))
    expected = np.concatenate(
        [
            descriptor.compute(find_pairs(s.atoms, descriptor.cutoff), np.flatnonzero(s.atoms.numbers == 6))
            for s in structures
        ]
    )
    environments = Environments(descriptor, 6, structures, size, lambda *_: None)
    for _ in range(2):
        found = [chunk.copy() for chunk in environments.chunks("environments")]
        assert {len(chunk) for chunk in found[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(found), expected)
    indices = np.array(data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, unique=True)))
    np.testing.assert_array_equal(environments.features(indices, "some"), expected[indices])


@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=40), cut=st.integers(0, 40), n_known=st.integers(0, 3))
def test_the_first_of_equal_environments(labels, cut, n_known):
    kinds = np.random.default_rng(1).normal(size=(10, 7))
    features = kinds[labels] + 1e-14 * np.random.default_rng(2).normal(size=(len(labels), 7))
    distinct = Distinct(kinds[:n_known])
    mask = np.concatenate([distinct.first(features[:cut]), distinct.first(features[cut:])])
    expected = [k for k, label in enumerate(labels) if label >= n_known and label not in labels[:k]]
    np.testing.assert_array_equal(np.flatnonzero(mask), expected)


def unit_rows(n, n_features, seed):
    rows = np.abs(np.random.default_rng(seed).normal(size=(n, n_features)))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(1, 39), max_size=3, unique=True),
    zeta=st.sampled_from([1, 2, 2.5]),
)
@settings(deadline=None)
def test_a_factor_that_grows_is_the_factor(seed, cuts, zeta):
    """Extended chunk by chunk: the factor of the kernel of its points, and everything is explained."""
    features = unit_rows(40, 12, seed)
    explained = ExplainedVariance.by(features[:0], PolynomialKernel(zeta))
    for chunk in np.split(features, sorted(cuts)):
        explained, left = explained.extended(chunk, 40, 1e-3)
        assert left <= 1e-3
    kernel = (explained.points @ explained.points.T) ** zeta
    np.testing.assert_allclose(explained.factor @ explained.factor.T, kernel, atol=1e-10)
    assert np.all(np.triu(explained.factor, 1) == 0)
    assert explained.unexplained(features).max() <= 1e-3 + 1e-10
    assert unexplained(explained.points, features, zeta) <= 1e-3 + 1e-9


def test_leverage_scores_are_the_diagonal_of_the_hat_matrix():
    features = unit_rows(50, 8, 0)
    scores = leverage_scores(features.copy(), leverage_factor(features.T @ features))
    np.testing.assert_allclose(scores, np.diag(features @ np.linalg.pinv(features)), rtol=1e-8)
    low = features @ np.diag([1, 1, 1, 0, 0, 0, 0, 0])
    assert leverage_scores(low, leverage_factor(low.T @ low)).sum() == pytest.approx(3, rel=1e-6)


@pytest.mark.slow
def test_rare_environments_are_drawn_by_leverage(frames, tiny_chunks):
    """One strange structure among many: leverage finds it where chance would not."""
    strange = frames[0].copy()
    strange.positions[0] += [0.9, 0.6, 0.3]
    strange.calc = SinglePointCalculator(strange, energy=0.0)
    rare = all_features([strange])[:1]
    found = {
        m: sum(count_among(choose([*frames, strange], s, sparse_method=m), rare) for s in range(40)) for m in METHODS
    }
    assert found["cur"] > found["random"] + 5
    assert found["farthest"] == found["variance"] == 40


def test_farthest_points_by_hand():
    angles = np.radians([0.0, 10, 80, 45, 0, 90])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_array_equal(by_distance(features, 3, features[:1], np.random.default_rng(0)), [5, 3, 1])
    assert len(by_distance(features, 10, features[:0], np.random.default_rng(0))) == 5
