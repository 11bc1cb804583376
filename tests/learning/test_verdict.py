"""Verdicts on numbers alone: what counts as converged, stalled, and neither."""

import numpy as np
import pytest

from mlpot.learning.verdict import CALM_PART, CHECKS, LAST, MANY, SELECTED_WEIGHT, Convergence, Look

TARGET = 0.2


def run_of(*events, after=None, target=0.0):
    """A run from its events: a number of calm steps, "needed", or a (error, is_check) or (error, is_check, after) label."""
    convergence = Convergence(after, target)
    for event in events:
        if event == "needed":
            convergence = convergence.stepped(1, True)
        elif isinstance(event, int):
            convergence = convergence.stepped(event, False)
        else:
            error, is_check, *after_learning = event
            convergence = convergence.looked(Look(error, *(after_learning or [0.05]), is_check))
    return convergence


def check(error):
    return error, True


def asked(error):
    return error, False


def test_nothing_was_checked():
    for convergence in (run_of(1000), run_of("needed", 1000)):
        verdict = convergence.conclude(TARGET)
        assert verdict.name == "not converged" and "no prediction was checked" in verdict.reason and verdict.advice
        assert verdict.numbers["rms_error_of_last_labels"] is None and verdict.numbers["n"] == 0


@pytest.mark.parametrize(
    ("events", "name", "words"),
    [
        # check labels within the target and a calm end
        (("needed", asked(0.9), 300, check(0.1), 300, check(0.15), 300), "converged", "last 2 check labels"),
        (("needed", asked(0.9), 300, check(0.1), 500), "converged", "only check label"),
        # without check labels the last labels count, whatever the model has learned since
        (("needed", asked(0.1), "needed", asked(0.15), 1000), "converged", "last 2 labels"),
        (("needed", asked(0.1), "needed", asked(0.5), 1000), "not converged", "no check label"),
        # a label that was needed after the last check label counts again
        (("needed", check(0.05), 100, "needed", asked(1.0), 1000), "not converged", "1 label since"),
        # still learning when the steps ended
        (("needed", asked(0.1), 300, check(0.1), 200, "needed", asked(0.1), 10), "not converged", "still needed 10 steps"),
        (("needed", asked(0.1), 300, check(0.3), 200, "needed", asked(0.4), 10), "not converged", "still needed 10 steps"),
        # no label is asked for, and check labels contradict
        (("needed", asked(0.4), 300, check(0.4), 300, check(0.35), 300), "stalled", "no label is requested"),
        # the model is not sure even of what it has just learned
        (("needed", (0.5, False, 0.3), 1000), "stalled", "just been learned"),
        (("needed", (0.1, False, 0.3), 100, "needed", (0.1, False, 0.3)), "stalled", "just been learned"),
    ],
)  # fmt: skip
def test_verdicts(events, name, words):
    verdict = run_of(*events).conclude(TARGET)
    assert verdict.name == name and words in verdict.text
    assert verdict.is_converged == (name == "converged") == (not verdict.advice)


def test_the_root_mean_square_error_of_the_last_labels():
    """Check labels, the last of them; labels that were asked for since count less, those before not at all."""
    errors = [0.9, 0.1, 0.2, 0.3, 0.1, 0.2]
    numbers = run_of(asked(3.0), *map(check, errors), 100).conclude(TARGET).numbers
    assert len(errors) > LAST and (numbers["n"], numbers["n_check"]) == (LAST, LAST)
    assert numbers["rms_error_of_last_labels"] == pytest.approx(np.sqrt(np.mean(np.square(errors[-LAST:]))))
    numbers = run_of(check(0.1), check(0.3), asked(0.4)).conclude(TARGET).numbers
    mean = (0.01 + 0.09 + SELECTED_WEIGHT * 0.16) / (2 + SELECTED_WEIGHT)
    assert numbers["rms_error_of_last_labels"] == pytest.approx(np.sqrt(mean))
    assert (numbers["n"], numbers["n_check"], numbers["target"]) == (3, 2, TARGET)
    numbers = run_of(*map(asked, errors)).conclude(TARGET).numbers
    assert numbers["rms_error_of_last_labels"] == pytest.approx(np.sqrt(np.mean(np.square(errors[-LAST:]))))


def test_a_rate_that_does_not_fall_is_stalled_unless_the_run_is_heated():
    events = ["needed", asked(0.1), 20] * (2 * MANY + 2)
    steady = run_of(*events)
    assert steady.conclude(TARGET).name == "stalled" and "as often" in steady.conclude(TARGET).reason
    assert steady.conclude(TARGET, heated=True).name == "not converged"
    falling = run_of(*["needed"] * 20, asked(0.1), 100, *["needed", 20] * MANY)
    assert falling.conclude(TARGET).name == "not converged"


def test_the_last_part_of_the_run_must_be_calm():
    n_steps = 1000
    for extra, name in ((0, "converged"), (1, "not converged")):
        calm = int(CALM_PART * n_steps) - extra
        events = (asked(0.1), n_steps - 1 - calm, "needed", calm)
        assert run_of(*events).conclude(TARGET).name == name
    assert run_of(asked(0.1), 1000).conclude(TARGET, wanted=True).name == "not converged"
    assert "increase max_labels" in run_of(asked(0.1), 1000).conclude(TARGET, wanted=True).advice


def test_a_target_error_of_the_user_is_the_bound():
    for own, name in ((0.0, "converged"), (0.05, "stalled"), (0.15, "converged")):
        verdict = run_of(check(0.1), 1000, target=own).conclude(TARGET)
        assert verdict.name == name and verdict.numbers["target"] == (own or TARGET)


def test_a_run_that_may_end_early():
    """Converged is not stalled."""
    convergence = Convergence(after=100, target=0.1)
    assert convergence.stepped(1000, False).verdict == "learning"  # nobody has looked at the true error
    for _ in range(CHECKS):
        convergence = convergence.looked(Look(0.05, 0.1, True))
    assert convergence.verdict == "learning"
    calm = convergence.stepped(60, False).stepped(60, False)
    assert calm.verdict == "converged"
    assert calm.looked(Look(0.9, 0.1, False)).verdict == "converged"  # it was taken where the model was unsure
    assert calm.looked(Look(0.2, 0.1, True)).verdict == "stalled"
    assert calm.stepped(1, True).verdict == "learning"
    never = Convergence(None, 0.1).looked(Look(0.0, 0.0, True)).stepped(10**6, False)
    assert never.verdict == "learning"
    assert Convergence(100, 0.1).restore(calm.state()) == calm
