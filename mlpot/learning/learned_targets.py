"""Targets of a learning run: dipoles and other quantities, fitted to the same labels as the potential.

A target is fitted from the beginning to the data and the first n labels, with n as `last_fit` says: after every label at first, then
whenever there are a fifth more of them, and to all labels at the end of a run. What is fitted depends on the labels and their order
only, so a run that is resumed has the same targets bit for bit; and a run of n labels makes about 10 + 5 ln(n / 10) fits.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from ..data.target_labels import label_of
from ..errors import ConfigError, LabelError
from ..fitting.growing_targets import fit_known
from ..models.prediction import Prediction
from ..models.tensors import NO_TARGETS
from ..settings.fit import FitConfig
from .policy import Rules

EVERY, GROWTH = 10, 1.2
"""Number of labels up to which targets are fitted after each of them, and the ratio of the numbers of labels of later fits."""


def last_fit(n_labels: int) -> int:
    """Largest number of labels, at most `n_labels`, at which targets are fitted.

    Examples
    --------
    >>> [last_fit(n) for n in (0, 1, 10, 11, 12, 13, 14, 15, 100)]
    [0, 1, 10, 11, 12, 13, 14, 15, 99]
    """
    if n_labels <= EVERY:
        return n_labels
    found = EVERY
    while (following := max(int(found * GROWTH), found + 1)) <= n_labels:
        found = following
    return found


def dipole_error(prediction: Prediction, unlearned: float | None = None) -> float | None:
    """Expected error of a component of a predicted dipole (root mean square), e A; `unlearned` before a dipole has been learned."""
    known = prediction.targets.get("dipole")
    return unlearned if known is None or known.std is None else float(np.sqrt(np.mean(known.std**2)))


class TargetLearner:
    """The targets of a learner; nothing happens if the configuration has none.

    Parameters
    ----------
    config : FitConfig
    rules : Rules or None

    Attributes
    ----------
    models : TargetModels
        Of the last fit. A target is missing while none of the labels has told anything about it: there are none, or all are equal.

    Raises
    ------
    ConfigError
        If there is a threshold for the dipole, and no dipole is learned.
    LabelError
        In `begin` and `learn`, if a label lacks a target.
    """

    def __init__(self, config: FitConfig, rules: Rules | None = None):
        self.settings, self.seed = config.targets, config.seed
        if rules is not None and rules.threshold_dipole is not None and all(own.name != "dipole" for own in self.settings):
            raise ConfigError('threshold_dipole: no dipole is learned; add a target with name = "dipole", or leave it out')
        self.models = NO_TARGETS
        self._frames: list[Atoms] = []
        self._n_data = self._n_fitted = 0

    def begin(self, data: list[Atoms], learned: list[Atoms]) -> None:
        """Learn what is known at the start: data, which may lack a target, and labels, which may not."""
        for atoms in learned:
            self._refuse_missing(atoms)
        self._frames, self._n_data, self._n_fitted = [*data, *learned], len(data), 0
        self._fit(len(data) + last_fit(len(learned)))

    def learn(self, atoms: Atoms) -> None:
        """Add a label, and fit if it is time."""
        self._refuse_missing(atoms)
        self._frames.append(atoms)
        self._fit(self._n_data + last_fit(len(self._frames) - self._n_data))

    @property
    def is_behind(self) -> bool:
        """Whether there are labels that the targets have not been fitted to."""
        return bool(self.settings) and self._n_fitted < len(self._frames)

    def complete(self) -> None:
        """Fit to all labels."""
        self._fit(len(self._frames))

    def results(self, wanted: set[str], prediction: Prediction, labelled: Atoms | None = None) -> dict[str, np.ndarray]:
        """Values of the targets that a calculator is asked for: from the label if there is one, else from the prediction if known."""
        found = {}
        for own in self.settings:
            if own.name in wanted:
                known = prediction.targets.get(own.name)
                value = None if labelled is None else label_of(labelled, own.label_key, own.target, own.label_unit, "label")
                if value is None and known is not None:
                    value = known.value
                if value is not None:
                    found[own.name] = value
        return found

    def _refuse_missing(self, atoms: Atoms) -> None:
        """LabelError for a label without one of the targets, such as one that was made before they were asked for."""
        for own in self.settings:
            if label_of(atoms, own.label_key, own.target, own.label_unit, "label") is None:
                raise LabelError(
                    f"a label of {atoms.calc.name} in labels.db has no {own.label_key!r}, which [[targets]] asks for: it was made "
                    "without; start in another folder, or remove this target"
                )

    def _fit(self, n: int) -> None:
        """Fit to the first n structures, unless that has been done."""
        if not self.settings or n <= self._n_fitted:
            return
        frames, self._n_fitted = self._frames[:n], n
        self.models = fit_known(frames, self.settings, self.seed)
