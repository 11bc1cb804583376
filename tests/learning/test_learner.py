"""The learner's decisions and lessons."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import make_frames
from learning_runs import CONFIG, TERMS

import mlpot
from mlpot.errors import ConfigError
from mlpot.learning.history import TAILS, widening
from mlpot.learning.learner import ABSURD, ORDINARY, UNUSUAL, Learner
from mlpot.learning.policy import FEWEST_BEFORE_CHECK, LOOK, Rules, Use
from mlpot.learning.step_counters import StepCounters
from mlpot.models.prediction import counted_error, expected_errors
from mlpot.settings.fit import FitConfig
from mlpot.settings.learning import TARGET
from mlpot.uncertainty.calibration import OPEN

COUNTERS = StepCounters(step=5)
LOOSE = Rules(threshold=1e3, target_energy=1e3, target_stress=1e3, novelty=1e9, check_interval="off")
"""Trusts everything that has been tested."""


def from_nothing(rules=None):
    learner = Learner(CONFIG, (14,), rules)
    learner.begin([], [])
    return learner


def test_decisions():
    learner = from_nothing(Rules(max_labels=1, novelty=100.0))
    first, far = make_frames(2, seed=3)
    assert learner.decide(None, first, COUNTERS).reason == "no model"
    learner.learn(first, None)
    learner.n_asked += 1
    far.positions[0] += [1.0, 0.5, 0.3]
    prediction = learner.model.predict(far, uncertainty=True)
    unsure = learner.decide(prediction, far, COUNTERS)
    assert unsure.expected == counted_error(prediction.forces_std) and unsure.novelty == prediction.novelty.max()
    assert unsure.errors == expected_errors(prediction)
    assert unsure.action == "stop" and unsure.reason == "budget spent"
    learner.n_asked = 0
    assert learner.decide(prediction, far, COUNTERS).action == "label"


def test_a_structure_that_is_known_is_not_labelled_again():
    """Whatever the model says of it, and wherever it is."""
    learner = from_nothing(Rules(threshold=1e-9))
    (first,) = make_frames(1, seed=3)
    learner.learn(first, None)
    known = learner.model.predict(first, uncertainty=True)
    assert learner.decide(known, first, COUNTERS).reason == "known"
    first = first.copy()
    first.positions += [0.3, 1.0, 2.0]
    assert learner.decide(known, first, COUNTERS).reason == "known"
    first.positions[0, 0] += 0.01
    assert learner.decide(known, first, COUNTERS).action == "label"


def test_a_new_model_is_looked_at_where_atoms_have_moved():
    """Of any walker, from any labelled structure."""
    learner = from_nothing(LOOSE)
    (first,) = make_frames(1, seed=3)
    learner.learn(first, None)
    for shift, reason in ((0.8 * LOOK, "certain"), (1.2 * LOOK, "untried")):
        moved = first.copy()
        moved.positions[3, 1] += shift
        prediction = learner.model.predict(moved, uncertainty=True)
        assert learner.decide(prediction, moved, COUNTERS).reason == reason
    learner.learn(make_frames(2, seed=3)[1], learner.prior(prediction))
    assert learner.decide(prediction, moved, COUNTERS).reason == "certain"  # the second one at twice the distance


def test_the_stress_counts_where_it_is_used_and_labels_have_it():
    for stress in (True, False):
        learner = from_nothing(LOOSE.changed(target_stress=1e-12))
        first, far = make_frames(2, seed=3, stress=stress)
        learner.learn(first, None)
        learner.learn(far, learner.prior(learner.model.predict(far, uncertainty=True)))
        learner.learn(*_and_before(learner, make_frames(3, seed=3, stress=stress)[2]))
        far = far.copy()
        far.positions[0, 0] += 0.01
        prediction = learner.model.predict(far, uncertainty=True)
        assert learner.can_learn_stress == stress
        assert learner.decide(prediction, far, COUNTERS).action == "go on"
        asked = learner.decide(prediction, far, COUNTERS, use=Use(stress=True))
        assert asked.action == ("label" if stress else "go on")


def _and_before(learner, atoms):
    return atoms, learner.prior(learner.model.predict(atoms, uncertainty=True))


def test_learning_lowers_the_uncertainty_of_what_was_learned(frames):
    learner = from_nothing()
    learner.learn(frames[0], None)
    prediction = learner.model.predict(frames[1], uncertainty=True)
    before, n_before = learner.prior(prediction), learner.model.n_sparse
    outcome = learner.learn(frames[1], before)
    assert outcome.expected == pytest.approx(counted_error(prediction.forces_std))
    assert outcome.expected_after < outcome.expected
    assert outcome.force_error == pytest.approx(np.sqrt(np.mean((prediction.forces - frames[1].get_forces()) ** 2)))
    assert learner.model.n_sparse == n_before + outcome.n_new_points
    assert learner.model_version == 2


def test_errors_seen_calibrate_the_uncertainty(frames):
    """Deviations become the errors that occur: the same structure, a factor that has been learned."""
    learner = from_nothing()
    learner.learn(frames[0], None)
    for atoms in frames[1:6]:
        prediction = learner.model.predict(atoms, uncertainty=True)
        raw = learner.prior(prediction)
        factor = learner.calibration.of_elements[14]
        np.testing.assert_allclose(prediction.forces_std, factor * raw.raw_std, rtol=1e-12)
        own = learner.fit.model.predict(atoms, uncertainty=True)
        np.testing.assert_allclose(OPEN * raw.raw_std, own.forces_std, rtol=1e-12)
        np.testing.assert_allclose(raw.stress_std, own.stress_std, rtol=1e-12)
        outcome = learner.learn(atoms, raw)
        assert outcome.energy_error == pytest.approx((prediction.energy - atoms.get_potential_energy()) / len(atoms))
        differences = prediction.stress - atoms.get_stress(voigt=False)
        assert outcome.stress_error == pytest.approx(np.abs(differences).max())
        assert outcome.max_force_error == pytest.approx(np.abs(prediction.forces - atoms.get_forces()).max())
        assert outcome.expected_rms == pytest.approx(np.sqrt(np.mean(prediction.forces_std**2)))
    assert learner.calibration.of_elements[14] != pytest.approx(OPEN * widening(6), rel=1e-3)
    errors, expected = [], []
    for atoms in frames[6:]:
        prediction = learner.model.predict(atoms, uncertainty=True)
        errors.append(np.sqrt(np.mean((prediction.forces - atoms.get_forces()) ** 2)))
        expected.append(np.sqrt(np.mean(prediction.forces_std**2)))
    assert 0.3 < np.mean(errors) / np.mean(expected) < 3


def test_an_element_of_few_structures_is_less_certain():
    learner = Learner(CONFIG, (6, 14))
    frames = [make_frames(1, numbers, seed)[0] for seed, numbers in enumerate([(14,), (14,), (14,), (6, 14)])]
    learner.begin(frames, [])
    factors = {z: factor / OPEN for z, factor in learner.calibration.of_elements.items()}
    assert factors[6] == pytest.approx(TAILS * widening(1)) and factors[14] == pytest.approx(TAILS * widening(4))


def test_check_labels_set_the_time_of_the_next(frames):
    learner = from_nothing(Rules(target=10.0))
    learner.learn(frames[0], None)
    outcome = learner.learn(*_and_before(learner, frames[1]))
    learner.checked(replace(outcome, forces_std=np.full((2, 3), outcome.force_error)), is_check=False)
    assert learner.check_interval == FEWEST_BEFORE_CHECK
    learner.checked(replace(outcome, forces_std=np.full((2, 3), outcome.force_error)), is_check=True)
    assert learner.check_interval == 3 * FEWEST_BEFORE_CHECK == learner.state()["check_interval"]
    again = from_nothing()
    again.begin([], [], state=learner.state())
    assert again.check_interval == 3 * FEWEST_BEFORE_CHECK
    learner.checked(replace(outcome, forces_std=np.full((2, 3), 0.4 * outcome.force_error)), is_check=False)
    assert learner.check_interval == FEWEST_BEFORE_CHECK


def test_absurd_forces_are_doubted():
    learner = from_nothing()
    (first,) = make_frames(1)
    largest = np.sqrt((first.get_forces() ** 2).sum(axis=1)).max()

    def with_force(size):
        atoms = first.copy()
        forces = np.zeros((len(atoms), 3))
        forces[4, 2] = size
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces)
        return atoms

    assert learner.doubt(with_force(0.99 * ABSURD)) is None  # the first may be extreme
    assert "force of 303 eV/A" in learner.doubt(with_force(1.01 * ABSURD))
    learner.learn(first, None)
    bound = max(UNUSUAL * largest, ORDINARY)
    assert learner.doubt(with_force(0.99 * bound)) is None
    assert f"the largest force of all labels so far is {largest:.3g} eV/A" in learner.doubt(with_force(1.01 * bound))


def test_the_model_is_a_function_of_the_labels(frames):
    """Learned one by one, or all at once after a restart: the same bits."""
    live = from_nothing()
    for k, atoms in enumerate(frames[:4]):
        live.learn(*((atoms, None) if k == 0 else _and_before(live, atoms)))
    again = Learner(CONFIG, (14,))
    again.begin([], frames[:4], state=live.state())
    np.testing.assert_array_equal(again.model.weights, live.model.weights)
    np.testing.assert_array_equal(again.model.factor, live.model.factor)
    assert again.model.calibration == live.model.calibration
    assert again.history == live.history and again.model_version == 4


def test_starting_from_data_and_a_model(frames):
    fitted = mlpot.fit(frames[:4], FitConfig(terms=TERMS, force_noise=0.02))
    learner = Learner(FitConfig(preset="fast"), (14,))
    learner.begin(frames[:4], [], fitted)
    assert learner.config == fitted.config
    assert learner.rules.target == TARGET
    points = learner.model.terms[1].sparse_features[0]
    np.testing.assert_array_equal(points[:100], fitted.terms[1].sparse_features[0])
    with pytest.raises(ConfigError, match="exactly"):
        Learner(CONFIG, (6, 14)).begin(frames, [], fitted)


def test_a_saved_fit_of_other_data_is_not_used(frames):
    live = Learner(CONFIG, (14,))
    live.begin(frames[:2], frames[2:4])
    for data, learned, known in ((frames[:2], frames[2:5], 4), (frames[:2], frames[3:5], 0), (frames[:3], [], 0)):
        other = Learner(CONFIG, (14,))
        other.begin(data, learned, saved=live.fit)
        assert (other.fit is live.fit) == (known > 0)
        assert other.n_labels == len(data) + len(learned)
        if known:
            live = Learner(CONFIG, (14,))
            live.begin(frames[:2], frames[2:4])
    elsewhere = Learner(FitConfig(terms=TERMS, force_noise=0.2), (14,))
    elsewhere.begin(frames[:2], frames[2:4], saved=live.fit)
    assert elsewhere.fit is not live.fit


def test_pair_forces_beyond_all_labels_are_checked_soon(frames):
    """Closer than in any label, the deviations of a pair potential are too small; resumed, a run knows this as well."""
    rules = LOOSE.changed(check_interval="auto")
    learner = from_nothing(rules)
    learner.learn(frames[0], None)
    for atoms in frames[1:3]:
        learner.learn(*_and_before(learner, atoms))
    learner.check_interval = 1000
    resumed, from_data = from_nothing(rules), from_nothing(rules)
    resumed.begin([], list(frames[:3]), state=learner.state())
    from_data.begin(list(frames[:3]), [])
    from_data.check_interval, from_data.history = 1000, learner.history
    pressed = frames[2].copy()
    pressed.positions[1] -= 0.15 * pressed.get_distance(0, 1, mic=True, vector=True)
    for some in (learner, resumed, from_data):
        usual, unusual = (some.decide(some.model.predict(a, True), a, StepCounters(step=200)) for a in (frames[2], pressed))
        assert usual.action == "go on" and (unusual.action, unusual.reason) == ("queue", "check")
