"""The learner: decides whether a prediction can be trusted, and learns from labels. No files, no processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..models.incremental import Fit
from ..models.prediction import Prediction
from ..models.presets import resolve
from ..models.settings import FitConfig
from ..models.soap_term import SoapTerm
from ..models.sparse_gp import SparseGP
from ..structures import agrees, labelled
from .policy import Observation, make_policy


@dataclass(frozen=True)
class Decision:
    """Whether to ask for a label, and why.

    Parameters
    ----------
    label : bool
    reason : str
        "no model", "uncertain", "certain" or "budget spent".
    max_energy_std, threshold : float or None
        eV; None without a model.
    """

    label: bool
    reason: str
    max_energy_std: float | None
    threshold: float | None


@dataclass(frozen=True)
class Lesson:
    """What learning one label changed.

    Parameters
    ----------
    force_error : float or None
        RMS error of the forces predicted before, eV/A; None where there was no model.
    std_before : float or None
        Largest uncertainty of an atom's energy before, eV.
    after : Prediction
        What the new model says of the structure it has just learned, with uncertainty.
    n_new_points : int
        Sparse points added.
    """

    force_error: float | None
    std_before: float | None
    after: Prediction
    n_new_points: int

    @property
    def std_after(self) -> float:
        """Largest uncertainty of an atom's energy after, eV."""
        return float(self.after.energies_std.max())


class Learner:
    """A growing data set, the sparse points chosen from it, and the model fitted to both.

    The model is a function of the labels in their order and of nothing else, so a restart that replays them, or those
    that a saved fit does not know yet, arrives at the same model bit for bit.

    Parameters
    ----------
    config : FitConfig
        Preset or terms, and noises.
    species : tuple of int
        Atomic numbers that will occur.
    threshold : float or "adaptive"
        eV per atom.
    max_labels : int or None
        After so many labels none is asked for.
    """

    def __init__(
        self,
        config: FitConfig,
        species: tuple[int, ...],
        threshold: float | str = "adaptive",
        max_labels: int | None = None,
    ):
        self.config = resolve(config, species)
        self.species = tuple(sorted(species))
        self.policy = make_policy(threshold, self.config.force_noise)
        self.max_labels = max_labels
        self.fit = Fit(self.config, self.species)
        self.model_version = 0
        self.n_asked = 0

    @property
    def model(self) -> SparseGP | None:
        """The current model, None before there are labels."""
        return self.fit.model if self.fit.structures else None

    @property
    def n_labels(self) -> int:
        """Labels learned, those it started from included."""
        return len(self.fit.structures)

    def decide(self, prediction: Prediction | None) -> Decision:
        """Whether a prediction (None: there is no model yet) can be trusted."""
        if prediction is None:
            return Decision(True, "no model", None, None)
        largest, threshold = float(prediction.energies_std.max()), self.policy.threshold()
        if largest <= threshold:
            return Decision(False, "certain", largest, threshold)
        if self.max_labels is not None and self.n_asked >= self.max_labels:
            return Decision(False, "budget spent", largest, threshold)
        return Decision(True, "uncertain", largest, threshold)

    def begin(
        self,
        data: list[Atoms],
        learned: list[Atoms],
        start: SparseGP | None = None,
        state: dict | None = None,
        saved: Fit | None = None,
    ) -> None:
        """Learn what is known at the start: the data in one step, labels one by one as they were learned.

        Parameters
        ----------
        data : list of ase.Atoms
            Labelled structures that were there before any simulation.
        learned : list of ase.Atoms
            Labels learned since, in their order.
        start : SparseGP or None
            Model that lends its sparse points, and its terms and noises.
        state : dict or None
            From `state()`, to stand where that was taken; without it the policy starts afresh.
        saved : Fit or None
            What an earlier run knew; used as far as it agrees with the other arguments.
        """
        points = {} if start is None else self._adopt(start)
        known = self._continue(saved, [*data, *learned], len(data))
        if not known and (data or points):
            self.fit.update(data, self.fit.propose(data, points))
            self.model_version += bool(data)
        for atoms in learned[max(known - len(data), 0) :]:
            self._absorb(atoms)
        if state is not None:
            self.model_version, self.n_asked = state["model_version"], state["n_asked"]
            self.policy = self.policy.restore(state["policy"])

    def _adopt(self, model: SparseGP) -> dict[tuple[int, int], np.ndarray]:
        """Sparse points of a fitted model, whose terms and noises become those of the fit."""
        if model.config is None or model.species != self.species:
            raise ConfigError(
                f"learning.model knows the elements {model.species} and was {'' if model.config else 'not '}fitted by mlpot; "
                f"it must be a model that mlpot fitted for exactly {self.species}"
            )
        self.config = model.config
        self.fit = Fit(self.config, self.species)
        return {
            (k, z): features
            for k, term in enumerate(model.terms)
            if isinstance(term, SoapTerm)
            for z, features in zip(self.species, term.sparse_features, strict=True)
        }

    def _continue(self, saved: Fit | None, frames: list[Atoms], n_data: int) -> int:
        """Go on from a fit that knows the first of the frames, all data among them; returns how many it knows."""
        if saved is None or (saved.config, saved.species) != (self.config, self.species):
            return 0
        known = len(saved.structures)
        if not max(n_data, 1) <= known <= len(frames):
            return 0
        if any(not agrees(s, labelled(atoms)) for s, atoms in zip(saved.structures, frames, strict=False)):
            return 0
        self.fit = saved
        return known

    def learn(self, atoms: Atoms, prediction: Prediction | None) -> Lesson:
        """Learn one labelled structure that the prediction was wrong or unsure about; the model grows."""
        structure = labelled(atoms, f"label {self.n_labels}")
        self.n_asked += 1
        n_new = self._absorb(atoms)
        after = self.model.predict(structure.atoms, uncertainty=True)
        if prediction is None or structure.forces is None:
            return Lesson(None, None, after, n_new)
        error = float(np.sqrt(np.mean((prediction.forces - structure.forces) ** 2)))
        before = float(prediction.energies_std.max())
        lesson = Lesson(error, before, after, n_new)
        self.policy = self.policy.observe(Observation(error, before, lesson.std_after))
        return lesson

    def _absorb(self, atoms: Atoms) -> int:
        """Add a label and the sparse points it calls for; how many these are."""
        points = self.fit.propose([atoms])
        self.fit.update([atoms], points)
        self.model_version += 1
        return sum(map(len, points.values()))

    def state(self) -> dict:
        """What `begin` needs besides the labels to stand here again: plain numbers."""
        return {
            "model_version": self.model_version,
            "n_asked": self.n_asked,
            "policy": self.policy.state(),
        }
