"""What a model says of a structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from ..neighbours import Pairs

if TYPE_CHECKING:
    from .sparse_gp import SparseGP


@dataclass(frozen=True)
class Prediction:
    """Energy, forces and stress with their uncertainty, in ASE's units.

    Parameters
    ----------
    energy : float
        eV.
    energies : (n_atoms,) array
        Local energies, eV; they add up to `energy`.
    forces : (n_atoms, 3) array
        eV/A.
    virial : (3, 3) array
        -dE/dstrain, eV.
    stress : (3, 3) array or None
        -virial / volume, eV/A^3; None without a three-dimensional cell.
    energies_std : (n_atoms,) array or None
        Standard deviations of the local energies, eV; None unless asked for.
    total_std : callable or None
        Computes `energy_std`.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    stress: np.ndarray | None
    energies_std: np.ndarray | None = None
    total_std: Callable[[], float] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def energy_std(self) -> float | None:
        """Standard deviation of the total energy, eV; None unless uncertainty was asked for.

        It takes the correlations of all atoms, as long as another prediction, so it is computed when it is looked at.
        """
        return None if self.total_std is None else self.total_std()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "energy_std": self.energy_std, "total_std": None}


class Uncertainty(Mapping):
    """ "energies_std" (n_atoms,) and "energy_std" of a prediction, in eV; empty when it was made without."""

    def __init__(self, prediction: Prediction | None = None):
        self._prediction = prediction

    def __getitem__(self, name: str) -> np.ndarray | float:
        if name not in list(self):
            raise KeyError(name)
        return getattr(self._prediction, name)

    def __iter__(self) -> Iterator[str]:
        known = self._prediction is not None and self._prediction.energies_std is not None
        return iter(("energies_std", "energy_std") if known else ())

    def __len__(self) -> int:
        return len(list(iter(self)))


def make_prediction(
    model: SparseGP,
    pairs: Pairs,
    volume: float | None,
    energies: np.ndarray,
    pair_gradients: np.ndarray,
    energies_std: np.ndarray | None,
) -> Prediction:
    """A prediction from local energies (n_atoms,) in eV, pair gradients (n_pairs, 3) in eV/A and their deviations."""
    virial = pairs.virial(pair_gradients)
    return Prediction(
        energy=float(energies.sum()),
        energies=energies,
        forces=pairs.forces(pair_gradients),
        virial=virial,
        stress=None if volume is None else -virial / volume,
        energies_std=energies_std,
        total_std=None if energies_std is None else partial(model.total_deviation, pairs),
    )
