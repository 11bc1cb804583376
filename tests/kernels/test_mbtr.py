"""MBTR against explicit sums, finite differences and its own symmetries."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from conftest import make_frames
from finite_differences import pair_gradient
from mlpot._ext.core import INSTRUCTION_SETS, use_instructions
from scipy.integrate import quad

from mlpot.descriptors import Mbtr
from mlpot.descriptors.periodic import properties
from mlpot.errors import ConfigError, UnknownSpeciesError
from mlpot.neighbours import find_pairs

DISTANCES = {"geometry": "inverse_distance", "min": 0.2, "max": 0.8, "n": 9, "sigma": 0.06, "scale": 0.4}
ANGLES = {"geometry": "cosine", "min": -1.0, "max": 1.0, "n": 11, "sigma": 0.12, "scale": 0.2}
SPECIES = (6, 14)
KINDS = {
    "distances": Mbtr(SPECIES, 4.0, {**DISTANCES, "geometry": "distance", "min": 1.0, "max": 4.5, "sigma": 0.3}),
    "inverse squares": Mbtr(SPECIES, 4.0, {**DISTANCES, "weighting": "inverse_square", "scale": None}, cutoff_width=2.0),
    "angles": Mbtr(SPECIES, 3.6, k3=ANGLES),
    "angles at the centre": Mbtr(SPECIES, 3.6, k3={**ANGLES, "weighting": "unity", "scale": None, "vertices": "centre"}),
    "smooth": Mbtr(SPECIES, 3.6, k3={**ANGLES, "weighting": "smooth_cutoff", "scale": None}),
    "both with weights": Mbtr(SPECIES, 3.6, DISTANCES, ANGLES, n_weights=2),
}
each = pytest.mark.parametrize("own", KINDS.values(), ids=KINDS)


@pytest.fixture(scope="module")
def atoms():
    """Atoms in a triclinic cell that is shorter than the cutoffs."""
    return make_frames(1, numbers=SPECIES, seed=5)[0][:11]


def step(own, r):
    """Smooth step that ends at the cutoff."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((r - own.cutoff + own.cutoff_width) / own.cutoff_width, 0, 1))


def bins(grid, x):
    """Means of a Gaussian over the bins, by quadrature."""
    width = (grid.max - grid.min) / (grid.n - 1)
    centres = grid.min + width * np.arange(grid.n)

    def gaussian(y):
        return np.exp(-0.5 * ((y - x) / grid.sigma) ** 2) / (grid.sigma * np.sqrt(2 * np.pi))

    return np.array([quad(gaussian, c - width / 2, c + width / 2)[0] / width for c in centres])


def weights_of(own, number):
    if own.n_weights is None:
        return [1.0]
    return [1.0, *properties((number,))[0, ::-1][: own.n_weights]]


def distance_features(own, pairs, neighbours):
    grid, n_groups = own.k2, len(SPECIES) if own.n_weights is None else 1
    out = np.zeros((n_groups, own.weights.shape[1], grid.n))
    for k in neighbours:
        r, number = pairs.distances[k], pairs.numbers[pairs.j[k]]
        group = SPECIES.index(number) if own.n_weights is None else 0
        weight = {"exp": np.exp(-(grid.scale or 0) * r), "inverse_square": r**-2.0, "unity": 1.0}[grid.weighting] * step(own, r)
        x = 1 / r if grid.geometry == "inverse_distance" else r
        for u, v in enumerate(weights_of(own, number)):
            out[group, u] += v * weight * bins(grid, x)
    return out.ravel()


def angle_features(own, pairs, neighbours):
    grid, n_groups = own.k3, len(SPECIES) if own.n_weights is None else 1
    n_sets = own.weights.shape[1]
    centre, ends = np.zeros((n_groups, n_groups, n_sets, grid.n)), np.zeros((n_groups, n_groups, n_sets, grid.n))
    for j in neighbours:
        for k in neighbours:
            if j == k:
                continue
            u, v = pairs.vectors[j], pairs.vectors[k]
            r, s, q = np.linalg.norm(u), np.linalg.norm(v), np.linalg.norm(u - v)
            weight = step(own, r) * step(own, s)
            if grid.weighting == "exp":
                weight *= np.exp(-grid.scale * (r + s + q))
            if grid.weighting == "smooth_cutoff":
                weight = np.prod([1 + 2 * (d / own.cutoff) ** 3 - 3 * (d / own.cutoff) ** 2 for d in (r, s)])
            numbers = [pairs.numbers[pairs.j[x]] for x in (j, k)]
            a, b = (SPECIES.index(z) if own.n_weights is None else 0 for z in numbers)
            at_centre, at_end = bins(grid, u @ v / (r * s)), bins(grid, (v - u) @ -u / (q * r))
            for m, (x, y) in enumerate(zip(*(weights_of(own, z) for z in numbers), strict=True)):
                if a > b or (a == b and j < k):
                    centre[a, b, m] += x * y * weight * at_centre
                ends[a, b, m] += x * y * weight * at_end
    own_pairs = [centre[a, b] for a in range(n_groups) for b in range(a + 1)]
    return np.concatenate([np.ravel(own_pairs), ends.ravel() if grid.vertices == "all" else []])


@each
def test_features_equal_explicit_sums(own, atoms):
    pairs = find_pairs(atoms, own.cutoff)
    found = own.compute(pairs)
    for centre in range(2):
        neighbours = np.flatnonzero(pairs.i == centre)
        parts = [distance_features(own, pairs, neighbours)] if own.k2 else []
        parts += [angle_features(own, pairs, neighbours)] if own.k3 else []
        np.testing.assert_allclose(found[centre], np.concatenate(parts), rtol=1e-9, atol=1e-9)


