"""When to ask for a label, when a run may stop: pure decisions on expected errors and on errors that were seen.

A prediction is trusted when the expected errors of what is asked for are within their limits: the forces (all together, and that on
the least certain atom; see `counted_error`), the energy per atom, and the stress where it is used. The limits are the targets of the
user; at the very beginning of a run they are larger (`EARLY`), and they come down to the targets after a fixed number of labels,
whatever the model says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..models.prediction import ExpectedErrors
from ..settings.learning import Rules
from ..units import GIGAPASCAL, MILLI
from .history import History

EARLY, EARLY_DECAY = 4.0, 0.5
"""Limits of the first model over the targets, and the factor on that with every label: the third label ends it. A model of one
structure is unsure of everything; labels at once would be of structures that hardly differ."""
LOOK, LOOKS = 0.1, 2
"""A: displacement since the nearest labelled structure at which a model that no error has tested yet gets its first label, twice
that for the second. Deviations of such a model are a guess. 0.1 A is a thermal amplitude at room temperature: the true error of a
crystal's model there is 0.1 to 1 eV/A, which is seen, and not yet dangerous."""
KNOWN = 1e-4
"""A: a structure this close to a labelled one is not labelled again: at the stiffest bonds its forces differ by 0.005 eV/A."""
ALARM = 2.0
"""Above this multiple of its limit, or in unknown territory, a label does not wait for the decorrelation time: unless structures
that have just been learned are as uncertain, for then a label at once cannot help. For every label in a row that has found its
prediction within the limit, this multiple is doubled, up to `EXTREME`: a molecule that vibrates is expected to be wrong at every
turn. Waiting the longer the smaller the excess is (1 / r^2 of the decorrelation time) saves labels as well,
and CO on Cu(111) at 500 K blew up with it."""
DOUBTFUL = 0.5
"""An environment unlike all that is known is labelled when an expected error is beyond this part of its limit: what the points leave
unexplained is part of the expected errors, and where forces do not depend on it, it does not matter."""
TELLING = 0.1
"""A: nearer than this to a labelled structure no alarm is raised: a label would tell the same once more. On CO/Cu(111), where a bond
breaks, alarms at every other step took 79 and 90 labels."""
EXTREME = 10.0
"""Above this multiple of its limit an alarm is raised however near the labelled structure is: the next steps would lead anywhere."""
JUST_LEARNED = 3
"""Labels whose expected errors after learning tell how sure the model can be."""
FEWEST_BEFORE_CHECK, LONGEST_CHECK = 5, 5000
"""Automatic check labels: steps before the first at least, even where no decorrelation time is set, and at most between two."""
HOTTER = 1.2
"""Forces beyond this multiple of those in any labelled structure (root mean squares) make an automatic check due: they grow with the
square root of the temperature, and what checks have shown of a cold crystal says little of a melt. A copper crystal that is heated
through melting was not checked for half of its run before, while checks doubled their distance."""
TOO_LARGE = 2.0
"""A label with an RMS force error of more than this multiple of the expected one begins the checks anew,"""
BEYOND = 3.0
"""and so does one whose worst atom is off by more than this multiple of its deviation."""

Action = Literal["go on", "queue", "label", "stop"]
LABEL_REASONS = ("no model", "untried", "uncertain", "novel", "soft", "check", "found", "confirm")
"""Why a label was asked for; found: by a run that was killed before it could learn it; confirm: where a relaxation has ended."""

CHOSEN_REASONS = ("uncertain", "soft", "novel")
"""Those of labels at structures that the model was not sure of."""


@dataclass(frozen=True)
class Use:
    """What an answer is used for.

    Parameters
    ----------
    stress : bool
        Whether its stress is used.
    early : bool
        Whether the first answers of a run may be less certain than later ones, as dynamics can do with.
    max_force, max_stress : float
        Largest expected errors with which this answer is of use, eV/A and eV/A^3; the targets hold besides.
    look : float
        Displacement at which a model that no error has tested yet is looked at, A.
    """

    stress: bool = False
    early: bool = True
    max_force: float = np.inf
    max_stress: float = np.inf
    look: float = LOOK


