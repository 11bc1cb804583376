"""The learner: decides whether a prediction can be trusted, and learns from labels. No files, no processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..models.calibration import Calibration
from ..models.descriptor_tables import Tables, channels_of
from ..models.fit import learn_channels
from ..models.incremental import Fit
from ..models.prediction import Prediction, least_certain
from ..models.presets import resolve
from ..models.settings import FitConfig, is_learned
from ..models.soap_term import SoapTerm
from ..models.sparse_gp import SparseGP
from ..structures import agrees, labelled
from .policy import Decision, History, Observation, Rules, Situation, decide

TARGET = 0.2
"""Default target of an adaptive threshold, eV/A: it is for the least certain atom, whose expected error is about twice that of
all."""


@dataclass(frozen=True)
class Before:
    """What a model said of a structure before its label was learned.

    Parameters
    ----------
    energy : float
        eV.
    forces, raw_std : (n_atoms, 3) arrays
        eV/A; the deviations uncalibrated.
    """

    energy: float
    forces: np.ndarray
    raw_std: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What learning one label changed.

    Parameters
    ----------
    force_error : float or None
        RMS error of the forces predicted before, eV/A; None where there was no model.
    expected : float or None
        Expected error of the least certain force before, eV/A.
    expected_after : float
        The same after.
    after : Prediction
        What the new model says of the structure it has just learned, with uncertainty.
    n_new_points : int
        Sparse points added.
    observation : Observation or None
        What the calibration remembers of it; None where there was no model.
    forces_std : (n_atoms, 3) array or None
        Deviations of the forces predicted before, eV/A, as the calibration had them.
    """

    force_error: float | None
    expected: float | None
    expected_after: float
    after: Prediction
    n_new_points: int
    observation: Observation | None
    forces_std: np.ndarray | None = None


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
        When to ask; a target of None is `TARGET`.
    """

    def __init__(self, config: FitConfig, species: tuple[int, ...], rules: Rules | None = None):
        self.config = resolve(config, species)
        self.species = tuple(sorted(species))
        self.rules = (rules or Rules()).aiming(TARGET)
        self.history = History()
        self.fit: Fit
        self.model_version = 0
        self.n_asked = 0
        self._model: SparseGP | None = None

    @property
    def model(self) -> SparseGP | None:
        """The current model, calibrated by the errors seen so far; None before there are labels."""
        if self._model is None and self.fit.structures:
            self._model = self.calibrated(self.fit.model)
        return self._model

    def calibrated(self, model: SparseGP) -> SparseGP:
        """A model, of whatever version, with standard deviations as the errors seen until now would have them."""
        return model.calibrated(self.calibration)

    @property
    def calibration(self) -> Calibration:
        """By the errors seen so far."""
        scale = self.history.scale
        return Calibration(force_scale=scale, energy_scale=scale, stress_scale=scale)

    @property
    def n_labels(self) -> int:
        """Labels learned, those it started from included."""
        return len(self.fit.structures)

    def decide(self, prediction: Prediction | None, since_label: int, since_check: int, queued: int = 0) -> Decision:
        """What to do with a prediction (None: there is no model yet); see `Situation`."""
        expected = novelty = None
        if prediction is not None:
            expected, novelty = least_certain(prediction.forces_std), float(prediction.novelty.max())
        now = Situation(expected, novelty, since_label, since_check, queued, self.n_asked)
        return decide(self.rules, self.history, now)

    def before(self, prediction: Prediction | None) -> Before | None:
        """What to keep of a prediction until its label has come."""
        if prediction is None:
            return None
        return Before(prediction.energy, prediction.forces, prediction.forces_std / self.history.scale)

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
        if saved is not None and channels_of(saved.terms) == channels_of(self.fit.terms):
            self.fit = saved
        elif data or points:
            self.fit.update(data, self.fit.propose(data, points))
            self.model_version += bool(data)
        for atoms in learned[len(self.fit.structures) - len(data) :]:
            self._absorb(atoms)
        if state is not None:
            self.model_version, self.n_asked = state.get("model_version", self.model_version), state["n_asked"]
            self.history = History.restore(state["history"])
        self._model = None

    def _adopt(self, model: SparseGP) -> dict[tuple[int, int], np.ndarray]:
        """Sparse points of a fitted model, whose terms and noises become those of the fit."""
        if model.config is None or model.species != self.species:
            raise ConfigError(
                f"learning.model knows the elements {model.species} and was {'' if model.config else 'not '}fitted by mlpot; "
                f"it must be a model that mlpot fitted for exactly {self.species}"
            )
        self.config = model.config
        return {
            (k, z): features
            for k, term in enumerate(model.terms)
            if isinstance(term, SoapTerm)
            for z, features in zip(self.species, term.sparse_features, strict=True)
        }

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

    def learn(self, atoms: Atoms, before: Before | None) -> Lesson:
        """Learn one labelled structure; the model grows, and what was said of it before recalibrates the uncertainty."""
        structure = labelled(atoms, f"label {self.n_labels}")
        n_new = self._absorb(atoms)
        after = self.model.predict(structure.atoms, uncertainty=True)
        expected_after = least_certain(after.forces_std)
        if before is None or structure.forces is None:
            return Lesson(None, None, expected_after, after, n_new, None)
        scale = self.history.scale
        error = float(np.sqrt(np.mean((before.forces - structure.forces) ** 2)))
        raw_rms, raw_max = float(np.sqrt(np.mean(before.raw_std**2))), least_certain(before.raw_std)
        seen = Observation(error, raw_rms, raw_max, expected_after / scale)
        self.history = self.history.observe(seen)
        self._model = None
        return Lesson(error, scale * raw_max, expected_after, after, n_new, seen, scale * before.raw_std)

    def _absorb(self, atoms: Atoms) -> int:
        """Add a label and the sparse points it calls for; how many these are."""
        points = self.fit.propose([atoms])
        self.fit.update([atoms], points)
        self.model_version += 1
        self._model = None
        return sum(map(len, points.values()))

    def state(self) -> dict:
        """What `begin` needs besides the labels to stand here again: plain numbers."""
        return {
            "model_version": self.model_version,
            "n_asked": self.n_asked,
            "history": self.history.state(),
        }
