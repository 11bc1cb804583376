"""One of the simulations of a campaign: dynamics or a relaxation whose steps are repeated when they need a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
from ase import Atoms

from ..drivers.ase import ase_results
from ..errors import ExplodedError, StructureError
from ..models.prediction import expected_errors
from ..settings.dynamics import DynamicsPlan
from ..units import GIGAPASCAL
from .calculator import WalkerCalculator
from .campaign import Answer, Campaign, Query
from .dynamics import Dynamics, check_dynamics
from .events import Event, LabelNeeded
from .log_format import Step
from .pace import Pace
from .relaxation import Relaxation, check_relaxation
from .verdict import Verdict


def check_start(plan: DynamicsPlan, name: str, atoms: Atoms) -> None:
    """ConfigError if a walker cannot start from these atoms."""
    (check_relaxation if plan.is_relaxation else check_dynamics)(plan, name, atoms)


class Walker:
    """Dynamics or a relaxation with a calculator of a campaign.

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
        self.calculator.wants_stress = plan.name in ("npt", "relax cell")
        self.calculator.early = not plan.is_relaxation
        atoms.calc = self.calculator
        self.relaxation = Relaxation(atoms, plan) if plan.is_relaxation else None
        self.dynamics = self.relaxation or Dynamics(atoms, plan)
        self.event: Event | None = None
        self.trouble: str | None = None
        """What shows that the last step blew up."""
        self._needed: LabelNeeded | None = None
        self._has_failed = False
        """Whether the label that should have confirmed the end of a relaxation has failed."""

    @property
    def _suspects(self) -> str:
        """What to check first when it blows up."""
        if self.plan.is_relaxation:
            return "the start (atoms too close?)"
        return f'the time step (timestep_fs = {self.plan.timestep_fs:g}, smaller?), the start (not relaxed? ensemble = "relax")'

    @property
    def atoms(self) -> Atoms:
        """As they are now."""
        return self.dynamics.atoms

    @property
    def is_relaxed(self) -> bool:
        """Whether it is a relaxation that has ended: the forces of a label of the present structure are below fmax."""
        return self.relaxation is not None and self.relaxation.is_labelled and self.relaxation.is_settled

    @property
    def is_done(self) -> bool:
        """Whether all steps are made, or a relaxation has ended."""
        if not self.dynamics.has_begun or self._wants_confirmation:
            return False
        return self.dynamics.step >= self.plan.steps or self.is_relaxed or self._has_failed

    @property
    def _wants_confirmation(self) -> bool:
        """Whether a relaxation has ended as far as the model can tell."""
        if self.relaxation is None or self.relaxation.is_labelled or self._has_failed:
            return False
        return self.relaxation.is_settled

    def advance(self) -> bool:
        """Make a step, the first time calculate the start; False, and nothing has happened, when it needs a label.

        Raises
        ------
        ExplodedError
            If the step leads where no label is worth its price; `trouble` says whether one that was made went wrong.
        """
        self.event = None
        if self._wants_confirmation:
            prediction = self.calculator.predict()
            decision = replace(self.calculator._decide(prediction), action="label", reason="confirm")
            self._needed = LabelNeeded(decision, prediction, self.atoms.copy())
            return False
        return self._step(self.dynamics.advance)

    def _step(self, move: Callable[[], None]) -> bool:
        before = self.dynamics.state() if self.dynamics.has_begun else None
        try:
            if before is None:
                self.dynamics.begin()
            else:
                move()
        except LabelNeeded as needed:
            if before is not None:
                self._refuse_trouble(before)
                self.dynamics.restore(before)
            self._needed = needed
            return False
        except StructureError as error:
            if before is None:
                raise
            raise self.exploded(str(error)) from error
        self.trouble = None if before is None else self.dynamics.trouble(before, self._cutoff)
        if self.relaxation is not None:
            self.relaxation.note(self._learned_here())
        return True

    def _learned_here(self) -> dict | None:
        """What a model that has learned the label of this step predicts for it, under ASE's names; None without a label."""
        answer = self.event.answer
        if answer is None or answer.atoms is None:
            return None
        return ase_results(self.calculator.predict() if answer.lesson is None else answer.lesson.after)

    def _refuse_trouble(self, before: dict) -> None:
        """ExplodedError if a step that needs a label has led nowhere."""
        if (why := self.dynamics.trouble(before, self._cutoff)) is not None:
            raise self.exploded(why)

    def exploded(self, why: str) -> ExplodedError:
        """The error for a step that went wrong."""
        return ExplodedError(
            f"walker {self.name}, step {self.dynamics.step}: {why}; look at {self._suspects}, the labels (wrong forces in "
            "labels.db?) and learning.threshold (too high?). The last checkpoint is kept: --resume goes on from there with what "
            "you have changed"
        )

    @property
    def _cutoff(self) -> float:
        """Reach of the model, A."""
        model = self.campaign.learner.model
        return np.inf if model is None else model.cutoff

    @property
    def doubt(self) -> float:
        """Largest expected error of the step that needs a label, over its limit; infinite without a model."""
        return self._needed.decision.urgency

    def query(self) -> Query:
        """Ask for the label that the step needs."""
        return self.calculator.query(self._needed)

    def repeat(self, answer: Answer) -> None:
        """Make the step that needed a label with its answer."""
        self.calculator.give(self._needed, answer)
        confirms = self._needed.decision.reason == "confirm"
        self._step(self.relaxation.stay if confirms else self.dynamics.advance)
        self._has_failed = confirms and answer.atoms is None

    def _remember(self, event: Event) -> None:
        """Keep the event of this step; integrators and optimisers calculate once a step."""
        self.event = event

    def verdict(self) -> Verdict:
        """Of a relaxation."""
        step, fmax = self.relaxation.step, self.relaxation.plan.fmax
        force = f"{self.relaxation.largest_force:.3g} eV/A" if self.relaxation.has_begun else "unknown"
        if self.is_relaxed:
            reason = f"{self.name}: the largest force of the label of the final structure is {force} (fmax {fmax:g}), step {step}"
            return Verdict("converged", reason)
        reason = f"{self.name}: the largest force at step {step} is {force} (fmax {fmax:g})"
        if self.relaxation.is_settled:
            return Verdict(
                "not converged", f"{reason}, but no label has confirmed it", "see why it is missing, and --resume"
            )
        return Verdict("not converged", reason, "raise dynamics.steps and --resume")

    def describe(self, seconds: float) -> Step:
        """The step just made, which took so many seconds."""
        learner, event = self.campaign.learner, self.event
        decision, answer, prediction = event.decision, event.answer, event.prediction
        lesson = None if answer is None else answer.lesson
        expected = None if prediction is None else expected_errors(prediction)
        return Step(
            step=self.dynamics.step,
            n_steps=self.plan.steps,
            time_fs=self.dynamics.time_fs,
            temperature_K=self.dynamics.temperature_K,
            energy_eV=float(self.atoms.get_potential_energy()),
            max_energy_std_eV=None if prediction is None else float(prediction.energies_std.max()),
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
            expected_energy_error_eV_per_atom=None if expected is None else expected.energy,
            expected_stress_error_GPa=None
            if expected is None or expected.stress is None
            else expected.stress / GIGAPASCAL,
            max_force_eV_per_A=float(np.sqrt(np.max(np.sum(self.atoms.get_forces() ** 2, axis=1)))),
        )

    def state(self) -> dict:
        """For `restore`."""
        return {
            "name": self.name, "numbers": self.atoms.numbers, "ensemble": self.plan.name,
            "dynamics": self.dynamics.state(), "pace": asdict(self.calculator.pace),
        }  # fmt: skip

    def check(self, state: dict) -> None:
        """RunFolderError unless `state` is one of this walker."""
        found = f"walker {state['name']!r} of {len(state['numbers'])} atoms, {state['ensemble']}"
        own = f"{self.name!r} of {len(self.atoms)} atoms, {self.plan.name}"
        if (state["name"], state["ensemble"]) != (self.name, self.plan.name) or not np.array_equal(
            state["numbers"], self.atoms.numbers
        ):
            raise self.campaign.folder.other_run(f"{found}, where the configuration has {own}, or other elements")

    def restore(self, state: dict) -> None:
        """Go on from where `state` was taken."""
        self.dynamics.resume(state["dynamics"])
        self.calculator.pace = Pace(**state["pace"])
