"""Decisions on numbers alone: thresholds, budgets, decorrelation, convergence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpot.errors import ConfigError
from mlpot.learning.policy import (
    ALARM,
    FAMILIAR,
    FIRST_SCALE,
    GROWTH,
    RECENT,
    RESOLUTION,
    SETTLING,
    SLACK,
    History,
    Observation,
    Rules,
    Situation,
    decide,
)

RULES = Rules(threshold=0.2, novelty=5.0)
SURE = Situation(expected=0.1, novelty=0.5, since_label=1000, since_check=0)
TRIED = History((Observation(0.4, 0.1, 0.2, 0.01),))


def situation(**changes):
    return Situation(**{**vars(SURE), **changes})


def test_the_scale_makes_deviations_the_errors_that_occur():
    history = History()
    assert history.scale == FIRST_SCALE
    for _ in range(2 * RECENT):
        history = history.observe(Observation(error=0.3, raw_rms=0.1, raw_max=0.2, raw_after=0.01))
    assert len(history.recent) == RECENT
    assert history.scale == pytest.approx(3.0, rel=0.02)
    assert History.restore(history.state()) == history
    worse = history.observe(Observation(error=0.9, raw_rms=0.1, raw_max=0.2, raw_after=0.01))
    assert 3.5 < worse.scale < 9
    for _ in range(RECENT):
        worse = worse.observe(Observation(error=0.3, raw_rms=0.1, raw_max=0.2, raw_after=0.01))
    assert worse.scale == pytest.approx(3.0, rel=0.02)


def test_what_teaches_nothing_of_the_scale_is_left_out():
    assert History().observe(Observation(0.3, 0.0, 0.0, 0.0)).scale == FIRST_SCALE


def test_an_adaptive_threshold_tightens_and_relaxes():
    rules = Rules(target=0.2, novelty=5.0)
    assert rules.threshold_now(History()) == 0.2

    def after(raw_max, raw_after):
        history = History()
        for _ in range(RECENT):
            history = history.observe(Observation(0.4, 0.1, raw_max, raw_after))  # scale 4
        return rules.threshold_now(history)

    assert after(raw_max=0.5, raw_after=0.01) == pytest.approx(0.2)
    assert after(raw_max=0.02, raw_after=0.01) == pytest.approx(GROWTH * 4 * 0.02)
    assert after(raw_max=0.5, raw_after=0.06) == pytest.approx(RESOLUTION * 4 * 0.06)
    assert after(raw_max=0.5, raw_after=0.4) == pytest.approx(SLACK * 0.2)
    with pytest.raises(ConfigError, match="target"):
        Rules().threshold_now(History())
    assert Rules().aiming(0.3).target == 0.3 and rules.aiming(0.3).target == 0.2


def test_a_fixed_threshold_stays():
    history = History((Observation(9.0, 0.1, 0.1, 0.1),) * RECENT)
    assert RULES.threshold_now(history) == 0.2


@pytest.mark.parametrize(
    ("rules", "now", "action", "reason"),
    [
        ({}, {}, "go on", "certain"),
        ({}, {"expected": None, "novelty": None}, "label", "no model"),
        ({}, {"expected": 0.21}, "label", "uncertain"),
        ({}, {"novelty": 5.1}, "label", "novel"),
        ({"min_interval": 10}, {"expected": 0.21, "since_label": 9}, "go on", "too soon"),
        ({"min_interval": 10}, {"expected": 0.21, "since_label": 10}, "label", "uncertain"),
        ({"min_interval": 10}, {"expected": 0.2 * ALARM + 0.01, "since_label": 1}, "label", "uncertain"),
        ({"min_interval": 10}, {"novelty": 5.1, "since_label": 1}, "label", "novel"),
        ({"soft_fraction": 0.4}, {}, "queue", "soft"),
        ({"soft_fraction": 0.6}, {}, "go on", "certain"),
        ({"soft_fraction": 0.4}, {"queued": 1}, "go on", "certain"),
        ({"soft_fraction": 0.4, "min_interval": 10}, {"since_label": 5}, "go on", "certain"),
        ({"check_interval": 50}, {"since_check": 50}, "queue", "check"),
        ({"check_interval": 50}, {"since_check": 49}, "go on", "certain"),
        ({"check_interval": 50}, {"since_check": 50, "queued": 1}, "go on", "certain"),
        ({"max_labels": 3}, {"expected": 0.3, "asked": 3}, "stop", "budget spent"),
        ({"max_labels": 3}, {"expected": 0.3, "asked": 2}, "label", "uncertain"),
        ({"max_labels": 3}, {"asked": 3}, "go on", "certain"),
        ({"max_labels": 3, "check_interval": 50}, {"since_check": 50, "asked": 3}, "go on", "budget spent"),
        ({"max_labels": 0}, {"expected": None, "novelty": None}, "stop", "budget spent"),
    ],
)
def test_decisions(rules, now, action, reason):
    decision = decide(Rules(**{**vars(RULES), **rules}), TRIED, situation(**now))
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.label == (action == "label")


def test_a_model_of_one_structure_is_looked_at_soon():
    """It may be sure of itself for want of knowing better."""
    for history, steps, novelty, reason in (
        (History(), SETTLING - 1, 0.0, "certain"),
        (History(), SETTLING, 0.0, "untried"),
        (TRIED, SETTLING, 0.0, "certain"),
        (History(), 1, FAMILIAR, "certain"),
        (History(), 1, FAMILIAR + 0.01, "untried"),
        (TRIED, 1, FAMILIAR + 0.01, "certain"),
    ):
        now = situation(since_label=steps, since_check=steps, novelty=novelty)
        assert decide(RULES, history, now).reason == reason


def test_a_walker_that_begins_with_a_model_is_not_looked_at_before_it_has_gone_anywhere():
    assert decide(RULES, History(), situation(since_label=10**9, since_check=0, novelty=0.0)).action == "go on"


@given(st.floats(0, 10), st.floats(0, 100), st.integers(0, 50), st.integers(0, 50))
def test_nothing_unknown_is_ever_trusted(expected, novelty, since_label, asked):
    """Whatever else is asked for: beyond the alarm, or in unknown territory, the simulation does not go on."""
    rules = Rules(0.2, novelty=5.0, soft_fraction=0.5, check_interval=20, min_interval=10, max_labels=25)
    decision = decide(rules, TRIED, Situation(expected, novelty, since_label, since_label, 0, asked))
    if novelty > 5.0 or expected > ALARM * 0.2:
        assert decision.action in ("label", "stop")
    if decision.action in ("label", "queue"):
        assert asked < 25
