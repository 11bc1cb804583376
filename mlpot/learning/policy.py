"""When to ask for a label, when a run may stop: pure decisions on force errors in eV/A, expected and seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ..errors import ConfigError
from ..models.representatives import NOVEL

RECENT = 10
"""Labels that an adaptive threshold and the calibration remember."""
FADING = 0.5
"""Weight of a label's error in the calibration, relative to the label after it."""
FIRST_SCALE = 1.0
"""Factor on the raw uncertainty assumed before errors have been seen; it counts as one label."""
GROWTH = 2.0
"""A threshold never exceeds this multiple of the uncertainties at which errors have been seen: the next step out is
taken only after the last one has been looked at."""
RESOLUTION, SLACK = 1.2, 3.0
"""A threshold never lies below the first multiple of the uncertainty that remains at structures just learned, unless that is
more than the second multiple of the target."""
SETTLING = 40
"""Steps of a walker after which the first model is looked at, whatever it says: it knows one structure, and not how little that
is."""
FAMILIAR = 0.3
"""... or as soon as an environment is more novel than this: optimisers leave known ground faster than dynamics."""
ALARM = 2.0
"""Above this multiple of the threshold, or in unknown territory, a label does not wait for the decorrelation time."""

Action = Literal["go on", "queue", "label", "stop"]
LABEL_REASONS = ("no model", "untried", "uncertain", "novel", "soft", "check", "found", "confirm")
"""Why a label was asked for; found: by a run that was killed before it could learn it; confirm: where a relaxation has ended."""


@dataclass(frozen=True)
class Observation:
    """What one label taught about the uncertainty of the forces; eV/A.

    Parameters
    ----------
    error : float
        Root mean square error of the force components before the label was learned.
    raw_rms, raw_max : float
        Uncalibrated deviations before: root mean square over the components, and of the least certain atom.
    raw_after : float
        That of the least certain atom after the label was learned.
    """

    error: float
    raw_rms: float
    raw_max: float
    raw_after: float


@dataclass(frozen=True)
class History:
    """The last observations, and what they say of the scale of the uncertainty."""

    recent: tuple[Observation, ...] = field(default=())

    @property
    def scale(self) -> float:
        """Factor that makes raw deviations the errors that occur: the geometric mean over labels, the last ones above all.

        It grows with the data: the posterior takes what no model of its kind can fit for noise that averages out.
        """
        ratios = [FIRST_SCALE] + [o.error / o.raw_rms for o in self.recent if o.raw_rms > 0 and o.error > 0]
        weights = FADING ** np.arange(len(ratios))[::-1]
        return float(np.exp(weights @ np.log(ratios) / weights.sum()))

    def observe(self, observation: Observation) -> History:
        """The history after one more label."""
        return History((*self.recent, observation)[-RECENT:])

    def state(self) -> list[list[float]]:
        """For `restore`: plain numbers."""
        return [[o.error, o.raw_rms, o.raw_max, o.raw_after] for o in self.recent]

    @classmethod
    def restore(cls, state: list[list[float]]) -> History:
        """The same history after a restart."""
        return cls(tuple(Observation(*values) for values in state[-RECENT:]))


