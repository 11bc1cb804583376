"""The main job: a simulation that learns while it runs, and survives being killed at any instant.

The state on disk is always that of a finished step. What came after it is done again when the run resumes, and since the
model is a function of the labels in their order, it is done again bit for bit; labels that were paid for in the meantime
are found in labels.db.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import RunFolderError
from .calculator import BudgetSpent, Event, LearningCalculator
from .dynamics import Dynamics, DynamicsPlan
from .folder import GrowingFile

LOG_COLUMNS = (
    "step", "time_fs", "temperature_K", "energy_eV", "max_energy_std_eV", "threshold", "labelled", "model_version", "seconds",
)  # fmt: skip
LOG, TRAJECTORY = "log.csv", "trajectory.xyz"


@dataclass(frozen=True)
class Step:
    """One row of log.csv, and what a live view needs besides.

    Parameters
    ----------
    step, n_steps : int
        This one, and how many there will be.
    time_fs, temperature_K, energy_eV : float
        Energy is the potential energy.
    max_energy_std_eV, threshold : float or None
        Largest uncertainty of an atom's energy in the prediction; None without a model.
    labelled : bool
        Whether this step was labelled rather than predicted.
    model_version, n_labels : int
    seconds : float
        Wall time of this step.
    force_error : float or None
        RMS error of the prediction at a labelled step, eV/A.
    """

    step: int
    n_steps: int
    time_fs: float
    temperature_K: float
    energy_eV: float
    max_energy_std_eV: float | None
    threshold: float | None
    labelled: bool
    model_version: int
    n_labels: int
    seconds: float
    force_error: float | None

    def row(self) -> str:
        """As a line of log.csv; empty where there is nothing to say."""
        values = (getattr(self, name) for name in LOG_COLUMNS)
        return ",".join("" if v is None else str(int(v)) if isinstance(v, bool) else repr(v) for v in values) + "\n"


Observer = Callable[[Step], None]


class LearningRun:
    """Dynamics with a `LearningCalculator`, logged, checkpointed, resumable.

    Parameters
    ----------
    atoms : ase.Atoms
        Where it starts.
    plan : DynamicsPlan
    calculator : LearningCalculator
        Holds the run folder.
    interval : int
        Steps between frames of the trajectory.
    checkpoint_seconds : float
        Wall time between checkpoints; a label makes one as well.
    observer : callable
        Called with every `Step`.
    """

    def __init__(
        self,
        atoms: Atoms,
        plan: DynamicsPlan,
        calculator: LearningCalculator,
        interval: int = 10,
        checkpoint_seconds: float = 10.0,
        observer: Observer = lambda step: None,
    ):
        self.calculator, self.plan = calculator, plan
        self.interval, self.checkpoint_seconds, self.observer = interval, checkpoint_seconds, observer
        calculator.observe = self._remember
        atoms.calc = calculator
        self.dynamics = Dynamics(atoms, plan)
        self._event: Event | None = None
        self._last_checkpoint = time.monotonic()

    def run(self) -> str:
        """Run to the last step; "finished", or "budget" when a label was needed that `max_labels` did not allow."""
        state = self.calculator.folder.load_state()
        lengths = {} if state is None else state["files"]
        self._log = GrowingFile(self.calculator.folder / LOG, lengths.get(LOG, 0))
        self._trajectory = GrowingFile(self.calculator.folder / TRAJECTORY, lengths.get(TRAJECTORY, 0))
        try:
            if state is None:
                self._start()
            else:
                self._resume(state)
            while self.dynamics.step < self.plan.steps:
                self._advance()
            self._checkpoint("finished")
            return "finished"
        except BudgetSpent:
            self._mark("budget")
            return "budget"
        finally:
            self._log.close()
            self._trajectory.close()

    def _start(self) -> None:
        self.calculator.prepare(self.dynamics.atoms, learned=[])
        self._log.append(",".join(LOG_COLUMNS) + "\n")
        self._timed(self.dynamics.begin)

    def _resume(self, state: dict) -> None:
        atoms = self.dynamics.atoms
        if not np.array_equal(state["numbers"], atoms.numbers) or state["ensemble"] != self.plan.ensemble:
            raise RunFolderError(
                f"{self.calculator.folder.path}: holds a run of other atoms or another ensemble ({state['ensemble']}); "
                "resume it with the configuration it was started with"
            )
        self.calculator.prepare(atoms, learned=state["learned"], state=state["learner"])
        self.dynamics.restore(state["dynamics"])

    def _advance(self) -> None:
        labelled = self._timed(self.dynamics.advance)
        if labelled or time.monotonic() - self._last_checkpoint > self.checkpoint_seconds:
            self._checkpoint("running")

    def _timed(self, action: Callable[[], None]) -> bool:
        """Do one step, write it down; whether it was labelled."""
        started = time.perf_counter()
        self._event = None
        action()
        step = self._describe(time.perf_counter() - started)
        self._log.append(step.row())
        if step.step % self.interval == 0 or step.labelled:
            self._trajectory.append(frame_text(self.dynamics.atoms, step, self.calculator.uncertainty))
        self.observer(step)
        return step.labelled

    def _describe(self, seconds: float) -> Step:
        atoms, learner, event = self.dynamics.atoms, self.calculator.learner, self._event
        decision = None if event is None else event.decision
        return Step(
            step=self.dynamics.step,
            n_steps=self.plan.steps,
            time_fs=self.dynamics.step * self.plan.timestep_fs,
            temperature_K=float(atoms.get_temperature()),
            energy_eV=float(atoms.get_potential_energy()),
            max_energy_std_eV=None if decision is None else decision.max_energy_std,
            threshold=None if decision is None else decision.threshold,
            labelled=event is not None and event.lesson is not None,
            model_version=learner.model_version,
            n_labels=learner.n_labels,
            seconds=seconds,
            force_error=None if event is None or event.lesson is None else event.lesson.force_error,
        )

    def _remember(self, event: Event) -> None:
        """Keep the event of this step; the integrators calculate once a step."""
        self._event = event

    def _checkpoint(self, status: str) -> None:
        lengths = {LOG: self._log.sync(), TRAJECTORY: self._trajectory.sync()}
        self.calculator.folder.save_state(
            {
                "status": status,
                "numbers": self.dynamics.atoms.numbers,
                "ensemble": self.plan.ensemble,
                "dynamics": self.dynamics.state(),
                "learner": self.calculator.learner.state(),
                "learned": self.calculator.learned_keys,
                "files": lengths,
            }
        )
        self._last_checkpoint = time.monotonic()

    def _mark(self, status: str) -> None:
        """Note why the run ended, without touching the last finished checkpoint."""
        state = self.calculator.folder.load_state()
        if state is not None:
            self.calculator.folder.save_state({**state, "status": status})


def frame_text(atoms: Atoms, step: Step, uncertainty: Mapping) -> str:
    """A frame of the trajectory in extended XYZ, with results, momenta and uncertainties."""
    frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, momenta=atoms.get_momenta())
    results = {k: v for k, v in atoms.calc.results.items() if k in ("energy", "forces", "stress")}
    frame.calc = SinglePointCalculator(frame, **results)
    frame.info.update(step=step.step, labelled=step.labelled, model_version=step.model_version)
    if "energies_std" in uncertainty:
        frame.arrays["energies_std"] = uncertainty["energies_std"]
    buffer = io.StringIO()
    ase.io.write(buffer, frame, format="extxyz")
    return buffer.getvalue()
