"""When to ask for a label: pure decisions, made from expected errors and from the errors that labels have shown.

A prediction is trusted if the expected errors of the properties in use are within their limits: the forces (the RMS over all
atoms and the least certain atom; see `counted_error`), the energy per atom, and the stress where it is used. The limits are the
user's targets. At the beginning of a run they are larger (`EARLY`); after a fixed number of labels, whatever the model predicts,
they equal the targets.
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
"""Ratio of the limits of the first model to the targets, and its decay with every label: from the third label on the ratio is 1.
A model of one structure is uncertain about everything; without larger limits it would have structures labelled that hardly
differ."""
LOOK, LOOKS = 0.1, 2
"""Displacement (A) from the nearest labelled structure at which a model that has not been tested yet gets its first test label,
and twice that for the second. Until then its standard deviations are a guess. 0.1 A is a thermal amplitude at room temperature:
the true error of a crystal's model is 0.1 to 1 eV/A there, which is large enough to measure and not yet dangerous."""
KNOWN = 1e-4
"""Displacement (A) below which a structure counts as labelled already: even at the stiffest bonds the forces differ by 0.005 eV/A
only."""
ALARM = 2.0
"""An expected error above this multiple of its limit is labelled without waiting for the decorrelation time, unless structures
that have just been learned are as uncertain: then another label at once cannot help. The multiple doubles, up to `EXTREME`, for
every consecutive label whose prediction was within the limit: otherwise a vibrating molecule would raise an alarm at every
turning point. An alternative, waiting longer the smaller the excess is (1 / r^2 of the decorrelation time), saves labels as well,
but CO on Cu(111) at 500 K blew up with it."""
DOUBTFUL = 0.5
"""A novel environment is labelled only if an expected error exceeds this fraction of its limit. The variance that the sparse
points leave unexplained is part of the expected errors; where the forces do not depend on it, novelty does not matter."""
TELLING = 0.1
"""Displacement (A) from the nearest labelled structure below which no alarm is raised, since the label would hardly be new. On
CO/Cu(111), where a bond breaks, alarms at every other step took 79 and 90 labels."""
EXTREME = 10.0
"""Multiple of the limit above which an alarm is raised however close the nearest labelled structure is: the next steps cannot be
trusted at all."""
JUST_LEARNED = 3
"""Number of recent labels whose expected errors after learning show how certain the model can be."""
FEWEST_BEFORE_CHECK, LONGEST_CHECK = 5, 5000
"""Automatic check labels: the smallest number of steps before the first one, even without a decorrelation time, and the largest
number between two."""
HOTTER = 1.2
"""An RMS force above this multiple of the largest RMS force in any labelled structure makes an automatic check due. Forces grow
with the square root of the temperature, and checks of a cold crystal say little about a melt: without this rule a copper crystal
heated through melting went unchecked for half of its run. 1.2, 1.3 and 1.4 left 5, 17 and 14 % of its frames with errors of more
than twice the expected ones. The same holds for the strongest pair force, see `strongest`."""
RARER = 3
"""Factor on the interval to the next automatic check after one that met the target. With 3 instead of 2, silicon heated from 300 to
1200 K takes 9 labels instead of 11, at the same errors."""
HIGH, PATIENCE = 0.7, 2.0
"""An automatic check that is due waits for a structure whose expected force error is at least the first multiple of the largest one
since the last label, but not longer than the second multiple of its interval. Errors are largest where they are expected to be large,
so checks at arbitrary phases of a vibration miss them: two checks of CO on Cu(111) found 0.03 and 0.01 eV/A within 500 steps in which
every other frame had errors of 0.5 to 1 eV/A on C and O, three to ten times the expected ones."""
SURPRISING_ERROR, SURPRISING_ATOM = 2.0, 3.0
"""A label is a surprise, after which the interval of automatic checks starts again from the first, if the RMS force error is more
than the first multiple of the expected one, or the force error of the worst atom more than the second multiple of its standard
deviation."""
CONFIRM = "confirm"
"""Reason of the label that confirms the end of a relaxation, or the answer of a script."""

