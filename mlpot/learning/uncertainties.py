"""The uncertainties of a prediction that was made with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..models.prediction import Prediction


@dataclass(frozen=True)
class Uncertainties:
    """Standard deviations and novelty, none of them missing; see `Prediction` for each.

    Parameters
    ----------
    energy_std : float
        eV.
    energies_std : (n_atoms,) array
        eV.
    forces_std, forces_stated_std : (n_atoms, 3) arrays
        eV/A.
    borrowed : (n_atoms,) bool array
    novelty : (n_atoms,) array
    strongest : (n_atoms,) array
        eV/A.
    """

    energy_std: float
    energies_std: np.ndarray
    forces_std: np.ndarray
    forces_stated_std: np.ndarray
    borrowed: np.ndarray
    novelty: np.ndarray
    strongest: np.ndarray

    @classmethod
    def of(cls, prediction: Prediction) -> Uncertainties:
        """Take the uncertainties of a prediction; RuntimeError if it was made without."""
        values = {name: getattr(prediction, name) for name in cls.__annotations__}
        if missing := [name for name, value in values.items() if value is None]:
            raise RuntimeError(f"a prediction without {', '.join(missing)} cannot be decided on")
        return cls(**values)
