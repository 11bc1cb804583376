"""The learner: decides whether a prediction can be trusted, and learns from labels. No files, no processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..fitting.batch import learn_channels
from ..fitting.incremental import Fit
from ..models.prediction import ExpectedErrors, Prediction, counted_error, expected_errors
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig
from ..settings.presets import resolve
from ..structures import LabelledStructure, labelled
from ..terms.layout import agree_in_tables, channels_of, environments_of
from ..terms.protocol import Tables
from ..uncertainty.calibration import Calibration
from .apart import EndsOfInteraction, are_felt, without_neighbours
from .distances import nearest
from .history import History, Observation
from .label_outcome import LabelOutcome, PriorPrediction, compared_energy, compared_stress
from .learned_targets import TargetLearner, dipole_error
from .level_fit import TwoLevelFit
from .observed_errors import compared, worst_ratio
from .policy import (
    HOTTER,
    LOOKS,
    SURPRISING_ATOM,
    SURPRISING_ERROR,
    Decision,
    Rules,
    Situation,
    Use,
    decide,
    first_check,
    next_check,
)
from .saved_fits import is_beginning
from .step_counters import StepCounters
from .strongest import StrongestPairForces
from .uncertainties import Uncertainties

TELLING_MODEL = 3
"""Smallest number of labels in a model whose force deviations are compared with errors. With fewer labels the deviations reflect the
prior, not the data, and are five to twenty times too large; calibrating on them made the deviations of later models too small (AlNi,
NaCl)."""
ABSURD = 300.0
"""Forces (eV/A) above which no label is learned: nuclei overlap, or the calculation went wrong."""
UNUSUAL, ORDINARY = 20.0, 30.0
"""A label is not learned either if its largest force exceeds both the first number times the largest force of all labels and the
second number (eV/A). Breaking bonds and collisions at a few thousand K stay below that."""


class Learner:
    """A growing data set, the sparse points chosen from it, and the model fitted to both; call `begin` first.

    The model depends on the labels and their order only. A restart that replays them, or only those that a saved fit does not
    contain yet, arrives at the same model bit for bit.

    Parameters
    ----------
    config : FitConfig
        Preset or terms, and noises.
    species : tuple of int
        Atomic numbers that will occur.
    rules : Rules
        When to ask.
    """

    beyond_budget: tuple[str, ...] = ()
    """Reasons for which a label is requested even if the budget is spent."""

    def __init__(self, config: FitConfig, species: tuple[int, ...], rules: Rules | None = None):
        self.targets = TargetLearner(config, rules)
        self.config = resolve(config.changed(targets=()), species)
        self.species = tuple(sorted(species))
        self.rules = rules or Rules()
        self.history = History()
        self.check_interval = first_check(self.rules)
        self.fit: Fit | TwoLevelFit
        self.model_version = 0
        self.n_asked = 0
        self._n_data = 0
        self._occurrences = Counter[int]()
        self._largest_force = self._largest_rms = 0.0
        self._ends = EndsOfInteraction()
        self._strongest = StrongestPairForces()
        self._model: SparseGP | None = None
        self._calibrated_by: tuple[History, dict[int, int], Calibration] | None = None

    @property
    def model(self) -> SparseGP | None:
        """The current model, calibrated by the errors seen so far; None before there are labels."""
        if self._model is None and self.fit.structures:
            self._model = self.calibrated(self.fit.model).with_targets(self.targets.models)
        return self._model

    @property
    def fitted_model(self) -> SparseGP:
        """The current model, once there is a label."""
        if self.model is None:
            raise RuntimeError("there is no model before the first label")
        return self.model

    @property
    def calibration(self) -> Calibration:
        """Calibration of the model's standard deviations, from the errors that labels have shown so far."""
        occurrences = {z: self._occurrences[z] for z in self.species}
        if self._calibrated_by is None or self._calibrated_by[0] is not self.history or self._calibrated_by[1] != occurrences:
            self._calibrated_by = self.history, occurrences, self.history.calibration(occurrences)
        return self._calibrated_by[2]

    def calibrated(self, model: SparseGP) -> SparseGP:
        """A model of any version with its standard deviations calibrated by all errors seen so far."""
        return model.calibrated(self.calibration)

    @property
    def n_labels(self) -> int:
        """Number of labels learned, including the data it started from."""
        return len(self.fit.structures)

    @property
    def can_learn_stress(self) -> bool:
        """Whether labels come with a stress; assumed before the first one."""
        labels = self.fit.structures[self._n_data :]
        return not labels or any(s.virial is not None for s in labels)

    def is_spent(self, reason: str) -> bool:
        """Whether the budget does not allow another label, which is requested for this reason."""
        return reason not in self.beyond_budget and self.rules.are_spent(self.n_asked)

    def decide(
        self, prediction: Prediction | None, atoms: Atoms, counters: StepCounters, queued: int = 0, use: Use | None = None
    ) -> Decision:
        """Decide what to do with a prediction for these atoms (None: there is no model yet); see `Situation`."""
        use = use or Use()
        if use.stress and not self.can_learn_stress:
            use = replace(use, stress=False)
        expected = novelty = moved = None
        is_hotter, is_apart, peak = False, False, counters.peak_of(self.model_version)
        if prediction is not None:
            stds = Uncertainties.of(prediction)
            expected, novelty = self._expected(prediction, np.inf), float(stds.novelty.max())
            is_apart = len(atoms) > 1 and not self._ends.are_passed(atoms, np.flatnonzero(stds.strongest == 0))
            is_hotter = np.sqrt(np.mean(prediction.forces**2)) > HOTTER * self._largest_rms
            is_hotter = is_hotter or self._strongest.are_exceeded(atoms.numbers, stds.strongest)
            if len(self.history.recent) < LOOKS:
                moved = self.distance(atoms)
        now = Situation(
            expected, novelty, counters.since_label, counters.since_check, queued, self.n_asked, self.n_labels, moved,
            self.check_interval, use, bool(is_hotter), peak, is_apart, self.beyond_budget,
        )  # fmt: skip
        decision = decide(self.rules, self.history, now)
        if prediction is not None and moved is None and decision.action in ("label", "stop"):
            decision = decide(self.rules, self.history, replace(now, moved=self.distance(atoms)))
        if expected is not None:
            counters.note(expected.force, self.model_version)
        return decision

    def _expected(self, prediction: Prediction, unlearned: float | None = None) -> ExpectedErrors:
        """Expected errors of a prediction, with its dipole where that counts; `unlearned` while no dipole has been learned."""
        expected = expected_errors(prediction)
        return expected if self.rules.threshold_dipole is None else replace(expected, dipole=dipole_error(prediction, unlearned))

    def distance(self, atoms: Atoms) -> float:
        """Displacement from the nearest labelled structure, A; see `distances.distance`."""
        return nearest(atoms, (structure.atoms for structure in self.fit.structures))

    def prior(self, prediction: Prediction) -> PriorPrediction:
        """Record of a prediction with uncertainty, kept until its label arrives for comparison."""
        calibration, stress_std, stds = self.calibration, prediction.stress_std, Uncertainties.of(prediction)
        return PriorPrediction(
            prediction.energy, prediction.forces, stds.forces_stated_std, stds.forces_std, stds.strongest, stds.borrowed,
            stds.energy_std / calibration.energy_scale, prediction.stress,
            None if stress_std is None else stress_std / calibration.stress_scale,
        )  # fmt: skip

    def doubt(self, atoms: Atoms) -> str | None:
        """Why a label should not be learned (its forces are absurdly large), or None."""
        forces = labelled(atoms).forces
        largest = 0.0 if forces is None else float(np.sqrt((forces**2).sum(axis=1).max()))
        bound = ABSURD
        if self._largest_force > 0:
            bound = min(max(UNUSUAL * self._largest_force, ORDINARY), ABSURD)
        if largest <= bound:
            return self._truncated(atoms, forces)
        known = f"the largest force of all labels so far is {self._largest_force:.3g} eV/A"
        return f"a force of {largest:.3g} eV/A exceeds the limit of {bound:.3g} eV/A for labels that are learned ({known})"

    def _truncated(self, atoms: Atoms, forces: np.ndarray | None) -> str | None:
        """Why a label should not be learned if atoms beyond the cutoff from all others feel forces (n_atoms, 3), eV/A; or None."""
        if forces is None or not self.fit.structures:
            return None
        alone = without_neighbours(atoms, self.cutoff)
        if not len(alone) or not are_felt(forces, alone, self.rules):
            return None
        k = alone[np.argmax((forces[alone] ** 2).sum(axis=1))]
        return (
            f"atom {k} ({atoms.symbols[k]}) has no neighbour within the cutoff of {self.cutoff:.3g} A, but a force of "
            f"{np.linalg.norm(forces[k]):.3g} eV/A, which this model cannot describe; increase the cutoff of its terms"
        )

    @property
    def cutoff(self) -> float:
        """Distance beyond which atoms do not interact, A."""
        return max(term.cutoff for term in self.fit.terms)

    def begin(
        self,
        data: list[Atoms],
        learned: list[Atoms],
        start: SparseGP | None = None,
        state: dict | None = None,
        saved: Fit | TwoLevelFit | None = None,
    ) -> None:
        """Learn what is known at the start: the data in one step, then the labels one by one in their order.

        Channels with `embedding = "learned"` are taken from the start model, or learned from the data.

        Parameters
        ----------
        data : list of ase.Atoms
            Labelled structures that existed before any simulation.
        learned : list of ase.Atoms
            Labels learned since then, in their order.
        start : SparseGP or None
            Model whose sparse points, terms and noises are used.
        state : dict or None
            From `state()`, to continue from there; without a model_version in it, the version is the number of labels.
        saved : Fit or None
            Fit of an earlier run; used if it agrees with the other arguments.

        Raises
        ------
        ConfigError
            If channels are to be learned and there are no data.
        FitError
            If there are too few data.
        """
        self._start_fit(data, learned, start, saved)
        self._n_data = len(data)
        for structure in self.fit.structures:
            self._count(structure)
        for atoms in learned[len(self.fit.structures) - len(data) :]:
            self._absorb(atoms)
        if state is not None:
            self._restore(state)
        self.targets.begin(data, learned)
        self._model = None
        if state is None:
            self._note_strongest(data)

    def _start_fit(self, data: list[Atoms], learned: list[Atoms], start: SparseGP | None, saved: Fit | TwoLevelFit | None) -> None:
        """Make the fit and learn the data, or take over the saved one."""
        points = {} if start is None else self._adopt(start)
        if not isinstance(saved, Fit) or not is_beginning(saved, self.config, self.species, [*data, *learned], len(data)):
            saved = None
        self.fit = Fit(self.config, self.species, self._channels(data, start, saved))
        if self.fit.beneath is not None:
            self.fit.beneath.check()
        if saved is not None and agree_in_tables(self.fit.terms, saved.terms):
            self.fit = saved
        elif data or points:
            self.fit.update(data, self.fit.propose(data, points))
            self.model_version += bool(data)

    def _adopt(self, model: SparseGP) -> dict[tuple[int, int], np.ndarray]:
        """Take over the sparse points, terms and noises of a fitted model."""
        if model.config is None or model.species != self.species:
            raise ConfigError(
                f"learning.model has the elements {model.species} and was {'' if model.config else 'not '}fitted by mlpot; use a "
                f"model fitted by mlpot for exactly the elements {self.species}"
            )
        if model.config.baseline != self.config.baseline:
            raise ConfigError(
                f"learning.model has [baseline] {model.config.baseline!r}, the file {self.config.baseline!r}; make them equal"
            )
        self.config = model.config.changed(targets=())
        return environments_of(model.terms)

    def _channels(self, data: list[Atoms], start: SparseGP | None, saved: Fit | None) -> dict[int, Tables]:
        """Channels of the terms for which the configuration does not give them; `saved` has learned them from the same data."""
        if start is not None:
            return channels_of(start.terms)
        if not data or not any(term.is_learned for term in self.config.terms):
            return {}
        if saved is not None:
            return channels_of(saved.terms)
        return learn_channels([labelled(atoms) for atoms in data], self.config, self.species)

    def learn(self, atoms: Atoms, prior: PriorPrediction | None, is_chosen: bool = False) -> LabelOutcome:
        """Learn one labelled structure: refit the model, and recalibrate the uncertainty with the error of the prior prediction.

        Parameters
        ----------
        atoms : ase.Atoms
            With energy, forces and, if known, stress attached.
        prior : PriorPrediction or None
            None where there was no model.
        is_chosen : bool
            Whether the label was requested because the model was uncertain about the structure.
        """
        structure = labelled(atoms, f"label {self.n_labels}")
        n_before, n_new = self.n_labels, self._absorb(atoms)
        self.targets.learn(atoms)
        after = self.fitted_model.predict(structure.atoms, uncertainty=True)
        stds = Uncertainties.of(after)
        self._strongest = self._strongest.with_label(structure.atoms.numbers, stds.strongest)
        expected_after = counted_error(stds.forces_std)
        if prior is None or structure.forces is None:
            return LabelOutcome(None, None, expected_after, after, n_new, None)
        errors, numbers = prior.forces - structure.forces, structure.atoms.numbers
        elements = {}
        if n_before >= TELLING_MODEL:
            own = ~prior.borrowed
            elements = compared(errors[own], prior.raw_std[own], prior.strongest[own], numbers[own])
        energy_error, energy = compared_energy(prior, structure)
        stress_error, stress = compared_stress(prior, structure)
        seen = Observation(
            float(np.sqrt(np.mean(errors**2))), counted_error(errors),
            float(np.sqrt(np.mean(prior.raw_std**2))), counted_error(prior.raw_std),
            self._expected(after), elements, energy, stress, is_chosen,
        )  # fmt: skip
        self.history = self.history.observe(seen)
        self._model = None
        said = prior.said_std
        return LabelOutcome(
            seen.error, counted_error(said), expected_after, after, n_new, seen, said,
            energy_error, float(np.abs(errors).max()), stress_error, worst_ratio(errors, said),
        )  # fmt: skip

    def complete(self) -> bool:
        """Fit the targets to all labels, as at the end of a run; whether that changes the model."""
        if not self.targets.is_behind or not self.fit.is_whole:
            return False
        self.targets.complete()
        self._model = None
        return True

    def checked(self, outcome: LabelOutcome, is_check: bool) -> None:
        """Set the interval to the next automatic check from the error that a label has shown."""
        error, expected, worst = outcome.force_error, outcome.expected_rms, outcome.worst_ratio
        if error is not None and expected is not None and worst is not None:
            is_surprise = error > SURPRISING_ERROR * expected or worst > SURPRISING_ATOM
            self.check_interval = next_check(self.rules, self.check_interval, error, is_surprise, is_check)

    def _absorb(self, atoms: Atoms) -> int:
        """Add a label and the new sparse points it needs; returns the number of new points."""
        points = self.fit.propose([atoms])
        self.fit.update([atoms], points)
        self.model_version += 1
        self._count(self.fit.structures[-1])
        self._model = None
        return sum(map(len, points.values()))

    def _restore(self, state: dict) -> None:
        """Take over what `state` has saved."""
        self.model_version, self.n_asked = state.get("model_version", self.model_version), state["n_asked"]
        self.history = History.restore(state["history"])
        self.check_interval = state.get("check_interval", first_check(self.rules))
        self._strongest = StrongestPairForces.restore(state.get("strongest", {}))

    def _note_strongest(self, structures: list[Atoms]) -> None:
        """Take note of the pair forces in structures that the model has learned."""
        for atoms in structures:
            stds = Uncertainties.of(self.fitted_model.predict(atoms, uncertainty=True))
            self._strongest = self._strongest.with_label(atoms.numbers, stds.strongest)

    def _count(self, structure: LabelledStructure) -> None:
        self._occurrences.update(set(structure.atoms.numbers.tolist()))
        if structure.forces is not None:
            self._largest_force = max(self._largest_force, float(np.sqrt((structure.forces**2).sum(axis=1).max())))
            self._largest_rms = max(self._largest_rms, float(np.sqrt(np.mean(structure.forces**2))))
            alone = without_neighbours(structure.atoms, self.cutoff)
            self._ends.learn(structure.atoms, structure.forces, alone, self.rules)

    def state(self) -> dict:
        """State needed by `begin`, in addition to the labels, to continue from here: plain numbers."""
        return {
            "model_version": self.model_version,
            "n_asked": self.n_asked,
            "history": self.history.state(),
            "check_interval": self.check_interval,
            "strongest": self._strongest.state(),
        }
