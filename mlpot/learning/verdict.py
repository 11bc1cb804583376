"""The verdict on a run when it ends: converged, not converged, or stalled.

It is based on the errors that labels have shown before they were learned. Check labels are made regardless of the expected errors, so
their errors are representative of the simulation. All other labels are made where the model is least certain, so their errors are
larger; they count only until the next check label, and less than check labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..errors import counted

CHECKS = 3
"""Number of consecutive check labels with errors below the target after which a run ends early as converged."""
LAST = 5
"""Number of check labels, and of other labels, on which the verdict is based."""
SELECTED_WEIGHT = 0.25
"""Weight of the squared error of a label that is not a check label, relative to check labels."""
CALM_PART = 0.25
"""A run has converged only if no label was needed in this last fraction of its steps."""
MANY = 5
"""Smallest number of labels in the second half of the steps that counts as an undiminished rate."""

VerdictName = Literal["converged", "not converged", "stalled"]
BETTER_MODEL = 'use a better model (preset = "balanced" or "accurate") or accept a larger target'


@dataclass(frozen=True)
class Look:
    """The error that one label has shown.

    Parameters
    ----------
    error : float
        RMS error of the predicted forces, eV/A.
    expected_after : float
        Expected error of the forces on the same structure after the label was learned, eV/A.
    is_check : bool
        Whether it was a check label, made regardless of the expected errors.
    """

    error: float
    expected_after: float
    is_check: bool


@dataclass(frozen=True)
class Verdict:
    """Reliability of the result of a run.

    Parameters
    ----------
    name : str
        "converged"; "stalled" if continuing as before is not expected to help; "not converged" otherwise.
    reason, advice : str
        For people; no advice for a run that has converged.
    numbers : dict
        The numbers behind the verdict; errors in eV/A.
    """

    name: VerdictName
    reason: str
    advice: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def is_converged(self) -> bool:
        """Whether the errors are within the target, according to the labels."""
        return self.name == "converged"

    @property
    def text(self) -> str:
        """The verdict in one line."""
        return f"{self.name}: {self.reason}" + (f"; {self.advice}" if self.advice else "")

    def state(self) -> dict[str, Any]:
        """For state.json: numbers, reason and advice."""
        return {**self.numbers, "reason": self.reason, "advice": self.advice}


@dataclass(frozen=True)
class Convergence:
    """The errors that a run has shown so far, and whether it may end early.

    Parameters
    ----------
    after : int or None
        The run ends early after this many steps of all walkers without an uncertain prediction; None: never.
    target : float
        Largest RMS force error of the check labels for that, eV/A; 0: the target of the learner.
    n_steps : int
        Steps of all walkers so far.
    needed : tuple of int
        Values of `n_steps` at which the simulation had to wait for a label.
    looks : tuple of Look
        The last check labels and the last other labels, in their order.
    """

    after: int | None = None
    target: float = 0.0
    n_steps: int = 0
    needed: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()

    def stepped(self, n_steps: int, surprised: bool) -> Convergence:
        """The record after steps of all walkers, of which one needed a label if `surprised`."""
        now = self.n_steps + n_steps
        return replace(self, n_steps=now, needed=(*self.needed, now) if surprised else self.needed)

    def looked(self, look: Look) -> Convergence:
        """The record after a label."""
        looks = (*self.looks, look)
        kept = [k for kind in (True, False) for k in _positions(looks, kind)[-LAST:]]
        return replace(self, looks=tuple(looks[k] for k in sorted(kept)))

    @property
    def calm(self) -> int:
        """Steps since a label was needed."""
        return self.n_steps - (self.needed[-1] if self.needed else 0)

    @property
    def errors(self) -> tuple[float, ...]:
        """RMS force errors of the last check labels, eV/A."""
        return tuple(look.error for look in self.looks if look.is_check)[-CHECKS:]

    @property
    def verdict(self) -> str:
        """During the run: "converged" if it may end early; "stalled" if only the errors of check labels forbid it; else
        "learning"."""
        if self.after is None or self.calm < self.after or len(self.errors) < CHECKS:
            return "learning"
        return "converged" if max(self.errors) < self.target else "stalled"

    def state(self) -> dict:
        """For `restore`."""
        looks = [[look.error, look.expected_after, look.is_check] for look in self.looks]
        return {"n_steps": self.n_steps, "needed": list(self.needed), "looks": looks}

    def restore(self, state: dict) -> Convergence:
        """The record saved by `state`."""
        looks = tuple(Look(*values) for values in state.get("looks", []))
        return replace(self, n_steps=state.get("n_steps", 0), needed=tuple(state.get("needed", ())), looks=looks)

    def conclude(self, target: float, heated: bool = False, wanted: bool = False) -> Verdict:
        """The verdict if the run ended now.

        Parameters
        ----------
        target : float
            Target of the learner, eV/A; the RMS errors are compared with `self.target` instead if that is given.
        heated : bool
            Whether the temperature of the thermostat changed during the run: then labels are needed until the end in any case.
        wanted : bool
            Whether the run ended because a label was needed that the budget did not allow.

        Returns
        -------
        Verdict
            "converged": the RMS error of the last labels is within the target, and no label was needed in the last quarter of the
            steps. Otherwise "stalled" if expected errors exceed the target even for structures that have just been learned, if no
            label is requested although the errors of check labels exceed the target, or if labels are needed as often in the
            second half of the steps as in the first. "Not converged" in all other cases.
        """
        bound = self.target or target
        rms, n_checks, n = _evidence(self.looks)
        of_checks = _rms([look.error for look in self.looks if look.is_check])
        is_calm = not wanted and self.calm >= CALM_PART * self.n_steps
        after = float(np.median([look.expected_after for look in self.looks[-LAST:]])) if self.looks else None
        numbers = {
            "rms_error_of_last_labels": rms, "n": n, "n_check": n_checks, "target": bound, "steps": self.n_steps,
            "steps_since_label_was_needed": self.calm, "expected_error_after_learning": after,
        }  # fmt: skip
        if rms is None or after is None:
            return Verdict(
                "not converged", "no prediction was checked by a label",
                "run longer, or set check_interval", numbers,
            )  # fmt: skip
        said = f"RMS force error {rms:.3g} eV/A in {_counted(n, n_checks)}, target {bound:.3g} eV/A"
        if rms <= bound and is_calm:
            calm = f"no label was needed in the last {self.calm} of {counted(self.n_steps, 'step')}"
            return Verdict("converged", f"{said}; {calm}", "", numbers)
        stalled = self._why_stalled(after > target, after, is_calm, of_checks > bound, heated)
        if stalled is not None:
            return Verdict("stalled", f"{said}; {stalled[0]}", stalled[1], numbers)
        return Verdict("not converged", *self._why_not(said, is_calm, wanted), numbers)

    def _why_stalled(
        self, is_unsure: bool, after: float, is_calm: bool, is_refuted: bool, heated: bool
    ) -> tuple[str, str] | None:
        """Reason and advice if continuing as before is not expected to help, else None."""
        if is_unsure:
            return (
                f"even for structures that have just been learned, the expected force error is {after:.3g} eV/A",
                BETTER_MODEL,
            )
        if is_calm and is_refuted:
            return "no label is requested, but the errors of check labels exceed the target", (
                f"decrease learning.threshold to get more labels, or {BETTER_MODEL}"
            )
        late = sum(step > self.n_steps / 2 for step in self.needed)
        early = len(self.needed) - late
        if not heated and not is_calm and late >= max(early, MANY):
            return (
                f"labels are needed as often as before ({early} in the first half of the steps, {late} in the second)",
                (f"run longer, or {BETTER_MODEL}"),
            )
        return None

    def _why_not(self, said: str, is_calm: bool, wanted: bool) -> tuple[str, str]:
        """Reason and advice for a run that is still learning, or whose last model has not been checked."""
        if wanted:
            return f"{said}; a label was needed, but the budget is spent", "increase max_labels and continue with --resume"
        if is_calm:
            return f"{said}; no check label has shown the error of the present model", "run longer with a check_interval"
        return (
            f"{said}; a label was still needed {self.calm} steps before the end",
            "run longer: continue with --resume and more steps",
        )


def _positions(looks: Sequence[Look], is_check: bool) -> list[int]:
    return [k for k, look in enumerate(looks) if look.is_check == is_check]


def _evidence(looks: Sequence[Look]) -> tuple[float | None, int, int]:
    """RMS error of the last labels (eV/A; None without labels), and the numbers of check labels and of all labels in it.

    The last check labels count and, with less weight, later labels; without check labels, the last labels.
    """
    checks = _positions(looks, True)
    used = [look for k, look in enumerate(looks) if not checks or look.is_check or k > checks[-1]]
    if not used:
        return None, 0, 0
    weights = [1.0 if look.is_check or not checks else SELECTED_WEIGHT for look in used]
    return _rms([look.error for look in used], weights), len(checks), len(used)


def _rms(errors: Sequence[float], weights: Sequence[float] | None = None) -> float:
    return float(np.sqrt(np.average(np.square(errors), weights=weights))) if errors else 0.0


def _counted(n: int, n_checks: int) -> str:
    """The labels that the verdict is based on, in words."""
    if not n_checks:
        return f"the last {n} labels" if n > 1 else "the only label after a prediction"
    checks = f"the last {n_checks} check labels" if n_checks > 1 else "the only check label"
    others = n - n_checks
    return checks + (f" and {counted(others, 'label')} since" if others else "")
