"""A LAMMPS simulation as one of the walkers of a learning run: it makes legs instead of steps."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ..drivers.ase import ase_results
from ..errors import ConfigError, LabelError, counted
from ..learning.campaign import Answer, Campaign
from ..learning.cycle import Assessment, Event, LabelNeeded, LearningCycle
from ..learning.log_format import Step, frame_text
from ..learning.policy import Use, limits_of
from ..learning.step_counters import StepCounters
from ..learning.uncertainties import Uncertainties
from ..models.prediction import WORST, Prediction, Uncertainty, expected_errors
from ..models.sparse_gp import SparseGP
from ..settings.dynamics import DynamicsPlan
from ..units import GIGAPASCAL
from .cutouts import block_around
from .process import LammpsProcess
from .script import Script
from .simulation import GROUND, Bounds, Simulation


class LammpsWalker:
    """A LAMMPS input that learns while it runs; see `learning.runner.LearningRun` for how it is used.

    Parameters
    ----------
    campaign : Campaign
    name : str
        Unique in the campaign.
    plan : DynamicsPlan
        Names the input, and how LAMMPS is started.

    Raises
    ------
    ConfigError
        If the input cannot be followed, see `Script.read`.
    """

    is_relaxed = False
    is_doubtful = False
    trouble = None

    def __init__(self, campaign: Campaign, name: str, plan: DynamicsPlan):
        self.campaign, self.name, self.plan = campaign, name, plan
        self.script = script_of(plan)
        self.cycle = LearningCycle(campaign, name)
        self.atoms = start_of_lammps(plan)
        """The present structure; before LAMMPS has started, one atom of each element."""
        self.steps_made = 0
        self._simulation: Simulation | None = None
        self._restored: dict | None = None
        self._first_step, self._time_fs = 0, 0.0
        self._prediction: Prediction | None = None
        self._event: Event | None = None
        self._needed: Assessment | None = None
        self._version = -1
        self._has_looked = False

    @property
    def is_heated(self) -> bool:
        """Whether a thermostat changes the temperature."""
        return self.script.is_heated

    @property
    def is_done(self) -> bool:
        """Whether the input has come to its end."""
        return self._simulation is not None and self._has_looked and self._simulation.is_done

    @property
    def simulation(self) -> Simulation:
        """LAMMPS, once it has started."""
        if self._simulation is None:
            raise RuntimeError(f"walker {self.name} has not started LAMMPS")
        return self._simulation

    def advance(self) -> bool:
        """Make a leg, or look at the initial structure; False if the structure needs a label before anything else."""
        self._event, self._needed, self.steps_made = None, None, 0
        if self._simulation is None:
            self._start()
        elif self._has_looked:
            self.steps_made = max(self.simulation.leg(self.plan.leg, self._bounds()), 1)
        self._look()
        use = Use(stress=self.script.uses_stress)
        assessment = self._cut(self.cycle.assess(self.atoms, self._prediction, use))
        try:
            event = self.cycle.respond(assessment, _needs_label)
        except LabelNeeded:
            self._needed = assessment
            return False
        self._event = replace(event, prediction=self._prediction)
        self._go_on()
        return True

    def _cut(self, assessment: Assessment) -> Assessment:
        """With `labeller.cluster`: what will be labelled is a block around the least certain atom, or around any for a check."""
        edge, decision, prediction = self.campaign.plan.cluster, assessment.decision, assessment.prediction
        if edge is None or decision.action == "go on":
            return assessment
        if prediction is None or decision.action == "queue":
            centre = int(np.random.default_rng(self.cycle.counters.step).integers(len(self.atoms)))
        elif decision.reason == "novel":
            centre = int(Uncertainties.of(prediction).novelty.argmax())
        else:
            centre = int(np.sum(Uncertainties.of(prediction).forces_std ** 2, axis=1).argmax())
        block, _ = block_around(self.atoms, centre, edge)
        if len(block) == len(self.atoms):
            return assessment
        model = self.campaign.learner.model
        return self.cycle.about(decision, block, None if model is None else model.predict(block, uncertainty=True))

    def _start(self) -> None:
        """Start LAMMPS, and learn the labels that an interrupted run had paid for: its structures do not come again bit by bit."""
        if self.campaign.learn_found(self.name, self.cycle.counters.step):
            self.cycle.counters.last_label = self.cycle.counters.step
        process = LammpsProcess(self.plan.ranks, self.plan.command)
        self._simulation = Simulation(self.script, process, self.campaign.folder.path, self.name, self.plan.look_every)
        model = self.campaign.learner.model
        self.simulation.begin(None if model is None else self._exported(model), self._restored)
        if self._restored is None:
            self._first_step = self.simulation.step

    def _exported(self, model: SparseGP) -> Path:
        """The file of the newest model, for LAMMPS."""
        file = self.campaign.folder / f"{self.name}.mlpot"
        self._version = self.campaign.learner.model_version
        model.export_core(file)
        return file

    def _look(self) -> None:
        """Take the structure from LAMMPS, and predict it with the newest model."""
        self.atoms, self._time_fs = self.simulation.structure()
        self.cycle.counters.step = self.simulation.step - self._first_step
        self._predict()

    def _predict(self) -> None:
        model = self.campaign.learner.model
        self._prediction = None if model is None else model.predict(self.atoms, uncertainty=True)

    def _bounds(self) -> Bounds:
        """Bounds for the next leg: the limits of the policy, or more where it has just accepted more."""
        learner = self.campaign.learner
        limit = limits_of(learner.rules, learner.n_labels, Use()).force
        expected = expected_errors(self._predicted).force
        novelty = float(Uncertainties.of(self._predicted).novelty.max())
        return Bounds(max(limit, GROUND * expected), WORST, max(learner.rules.novelty, GROUND * novelty))

    @property
    def _predicted(self) -> Prediction:
        if self._prediction is None:
            raise RuntimeError(f"walker {self.name} goes on without a model")
        return self._prediction

    @property
    def waiting(self) -> tuple[LearningCycle, Assessment]:
        """The structure that needs a label, for `cycle.obtain`."""
        if self._needed is None:
            raise RuntimeError(f"walker {self.name} does not need a label")
        return self.cycle, self._needed

    @property
    def doubt(self) -> float:
        """Largest ratio of an expected error to its limit; infinite without a model."""
        return self.waiting[1].urgency

    def repeat(self, answer: Answer) -> None:
        """Go on from the structure that has been labelled."""
        _, needed = self.waiting
        self._event = Event(needed.decision, self._prediction, answer)
        self._predict()
        self._go_on(is_labelled=answer.atoms is not None or answer.refined is not None)

    def _go_on(self, is_labelled: bool = False) -> None:
        """Give LAMMPS the newest model, and leave a run that is complete; a minimization is repeated with the new model."""
        model = self.campaign.learner.model
        if self._version != self.campaign.learner.model_version and model is not None:
            self.simulation.use(self._exported(model))
        if self._has_looked and not (is_labelled and self.simulation.is_minimization):
            self.simulation.finish_run()
        self._has_looked = True

    @property
    def event(self) -> Event:
        """Record of the leg just made."""
        if self._event is None:
            raise RuntimeError(f"walker {self.name} has not made a leg")
        return self._event

    def exploded(self, why: str) -> Exception:
        """LAMMPS watches over its own simulation."""
        return LabelError(why)

    def describe(self, seconds: float) -> Step:
        """The leg just made, which took this many seconds of wall time."""
        answer, prediction, now = self.event.answer, self.event.prediction, self._predicted
        expected = None if prediction is None else expected_errors(prediction)
        stress = None if expected is None else expected.stress
        return self.cycle.describe(
            self.event.decision,
            answer,
            step=self.cycle.counters.step,
            n_steps=None,
            time_fs=self._time_fs,
            temperature_K=float(self.atoms.get_temperature()),
            energy_eV=now.energy,
            max_energy_std_eV=None if prediction is None else float(Uncertainties.of(prediction).energies_std.max()),
            labelled=answer is not None and answer.atoms is not None,
            seconds=seconds,
            expected_energy_error_eV_per_atom=None if expected is None else expected.energy,
            expected_stress_error_GPa=None if stress is None else stress / GIGAPASCAL,
            max_force_eV_per_A=float(np.sqrt(np.max(np.sum(now.forces**2, axis=1)))),
        )

    def frame(self, info: dict[str, int]) -> str:
        """The present structure for the trajectory, with the newest prediction."""
        return frame_text(self.atoms, ase_results(self._predicted), Uncertainty(self._predicted), info)

    def verdict(self) -> None:
        """The labels decide."""

    def state(self) -> dict:
        """For `restore`; LAMMPS writes a restart file."""
        saved = self._restored if self._simulation is None else self._simulation.save()
        return {
            "name": self.name, "numbers": self.atoms.numbers, "ensemble": self.plan.name, "lammps": saved,
            "first_step": self._first_step, "pace": asdict(self.cycle.counters),
        }  # fmt: skip

    def check(self, state: dict) -> None:
        """RunFolderError unless `state` belongs to this walker."""
        if (state["name"], state["ensemble"]) != (self.name, self.plan.name) or set(state["numbers"]) - set(self.atoms.numbers):
            found = f"walker {state['name']!r} of {counted(len(state['numbers']), 'atom')}, {state['ensemble']}"
            own = f"{self.name!r}, {self.plan.name}"
            raise self.campaign.folder.other_run(f"{found}, but the configuration has {own}, or other elements")

    def restore(self, state: dict) -> None:
        """Continue from `state` when LAMMPS starts."""
        self._restored, self._first_step = state["lammps"], state["first_step"]
        self.cycle.counters = StepCounters(**state["pace"])

    def close(self) -> None:
        """End LAMMPS."""
        if self._simulation is not None:
            self._simulation.process.close()


def script_of(plan: DynamicsPlan) -> Script:
    """The input of a walker; ConfigError if it cannot be followed."""
    if plan.input is None:
        raise ConfigError('dynamics.input: missing; name the input of LAMMPS, such as "in.lammps"')
    return Script.read(plan.input)


def start_of_lammps(plan: DynamicsPlan) -> Atoms:
    """One atom of each element that LAMMPS will have."""
    return Atoms(sorted(set(script_of(plan).elements)))


def _needs_label(assessment: Assessment) -> Answer:
    raise LabelNeeded(assessment)
