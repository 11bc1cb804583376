"""Errors of one label beside what was stated of them."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from mlpot.learning.observed_errors import ObservedErrors, ObservedForces, compared, worst_ratio

COPPER = np.full(100, 29)


def ordinary(rng):
    """Deviations (100, 3) that hardly differ, errors as large as stated, and strongest forces (100,)."""
    deviations = 0.01 * rng.uniform(0.9, 1.1, (100, 1)) * np.ones(3)
    return deviations * rng.normal(size=(100, 3)), deviations, rng.uniform(0.5, 1.5, 100)


def ratios(seen):
    return np.array(seen.errors) / np.array(seen.deviations)


def test_one_wild_component_does_not_set_a_label():
    raw = np.full(30, 0.1)
    errors = 0.1 * np.random.default_rng(0).normal(size=30)
    calm = ObservedErrors.of(errors, raw)
    errors[3] = 100.0
    assert ObservedErrors.of(errors, raw).z2 < calm.z2 + 2.0
    assert calm.z2 == pytest.approx(np.mean(errors[np.arange(30) != 3] ** 2) / 0.01, rel=0.25)


def test_one_wild_atom_does_not_set_the_bin_of_many():
    errors, deviations, strongest = ordinary(np.random.default_rng(0))
    calm = compared(errors, deviations, strongest, COPPER)[29]
    ranks = [np.argsort(np.argsort(x)) for x in (deviations[:, 0], strongest)]
    errors[np.argmin(np.maximum(*ranks))] = 100.0  # of the bin of all that is small
    assert compared(errors, deviations, strongest, COPPER)[29].errors[0] < 2 * calm.errors[0]


def test_what_symmetry_makes_zero_teaches_nothing():
    raw = np.array([[0.1, 0.0, 1e-9]])
    (seen,) = compared(np.array([[0.1, 1e-8, 1e-8]]), raw, np.array([3.0]), np.array([29])).values()
    assert (seen.sizes, seen.errors, seen.deviations) == ((1,), (pytest.approx(0.1),), (pytest.approx(0.1),))
    assert seen.strongest == (pytest.approx(3.0),)
    assert compared(raw, np.zeros((1, 3)), np.ones(1), np.array([29])) == {}


def test_every_atom_is_in_one_bin():
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 4, 7, 100):
        (errors, deviations), strongest = rng.uniform(0.1, 1.0, (2, n, 3)), rng.uniform(0.1, 1.0, n)
        seen = ObservedForces.of(errors, deviations, strongest)
        assert seen.n == 3 * n and min(seen.sizes) >= 3
        for name, values, power in (("deviations", deviations, 2), ("strongest", strongest, 6)):
            mean = np.average(np.array(getattr(seen, name)) ** power, weights=seen.sizes)
            assert mean == pytest.approx(np.mean(values**power)), name


def test_the_few_least_certain_atoms_have_bins_of_their_own():
    """100 atoms, one of which is ten times less certain, and off by more than was said: its bin alone tells."""
    errors, deviations, strongest = ordinary(np.random.default_rng(1))
    deviations[42], errors[42] = 0.1, [0.5, -0.4, 0.6]
    seen = compared(errors, deviations, strongest, COPPER)[29]
    worst = int(np.argmax(seen.deviations))
    assert seen.sizes[worst] <= 6 and ratios(seen)[worst] > 3
    assert np.delete(ratios(seen), worst).max() < 2


def test_the_few_atoms_that_collide_have_bins_of_their_own():
    errors, deviations, strongest = ordinary(np.random.default_rng(2))
    strongest[17], errors[17] = 9.0, 0.2
    seen = compared(errors, deviations, strongest, COPPER)[29]
    worst = int(np.argmax(seen.strongest))
    assert seen.sizes[worst] <= 6 and seen.strongest[worst] > 7 and ratios(seen)[worst] > 3
    assert np.delete(ratios(seen), worst).max() < 2


def test_it_comes_back_from_json():
    errors, deviations, strongest = ordinary(np.random.default_rng(4))
    seen = ObservedForces.of(errors, deviations, strongest)
    assert ObservedForces.restore(json.loads(json.dumps(asdict(seen)))) == seen


def test_the_worst_atom_is_that_with_the_largest_error():
    errors = np.array([[0.1, 0.0, 0.0], [0.0, 0.3, 0.0]])
    deviations = np.array([[0.001, 0.001, 0.001], [0.1, 0.1, 0.1]])
    assert worst_ratio(errors, deviations) == pytest.approx(3.0 / np.sqrt(3.0))
    assert worst_ratio(errors, np.zeros((2, 3))) > 1e4
