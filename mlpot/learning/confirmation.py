"""How far the last answers of a calculator are to be trusted, and how far off they were."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.prediction import Prediction, expected_errors
from ..units import GIGAPASCAL, MILLI
from .learner import Lesson
from .policy import Rules


@dataclass(frozen=True)
class Confirmation:
    """What the label of a structure showed of the prediction before it; no errors where the structure had been labelled already.

    Parameters
    ----------
    energy_error : float
        Predicted minus labelled, eV/atom.
    force_error, max_force_error : float
        Root mean square over all components, and the largest of one, eV/A.
    stress_error : float or None
        Largest of a component, eV/A^3; None without a stress.
    changed : bool
        Whether an error is beyond its target, so that an optimiser should go on from the label.
    """

    energy_error: float
    force_error: float
    max_force_error: float
    stress_error: float | None
    changed: bool


def confirmation(lesson: Lesson | None, rules: Rules, wants_stress: bool) -> Confirmation:
    """The errors that a label has shown; None: it had been learned before. The stress counts where it is wanted.

    A structure that was labelled without any model before it has changed, as there was no answer.
    """
    if lesson is None:
        return Confirmation(0.0, 0.0, 0.0, None, False)
    if lesson.force_error is None:
        nothing = float("nan")
        return Confirmation(nothing, nothing, nothing, None, True)
    energy, stress = lesson.energy_error or 0.0, lesson.stress_error
    changed = (
        abs(energy) > rules.target_energy
        or lesson.max_force_error > rules.aim
        or (wants_stress and stress is not None and stress > rules.aim_stress)
    )
    return Confirmation(energy, lesson.force_error, lesson.max_force_error, stress, bool(changed))


def trust(prediction: Prediction, wants_stress: bool) -> str:
    """How far a prediction is expected to be off, in a line."""
    errors = expected_errors(prediction)
    said = f"{errors.energy / MILLI:.2g} meV/atom, {errors.force:.2g} eV/A"
    if wants_stress and errors.stress is not None:
        said += f", {errors.stress / GIGAPASCAL:.2g} GPa"
    return f"the last structure was predicted, not calculated: expected errors {said}; call confirm(atoms) to check it"
