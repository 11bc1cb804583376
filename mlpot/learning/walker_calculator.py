"""The calculator of a simulation that can repeat a step."""

from __future__ import annotations

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..drivers.ase import changes
from ..errors import LabelError
from .calculator import CampaignCalculator
from .cycle import Assessment, Event, LabelNeeded
from .queries import Answer


class WalkerCalculator(CampaignCalculator):
    """For a simulation that can repeat a step: `LabelNeeded` interrupts it, `give` provides the answer for the repetition."""

    _given: tuple[Assessment, Answer] | None = None

    def give(self, assessment: Assessment, answer: Answer) -> None:
        """Let the next calculation, of the atoms that needed the label, find it."""
        self._given = assessment, answer

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """As in the base class; an answer that was given is used once."""
        if self._given is None:
            return super().calculate(atoms, properties, system_changes)
        assessment, answer = self._given
        self._given = None
        Calculator.calculate(self, atoms, list(properties), system_changes)
        if changes(assessment.atoms, self.present):
            raise LabelError(
                f"walker {self.cycle.walker}: repeating a step led to another structure; the integrator keeps state that is not saved"
            )
        return self._finish(Event(assessment.decision, assessment.prediction, answer))

    def _label(self, assessment: Assessment) -> Answer:
        raise LabelNeeded(assessment)

    def assess_end(self, atoms: Atoms) -> Assessment:
        """The present atoms, to be labelled because a relaxation ends there."""
        prediction = self.predict()
        return self.cycle.confirmation_of(atoms, prediction, self._use_of(prediction))
