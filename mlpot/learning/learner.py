"""The learner: decides whether a prediction can be trusted, and learns from labels. No files, no processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..fitting.batch import learn_channels
from ..fitting.incremental import Fit
from ..models.prediction import Prediction, counted_error, expected_errors
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig, is_learned
from ..settings.presets import resolve
from ..structures import LabelledStructure, agrees, labelled
from ..terms.layout import agree_in_tables, channels_of, environments_of
from ..terms.protocol import Tables
from ..uncertainty.calibration import Calibration
from .distances import nearest
from .history import History, Observation
from .pace import Pace
from .policy import BEYOND, HOTTER, LOOKS, TOO_LARGE, Decision, Rules, Situation, Use, decide
from .seen import Seen, compared, worst_ratio

TELLING_MODEL = 3
"""Labels of a model whose deviations of forces are worth comparing with errors: with fewer they tell of the prior, not of data, and
are five to twenty times too large. What was learned from them made those of the next models too small (AlNi, NaCl)."""
ABSURD = 300.0
"""eV/A: larger forces are those of nuclei that overlap, or of a calculation that went wrong; no such label is learned."""
UNUSUAL, ORDINARY = 20.0, 30.0
"""Nor is one with forces of more than this multiple of the largest among all labels, if that is above the second number, eV/A:
bonds at the point of breaking, and atoms that collide at some thousand K, stay below it."""

SMALLEST_STRESS = 1e-9
"""Deviations of the stress (eV/A^3) below this are rounding: symmetry makes the component zero."""


@dataclass(frozen=True)
class Before:
    """What a model said of a structure before its label was learned; deviations are the model's own, not calibrated.

    Parameters
    ----------
    energy : float
        eV.
    forces, raw_std : (n_atoms, 3) arrays
        eV/A; the deviations are those of every atom by itself.
    said_std : (n_atoms, 3) array
        Deviations of the forces as they were said, eV/A.
    strongest : (n_atoms,) array
        See `Prediction`, eV/A.
    borrowed : (n_atoms,) bool array
        See `Prediction`.
    energy_std : float or None
        eV.
    stress, stress_std : (3, 3) arrays or None
        eV/A^3.
    """

    energy: float
    forces: np.ndarray
    raw_std: np.ndarray
    said_std: np.ndarray
    strongest: np.ndarray
    borrowed: np.ndarray
    energy_std: float | None = None
    stress: np.ndarray | None = None
    stress_std: np.ndarray | None = None


@dataclass(frozen=True)
class Lesson:
    """What learning one label changed.

    Parameters
    ----------
    force_error : float or None
        RMS error of the forces predicted before, eV/A; None where there was no model.
    expected : float or None
        Expected error of the forces before, eV/A, as `counted_error` counts.
    expected_after : float
        The same after.
    after : Prediction
        What the new model says of the structure it has just learned, with uncertainty.
    n_new_points : int
        Sparse points added.
    observation : Observation or None
        What the calibration remembers of it; None where there was no model.
    forces_std : (n_atoms, 3) array or None
        Deviations of the forces predicted before, eV/A, as they were said.
    energy_error, max_force_error, stress_error : float or None
        Of the energy per atom (eV), the largest of a force component (eV/A), and of a stress component (eV/A^3).
    worst_ratio : float or None
        Error of the force on the worst atom over its deviation as it was said.
    """

    force_error: float | None
    expected: float | None
    expected_after: float
    after: Prediction
    n_new_points: int
    observation: Observation | None
    forces_std: np.ndarray | None = None
    energy_error: float | None = None
    max_force_error: float | None = None
    stress_error: float | None = None
    worst_ratio: float | None = None

    @property
    def expected_rms(self) -> float | None:
        """Expected RMS error of the forces predicted before, eV/A."""
        return None if self.forces_std is None else float(np.sqrt(np.mean(self.forces_std**2)))


class Learner:
    """A growing data set, the sparse points chosen from it, and the model fitted to both; `begin` comes first.

    The model is a function of the labels in their order and of nothing else, so a restart that replays them, or those
    that a saved fit does not know yet, arrives at the same model bit for bit.

    Parameters
    ----------
    config : FitConfig
        Preset or terms, and noises.
    species : tuple of int
        Atomic numbers that will occur.
    rules : Rules
        When to ask.
    """

    def __init__(self, config: FitConfig, species: tuple[int, ...], rules: Rules | None = None):
        self.config = resolve(config, species)
        self.species = tuple(sorted(species))
        self.rules = rules or Rules()
        self.history = History()
        self.check_interval = self.rules.first_check
        self.fit: Fit
        self.model_version = 0
        self.n_asked = 0
        self._n_data = 0
        self._occurrences = Counter[int]()
        self._largest_force = self._largest_rms = 0.0
        self._model: SparseGP | None = None
        self._calibrated_by: tuple[History, dict[int, int], Calibration] | None = None

    @property
    def model(self) -> SparseGP | None:
        """The current model, calibrated by the errors seen so far; None before there are labels."""
        if self._model is None and self.fit.structures:
            self._model = self.calibrated(self.fit.model)
        return self._model

    @property
    def calibration(self) -> Calibration:
        """Of the model's own deviations, by the errors seen so far."""
        occurrences = {z: self._occurrences[z] for z in self.species}
        if self._calibrated_by is None or self._calibrated_by[0] is not self.history or self._calibrated_by[1] != occurrences:
            self._calibrated_by = self.history, occurrences, self.history.calibration(occurrences)
        return self._calibrated_by[2]

    def calibrated(self, model: SparseGP) -> SparseGP:
        """A model, of whatever version, with standard deviations as the errors seen until now would have them."""
        return model.calibrated(self.calibration)

    @property
    def n_labels(self) -> int:
        """Labels learned, those it started from included."""
        return len(self.fit.structures)

    @property
    def can_learn_stress(self) -> bool:
        """Whether labels come with a stress, as far as is known."""
        labels = self.fit.structures[self._n_data :]
        return not labels or any(s.virial is not None for s in labels)

    def decide(
        self, prediction: Prediction | None, atoms: Atoms, pace: Pace, queued: int = 0, use: Use | None = None
    ) -> Decision:
        """What to do with a prediction for these atoms (None: there is no model yet); see `Situation`."""
        use = use or Use()
        if use.stress and not self.can_learn_stress:
            use = replace(use, stress=False)
        expected = novelty = moved = None
        is_hotter = False
        if prediction is not None:
            expected, novelty = expected_errors(prediction), float(prediction.novelty.max())
            is_hotter = np.sqrt(np.mean(prediction.forces**2)) > HOTTER * self._largest_rms
            if len(self.history.recent) < LOOKS:
                moved = self.distance(atoms)
        now = Situation(
            expected, novelty, pace.since_label, pace.since_check, queued, self.n_asked, self.n_labels, moved,
            self.check_interval, use, bool(is_hotter),
        )  # fmt: skip
        decision = decide(self.rules, self.history, now)
        if prediction is not None and moved is None and decision.action in ("label", "stop"):
            decision = decide(self.rules, self.history, replace(now, moved=self.distance(atoms)))
        return decision

    def distance(self, atoms: Atoms) -> float:
        """Displacement from the nearest labelled structure, A; see `distances.distance`."""
        return nearest(atoms, (structure.atoms for structure in self.fit.structures))

    def before(self, prediction: Prediction | None) -> Before | None:
        """What to keep of a prediction until its label has come."""
        if prediction is None:
            return None
        calibration, stress_std = self.calibration, prediction.stress_std
        return Before(
            prediction.energy, prediction.forces,
            prediction.forces_stated_std,
            prediction.forces_std, prediction.strongest, prediction.borrowed,
            prediction.energy_std / calibration.energy_scale,
            prediction.stress, None if stress_std is None else stress_std / calibration.stress_scale,
        )  # fmt: skip

    def doubt(self, atoms: Atoms) -> str | None:
        """Why a label is not to be learned: its forces are absurd, or None."""
        forces = labelled(atoms).forces
        largest = 0.0 if forces is None else float(np.sqrt((forces**2).sum(axis=1).max()))
        bound = ABSURD
        if self._largest_force > 0:
            bound = min(max(UNUSUAL * self._largest_force, ORDINARY), ABSURD)
        if largest <= bound:
            return None
        known = f"the largest of all labels so far is {self._largest_force:.3g} eV/A"
        return f"a force of {largest:.3g} eV/A, where {bound:.3g} eV/A is the most that is learned ({known})"

    def begin(
        self,
        data: list[Atoms],
        learned: list[Atoms],
        start: SparseGP | None = None,
        state: dict | None = None,
        saved: Fit | None = None,
    ) -> None:
        """Learn what is known at the start: the data in one step, labels one by one as they were learned.

        Channels with `embedding = "learned"` are those of the start model, or learned from the data.

        Parameters
        ----------
        data : list of ase.Atoms
            Labelled structures that were there before any simulation.
        learned : list of ase.Atoms
            Labels learned since, in their order.
        start : SparseGP or None
            Model that lends its sparse points, and its terms and noises.
        state : dict or None
            From `state()`, to stand where that was taken; without a model_version labels count as versions.
        saved : Fit or None
            What an earlier run knew; used as far as it agrees with the other arguments.

        Raises
        ------
        ConfigError
            If there is nothing that channels could be learned from.
        FitError
            If there is too little of it.
        """
        points = {} if start is None else self._adopt(start)
        if not self._agrees(saved, [*data, *learned], len(data)):
            saved = None
        self.fit = Fit(self.config, self.species, self._channels(data, start, saved))
        if saved is not None and agree_in_tables(self.fit.terms, saved.terms):
            self.fit = saved
        elif data or points:
            self.fit.update(data, self.fit.propose(data, points))
            self.model_version += bool(data)
        self._n_data = len(data)
        for structure in self.fit.structures:
            self._count(structure)
        for atoms in learned[len(self.fit.structures) - len(data) :]:
            self._absorb(atoms)
        if state is not None:
            self.model_version, self.n_asked = state.get("model_version", self.model_version), state["n_asked"]
            self.history = History.restore(state["history"])
            self.check_interval = state.get("check_interval", self.rules.first_check)
        self._model = None

    def _adopt(self, model: SparseGP) -> dict[tuple[int, int], np.ndarray]:
        """Sparse points of a fitted model, whose terms and noises become those of the fit."""
        if model.config is None or model.species != self.species:
            raise ConfigError(
                f"learning.model knows the elements {model.species} and was {'' if model.config else 'not '}fitted by mlpot; "
                f"it must be a model that mlpot fitted for exactly {self.species}"
            )
        self.config = model.config
        return environments_of(model.terms)

    def _agrees(self, saved: Fit | None, frames: list[Atoms], n_data: int) -> bool:
        """Whether an earlier fit knows the first of the frames, all data among them, and nothing else."""
        if saved is None or (saved.config, saved.species) != (self.config, self.species):
            return False
        if not max(n_data, 1) <= len(saved.structures) <= len(frames):
            return False
        return all(agrees(s, labelled(atoms)) for s, atoms in zip(saved.structures, frames, strict=False))

    def _channels(self, data: list[Atoms], start: SparseGP | None, saved: Fit | None) -> dict[int, Tables]:
        """Channels by terms that are not told by the configuration; `saved` has learned them from the same data."""
        if start is not None:
            return channels_of(start.terms)
        if not data or not any(map(is_learned, self.config.terms)):
            return {}
        if saved is not None:
            return channels_of(saved.terms)
        return learn_channels([labelled(atoms) for atoms in data], self.config, self.species)

    def learn(self, atoms: Atoms, before: Before | None, is_chosen: bool = False) -> Lesson:
        """Learn one labelled structure; the model grows, and what was said of it before recalibrates the uncertainty.

        `is_chosen` tells that the label was asked for because the model was not sure of it."""
        structure = labelled(atoms, f"label {self.n_labels}")
        n_before, n_new = self.n_labels, self._absorb(atoms)
        after = self.model.predict(structure.atoms, uncertainty=True)
        expected_after = counted_error(after.forces_std)
        if before is None or structure.forces is None:
            return Lesson(None, None, expected_after, after, n_new, None)
        errors, numbers = before.forces - structure.forces, structure.atoms.numbers
        elements = {}
        if n_before >= TELLING_MODEL:
            own = ~before.borrowed
            elements = compared(errors[own], before.raw_std[own], before.strongest[own], numbers[own])
        energy_error, energy = _compared_energy(before, structure)
        stress_error, stress = _compared_stress(before, structure)
        seen = Observation(
            float(np.sqrt(np.mean(errors**2))), counted_error(errors),
            float(np.sqrt(np.mean(before.raw_std**2))), counted_error(before.raw_std),
            expected_errors(after), elements, energy, stress, is_chosen,
        )  # fmt: skip
        self.history = self.history.observe(seen)
        self._model = None
        said = before.said_std
        return Lesson(
            seen.error, counted_error(said), expected_after, after, n_new, seen, said,
            energy_error, float(np.abs(errors).max()), stress_error, worst_ratio(errors, said),
        )  # fmt: skip

    def checked(self, lesson: Lesson, is_check: bool) -> None:
        """Take note of what a label showed, on purpose or not: when the next check is due."""
        error, expected = lesson.force_error, lesson.expected_rms
        if error is not None and expected is not None:
            is_surprise = error > TOO_LARGE * expected or lesson.worst_ratio > BEYOND
            self.check_interval = self.rules.next_check(self.check_interval, error, is_surprise, is_check)

    def _absorb(self, atoms: Atoms) -> int:
        """Add a label and the sparse points it calls for; how many these are."""
        points = self.fit.propose([atoms])
        self.fit.update([atoms], points)
        self.model_version += 1
        self._count(self.fit.structures[-1])
        self._model = None
        return sum(map(len, points.values()))

    def _count(self, structure: LabelledStructure) -> None:
        self._occurrences.update(set(structure.atoms.numbers.tolist()))
        if structure.forces is not None:
            self._largest_force = max(self._largest_force, float(np.sqrt((structure.forces**2).sum(axis=1).max())))
            self._largest_rms = max(self._largest_rms, float(np.sqrt(np.mean(structure.forces**2))))

    def state(self) -> dict:
        """What `begin` needs besides the labels to stand here again: plain numbers."""
        return {
            "model_version": self.model_version,
            "n_asked": self.n_asked,
            "history": self.history.state(),
            "check_interval": self.check_interval,
        }


def _compared_energy(before: Before, structure: LabelledStructure) -> tuple[float | None, Seen | None]:
    """Error of the energy per atom, eV, and what it says of the deviations."""
    if structure.energy is None:
        return None, None
    error = (before.energy - structure.energy) / structure.n_atoms
    if before.energy_std is None:
        return error, None
    return error, Seen.of(np.array([error]), np.array([before.energy_std / structure.n_atoms]))


def _compared_stress(before: Before, structure: LabelledStructure) -> tuple[float | None, Seen | None]:
    """Largest error of a component of the stress, eV/A^3, and what all of them say of the deviations."""
    if structure.virial is None or before.stress is None:
        return None, None
    six = np.triu_indices(3)
    errors = (before.stress + structure.virial / structure.atoms.get_volume())[six]
    largest = float(np.abs(errors).max())
    if before.stress_std is None:
        return largest, None
    return largest, Seen.of(errors, before.stress_std[six], SMALLEST_STRESS)
