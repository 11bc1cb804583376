"""Targets of a fit that grows: fitted to the labels of all structures when the model is asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..data.stored import Stored
from ..data.target_labels import UNITS, label_of, labels_of
from ..errors import FitError
from ..models.tensors import NO_TARGETS, TargetModel, TargetModels
from ..settings.targets import TargetSettings, TargetsSettings
from ..structures import LabelledStructure, name_of
from .tensors import fit_targets

log = logging.getLogger(__name__)


def fit_known(
    frames: Sequence[Atoms], settings: Sequence[TargetSettings], seed: int, trust_baseline: bool = True
) -> TargetModels:
    """Fit the targets that the labels tell anything about: one is missing where it has no labels, or all are equal."""
    fitted = {own.name: _fitted(frames, own, seed, trust_baseline) for own in settings}
    return TargetModels({name: model for name, model in fitted.items() if model is not None})


def _fitted(frames: Sequence[Atoms], own: TargetSettings, seed: int, trust_baseline: bool) -> TargetModel | None:
    labels = (label_of(atoms, own.label_key, own.target, own.label_unit, "label") for atoms in frames)
    if all(label is None for label in labels):
        return None
    try:
        return fit_targets(frames, TargetsSettings(targets=(own,)), seed, trust_baseline=trust_baseline)[own.name]
    except FitError as error:
        log.info("%s: not learned yet from %d structures: %s", own.name, len(frames), error)
        return None


class GrowingTargets:
    """Targets of structures to which others are added; nothing happens without any targets.

    Parameters
    ----------
    settings : sequence of TargetSettings
    seed : int
    trust_baseline : bool
        Whether calculators beneath targets may be called that are not known to be harmless.
    """

    def __init__(self, settings: Sequence[TargetSettings], seed: int, trust_baseline: bool = True):
        self.settings, self._seed, self.trust_baseline = settings, seed, trust_baseline
        self._frames: list[Atoms] = []
        self._models: TargetModels | None = NO_TARGETS

    def check(self, structures: Sequence[LabelledStructure]) -> None:
        """DataError for labels that cannot be used, and for a target that neither these structures nor the earlier ones have."""
        frames = [*self._frames, *(s.atoms for s in structures)]
        names = [name_of(atoms, f"structure {k}") for k, atoms in enumerate(frames)]
        for own in self.settings if frames else ():
            labels_of(frames, names, own.label_key, own.target, own.label_unit, own.place)

    def add(self, structures: Sequence[LabelledStructure]) -> None:
        """Add structures that have been checked."""
        self._frames += [s.atoms for s in structures]
        self._models = None if self.settings and self._frames else NO_TARGETS

    @property
    def models(self) -> TargetModels:
        """Of all structures."""
        if self._models is None:
            self._models = fit_known(self._frames, self.settings, self._seed, self.trust_baseline)
        return self._models

    def arrays(self) -> dict[str, np.ndarray]:
        """Labels of all structures, target after target, with NaN for those that are missing, and the charges, for a file."""
        found = {}
        for k, own in enumerate(self.settings):
            values = []
            for atoms in self._frames:
                label = label_of(atoms, own.label_key, own.target, own.label_unit, "label")
                values.append(np.full(_shape(own, atoms), np.nan) if label is None else label)
            found[f"target_{k}"] = np.concatenate([np.empty(0), *map(np.ravel, values)])
            found[f"charges_{k}"] = np.array([own.place.charge_of(atoms) for atoms in self._frames])
        return found

    @staticmethod
    def read(settings: Sequence[TargetSettings], structures: Sequence[LabelledStructure], stored: Stored) -> None:
        """Put the labels of a file into the `info` of its structures."""
        for k, own in enumerate(settings):
            sizes = [int(np.prod(_shape(own, s.atoms))) for s in structures]
            charges = stored.floats(f"charges_{k}", (len(structures),))
            values = stored.floats(f"target_{k}", (sum(sizes),), missing=True) / UNITS.get(own.name, {}).get(own.label_unit, 1.0)
            parts = np.split(values, np.cumsum(sizes)[:-1])
            for s, part, charge in zip(structures, parts, charges.tolist(), strict=False):
                if not np.isnan(part).any():
                    s.atoms.info[own.label_key] = part.reshape(_shape(own, s.atoms))
                    s.atoms.info["charge"] = charge


def _shape(own: TargetSettings, atoms: Atoms) -> tuple[int, ...]:
    """Shape of the label of a structure."""
    return ((len(atoms),) if own.per_atom else ()) + own.target.shape
