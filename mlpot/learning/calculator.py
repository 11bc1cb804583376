"""LearningCalculator: an ASE calculator that asks for a label when it does not know, and learns from it at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..drivers.ase import ase_results
from ..errors import LabelError, ModelFileError
from ..labellers.calculator import DEFAULT_CALCULATOR
from ..labellers.plan import LabellingPlan
from ..models.files import load_model
from ..models.incremental import Fit
from ..models.prediction import Prediction, Uncertainty
from ..models.settings import FitConfig
from ..neighbours import NeighbourList
from ..structures import volume_of
from .learner import Decision, Learner, Lesson
from .source import Outcome, opened_source

log = logging.getLogger(__name__)

FIT_FILE = "fit.h5"
SAVE_AFTER = 10.0
"""The fit is written when learning since the last time took so many times longer than writing it."""


class BudgetSpent(LabelError):
    """A label is needed and `max_labels` allows no more: the run ends here, cleanly."""


@dataclass(frozen=True)
class Event:
    """What happened in one calculation: the decision, and the lesson when there was a label."""

    decision: Decision
    lesson: Lesson | None
    paid: bool


class LearningCalculator(Calculator):
    """Works wherever an ASE calculator does: dynamics, optimisers, NEB.

    Parameters
    ----------
    folder : str or Path
        Run folder for labels.db and model.h5; new or empty unless `resume`.
    calculator : str
        Import path of the ASE calculator that makes labels, by default GFN1-xTB of tblite.
    parameters : dict
        Its keyword arguments.
    species : iterable of int
        Atomic numbers that will occur; those of the first structure by default.
    config : FitConfig
        Terms or preset, and noises.
    threshold : float or "adaptive"
        Largest trusted uncertainty of an atom's energy, eV.
    max_labels : int or None
        Raise `BudgetSpent` when more would be needed.
    frames : list of ase.Atoms
        Labelled data to start from.
    start_model : str or Path
        Model whose terms, noises and sparse points it starts with; needs `frames`.
    resume : bool
        Whether the folder may hold labels already; they are learned first.
    observe : callable
        Called with an `Event` after every calculation.
    tries, timeout
        Calculations before a label is given up; seconds after which one is killed.
    labelling : LabellingPlan
        All that can be said of labels; `calculator`, `parameters`, `tries` and `timeout` are not read then.

    Notes
    -----
    After a calculation that was labelled, `results` are the label's own; its local energies are those of the model that
    has learned it, shifted to add up to the label's energy. `uncertainty` holds what `MlpotCalculator` puts there, of the
    model as it is then.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self,
        folder: str | Path,
        calculator: str = DEFAULT_CALCULATOR,
        parameters: dict[str, Any] | None = None,
        *,
        species: Iterable[int] | None = None,
        config: FitConfig | None = None,
        threshold: float | str = "adaptive",
        max_labels: int | None = None,
        frames: list[Atoms] | None = None,
        start_model: str | Path | None = None,
        resume: bool = False,
        observe: Callable[[Event], None] | None = None,
        tries: int = 2,
        timeout: float | None = None,
        labelling: LabellingPlan | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._start_model = None if start_model is None else load_model(start_model)
        plan = labelling or LabellingPlan(calculator, parameters or {}, timeout, tries)
        self._go_on = plan.on_failure == "go on"
        with ExitStack() as undo:
            self.folder, self.source = undo.enter_context(opened_source(plan, folder, resume))
            self._resources = undo.pop_all()
        self._new_learner = lambda present: Learner(config or FitConfig(), present, threshold, max_labels)
        self._species = None if species is None else tuple(sorted(set(species)))
        self.frames = frames or []
        self.observe = observe
        self.learner: Learner | None = None
        self.learned_keys: list[str] = []
        self.uncertainty = Uncertainty()
        self._neighbours: NeighbourList | None = None
        self._unsaved_seconds, self._save_seconds = 0.0, 0.0

    def prepare(self, atoms: Atoms, learned: list[str] | None = None, state: dict | None = None) -> None:
        """Make the learner for the elements of `atoms`; learn the data, and the labels under the keys `learned`.

        Called by the first calculation with all labels of the folder; a resumed run calls it with what its state says.
        """
        present = set(atoms.numbers.tolist()) | {int(z) for frame in self.frames for z in frame.numbers}
        self.learner = self._new_learner(self._species or tuple(sorted(present)))
        self.learned_keys = list(self.source.store.keys if learned is None else learned)
        stored = [self.source.store.get(key).atoms for key in self.learned_keys]
        self.learner.begin(self.frames, stored, self._start_model, state, self._saved_fit())
        if self.learner.model is not None:
            self._save_model()

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Predict; when the prediction cannot be trusted, label, learn, and go on from the label."""
        super().calculate(atoms, list(properties), system_changes)
        if self.learner is None:
            self.prepare(self.atoms)
        prediction = self._predict()
        decision = self.learner.decide(prediction)
        lesson, paid = None, False
        outcome = self._label(prediction) if decision.label else None
        if outcome is not None:
            lesson, paid = self._learn(prediction, outcome), outcome.paid
        elif not decision.label and decision.reason == "budget spent":
            raise BudgetSpent(
                f"a label is needed (uncertainty {decision.max_energy_std:.3g} eV, threshold {decision.threshold:.3g} eV) "
                f"and all {self.learner.n_asked} of max_labels are spent; raise max_labels and resume"
            )
        else:
            self.results = ase_results(prediction)
            self.uncertainty = Uncertainty(prediction)
        if self.observe:
            self.observe(Event(decision, lesson, paid))

    def _predict(self) -> Prediction | None:
        model = self.learner.model
        if model is None:
            return None
        if self._neighbours is None or self._neighbours.cutoff != model.cutoff:
            self._neighbours = NeighbourList(model.cutoff)
        return model.predict_pairs(self._neighbours.update(self.atoms), volume_of(self.atoms), uncertainty=True)

    def _label(self, prediction: Prediction | None) -> Outcome | None:
        """The label of the present structure; None when there is none and the prediction will have to do."""
        outcome = self.source.obtain(self.atoms)
        if outcome.atoms is not None:
            return outcome
        if prediction is None or not self._go_on:
            record = self.source.failed / f"{outcome.key}.json"
            raise LabelError(f"{outcome.failure}; see {record}, and delete it to ask again with --resume")
        return None

    def _learn(self, prediction: Prediction | None, outcome: Outcome) -> Lesson:
        key, labelled = outcome.key, outcome.atoms
        started = time.monotonic()
        lesson = self.learner.learn(labelled, prediction)
        self._unsaved_seconds += time.monotonic() - started
        self.learned_keys.append(key)
        before = (
            {} if prediction is None else {"predicted_forces": prediction.forces, "predicted_energy": prediction.energy}
        )
        numbers = {"model_version": self.learner.model_version, "std_after": lesson.std_after}
        if lesson.force_error is not None:
            numbers |= {"force_error": lesson.force_error, "std_before": lesson.std_before}
        self.source.store.annotate(key, data=before, **numbers)
        self._save_model()
        if self._unsaved_seconds > SAVE_AFTER * self._save_seconds:
            self._save_fit()
        names = ("energy", "free_energy", "forces", "stress")
        self.results = {name: labelled.calc.results[name] for name in names if name in labelled.calc.results}
        left = (self.results["energy"] - lesson.after.energy) / len(labelled)
        self.results["energies"] = lesson.after.energies + left
        self.uncertainty = Uncertainty(lesson.after)
        return lesson

    def _save_model(self) -> None:
        self.learner.model.save(self.folder / "model.h5")

    def _saved_fit(self) -> Fit | None:
        """What an earlier run left, so that nothing need be learned again."""
        file = self.folder / FIT_FILE
        if not file.exists():
            return None
        try:
            return Fit.load(file)
        except ModelFileError as error:
            log.warning("%s; all labels are learned anew", error)
            return None

    def _save_fit(self) -> None:
        """Keep what a later run would have to learn again; it is large, so not after every label."""
        started = time.monotonic()
        self.learner.fit.save(self.folder / FIT_FILE)
        self._save_seconds, self._unsaved_seconds = time.monotonic() - started, 0.0

    def close(self) -> None:
        """Keep what was learned; let workers and folder go."""
        try:
            if self.learner is not None and self._unsaved_seconds and self.learner.fit.is_whole:
                self._save_fit()
        finally:
            self._resources.close()

    def __enter__(self) -> LearningCalculator:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
