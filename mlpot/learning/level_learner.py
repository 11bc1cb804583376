"""The learner of a run with two levels of labels: its model is the sum of a cheap level and a difference, see `level_fit`."""

from __future__ import annotations

from ase import Atoms

from ..errors import ConfigError
from ..fitting.incremental import Fit
from ..models.prediction import Prediction, expected_errors
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig
from .learner import Learner
from .level_fit import TwoLevelFit
from .policy import CHOSEN_REASONS, DOUBTFUL, Limits, Rules


class TwoLevelLearner(Learner):
    """A learner whose labels, history and budget belong to the expensive level, with cheap labels beneath them.

    Parameters
    ----------
    config, species, rules
        As for `Learner`; `rules.max_labels` is the budget of the expensive level.
    cheap_data, cheap_labels : lists of ase.Atoms
        Labels of the cheap level: of the data, and those learned since, in their order.

    Attributes
    ----------
    n_cheap_asked : int
        Number of cheap labels requested so far.
    """

    fit: TwoLevelFit
    beyond_budget = CHOSEN_REASONS  # a cheap label may be enough where the model is uncertain

    def __init__(
        self, config: FitConfig, species: tuple[int, ...], rules: Rules, cheap_data: list[Atoms], cheap_labels: list[Atoms]
    ):
        super().__init__(config, species, rules)
        if any(term.is_learned for term in self.config.terms):
            raise ConfigError(
                'embedding = "learned" cannot be combined with two levels of labels; set embedding = "periodic" and remove '
                "embedding_start"
            )
        self._cheap_data, self._cheap_labels = cheap_data, cheap_labels
        self.n_cheap_asked = len(cheap_data) + len(cheap_labels)

    @property
    def n_cheap(self) -> int:
        """Number of cheap labels learned."""
        return len(self.fit.cheap.structures)

    @property
    def can_learn_stress(self) -> bool:
        """Whether the labels of both levels come with a stress."""
        differences = self.fit.difference.structures
        return super().can_learn_stress and (not differences or any(s.virial is not None for s in differences))

    def _start_fit(self, data: list[Atoms], learned: list[Atoms], start: SparseGP | None, saved: Fit | TwoLevelFit | None) -> None:
        """Learn the data at both levels, and all cheap labels."""
        if start is not None:
            raise ConfigError("learning.model cannot be combined with two levels of labels; remove the key")
        self.fit = TwoLevelFit(self.config, self.species)
        if isinstance(saved, TwoLevelFit):
            self.fit.adopt(saved, [*self._cheap_data, *self._cheap_labels], [*data, *learned], len(data))
        if self._cheap_data and not self.fit.cheap.structures:
            self.fit.learn_cheap(self._cheap_data)
        if data and not self.fit.structures:
            self.fit.update(data, self.fit.propose(data))
        self.model_version += bool(data)
        for atoms in self._cheap_labels[len(self.fit.cheap.structures) - len(self._cheap_data) :]:
            self.learn_cheap(atoms)

    def learn_cheap(self, atoms: Atoms) -> None:
        """Learn a label of the cheap level."""
        self.fit.learn_cheap([atoms])
        self.model_version += 1
        self._model = None

    def is_enough(self, prediction: Prediction, reason: str, limits: Limits | None) -> bool:
        """Whether a structure needs no expensive label, once its cheap one is learned.

        The variance that is left is the one of the difference.
        """
        if limits is None or prediction.novelty is None:
            return False
        worst = limits.worst(expected_errors(prediction))[1]
        is_strange = reason == "novel" and float(prediction.novelty.max()) > self.rules.novelty and worst > DOUBTFUL
        return worst <= 1.0 and not is_strange

    def state(self) -> dict:
        """As of `Learner`."""
        return {**super().state(), "n_cheap_asked": self.n_cheap_asked}

    def begin(
        self,
        data: list[Atoms],
        learned: list[Atoms],
        start: SparseGP | None = None,
        state: dict | None = None,
        saved: Fit | TwoLevelFit | None = None,
    ) -> None:
        """As of `Learner`."""
        super().begin(data, learned, start, state, saved)
        if state is not None:
            self.n_cheap_asked = state.get("n_cheap_asked", self.n_cheap_asked)
