"""The model: a sum of sparse Gaussian processes over a baseline, as a frozen collection of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from scipy.linalg import block_diag, solve_triangular

from ..descriptors.density import species_indices
from ..neighbours import Pairs, find_pairs
from ..threads import single_blas_thread
from .baseline import Baseline
from .design_matrix import Term, columns, reach
from .factor import prior_factor
from .prediction import Prediction
from .settings import FitConfig

if TYPE_CHECKING:
    from .report import FitReport

CHUNK = 1024
"""Centres whose covariances are held at a time for the uncertainty."""


@dataclass(frozen=True)
class SparseGP:
    """A fitted potential.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers it was fitted for.
    terms : tuple of Term
        Parts with sparse points of their own.
    weights : (M,) array
        Fitted coefficients of all sparse points, term after term, 1/eV.
    baseline : Baseline
        Energy that was known before the fit.
    factor : (M, M) array or None
        Upper triangular R with R'R = K_mm + K_mn Sigma^-1 K_nm; None for an imported model, of whose data nothing is known.
    jitter : float
        Relative addition to the diagonal of K_mm.
    regularisation : float
        eV, of an imported model: its square is added to the diagonal of K_mm and to the prior variances.
    config : FitConfig or None
        What the fit was asked for, written out; None for an imported model.
    report : FitReport or None
        How the fit went.
    provenance : dict
        Version of mlpot, hash of the data.
    """

    species: tuple[int, ...]
    terms: tuple[Term, ...]
    weights: np.ndarray
    baseline: Baseline
    factor: np.ndarray | None
    jitter: float
    config: FitConfig | None = None
    report: FitReport | None = None
    provenance: dict = field(default_factory=dict)
    regularisation: float = 0.0

    @cached_property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return reach(self.terms, self.baseline, self.species)

    @property
    def n_sparse(self) -> int:
        return len(self.weights)

    @cached_property
    def _prior_factor(self) -> np.ndarray:
        """Lower Cholesky factor of K_mm, block diagonal (M, M)."""
        blocks = [prior_factor(block, self.jitter) for term in self.terms for block in term.prior()]
        return np.asfortranarray(block_diag(*blocks))

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """Energy, forces, virial and stress of a structure, and their uncertainty where asked.

        Raises
        ------
        StructureError
            Empty structure, positions or cell that are not finite, overlapping atoms.
        UnknownSpeciesError
            An element the model was not fitted for.
        """
        return self.predict_pairs(find_pairs(atoms, self.cutoff), volume_of(atoms), uncertainty)

    def predict_pairs(self, pairs: Pairs, volume: float | None, uncertainty: bool = False) -> Prediction:
        """As `predict`, from a neighbour list that reaches `cutoff` and the volume in A^3 (None: no stress)."""
        species_indices(pairs.numbers, self.species)
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        covariances = np.zeros((pairs.n_atoms, self.n_sparse)) if uncertainty else None
        with single_blas_thread():
            self.baseline.predict(pairs, energies, gradients)
            for term, part in zip(self.terms, columns(self.terms), strict=True):
                own = None if covariances is None else covariances[:, part]
                term.predict(pairs, self.weights[part], energies, gradients, own)
            energies_std, energy_std = (None, None) if covariances is None else self._deviations(pairs, covariances)
        virial = pairs.virial(gradients)
        return Prediction(
            energy=float(energies.sum()),
            energies=energies,
            forces=pairs.forces(gradients),
            virial=virial,
            stress=None if volume is None else -virial / volume,
            energies_std=energies_std,
            energy_std=energy_std,
        )

    def _deviations(self, pairs: Pairs, covariances: np.ndarray) -> tuple[np.ndarray, float]:
        """Standard deviations of local energies (n_atoms,) and of the total, eV.

        var_i = k_ii - k_i K_mm^-1 k_i + k_i (K_mm + K_mn Sigma^-1 K_nm)^-1 k_i. What the sparse points cannot explain
        (the first two terms) is taken as independent between atoms in the total (FITC; Snelson and Ghahramani,
        NIPS 18, 1257 (2005)).
        """
        prior = np.zeros(pairs.n_atoms)
        for term in self.terms:
            prior += term.variances(pairs)
        explained, posterior = np.empty(pairs.n_atoms), np.empty(pairs.n_atoms)
        for begin in range(0, pairs.n_atoms, CHUNK):
            part = slice(begin, begin + CHUNK)
            rows = covariances[part].T
            explained[part] = _squares(solve_triangular(self._prior_factor, rows, lower=True, check_finite=False))
            posterior[part] = _squares(solve_triangular(self.factor, rows, trans="T", check_finite=False))
        unexplained = np.maximum(prior - explained, 0.0)
        total = solve_triangular(self.factor, covariances.sum(axis=0), trans="T", check_finite=False)
        return np.sqrt(unexplained + posterior), float(np.sqrt(unexplained.sum() + total @ total))

    def save(self, file: str | Path) -> None:
        """Write the model to an HDF5 file, replacing any older one in a single step; see `load_model`."""
        from .files import save_model

        save_model(self, file)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_prior_factor"}


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("si,si->i", rows, rows)


def volume_of(atoms: Atoms) -> float | None:
    """Volume in A^3 of a cell that is periodic in three dimensions, None otherwise."""
    return float(abs(np.linalg.det(atoms.cell.array))) if np.all(atoms.pbc) else None