@each
def test_pullback_is_the_derivative(own, atoms):
    rng = np.random.default_rng(0)
    pairs = find_pairs(atoms, own.cutoff)
    cotangent = rng.standard_normal((len(atoms), own.n_features))
    gradients = own.vjp(pairs, cotangent)
    for k in rng.choice(pairs.n_pairs, 6, replace=False):
        for axis in range(3):
            expected = pair_gradient(lambda moved: (own.compute(moved) * cotangent).sum(), pairs, k, axis)
            assert gradients[k, axis] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_results_do_not_depend_on_threads_or_lanes(atoms, monkeypatch):
    own = Mbtr(SPECIES, 3.6, DISTANCES, ANGLES)
    several = atoms.repeat((2, 1, 1))[:19]
    pairs = find_pairs(several, own.cutoff)
    cotangent = np.random.default_rng(2).standard_normal((len(several), own.n_features))

    def results():
        return own.compute(pairs), own.vjp(pairs, cotangent)

    first = results()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for one, other in zip(results(), first, strict=True):
        np.testing.assert_array_equal(one, other)
    try:
        for level in range(len(INSTRUCTION_SETS)):
            use_instructions(level)
            for one, other in zip(results(), first, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
    finally:
        use_instructions()


def test_lone_atoms_pairs_and_atoms_in_line():
    own = Mbtr(SPECIES, 4.0, DISTANCES, ANGLES)
    lone = find_pairs(Atoms("Si"), 4.0)
    np.testing.assert_array_equal(own.compute(lone), 0.0)
    assert own.vjp(lone, np.ones((1, own.n_features))).shape == (0, 3)
    line = find_pairs(Atoms("Si3C", [[0, 0, 0], [0, 0, 1.2], [0, 0, 2.4], [0, 0, -1.2]]), 4.0)
    assert np.isfinite(own.compute(line)).all()
    assert np.isfinite(own.vjp(line, np.ones((4, own.n_features)))).all()


def test_it_vanishes_smoothly_at_the_cutoff():
    own = Mbtr((14,), 4.0, {**DISTANCES, "weighting": "unity", "scale": None}, {**ANGLES, "weighting": "unity", "scale": None})
    features = []
    for r in (4.0 - 1e-4, 4.0 + 1e-4):
        pairs = find_pairs(Atoms("Si3", [[0, 0, 0], [0, 0, 2.0], [r, 0, 0]]), 4.0)
        features.append(own.compute(pairs)[0])
    np.testing.assert_allclose(features[0], features[1], atol=1e-6)


def test_size_does_not_depend_on_elements_with_weights():
    sizes = {Mbtr(tuple(range(1, n + 1)), 4.0, DISTANCES, ANGLES, n_weights=2).n_features for n in (1, 5, 40)}
    assert sizes == {3 * (9 + 2 * 11)}


def test_what_is_outside_of_the_grid(caplog):
    own = Mbtr((14,), 5.0, {**DISTANCES, "min": 0.5, "max": 1.0})
    pairs = [find_pairs(bulk("Si"), 5.0)]
    inside = own.compute(pairs[0]).sum(axis=1) * own.k2.width
    r = pairs[0].distances
    total = np.bincount(pairs[0].i, np.exp(-0.4 * r) * step(own, r))
    assert own.lost_weight(pairs) == pytest.approx(1 - inside.sum() / total.sum(), abs=1e-9)
    with caplog.at_level(logging.WARNING):
        assert own.settled(pairs) is own
    assert "% of the weight of the distances in the data is outside of min = 0.5 to max = 1" in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "k2, k3: give at least one"),
        ({"k2": {**DISTANCES, "min": 0.8, "max": 0.2}}, "k2: min = 0.8, max = 0.2: min must be below max"),
        ({"k2": {**DISTANCES, "sigma": 0.02}}, "k2: sigma = 0.02: is below a third of the width of a bin, 0.075: .*at least 11"),
        ({"k2": {**DISTANCES, "sigma": 1e-9}}, "k2: sigma = 1e-09"),
        ({"k2": {**DISTANCES, "n": 1}}, "k2: n = 1"),
        ({"k2": {**DISTANCES, "scale": None}}, "k2: scale = None"),
        ({"k2": {**DISTANCES, "geometry": "cosine"}}, "k2: geometry = 'cosine': must be one of distance, inverse_distance"),
        ({"k2": {**DISTANCES, "width": 1}}, "k2 = .*unexpected keyword argument 'width'"),
        ({"k3": {**ANGLES, "geometry": "angle"}}, 'k3: geometry = "angle": an angle has a kink .* use "cosine"'),
        ({"k3": {**ANGLES, "weighting": "inverse_square"}}, "k3: weighting = 'inverse_square': must be one of unity"),
        ({"k3": {**ANGLES, "vertices": "none"}}, "k3: vertices = 'none'"),
        ({"k3": {**ANGLES, "min": 1.2, "max": 2.0}}, "k3: min = 1.2, max = 2.0: no cosine is in this range"),
        ({"k2": DISTANCES, "cutoff_width": 5.0}, "cutoff_width = 5.0"),
        ({"k2": DISTANCES, "n_weights": 5}, "n_weights = 5"),
    ],
)
def test_what_cannot_be(keys, message):
    with pytest.raises(ConfigError, match=message):
        Mbtr(SPECIES, 4.0, **keys)


def test_unknown_elements():
    with pytest.raises(UnknownSpeciesError):
        KINDS["angles"].compute(find_pairs(Atoms("O"), 4.0))