@dataclass(frozen=True)
class Limits:
    """Largest expected errors that are trusted.

    Parameters
    ----------
    force, energy : float
        eV/A and eV/atom.
    stress : float or None
        eV/A^3; None where no stress is wanted.
    whole : bool
        Whether the model's discrepancy counts, or only what a label could take away. Dynamics go on with a discrepancy beyond the
        target, as more labels do not help, and the verdict says so; an answer that is of no use with it is labelled.
    """

    force: float
    energy: float
    stress: float | None = None
    whole: bool = False

    def ratios(self, expected: ExpectedErrors) -> dict[str, float]:
        """Expected errors over their limits."""
        force = expected.force if self.whole or expected.learnable is None else expected.learnable
        ratios = {"forces": force / self.force, "energy": expected.energy / self.energy}
        if self.stress is not None and expected.stress is not None:
            ratios["stress"] = expected.stress / self.stress
        return ratios

    def worst(self, expected: ExpectedErrors) -> tuple[str, float]:
        """What is least certain compared with its limit, and the ratio of the two."""
        ratios = self.ratios(expected)
        return max(ratios.items(), key=lambda item: item[1])


def limits_of(rules: Rules, n_labels: int, use: Use) -> Limits:
    """Largest expected errors that are trusted of a model with this many labels."""
    early = 1.0
    if rules.threshold == "adaptive" and use.early:
        early = max(EARLY * EARLY_DECAY ** (n_labels - 1), 1.0)
    stress = min(early * rules.aim_stress, use.max_stress) if use.stress else None
    whole = use.max_force < np.inf or not use.early
    return Limits(min(early * rules.aim, use.max_force), early * rules.target_energy, stress, whole)


def first_check(rules: Rules) -> int:
    """Steps before the first automatic check: the decorrelation time."""
    return max(rules.min_interval, FEWEST_BEFORE_CHECK)


def next_check(rules: Rules, interval: int, error: float, is_surprise: bool, is_check: bool) -> int:
    """Steps to the next automatic check after a label with an RMS force error, eV/A, that was expected or a surprise."""
    if error > rules.aim or is_surprise:
        return first_check(rules)
    return min(2 * interval, LONGEST_CHECK) if is_check else interval


