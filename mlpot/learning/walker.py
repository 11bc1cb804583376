"""One of the simulations of a campaign: dynamics whose steps are repeated when they need a label."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from ase import Atoms

from .calculator import WalkerCalculator
from .campaign import Answer, Campaign, Query
from .dynamics import Dynamics, DynamicsPlan
from .events import Event, LabelNeeded
from .pace import Pace
from .record import Step


class Walker:
    """Dynamics with a calculator of a campaign.

    Parameters
    ----------
    campaign : Campaign
    name : str
        Unique in the campaign.
    atoms : ase.Atoms
        Where it starts; moved in place.
    plan : DynamicsPlan
    """

    def __init__(self, campaign: Campaign, name: str, atoms: Atoms, plan: DynamicsPlan):
        self.campaign, self.name, self.plan = campaign, name, plan
        self.calculator = WalkerCalculator(campaign, name, self._remember)
        self.calculator.wants_stress = plan.ensemble == "npt"
        atoms.calc = self.calculator
        self.dynamics = Dynamics(atoms, plan)
        self.event: Event | None = None
        self._needed: LabelNeeded | None = None

    @property
    def atoms(self) -> Atoms:
        """As they are now."""
        return self.dynamics.atoms

    @property
    def is_done(self) -> bool:
        """Whether all steps are made."""
        return self.dynamics.has_begun and self.dynamics.step >= self.plan.steps

    def advance(self) -> bool:
        """Make a step, the first time calculate the start; False, and nothing has happened, when it needs a label."""
        self.event = None
        before = self.dynamics.state() if self.dynamics.has_begun else None
        try:
            if before is None:
                self.dynamics.begin()
            else:
                self.dynamics.advance()
        except LabelNeeded as needed:
            if before is not None:
                self.dynamics.restore(before)
            self._needed = needed
            return False
        return True

    @property
    def doubt(self) -> float:
        """Expected error of the least certain force of the step that needs a label, eV/A; infinite without a model."""
        expected = self._needed.decision.expected
        return np.inf if expected is None else expected

    def query(self) -> Query:
        """Ask for the label that the step needs."""
        return self.calculator.query(self._needed)

    def repeat(self, answer: Answer) -> None:
        """Make the step that needed a label with its answer."""
        self.calculator.give(self._needed, answer)
        self.advance()

    def _remember(self, event: Event) -> None:
        """Keep the event of this step; the integrators calculate once a step."""
        self.event = event

    def describe(self, seconds: float) -> Step:
        """The step just made, which took so many seconds."""
        learner, event = self.campaign.learner, self.event
        decision, answer = event.decision, event.answer
        lesson = None if answer is None else answer.lesson
        return Step(
            step=self.dynamics.step,
            n_steps=self.plan.steps,
            time_fs=self.dynamics.step * self.plan.timestep_fs,
            temperature_K=float(self.atoms.get_temperature()),
            energy_eV=float(self.atoms.get_potential_energy()),
            max_energy_std_eV=None if event.prediction is None else float(event.prediction.energies_std.max()),
            threshold=decision.threshold,
            labelled=answer is not None and answer.atoms is not None,
            model_version=learner.model_version,
            n_labels=learner.n_labels,
            seconds=seconds,
            expected_error_eV_per_A=decision.expected,
            force_error_eV_per_A=None if lesson is None else lesson.force_error,
            novelty=decision.novelty,
            reason="failed" if answer is not None and answer.failure else decision.reason,
            walker=self.name,
            n_queued=len(self.campaign.queue) + (event.queued is not None),
        )

    def state(self) -> dict:
        """For `restore`."""
        return {
            "name": self.name, "numbers": self.atoms.numbers, "ensemble": self.plan.ensemble,
            "dynamics": self.dynamics.state(), "pace": asdict(self.calculator.pace),
        }  # fmt: skip

    def check(self, state: dict) -> None:
        """RunFolderError unless `state` is one of this walker."""
        found = f"walker {state['name']!r} of {len(state['numbers'])} atoms, {state['ensemble']}"
        own = f"{self.name!r} of {len(self.atoms)} atoms, {self.plan.ensemble}"
        if (state["name"], state["ensemble"]) != (self.name, self.plan.ensemble) or not np.array_equal(
            state["numbers"], self.atoms.numbers
        ):
            raise self.campaign.folder.other_run(f"{found}, where the configuration has {own}, or other elements")

    def restore(self, state: dict) -> None:
        """Stand where `state` was taken."""
        self.dynamics.restore(state["dynamics"])
        self.calculator.pace = Pace(**state["pace"])
