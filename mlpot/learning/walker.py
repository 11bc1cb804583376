"""One simulation of a campaign: dynamics or a relaxation. A step that needs a label is repeated with the label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from ase import Atoms

from ..drivers.ase import ase_results
from ..errors import ExplodedError, StructureError, counted
from ..models.prediction import expected_errors
from ..settings.dynamics import DynamicsPlan
from ..units import GIGAPASCAL
from .campaign import Answer, Campaign
from .cycle import Assessment, Event, LabelNeeded, LearningCycle
from .dynamics import Dynamics, check_dynamics
from .log_format import Step, frame_text
from .policy import CONFIRM
from .relaxation import Relaxation, check_relaxation
from .step_counters import StepCounters
from .uncertainties import Uncertainties
from .verdict import Verdict
from .walker_calculator import WalkerCalculator


def check_start(plan: DynamicsPlan, name: str, atoms: Atoms) -> None:
    """ConfigError if a walker cannot start from these atoms."""
    (check_relaxation if plan.is_relaxation else check_dynamics)(plan, name, atoms)


class Walker:
    """Dynamics or a relaxation with a calculator of the campaign.

    Parameters
    ----------
    campaign : Campaign
    name : str
        Unique in the campaign.
    atoms : ase.Atoms
        Initial structure; moved in place.
    plan : DynamicsPlan
    """

    steps_made = 1

    def __init__(self, campaign: Campaign, name: str, atoms: Atoms, plan: DynamicsPlan):
        self.campaign, self.name, self.plan = campaign, name, plan
        self.calculator = WalkerCalculator(campaign, name, self._remember)
        self.calculator.wants_stress = plan.name in ("npt", "relax cell")
        self.calculator.early = not plan.is_relaxation
        atoms.calc = self.calculator
        self.relaxation = Relaxation(atoms, plan) if plan.is_relaxation else None
        self.dynamics = self.relaxation or Dynamics(atoms, plan)
        self._event: Event | None = None
        self.trouble: str | None = None
        """Why the last step counts as an explosion, or None."""
        self._needed: Assessment | None = None
        self._has_failed = False
        """Whether the label that should have confirmed the end of a relaxation failed."""

    @property
    def _suspects(self) -> str:
        """First things to check if it blows up."""
        if self.plan.is_relaxation:
            return "the initial structure (atoms too close?)"
        return (
            f"the time step (timestep_fs = {self.plan.timestep_fs:g}, smaller?), the initial structure (not relaxed? "
            'ensemble = "relax")'
        )

    @property
    def atoms(self) -> Atoms:
        """The present structure."""
        return self.dynamics.atoms

    @property
    def event(self) -> Event:
        """Record of the step just made."""
        if self._event is None:
            raise RuntimeError(f"walker {self.name} has not made a step")
        return self._event

    @property
    def is_heated(self) -> bool:
        """Whether the temperature of the thermostat changes along the run."""
        return self.plan.is_heated

    @property
    def is_doubtful(self) -> bool:
        """Whether the last step may have to be taken back."""
        return self.dynamics.is_doubtful

    @property
    def is_relaxed(self) -> bool:
        """Whether this is a relaxation that has ended: the present structure is labelled, and its forces are below fmax."""
        return self.relaxation is not None and self.relaxation.is_labelled and self.relaxation.is_settled

    @property
    def is_done(self) -> bool:
        """Whether all steps have been made, or a relaxation has ended."""
        if not self.dynamics.has_begun or self._wants_confirmation:
            return False
        return self.dynamics.step >= self.plan.steps or self.is_relaxed or self._has_failed

    @property
    def _wants_confirmation(self) -> bool:
        """Whether a relaxation has ended according to the model, but not yet according to a label."""
        if self.relaxation is None or self.relaxation.is_labelled or self._has_failed:
            return False
        return self.relaxation.is_settled

    def advance(self) -> bool:
        """Make a step, or calculate the initial structure; returns False, with nothing changed, if a label is needed first.

        Raises
        ------
        ExplodedError
            If the step leads to a structure that is not worth labelling. `trouble` says whether a completed step went wrong.
        """
        self._event = None
        if self._wants_confirmation:
            self._needed = self.calculator.assess_end(self.atoms.copy())
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
            self._needed = needed.assessment
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
        """ASE results for this step of the model that has learned its label; None without a label."""
        answer = self.event.answer
        if answer is None or answer.atoms is None:
            return None
        after = self.calculator.predict() if answer.outcome is None else answer.outcome.after
        return None if after is None else ase_results(after)

    def _refuse_trouble(self, before: dict) -> None:
        """ExplodedError if the step that needs a label has blown up."""
        if (why := self.dynamics.trouble(before, self._cutoff)) is not None:
            raise self.exploded(why)

    def exploded(self, why: str) -> ExplodedError:
        """The error for a step that has blown up."""
        return ExplodedError(
            f"walker {self.name}, step {self.dynamics.step}: {why}; check {self._suspects}, the labels (wrong forces in "
            "labels.db?) and learning.threshold (too high?). The last checkpoint is kept; --resume continues from there with "
            "your changes"
        )

    @property
    def _cutoff(self) -> float:
        """Cutoff of the model, A; infinite before there is a model."""
        model = self.campaign.learner.model
        return np.inf if model is None else model.cutoff

    @property
    def waiting(self) -> tuple[LearningCycle, Assessment]:
        """The structure of the step that needs a label, for `cycle.obtain`."""
        if self._needed is None:
            raise RuntimeError(f"walker {self.name} does not need a label")
        return self.calculator.cycle, self._needed

    @property
    def doubt(self) -> float:
        """Largest ratio of an expected error to its limit in the step that needs a label; infinite without a model."""
        return self.waiting[1].urgency

    def repeat(self, answer: Answer) -> None:
        """Make the step that needed the label."""
        _, needed = self.waiting
        self.calculator.give(needed, answer)
        confirms = needed.decision.reason == CONFIRM
        self._step(self.relaxation.stay if self.relaxation is not None and confirms else self.dynamics.advance)
        self._has_failed = confirms and answer.atoms is None

    def _remember(self, event: Event) -> None:
        """Keep the event of this step; integrators and optimisers make one calculation per step."""
        self._event = event

    def verdict(self) -> Verdict | None:
        """Whether a relaxation has converged; None for dynamics, on which the labels decide."""
        if (relaxation := self.relaxation) is None:
            return None
        force = f"{relaxation.largest_force:.3g} eV/A" if relaxation.has_begun else "unknown"
        step, fmax = relaxation.step, f"(fmax = {relaxation.plan.fmax:g})"
        if self.is_relaxed:
            reason = f"{self.name}: the largest force in the label of the final structure is {force} {fmax}, step {step}"
            return Verdict("converged", reason)
        reason = f"{self.name}: the largest force at step {step} is {force} {fmax}"
        if relaxation.is_settled:
            reason += ", but no label has confirmed it"
            return Verdict("not converged", reason, "see why the label is missing, then continue with --resume")
        return Verdict("not converged", reason, "increase dynamics.steps and continue with --resume")

    def describe(self, seconds: float) -> Step:
        """The step just made, which took this many seconds of wall time."""
        answer, prediction = self.event.answer, self.event.prediction
        expected = None if prediction is None else expected_errors(prediction)
        stress = None if expected is None else expected.stress
        return self.calculator.cycle.describe(
            self.event.decision,
            answer,
            step=self.dynamics.step,
            n_steps=self.plan.steps,
            time_fs=self.dynamics.time_fs,
            temperature_K=self.dynamics.temperature_K,
            energy_eV=float(self.atoms.get_potential_energy()),
            max_energy_std_eV=None if prediction is None else float(Uncertainties.of(prediction).energies_std.max()),
            labelled=answer is not None and answer.atoms is not None,
            seconds=seconds,
            expected_energy_error_eV_per_atom=None if expected is None else expected.energy,
            expected_stress_error_GPa=None if stress is None else stress / GIGAPASCAL,
            max_force_eV_per_A=float(np.sqrt(np.max(np.sum(self.atoms.get_forces() ** 2, axis=1)))),
        )

    def frame(self, info: dict[str, int]) -> str:
        """The present structure for the trajectory, as extended XYZ with results and uncertainties."""
        return frame_text(self.atoms, self.calculator.results, self.calculator.uncertainty, info)

    def state(self) -> dict:
        """For `restore`."""
        return {
            "name": self.name, "numbers": self.atoms.numbers, "ensemble": self.plan.name,
            "dynamics": self.dynamics.state(), "pace": asdict(self.calculator.counters),
        }  # fmt: skip

    def check(self, state: dict) -> None:
        """RunFolderError unless `state` belongs to this walker."""
        found = f"walker {state['name']!r} of {counted(len(state['numbers']), 'atom')}, {state['ensemble']}"
        own = f"{self.name!r} of {counted(len(self.atoms), 'atom')}, {self.plan.name}"
        if (state["name"], state["ensemble"]) != (self.name, self.plan.name) or not np.array_equal(
            state["numbers"], self.atoms.numbers
        ):
            raise self.campaign.folder.other_run(f"{found}, but the configuration has {own}, or different elements")

    def restore(self, state: dict) -> None:
        """Continue from `state`."""
        self.dynamics.resume(state["dynamics"])
        self.calculator.cycle.counters = StepCounters(**state["pace"])
