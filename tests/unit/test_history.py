"""What labels taught about deviations, and the calibration that follows; numbers alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlpot.learning.history import (
    FEW,
    LEAST,
    MOST,
    PRIOR,
    RECENT,
    WILD,
    History,
    Observation,
    Seen,
    compared,
    pooled,
    widening,
)
from mlpot.models.calibration import OPEN
from mlpot.models.prediction import ExpectedErrors

MANY = {6: 10**9, 29: 10**9}
AFTER = ExpectedErrors(0.01, 0.001, None)


def observation(ratios, n_atoms=32, seed=0, energy=None, stress=None):
    """A label whose errors on elements are so many times the expected ones."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(list(ratios), n_atoms)
    raw = rng.uniform(0.05, 0.2, size=(len(numbers), 3))
    factors = np.array([ratios[z] for z in numbers.tolist()])[:, None]
    errors = OPEN * factors * raw * rng.normal(size=raw.shape)
    return Observation(1.0, 2.0, 0.1, 0.2, AFTER, compared(errors, raw, numbers), energy, stress)


def relative(seen, structures=MANY):
    """Factors of elements over what is believed without labels."""
    return {z: factor / OPEN for z, factor in seen.calibration(structures).of_elements.items()}


def history(*observations):
    found = History()
    for o in observations:
        found = found.observe(o)
    return found


def test_nothing_seen_leaves_deviations_as_the_model_has_them():
    calibration = History().calibration(MANY)
    assert calibration.of_elements == pytest.approx({6: OPEN, 29: OPEN})
    assert (calibration.force_scale, calibration.energy_scale, calibration.stress_scale) == (OPEN, 1.0, 1.0)


def test_every_element_has_a_factor_of_its_own():
    seen = history(*(observation({6: 3.0, 29: 1.0}, seed=k) for k in range(20)))
    factors = relative(seen)
    assert 2.3 < factors[6] < 3.1 and 0.85 < factors[29] < 1.6


def test_an_element_of_which_little_was_seen_follows_the_others():
    seen = history(*(observation({29: 3.0}, seed=k) for k in range(20)))
    factors = relative(seen)
    assert factors[6] == pytest.approx(factors[29], rel=0.15) and factors[6] > 2
    single = relative(history(*seen.recent, observation({6: 0.5}, n_atoms=1)))
    assert single[6] > 1.5


def test_factors_follow_what_the_last_labels_showed():
    seen = history(*(observation({29: 3.0}, seed=k) for k in range(2 * RECENT)))
    assert len(seen.recent) == RECENT
    before = relative(seen)[29]
    seen = history(*seen.recent, *(observation({29: 1.0}, seed=k) for k in range(40)))
    assert relative(seen)[29] < 0.6 * before


def test_one_wild_label_does_not_set_the_factor():
    calm = [observation({29: 1.0}, seed=k) for k in range(10)]
    wild = observation({29: 50.0})
    for labels in ([wild], [*calm, wild], [*calm[:5], wild, *calm[5:]]):
        assert relative(history(*labels))[29] < 2.2
    assert relative(history(wild, wild, wild))[29] > 5


def test_one_wild_component_does_not_set_a_label():
    raw = np.full(30, 0.1)
    errors = 0.1 * np.random.default_rng(0).normal(size=30)
    calm = Seen.of(errors, raw)
    errors[3] = 100.0
    assert Seen.of(errors, raw).z2 < calm.z2 + 1.0
    assert calm.z2 == pytest.approx(np.mean(errors[np.arange(30) != 3] ** 2) / 0.01, rel=0.25)


def test_factors_are_bounded():
    for ratio, bound in ((0.0, LEAST), (1e3, MOST)):
        labels = [observation({29: ratio}, energy=Seen(1, 1.0, 1.0, ratio**2), seed=k) for k in range(RECENT)]
        calibration = history(*labels).calibration(MANY)
        assert calibration.of_elements[29] == pytest.approx(OPEN * bound) and LEAST <= calibration.energy_scale <= MOST


def test_energy_and_stress_have_factors_of_their_own():
    labels = [
        observation({29: 1.0}, seed=k, energy=Seen(1, 1.0, 1.0, 16.0), stress=Seen(6, 1.0, 1.0, 0.3))
        for k in range(RECENT)
    ]
    calibration = history(*labels).calibration(MANY)
    assert 1.5 < calibration.energy_scale < 4.0 and calibration.stress_scale < 0.8
    assert calibration.of_elements[29] == pytest.approx(OPEN, rel=0.15)
    # a single number says less than a hundred, which is said by the formula of the module
    one = history(observation({29: 1.0}, energy=Seen(1, 1.0, 1.0, 9.0)))
    common = one._factor([pooled(o.elements) for o in one.recent], OPEN, OPEN) / OPEN
    weight = 1 / (1 + FEW)
    expected = np.sqrt((PRIOR * common**2 + weight * min(9.0, WILD**2 * common**2)) / (PRIOR + weight))
    assert one.calibration(MANY).energy_scale == pytest.approx(expected)


def test_an_element_seen_in_one_structure_is_not_trusted_like_one_seen_in_fifty():
    factors = relative(History(), {6: 1, 29: 50})
    assert factors[6] == pytest.approx(np.sqrt(3.0)) and factors[29] == pytest.approx(1.0, abs=0.03)
    assert widening(2) == pytest.approx(np.sqrt(2.0)) and widening(0) == widening(1)


def test_what_symmetry_makes_zero_teaches_nothing():
    raw = np.array([[0.1, 0.0, 1e-9]])
    (seen,) = compared(np.array([[0.1, 1e-8, 1e-8]]), raw, np.array([29])).values()
    assert seen.n == 1 and seen.z2 == pytest.approx(1.0)
    assert compared(raw, np.zeros((1, 3)), np.array([29])) == {}


def test_elements_are_pooled_by_their_components():
    both = pooled({6: Seen(3, 1.0, 2.0, 4.0), 29: Seen(9, 3.0, 4.0, 8.0)})
    assert both == Seen(12, np.sqrt(7.0), np.sqrt(13.0), 7.0) and pooled({}) is None


def test_it_comes_back_bit_for_bit():
    seen = history(observation({6: 3.0, 29: 1.0}, energy=Seen(1, 0.1, 0.3, 1 / 3), stress=None), observation({29: 0.7}))
    again = History.restore(json.loads(json.dumps(seen.state())))
    assert again == seen and again.calibration(MANY) == seen.calibration(MANY)
    assert History.restore([[0.1, 0.2, 0.3, 0.4]]) == History()  # of an earlier version


def test_labels_that_were_chosen_for_large_deviations_do_not_lower_them_much():
    """Deviations scatter, and the largest are too large; larger errors than were expected count in full."""
    for ratio in (0.5, 3.0):
        found = [
            relative(history(*(replace(observation({29: ratio}, seed=k), is_chosen=chosen) for k in range(3))))
            for chosen in (False, True)
        ]
        plain, chosen = (factors[29] for factors in found)
        assert plain < chosen < 1.0 if ratio < 1 else chosen == plain > 1.0
