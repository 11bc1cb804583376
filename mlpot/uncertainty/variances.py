"""Variances of predictions for a structure, before and after calibration against observed errors.

The variance of a prediction has three parts: the posterior variance, which the data leave open; the unexplained variance, which the
sparse points cannot represent; and the model discrepancy, the label noise at the maximum of the evidence, which is the part of the
labels that features and sparse points cannot explain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..neighbours import Pairs
from .calibration import SYMMETRIC, Calibration
from .noises import Noises
from .reaction import Reactions

NONE = Noises()
BORROWED = 1.5
"""Ratio to the deviation that an atom has by itself above which it counts as the share of a neighbour. Of two neighbours that raise
each other, one at least stays below any ratio from sqrt(`reaction.CANCELLED`) on. With 1, neither C nor O of CO on Cu(111) had errors
that counted as its own, so their calibration stayed at its prior while errors were ten times the stated deviations."""


@dataclass(frozen=True)
class Deviations:
    """Standard deviations of a prediction; see `Prediction`.

    `forces_stated_std` are the uncalibrated standard deviations of the forces, with which errors are compared in a calibration.
    `borrowed` (n_atoms,) marks atoms whose `forces_std` are mostly shares of the variance of a neighbour, see `BORROWED`.
    """

    energies_std: np.ndarray | None
    energy_std: float | None
    forces_std: np.ndarray | None
    forces_stated_std: np.ndarray | None
    borrowed: np.ndarray | None
    discrepancy: np.ndarray | None
    virial_std: np.ndarray | None
    novelty: np.ndarray | None


@dataclass(frozen=True)
class Variances:
    """Uncalibrated variances of one structure.

    Parameters
    ----------
    posterior : (n_atoms,) array
        Posterior variances of the local energies, eV^2.
    unexplained : (n_atoms,) array
        Variances of the local energies that the sparse points cannot represent, eV^2; independent between atoms (FITC; Snelson and
        Ghahramani, NIPS 18, 1257 (2005)).
    total : float
        Posterior variance of the total energy, eV^2.
    forces : (n_atoms, 3) array or None
        Posterior variances of the forces, (eV/A)^2; None for an imported model.
    virial : (3, 3) array or None
        Posterior variances of the virial, eV^2; None for an imported model.
    novelty : (n_atoms,) array or None
        See `Prediction`.
    noises : Noises
        Model discrepancy.
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
        """Variances of an imported model from instance variances (n_atoms,), eV^2, independent of each other and of any data."""
        return cls(np.zeros(len(unexplained)), np.maximum(unexplained, 0.0), 0.0, None, None, None)

    def calibrated(self, calibration: Calibration, pairs: Pairs, strongest: np.ndarray) -> Deviations:
        """Calibrated standard deviations of the structure of these pairs; `strongest` (n_atoms,) as in `Prediction`.

        The unexplained part belongs to the prior and is not scaled.
        """
        scale, n_atoms, numbers = calibration.energy_scale**2, pairs.n_atoms, pairs.numbers
        noises, stated, borrowed, forces_std, discrepancy, virial_std = self.noises, None, None, None, None, None
        if self.forces is not None:
            # components that vanish by symmetry have no discrepancy either
            own = np.where(self.forces > SYMMETRIC**2, noises.of_forces(numbers)[:, None], 0.0)
            left_open = np.sqrt(self.forces)
            stated = calibration.stated(left_open, own)
            alone = calibration.forces_std(left_open, own, numbers, strongest)
            reactions = Reactions.of(pairs)
            forces_std = reactions.added_to(alone)
            borrowed = np.any(forces_std > BORROWED * alone, axis=1)
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
class NoveltyAlone:
    """Novelty (n_atoms,) from a model that has no variances; see `references`."""

    novelty: np.ndarray

    def calibrated(self, calibration: Calibration, pairs: Pairs, strongest: np.ndarray) -> Deviations:
        """See `Variances`."""
        return Deviations(None, None, None, None, None, None, None, self.novelty)


@dataclass(frozen=True)
class Members:
    """An ensemble of potentials whose mean is the model; see `CompiledModel.predict_members`.

    Parameters
    ----------
    energies : (n_members,) array
        Total energies, eV.
    forces : (n_members, n_atoms, 3) array
        Forces, eV/A.
    virials : (n_members, 3, 3) array
        -dE/dstrain, eV.
    """

    energies: np.ndarray
    forces: np.ndarray
    virials: np.ndarray


def force_variances(forces: np.ndarray) -> np.ndarray:
    """Variances (n_atoms, 3) from the forces (n_atoms, 3, n_members) of members relative to the mean model.

    A few members give a noisy variance for a single component. It is replaced by its geometric mean with the average over the three
    directions, so that components that vanish by symmetry stay zero. Of all mixtures of the two, this one has the largest
    likelihood for errors of left-out structures (Si, Mo).
    """
    own = np.einsum("axm,axm->ax", forces, forces) / forces.shape[2]
    return np.sqrt(own * own.mean(axis=1, keepdims=True))
