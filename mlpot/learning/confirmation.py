"""Expected errors of the last answer of a calculator, and its errors once a label has shown them."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.prediction import Prediction, expected_errors
from ..units import GIGAPASCAL, MILLI
from .label_outcome import LabelOutcome
from .policy import Rules


@dataclass(frozen=True)
class Confirmation:
    """Errors of a prediction that its label has shown; zero if the structure had been labelled before.

    Parameters
    ----------
    energy_error : float
        Predicted minus labelled, eV/atom.
    force_error, max_force_error : float
        RMS error of the force components, and the largest error of one, eV/A.
    stress_error : float or None
        Largest error of a stress component, eV/A^3; None without a stress.
    changed : bool
        Whether an error exceeds its target, so that an optimiser should continue from the label.
    """

    energy_error: float
    force_error: float
    max_force_error: float
    stress_error: float | None
    changed: bool


def confirmation(outcome: LabelOutcome | None, rules: Rules, wants_stress: bool) -> Confirmation:
    """The errors that a label has shown, and whether they exceed their targets.

    Parameters
    ----------
    outcome : LabelOutcome or None
        None if the structure had been labelled before: no errors. Without a prediction before the label, the errors are NaN and
        `changed` is true.
    rules : Rules
        Has the targets.
    wants_stress : bool
        Whether the stress counts.
    """
    if outcome is None:
        return Confirmation(0.0, 0.0, 0.0, None, False)
    if outcome.force_error is None or outcome.max_force_error is None:
        nothing = float("nan")
        return Confirmation(nothing, nothing, nothing, None, True)
    energy, stress = outcome.energy_error or 0.0, outcome.stress_error
    changed = (
        abs(energy) > rules.target_energy
        or outcome.max_force_error > rules.aim
        or (wants_stress and stress is not None and stress > rules.aim_stress)
    )
    return Confirmation(energy, outcome.force_error, outcome.max_force_error, stress, bool(changed))


def trust(prediction: Prediction, wants_stress: bool) -> str:
    """The expected errors of a prediction, in one line for a message."""
    errors = expected_errors(prediction)
    said = f"{errors.energy / MILLI:.2g} meV/atom, {errors.force:.2g} eV/A"
    if wants_stress and errors.stress is not None:
        said += f", {errors.stress / GIGAPASCAL:.2g} GPa"
    return f"the last structure was predicted, not labelled: expected errors {said}; call confirm(atoms) to check it"