Action = Literal["go on", "queue", "label", "stop"]
LABEL_REASONS = ("no model", "untried", "uncertain", "novel", "apart", "soft", "check", "found", CONFIRM)
"""Why a label was requested. "apart": an atom is farther than the cutoff from all others, see the module of that name; "found": a run
that was killed had paid for it and not learned it; "confirm": the end of a relaxation, or a script's `confirm`."""

CHOSEN_REASONS = ("uncertain", "soft", "novel")
"""Reasons of labels that were requested because the model was uncertain."""


@dataclass(frozen=True)
class Use:
    """Purpose of a prediction, which decides how accurate it must be.

    Parameters
    ----------
    stress : bool
        Whether the stress is used.
    early : bool
        Whether predictions may be less certain at the beginning of a run, which is good enough for dynamics.
    max_force, max_stress : float
        Largest expected errors with which the prediction is useful, eV/A and eV/A^3, in addition to the targets.
    look : float
        Displacement (A) at which a model that has not been tested yet gets a test label.
    share : float
        Fraction of the targets of energy and stress that the expected errors may reach.
    """

    stress: bool = False
    early: bool = True
    max_force: float = np.inf
    max_stress: float = np.inf
    look: float = LOOK
    share: float = 1.0


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
        Whether the model discrepancy counts too, or only the part of the error that labels can reduce. Dynamics go on with a
        discrepancy above the target, since more labels would not help, and the verdict reports it; where the prediction would be
        useless with it, the structure is labelled.
    dipole : float or None
        e A; None where no dipole is learned, or any error of it is accepted.
    """

    force: float
    energy: float
    stress: float | None = None
    whole: bool = False
    dipole: float | None = None

    def ratios(self, expected: ExpectedErrors) -> dict[str, float]:
        """Ratios of the expected errors to their limits."""
        force = expected.force if self.whole or expected.learnable is None else expected.learnable
        ratios = {"forces": force / self.force, "energy": expected.energy / self.energy}
        if self.stress is not None and expected.stress is not None:
            ratios["stress"] = expected.stress / self.stress
        if self.dipole is not None and expected.dipole is not None:
            ratios["dipole"] = expected.dipole / self.dipole
        return ratios

    def worst(self, expected: ExpectedErrors) -> tuple[str, float]:
        """The property with the largest ratio of expected error to limit, and that ratio."""
        ratios = self.ratios(expected)
        return max(ratios.items(), key=lambda item: item[1])


def limits_of(rules: Rules, n_labels: int, use: Use) -> Limits:
    """Largest expected errors that are trusted of a model with this many labels."""
    early = 1.0
    if rules.threshold == "adaptive" and use.early:
        early = max(EARLY * EARLY_DECAY ** (n_labels - 1), 1.0)
    stress = min(early * use.share * rules.aim_stress, use.max_stress) if use.stress else None
    whole = use.max_force < np.inf or not use.early
    energy = early * use.share * rules.target_energy
    return Limits(min(early * rules.aim, use.max_force), energy, stress, whole, rules.threshold_dipole)


def first_check(rules: Rules) -> int:
    """Steps before the first automatic check: the decorrelation time."""
    return max(rules.min_interval, FEWEST_BEFORE_CHECK)


def next_check(rules: Rules, interval: int, error: float, is_surprise: bool, is_check: bool) -> int:
    """Steps to the next automatic check after a label with an RMS force error, eV/A, that was expected or a surprise."""
    if error > rules.aim or is_surprise:
        return first_check(rules)
    return min(RARER * interval, LONGEST_CHECK) if is_check else interval


@dataclass(frozen=True)
class Situation:
    """Everything that a decision depends on.

    Parameters
    ----------
    expected : ExpectedErrors or None
        None without a model.
    novelty : float or None
        Largest novelty of an environment.
    since_label, since_check : int
        Steps since this walker's last label and since its last check label, or since its start.
    queued : int
        Labels of this walker that are under way.
    asked : int
        Labels requested so far by all walkers.
    n_labels : int
        Labels that the model was fitted to.
    moved : float or None
        Displacement (A) from the nearest labelled structure; None if it has not been computed.
    check_interval : int
        Steps to the next automatic check.
    use : Use
    is_hotter : bool
        Whether the forces are larger than in all labelled structures, see `HOTTER`.
    peak : float
        Largest expected force error since the last label, eV/A; see `HIGH`.
    is_apart : bool
        Whether an atom is farther than the cutoff from all others, where no label has shown that nothing acts on it.
    beyond_budget : tuple of str
        Reasons for which a label is requested even if the budget is spent.
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
    peak: float = 0.0
    is_apart: bool = False
    beyond_budget: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """Decision on a prediction, and its reason.

    Parameters
    ----------
    action : str
        "go on"; "queue" a label and go on; "label" and wait; "stop".
    reason : str
        One of `LABEL_REASONS`, or "certain", "known", "too soon" or "budget spent".
    expected, novelty, threshold : float or None
        Expected error of the forces and its limit, eV/A; largest novelty of an environment.
    errors : ExpectedErrors or None
        All expected errors.
    limits : Limits or None
        Limits of the expected errors.
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
        """The kind (as in `Limits.ratios`) with the largest ratio of expected error to limit; None without a model."""
        return None if self.errors is None or self.limits is None else self.limits.worst(self.errors)[0]

    @property
    def urgency(self) -> float:
        """Largest ratio of an expected error to its limit; infinite without a model."""
        return np.inf if self.errors is None or self.limits is None else self.limits.worst(self.errors)[1]

    @property
    def why(self) -> str:
        """The numbers behind the decision, for messages: the decisive one first."""
        if self.errors is None or self.limits is None:
            return "there is no model yet"
        ratios, limits = self.limits.ratios(self.errors), self.limits
        units = {
            "forces": (limits.force, 1.0, "force error", "eV/A"),
            "energy": (limits.energy, MILLI, "energy error", "meV/atom"),
            "stress": (limits.stress or 0.0, GIGAPASCAL, "stress error", "GPa"),
            "dipole": (limits.dipole or 0.0, 1.0, "dipole error", "e A"),
        }
        said = []
        for kind in sorted(ratios, key=lambda kind: -ratios[kind]):
            limit, one, name, unit = units[kind]
            said.append(f"expected {name} {ratios[kind] * limit / one:.3g} {unit} (limit {limit / one:.3g})")
        return f"{', '.join(said)}, novelty {self.novelty:.3g}"


def look_after(n_tested: int, first: float = LOOK) -> float:
    """Displacement (A) at which a model that has been tested by `n_tested` labels gets its next test label."""
    return first * 2**n_tested if n_tested < LOOKS else np.inf


def decide(rules: Rules, history: History, now: Situation) -> Decision:
    """Decide what to do with a prediction."""
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
    if now.is_apart and (waited or not now.use.early):
        return _decision("label", "apart", now, limits, rules)
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
    """Ratio of expected error to limit above which a label does not wait for the decorrelation time."""
    wrong = [k for k, o in enumerate(reversed(history.recent)) if o.worst > limits.force]
    n_right = wrong[0] if wrong else len(history.recent)
    return min(ALARM ** (1 + n_right), EXTREME) * max(1.0, _just_learned(history, limits))


def _just_learned(history: History, limits: Limits) -> float:
    """Median ratio of expected error to limit at structures that have just been learned; 0 before there are any.

    Below that ratio another label at once cannot help.
    """
    ratios = [limits.worst(o.after)[1] for o in history.recent[-JUST_LEARNED:]]
    return float(np.median(ratios)) if ratios else 0.0


def _is_check_due(rules: Rules, now: Situation) -> bool:
    if rules.check_interval == "off":
        return False
    if rules.check_interval == "auto":
        due = first_check(rules) if now.is_hotter else now.check_interval
        since = min(now.since_check, now.since_label)
        is_telling = now.expected is None or now.expected.force >= HIGH * now.peak
        return since >= (due if is_telling else PATIENCE * due)
    return now.since_check >= rules.check_interval


def _decision(action: Action, reason: str, now: Situation, limits: Limits | None, rules: Rules) -> Decision:
    """A decision within the budget: once it is spent, a needed label stops the run and an optional one is left out."""
    is_free = action == "label" and reason in now.beyond_budget
    if action in ("label", "queue") and not is_free and rules.are_spent(now.asked):
        action, reason = ("stop" if action == "label" else "go on"), "budget spent"
    force = None if now.expected is None else now.expected.force
    threshold = None if limits is None else limits.force
    return Decision(action, reason, force, now.novelty, threshold, now.expected, limits)
