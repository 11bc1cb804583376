"""What is not known of a structure, before and after calibration against errors that occurred.

The variance of a prediction is what the data leave open (the posterior's), what the sparse points cannot represent, and the model's
discrepancy: the noise that the evidence gives the labels, which is what features and sparse points cannot explain of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..neighbours import Pairs
from .calibration import SYMMETRIC, Calibration
from .noises import Noises
from .reaction import Reactions

NONE = Noises()


@dataclass(frozen=True)
class Deviations:
    """Standard deviations as a prediction carries them; see `Prediction`.

    `forces_stated_std` are those of forces as the model itself states them, which errors are compared with to calibrate. `borrowed`
    tells of which atoms `forces_std` are shares of their neighbours' (n_atoms,).
    """

    energies_std: np.ndarray
    energy_std: float
    forces_std: np.ndarray | None
    forces_stated_std: np.ndarray | None
    borrowed: np.ndarray | None
    discrepancy: np.ndarray | None
    virial_std: np.ndarray | None
    novelty: np.ndarray | None


@dataclass(frozen=True)
class Variances:
    """Of one structure, not calibrated.

    Parameters
    ----------
    posterior : (n_atoms,) array
        Of the local energies, what the data leave open, eV^2.
    unexplained : (n_atoms,) array
        Of the local energies, what no data could tell through the sparse points, eV^2; independent between atoms (FITC;
        Snelson and Ghahramani, NIPS 18, 1257 (2005)).
    total : float
        Of the total energy, what the data leave open, eV^2.
    forces : (n_atoms, 3) array or None
        (eV/A)^2; None for an imported model.
    virial : (3, 3) array or None
        eV^2; None for an imported model.
    novelty : (n_atoms,) array or None
        See `Prediction`.
    noises : Noises
        The model's discrepancy.
    """

    posterior: np.ndarray
    unexplained: np.ndarray
    total: float
    forces: np.ndarray | None
    virial: np.ndarray | None
    novelty: np.ndarray | None
    noises: Noises = NONE

    @classmethod
    def of_instances(cls, unexplained: np.ndarray) -> Variances:
        """Of an imported model: variances (n_atoms,) in eV^2 that are independent of each other and of any data."""
        return cls(np.zeros(len(unexplained)), np.maximum(unexplained, 0.0), 0.0, None, None, None)

    def calibrated(self, calibration: Calibration, pairs: Pairs, strongest: np.ndarray) -> Deviations:
        """Standard deviations of the structure of these pairs; `strongest` (n_atoms,) as in `Prediction`.

        The unexplained part is the prior's and not scaled.
        """
        scale, n_atoms, numbers = calibration.energy_scale**2, pairs.n_atoms, pairs.numbers
        noises, stated, borrowed, forces_std, discrepancy, virial_std = self.noises, None, None, None, None, None
        if self.forces is not None:
            # what symmetry makes zero has no discrepancy either
            own = np.where(self.forces > SYMMETRIC**2, noises.of_forces(numbers)[:, None], 0.0)
            left_open = np.sqrt(self.forces)
            stated = calibration.stated(left_open, own)
            alone = calibration.forces_std(left_open, own, numbers, strongest)
            reactions = Reactions.of(pairs)
            forces_std = reactions.added_to(alone)
            borrowed = np.any(forces_std > alone, axis=1)
            discrepancy = reactions.added_to(calibration.forces_std(np.zeros_like(own), own, numbers, strongest))
        if self.virial is not None:
            virial_std = calibration.stress_scale * np.sqrt(self.virial + n_atoms * noises.virial**2)
        return Deviations(
            energies_std=np.sqrt(scale * (self.posterior + noises.energy**2) + self.unexplained),
            energy_std=float(np.sqrt(scale * (self.total + n_atoms * noises.energy**2) + self.unexplained.sum())),
            forces_std=forces_std,
            forces_stated_std=stated,
            borrowed=borrowed,
            discrepancy=discrepancy,
            virial_std=virial_std,
            novelty=self.novelty,
        )


@dataclass(frozen=True)
class Members:
    """An ensemble of potentials whose mean is the model; see `CompiledModel.predict_members`.

    Parameters
    ----------
    energies : (n_members,) array
        eV.
    forces : (n_members, n_atoms, 3) array
        eV/A.
    virials : (n_members, 3, 3) array
        -dE/dstrain, eV.
    """

    energies: np.ndarray
    forces: np.ndarray
    virials: np.ndarray


def force_variances(forces: np.ndarray) -> np.ndarray:
    """Variances (n_atoms, 3) from the forces (n_atoms, 3, n_members) of members about the mean model, which is known.

    Few members give the variance of a single component badly: it is the geometric mean of its own and the mean over the
    atom's directions, so that what symmetry makes zero stays zero. Of all mixtures of the two it makes the errors of
    structures left out (Si, Mo) the most likely.
    """
    own = np.einsum("axm,axm->ax", forces, forces) / forces.shape[2]
    return np.sqrt(own * own.mean(axis=1, keepdims=True))