@dataclass(frozen=True)
class Rules:
    """What the user asked for.

    Parameters
    ----------
    threshold : float or "adaptive"
        Largest expected error of a force that is trusted, eV/A.
    target : float or None
        eV/A: what an adaptive threshold comes down to; None leaves it to the learner.
    novelty : float
        An environment this far from all sparse points is labelled whatever the calibration says.
    soft_fraction : float or None
        Above this part of the threshold a label is queued, and the simulation goes on.
    check_interval : int or None
        A label every so many steps of each walker, whatever the uncertainty says, to see the true error.
    min_interval : int
        Steps between two labels of one walker: the decorrelation time. `ALARM` overrides it.
    max_labels : int or None
        After so many no more are asked for.
    """

    threshold: float | Literal["adaptive"] = "adaptive"
    target: float | None = None
    novelty: float = NOVEL
    soft_fraction: float | None = None
    check_interval: int | None = None
    min_interval: int = 0
    max_labels: int | None = None

    def are_spent(self, asked: int) -> bool:
        """Whether no label more may be asked for."""
        return self.max_labels is not None and asked >= self.max_labels

    def aiming(self, default: float) -> Rules:
        """The same rules with a target, `default` (eV/A) where none was asked for."""
        return replace(self, target=self.target or default)

    def threshold_now(self, history: History) -> float:
        """Largest expected force error that is trusted now, eV/A.

        An adaptive one tightens towards the target as the model gets better, and relaxes where the model, just taught,
        is not surer than that.
        """
        if self.threshold != "adaptive":
            return float(self.threshold)
        if self.target is None:
            raise ConfigError("an adaptive threshold needs a target; see `aiming`")
        if not history.recent:
            return self.target
        seen = history.scale * max(o.raw_max for o in history.recent)
        reachable = history.scale * float(np.median([o.raw_after for o in history.recent]))
        return max(min(self.target, GROWTH * seen), min(RESOLUTION * reachable, SLACK * self.target))


@dataclass(frozen=True)
class Situation:
    """What a decision depends on; expected errors in eV/A.

    Parameters
    ----------
    expected : float or None
        Expected error of the least certain force; None without a model.
    novelty : float or None
        Of the strangest environment.
    since_label, since_check : int
        Steps since this walker's last label, and since its last check label; since its start where there was none.
    queued : int
        Labels of this walker under way.
    asked : int
        Labels asked for so far, by all.
    """

    expected: float | None
    novelty: float | None
    since_label: int
    since_check: int
    queued: int = 0
    asked: int = 0


@dataclass(frozen=True)
class Decision:
    """What to do with a prediction, and why.

    Parameters
    ----------
    action : str
        "go on"; "queue" a label and go on; "label" and wait; "stop".
    reason : str
        One of `LABEL_REASONS`, or "certain", "too soon" or "budget spent".
    expected, novelty, threshold : float or None
        As they were; eV/A for the first and the last.
    """

    action: Action
    reason: str
    expected: float | None
    novelty: float | None
    threshold: float | None

    @property
    def label(self) -> bool:
        """Whether the simulation waits for a label."""
        return self.action == "label"

    @property
    def why(self) -> str:
        """The numbers behind it, for people."""
        if self.expected is None or self.threshold is None:
            return "there is no model yet"
        return f"expected force error {self.expected:.3g} eV/A, threshold {self.threshold:.3g} eV/A, novelty {self.novelty:.3g}"


def decide(rules: Rules, history: History, now: Situation) -> Decision:
    """What to do with a prediction."""
    if now.expected is None or now.novelty is None:
        return _decision("label", "no model", now, None, rules)
    threshold = rules.threshold_now(history)
    waited = now.since_label >= rules.min_interval
    if now.novelty > rules.novelty:
        return _decision("label", "novel", now, threshold, rules)
    settled = min(now.since_label, now.since_check) >= SETTLING
    if not history.recent and (settled or now.novelty > FAMILIAR):
        return _decision("label", "untried", now, threshold, rules)
    if now.expected > threshold:
        if waited or now.expected > ALARM * threshold:
            return _decision("label", "uncertain", now, threshold, rules)
        return _decision("go on", "too soon", now, threshold, rules)
    if rules.check_interval is not None and now.since_check >= rules.check_interval and not now.queued:
        return _decision("queue", "check", now, threshold, rules)
    if rules.soft_fraction is not None and now.expected > rules.soft_fraction * threshold and waited and not now.queued:
        return _decision("queue", "soft", now, threshold, rules)
    return _decision("go on", "certain", now, threshold, rules)


def _decision(action: Action, reason: str, now: Situation, threshold: float | None, rules: Rules) -> Decision:
    """A decision within the budget: without labels left a needed one stops the run, and a queued one is left out."""
    if action in ("label", "queue") and rules.are_spent(now.asked):
        action, reason = ("stop" if action == "label" else "go on"), "budget spent"
    return Decision(action, reason, now.expected, now.novelty, threshold)
