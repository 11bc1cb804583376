"""The learner's decisions and lessons."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_frames
from learning_runs import CONFIG, TERMS

import mlpot
from mlpot.errors import ConfigError
from mlpot.learning.learner import TARGET, Learner
from mlpot.learning.policy import FIRST_SCALE, Rules
from mlpot.models.prediction import least_certain
from mlpot.models.settings import FitConfig

NOW = {"since_label": 5, "since_check": 0}


def from_nothing(rules=None):
    learner = Learner(CONFIG, (14,), rules)
    learner.begin([], [])
    return learner


def test_decisions():
    learner = from_nothing(Rules(max_labels=1, novelty=100.0))
    assert learner.decide(None, **NOW).reason == "no model"
    first, far = make_frames(2, seed=3)
    learner.learn(first, None)
    learner.n_asked += 1
    known = learner.model.predict(first, uncertainty=True)
    learner.rules = replace(learner.rules, threshold=1.1 * least_certain(known.forces_std))
    sure = learner.decide(known, **NOW)
    assert sure.action == "go on" and sure.reason == "certain"
    far.positions[0] += [1.0, 0.5, 0.3]
    prediction = learner.model.predict(far, uncertainty=True)
    unsure = learner.decide(prediction, **NOW)
    assert unsure.expected == least_certain(prediction.forces_std) and unsure.novelty == prediction.novelty.max()
    assert unsure.action == "stop" and unsure.reason == "budget spent"
    learner.n_asked = 0
    assert learner.decide(prediction, **NOW).action == "label"


def test_learning_lowers_the_uncertainty_of_what_was_learned(frames):
    learner = from_nothing()
    learner.learn(frames[0], None)
    prediction = learner.model.predict(frames[1], uncertainty=True)
    before, n_before = learner.before(prediction), learner.model.n_sparse
    lesson = learner.learn(frames[1], before)
    assert lesson.expected == pytest.approx(least_certain(prediction.forces_std))
    assert lesson.expected_after < lesson.expected
    assert lesson.force_error == pytest.approx(np.sqrt(np.mean((prediction.forces - frames[1].get_forces()) ** 2)))
    assert learner.model.n_sparse == n_before + lesson.n_new_points
    assert learner.model_version == 2


def test_errors_seen_calibrate_the_uncertainty(frames):
    """Deviations become the errors that occur: the same structure, a scale that has been learned."""
    learner = from_nothing()
    learner.learn(frames[0], None)
    for atoms in frames[1:6]:
        raw = learner.before(learner.model.predict(atoms, uncertainty=True))
        prediction = learner.model.predict(atoms, uncertainty=True)
        np.testing.assert_allclose(prediction.forces_std, learner.history.scale * raw.raw_std, rtol=1e-12)
        learner.learn(atoms, raw)
    assert learner.history.scale != FIRST_SCALE
    errors, expected = [], []
    for atoms in frames[6:]:
        prediction = learner.model.predict(atoms, uncertainty=True)
        errors.append(np.sqrt(np.mean((prediction.forces - atoms.get_forces()) ** 2)))
        expected.append(np.sqrt(np.mean(prediction.forces_std**2)))
    assert 0.3 < np.mean(errors) / np.mean(expected) < 3


def test_the_model_is_a_function_of_the_labels(frames):
    """Learned one by one, or all at once after a restart: the same bits."""
    live = from_nothing()
    for k, atoms in enumerate(frames[:4]):
        live.learn(atoms, None if k == 0 else live.before(live.model.predict(atoms, uncertainty=True)))
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