@dataclass(frozen=True)
class Situation:
    """What a decision depends on.

    Parameters
    ----------
    expected : ExpectedErrors or None
        None without a model.
    novelty : float or None
        Of the strangest environment.
    since_label, since_check : int
        Steps since this walker's last label, and since its last check label; since its start where there was none.
    queued : int
        Labels of this walker under way.
    asked : int
        Labels asked for so far, by all.
    n_labels : int
        That the model is made of.
    moved : float or None
        Displacement from the nearest labelled structure, A; None where it has not been measured.
    check_interval : int
        Steps to the next automatic check.
    use : Use
    is_hotter : bool
        Whether forces are larger than in all labelled structures, see `HOTTER`.
    """

    expected: ExpectedErrors | None
    novelty: float | None
    since_label: int
    since_check: int
    queued: int = 0
    asked: int = 0
    n_labels: int = 0
    moved: float | None = None
    check_interval: int = FEWEST_BEFORE_CHECK
    use: Use = Use()
    is_hotter: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do with a prediction, and why.

    Parameters
    ----------
    action : str
        "go on"; "queue" a label and go on; "label" and wait; "stop".
    reason : str
        One of `LABEL_REASONS`, or "certain", "known", "too soon" or "budget spent".
    expected, novelty, threshold : float or None
        Expected error of the forces and its limit, eV/A; novelty of the strangest environment.
    errors : ExpectedErrors or None
        Of everything.
    limits : Limits or None
        On them.
    """

    action: Action
    reason: str
    expected: float | None
    novelty: float | None
    threshold: float | None
    errors: ExpectedErrors | None = None
    limits: Limits | None = None

    @property
    def label(self) -> bool:
        """Whether the simulation waits for a label."""
        return self.action == "label"

    @property
    def kind(self) -> str | None:
        """Which of "forces", "energy" and "stress" is least certain compared with its limit; None without a model."""
        return None if self.errors is None or self.limits is None else self.limits.worst(self.errors)[0]

    @property
    def urgency(self) -> float:
        """The largest expected error over its limit; infinite without a model."""
        return np.inf if self.errors is None or self.limits is None else self.limits.worst(self.errors)[1]

    @property
    def why(self) -> str:
        """The numbers behind it, for people: first what decided."""
        if self.errors is None or self.limits is None:
            return "there is no model yet"
        ratios, errors, limits = self.limits.ratios(self.errors), self.errors, self.limits
        numbers = {
            "forces": ("expected force error", ratios["forces"] * limits.force, limits.force, 1.0, "eV/A"),
            "energy": ("expected energy error", errors.energy, limits.energy, MILLI, "meV/atom"),
            "stress": ("expected stress error", errors.stress, limits.stress, GIGAPASCAL, "GPa"),
        }
        said = []
        for kind in sorted(ratios, key=lambda kind: -ratios[kind]):
            name, value, limit, one, unit = numbers[kind]
            said.append(f"{name} {value / one:.3g} {unit} (limit {limit / one:.3g})")
        return f"{', '.join(said)}, novelty {self.novelty:.3g}"


def look_after(n_tested: int, first: float = LOOK) -> float:
    """Displacement, A, at which a model that this many labels have tested is looked at."""
    return first * 2**n_tested if n_tested < LOOKS else np.inf


def decide(rules: Rules, history: History, now: Situation) -> Decision:
    """What to do with a prediction."""
    if now.expected is None or now.novelty is None:
        return _decision("label", "no model", now, None, rules)
    limits = limits_of(rules, now.n_labels, now.use)
    _, worst = limits.worst(now.expected)
    moved = now.moved
    if moved is not None and moved < KNOWN:
        return _decision("go on", "known", now, limits, rules)
    if now.novelty > rules.novelty and worst > DOUBTFUL:
        return _decision("label", "novel", now, limits, rules)
    if moved is not None and moved > look_after(len(history.recent), now.use.look):
        return _decision("label", "untried", now, limits, rules)
    waited = now.since_label >= rules.min_interval
    if worst > 1.0:
        is_other = moved is None or moved > TELLING or worst > EXTREME
        if waited or (is_other and worst > _alarm(history, limits)):
            return _decision("label", "uncertain", now, limits, rules)
        return _decision("go on", "too soon", now, limits, rules)
    if _is_check_due(rules, now) and not now.queued:
        return _decision("queue", "check", now, limits, rules)
    if rules.soft_fraction is not None and worst > rules.soft_fraction and waited and not now.queued:
        return _decision("queue", "soft", now, limits, rules)
    return _decision("go on", "certain", now, limits, rules)


def _alarm(history: History, limits: Limits) -> float:
    """Expected errors over their limits at which a label does not wait."""
    wrong = [k for k, o in enumerate(reversed(history.recent)) if o.worst > limits.force]
    n_right = wrong[0] if wrong else len(history.recent)
    return min(ALARM ** (1 + n_right), EXTREME) * max(1.0, _just_learned(history, limits))


def _just_learned(history: History, limits: Limits) -> float:
    """Expected errors over their limits at structures that have just been learned: a label at once cannot help below that.

    0 where no label has shown it yet.
    """
    ratios = [limits.worst(o.after)[1] for o in history.recent[-JUST_LEARNED:]]
    return float(np.median(ratios)) if ratios else 0.0


def _is_check_due(rules: Rules, now: Situation) -> bool:
    if rules.check_interval == "off":
        return False
    if rules.check_interval == "auto":
        due = first_check(rules) if now.is_hotter else now.check_interval
        return min(now.since_check, now.since_label) >= due
    return now.since_check >= rules.check_interval


def _decision(action: Action, reason: str, now: Situation, limits: Limits | None, rules: Rules) -> Decision:
    """A decision within the budget: without labels left a needed one stops the run, and a queued one is left out."""
    if action in ("label", "queue") and rules.are_spent(now.asked):
        action, reason = ("stop" if action == "label" else "go on"), "budget spent"
    force = None if now.expected is None else now.expected.force
    threshold = None if limits is None else limits.force
    return Decision(action, reason, force, now.novelty, threshold, now.expected, limits)
