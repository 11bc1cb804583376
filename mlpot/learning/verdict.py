"""The verdict on a run when it ends: converged, not converged, or stalled.

The evidence is what labels showed of the model before it learned them. Check labels are taken whatever the model says, so their
error is that of the simulation. All other labels are taken where the model is least certain, so their error is larger than that
of the simulation; they count as long as no check label has come after them, and less than check labels do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

CHECKS = 3
"""Check labels in a row that must be below the target error before a run ends early as converged."""
LAST = 5
"""Check labels, and other labels, that the verdict looks back at."""
SELECTED_WEIGHT = 0.25
"""Weight of the squared error of a label that was not a check label, beside check labels."""
CALM_PART = 0.25
"""A run has converged if no label was needed in this last part of its steps."""
MANY = 5
"""Labels needed in the second half of the steps that can count as an undiminished rate."""

VerdictName = Literal["converged", "not converged", "stalled"]
BETTER_MODEL = 'use a better model (preset = "balanced" or "accurate") or accept a larger target'


@dataclass(frozen=True)
class Look:
    """What one label showed of the model that had predicted it.

    Parameters
    ----------
    error : float
        RMS force error of the prediction before the label was learned, eV/A.
    expected_after : float
        Expected error of the forces on the same structure after the label was learned, eV/A.
    is_check : bool
        Whether it was a check label, taken whatever the model said.
    """

    error: float
    expected_after: float
    is_check: bool


@dataclass(frozen=True)
class Verdict:
    """How far a run has come.

    Parameters
    ----------
    name : str
        "converged"; "stalled", where going on as before is not expected to help; "not converged" otherwise.
    reason, advice : str
        For people; there is no advice for a run that has converged.
    numbers : dict
        What the verdict is based on; errors in eV/A.
    """

    name: VerdictName
    reason: str
    advice: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def is_converged(self) -> bool:
        """Whether the results are within the target as far as labels show."""
        return self.name == "converged"

    @property
    def text(self) -> str:
        """In one line."""
        return f"{self.name}: {self.reason}" + (f"; {self.advice}" if self.advice else "")

    def state(self) -> dict[str, Any]:
        """For state.json: the numbers with reason and advice."""
        return {**self.numbers, "reason": self.reason, "advice": self.advice}


@dataclass(frozen=True)
class Convergence:
    """What a run has shown so far, and whether it may end early.

    Parameters
    ----------
    after : int or None
        End early after so many steps of all walkers without an uncertain prediction; None: never.
    target : float
        RMS force error that check labels must show, eV/A; 0: the target of the learner.
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
        """After steps of all walkers; `surprised` when one of them needed a label."""
        now = self.n_steps + n_steps
        return replace(self, n_steps=now, needed=(*self.needed, now) if surprised else self.needed)

    def looked(self, look: Look) -> Convergence:
        """After a label."""
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
        """While the run goes on: "learning"; "converged" when it may end early; "stalled" when only the check labels say no."""
        if self.after is None or self.calm < self.after or len(self.errors) < CHECKS:
            return "learning"
        return "converged" if max(self.errors) < self.target else "stalled"

    def state(self) -> dict:
        """For `restore`."""
        looks = [[look.error, look.expected_after, look.is_check] for look in self.looks]
        return {"n_steps": self.n_steps, "needed": list(self.needed), "looks": looks}

    def restore(self, state: dict) -> Convergence:
        """The same after a restart."""
        looks = tuple(Look(*values) for values in state.get("looks", []))
        return replace(self, n_steps=state.get("n_steps", 0), needed=tuple(state.get("needed", ())), looks=looks)

    def conclude(self, target: float, heated: bool = False, wanted: bool = False) -> Verdict:
        """The verdict if the run ended now.

        Parameters
        ----------
        target : float
            Of the learner, eV/A; `self.target` replaces it as the bound of RMS errors where it is given.
        heated : bool
            Whether the thermostat's temperature changed along the run: then labels are needed to the end even if all is well.
        wanted : bool
            Whether the run ended because a label was needed that the budget did not allow.

        Returns
        -------
        Verdict
            "converged": the RMS error of the last labels is within the target, and no label was needed in the last quarter of the
            steps. Otherwise "stalled" where the model expects more than the target even for structures that it has just learned,
            where no label is asked for although check labels are beyond the target, and where labels are needed as often in the
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
                "not converged", "nothing was checked: no label came after a prediction",
                "run longer, or set check_interval", numbers,
            )  # fmt: skip
        said = f"RMS force error {rms:.3g} eV/A in {_counted(n, n_checks)}, target {bound:.3g} eV/A"
        if rms <= bound and is_calm:
            calm = f"no label was needed in the last {self.calm} of {self.n_steps} steps"
            return Verdict("converged", f"{said}; {calm}", "", numbers)
        stalled = self._why_stalled(after > target, after, is_calm, of_checks > bound, heated)
        if stalled is not None:
            return Verdict("stalled", f"{said}; {stalled[0]}", stalled[1], numbers)
        return Verdict("not converged", *self._why_not(said, is_calm, wanted), numbers)

    def _why_stalled(
        self, is_unsure: bool, after: float, is_calm: bool, is_refuted: bool, heated: bool
    ) -> tuple[str, str] | None:
        """Reason and advice where going on as before is not expected to help."""
        if is_unsure:
            return (
                f"even for structures it has just learned the model expects force errors of {after:.3g} eV/A",
                BETTER_MODEL,
            )
        if is_calm and is_refuted:
            return "no label is asked for, yet check labels are off by more than the target", (
                f"lower learning.threshold to get more labels, or {BETTER_MODEL}"
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
        """Reason and advice of a run that is still learning, or that nobody has checked since."""
        if wanted:
            return f"{said}; a label was needed and the budget is spent", "raise max_labels and --resume"
        if is_calm:
            return f"{said}; no check label has shown the error of the model since", "run longer with a check_interval"
        return (
            f"{said}; a label was still needed {self.calm} steps before the end",
            "run longer: --resume with more steps",
        )


def _positions(looks: Sequence[Look], is_check: bool) -> list[int]:
    return [k for k, look in enumerate(looks) if look.is_check == is_check]


def _evidence(looks: Sequence[Look]) -> tuple[float | None, int, int]:
    """RMS error of the last labels (eV/A, None without any), check labels among them, and all of them.

    These are the last check labels and, with less weight, labels since; without check labels simply the last labels.
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
    """The labels of the evidence in words."""
    if not n_checks:
        return f"the last {n} labels" if n > 1 else "the only label after a prediction"
    checks = f"the last {n_checks} check labels" if n_checks > 1 else "the only check label"
    others = n - n_checks
    return checks + (f" and {others} label{'s' if others > 1 else ''} since" if others else "")
