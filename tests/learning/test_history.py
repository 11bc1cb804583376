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
    TAILS,
    History,
    Observation,
    widening,
)
from mlpot.learning.observed_errors import WILD, ObservedErrors, compared
from mlpot.models.prediction import ExpectedErrors
from mlpot.uncertainty.calibration import BEYOND, FAR, OPEN, POWER, WIDTH

MANY = {6: 10**9, 29: 10**9}
WIDER = TAILS * widening(10**9)
AFTER = ExpectedErrors(0.01, 0.001, None)


def observation(ratios, n_atoms=32, seed=0, energy=None, stress=None):
    """A label whose errors on elements are so many times the expected ones."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(list(ratios), n_atoms)
    raw = rng.uniform(0.05, 0.2, size=(len(numbers), 3))
    factors = np.array([ratios[z] for z in numbers.tolist()])[:, None]
    errors = OPEN * factors * raw * rng.normal(size=raw.shape)
    return Observation(1.0, 2.0, 0.1, 0.2, AFTER, compared(errors, raw, np.ones(len(raw)), numbers), energy, stress)


def relative(seen, structures=MANY):
    """Factors of elements over what is believed without labels."""
    return {z: factor / (OPEN * WIDER) for z, factor in seen.calibration(structures).of_elements.items()}


def history(*observations):
    found = History()
    for o in observations:
        found = found.observe(o)
    return found


def test_nothing_seen_leaves_deviations_as_the_model_has_them():
    calibration = History().calibration(MANY)
    assert calibration.of_elements == pytest.approx(dict.fromkeys((6, 29), OPEN * WIDER))
    assert (calibration.force_scale, calibration.energy_scale, calibration.stress_scale) == (OPEN, 1.0, 1.0)


def test_every_element_has_a_factor_of_its_own():
    seen = history(*(observation({6: 3.0, 29: 1.0}, seed=k) for k in range(20)))
    factors = relative(seen)
    assert 2.3 < factors[6] < 3.1 and 0.85 < factors[29] < 1.6


def test_an_element_without_errors_of_its_own_follows_the_others():
    seen = history(*(observation({29: 3.0}, seed=k) for k in range(20)))
    factors = relative(seen)
    assert factors[6] == pytest.approx(factors[29], rel=0.15) and factors[6] > 2
    single = relative(history(*seen.recent, observation({6: 0.5}, n_atoms=1)))
    assert single[6] < 1.2  # from its first error on, only its own count


def test_errors_of_other_elements_do_not_count_twice():
    """Two elements of one label err together: neither is a prior of the other."""
    alone = history(*(observation({6: 1.0}, seed=k) for k in range(3))).calibration(MANY)
    beside = [
        Observation(1.0, 2.0, 0.1, 0.2, AFTER, {**observation({6: 1.0}, seed=k).elements, **observation({29: 5.0}).elements})
        for k in range(3)
    ]
    assert history(*beside).calibration(MANY).of_elements[6] == alone.of_elements[6]


def test_factors_follow_what_the_last_labels_showed():
    seen = history(*(observation({29: 3.0}, seed=k) for k in range(2 * RECENT)))
    assert len(seen.recent) == RECENT
    before = relative(seen)[29]
    seen = history(*seen.recent, *(observation({29: 1.0}, seed=k) for k in range(40)))
    assert relative(seen)[29] < 0.6 * before


def test_one_wild_label_does_not_set_the_factor():
    calm = [observation({29: 1.0}, seed=k) for k in range(10)]
    wild = observation({29: 50.0})
    for labels in ([*calm, wild], [*calm[:5], wild, *calm[5:]]):
        assert relative(history(*labels))[29] < 2.5
    # alone it can do no more than what the prior lets it
    assert relative(history(wild))[29] < FAR * np.exp(WIDTH**2 * (BEYOND**2 - 1))
    assert relative(history(wild, wild, wild))[29] > 5


def test_factors_are_bounded():
    for ratio, bound in ((0.0, LEAST), (1e3, MOST)):
        labels = [observation({29: 1.0}, energy=ObservedErrors(1, 1.0, 1.0, ratio**2), seed=k) for k in range(RECENT)]
        assert history(*labels).calibration(MANY).energy_scale == pytest.approx(bound, rel=0.5)
        assert LEAST <= history(*labels).calibration(MANY).energy_scale <= MOST


def test_energy_and_stress_have_factors_of_their_own():
    labels = [
        observation({29: 1.0}, seed=k, energy=ObservedErrors(1, 1.0, 1.0, 16.0), stress=ObservedErrors(6, 1.0, 1.0, 0.3))
        for k in range(RECENT)
    ]
    calibration = history(*labels).calibration(MANY)
    assert 1.5 < calibration.energy_scale < 4.0 and calibration.stress_scale < 0.8
    assert calibration.of_elements[29] / WIDER == pytest.approx(OPEN, rel=0.15)
    # a single number says less than a hundred, which is said by the formula of the module
    one = history(observation({29: 1.0}, energy=ObservedErrors(1, 1.0, 1.0, 9.0)))
    common = one.calibration(MANY).force_scale / OPEN
    weight = 1 / (1 + FEW)
    expected = np.sqrt((PRIOR * common**2 + weight * min(9.0, WILD**2 * common**2)) / (PRIOR + weight))
    assert one.calibration(MANY).energy_scale == pytest.approx(expected)


def test_an_element_seen_in_one_structure_is_not_trusted_like_one_seen_in_fifty():
    factors = relative(History(), {6: 1, 29: 50})
    assert factors[6] == pytest.approx(np.sqrt(3.0 / 1.2)) and factors[29] == pytest.approx(1.0)
    assert widening(2) == pytest.approx(np.sqrt(2.0)) and widening(0) == widening(1)


def test_it_comes_back_bit_for_bit():
    seen = history(observation({6: 3.0, 29: 1.0}, energy=ObservedErrors(1, 0.1, 0.3, 1 / 3), stress=None), observation({29: 0.7}))
    again = History.restore(json.loads(json.dumps(seen.state())))
    assert again == seen and again.calibration(MANY) == seen.calibration(MANY)
    old = {**seen.recent[0].state(), "elements": {"29": {"n": 3, "error": 1.0, "deviation": 1.0, "z2": 1.0}}}
    assert History.restore([[0.1, 0.2, 0.3, 0.4], old]) == History()  # of earlier versions


def chosen_labels(rng, n, floor, slope, n_atoms=2):
    """Labels whose deviations vary by a factor of 100, and whose errors are (slope s)^2 + floor^2 in squares."""
    labels = []
    for s in np.exp(rng.uniform(np.log(0.01), 0.0, n)):
        raw = np.full((n_atoms, 3), s)
        errors = np.hypot(slope * raw, floor) * rng.normal(size=raw.shape)
        seen = compared(errors, raw, np.ones(n_atoms), np.full(n_atoms, 6))
        labels.append(Observation(1.0, 2.0, 0.1, 0.2, AFTER, seen, is_chosen=True))
    return labels


def test_errors_that_hardly_grow_with_deviations_have_a_floor():
    """As those of C and O of a molecule on a metal, most of whose labels are asked for where deviations are large."""
    found = [history(*chosen_labels(np.random.default_rng(k), 24, 0.15, 1.0)).calibration({6: 10**9}) for k in range(8)]
    assert 0.06 < np.median([c.floors[6] for c in found]) / WIDER < 0.2
    assert 0.6 < np.median([c.of_elements[6] for c in found]) / WIDER < 1.6
    none = [history(*chosen_labels(np.random.default_rng(k), 24, 0.0, 1.0)).calibration({6: 10**9}) for k in range(8)]
    assert np.median([c.floors[6] for c in none]) < 0.02


def test_errors_that_grow_where_atoms_collide():
    """In a hot metal, at places that are as near to sparse points as all others."""
    rng, found = np.random.default_rng(5), History()
    for _ in range(15):
        raw, strongest = np.full((60, 3), 0.01), np.exp(rng.normal(0.0, 0.6, 60))
        sigma = np.hypot(0.01, 0.003 * strongest**POWER)[:, None]
        errors = sigma * rng.normal(size=raw.shape)
        seen = compared(errors, raw, strongest, np.full(60, 29))
        found = found.observe(Observation(1.0, 2.0, 0.1, 0.2, AFTER, seen))
    calibration = found.calibration({29: 10**9})
    assert calibration.growths[29] / WIDER == pytest.approx(0.003, rel=0.4)
    std = calibration.forces_std(raw, np.zeros_like(raw), np.full(60, 29), strongest)
    for part in (strongest < 1.0, strongest > 1.5):
        assert 0.6 < np.mean(np.abs(errors) < std, where=part[:, None]) < 0.96
    assert np.all(calibration.forces_std(0.0 * raw, 0.0 * raw, np.full(60, 29), strongest) == 0.0)  # by symmetry
    calm = history(*(observation({29: 1.0}, seed=k) for k in range(15))).calibration(MANY)
    assert calm.growths[29] < 0.03


def test_a_floor_is_wider_where_few_structures_have_the_element():
    seen = history(*chosen_labels(np.random.default_rng(0), 24, 0.15, 1.0))
    few, many = seen.calibration({6: 1}), seen.calibration({6: 10**9})
    assert few.floors[6] == pytest.approx(widening(1) / widening(10**9) * many.floors[6])


def test_energies_that_were_chosen_for_large_deviations_do_not_lower_their_factor_much():
    """Deviations scatter, and the largest are too large; larger errors than were expected count in full."""
    for ratio in (0.5, 3.0):
        energy = ObservedErrors(1, ratio, 1.0, ratio**2)
        plain, chosen = (
            history(*(replace(observation({29: 1.0}, seed=k, energy=energy), is_chosen=c) for k in range(3)))
            .calibration(MANY).energy_scale
            for c in (False, True)
        )  # fmt: skip
        assert plain < chosen < 1.05 if ratio < 1 else chosen == plain > 1.0
