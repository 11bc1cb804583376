"""The model: a sum of sparse Gaussian processes over a baseline, as a frozen collection of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from ase import Atoms
from scipy.linalg import block_diag, solve_triangular

from ..descriptors.density import species_indices
from ..errors import ConfigError
from ..neighbours import Pairs, find_pairs
from ..structures import volume_of
from ..threads import single_blas_thread
from .baseline import Baseline
from .compiled import CompiledModel
from .design_matrix import columns, reach
from .factor import prior_factor
from .prediction import Prediction, make_prediction
from .settings import FitConfig
from .soap_term import SoapTerm
from .terms import FittedTerm, Term

if TYPE_CHECKING:
    from .report import FitReport

DEFAULT_TOLERANCE = 1e-8
"""Largest change of an atom's energy by compilation, eV."""
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
        Addition to the diagonal of K_mm in units of energy_scale^2.
    config : FitConfig or None
        What the fit was asked for, written out; None for an imported model.
    report : FitReport or None
        How the fit went.
    provenance : dict
        Version of mlpot, hash of the data.
    regularisation : float
        eV; its square is added to K_mm and to the prior variances of an imported model (QUIP's
        gap_variance_regularisation).
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
    def prior_factor(self) -> np.ndarray:
        """Lower Cholesky factor of K_mm, block diagonal (M, M)."""
        blocks = [
            prior_factor(block, self.jitter * term.energy_scale**2) for term in self.terms for block in term.prior()
        ]
        return np.asfortranarray(block_diag(*blocks))

    def compile(self, tolerance: float = DEFAULT_TOLERANCE, precision: str = "float64") -> CompiledModel:
        """The model for simulations; `predict`, the calculators and the learning loop use the default.

        Parameters
        ----------
        tolerance : float
            Largest change of an atom's energy, eV.
        precision : "float64" or "float32"
            In single precision the products of those features are made that are small enough for an error of the forces
            below 1e-4 eV/A; `CompiledModel` says so. The uncertainty stays in double precision.

        Raises
        ------
        ConfigError
            For a tolerance that is not positive, or another precision.
        """
        if not tolerance > 0:
            raise ConfigError(f"tolerance = {tolerance}: must be a positive number of eV")
        if precision not in ("float64", "float32"):
            raise ConfigError(f"precision = {precision!r}: must be 'float64' or 'float32'")
        options = {"single": True} if precision == "float32" else {}
        regularisation = self.regularisation if self.factor is None else None
        share = tolerance / len(self.terms)
        with single_blas_thread():
            terms = tuple(
                term.compile(
                    self.weights[part], share, regularisation, **(options if isinstance(term, SoapTerm) else {})
                )
                for term, part in zip(self.terms, columns(self.terms), strict=True)
            )
        return CompiledModel(self, terms, tolerance, precision)

    @cached_property
    def compiled(self) -> CompiledModel:
        """The model compiled with the default tolerance, when it is first needed."""
        return self.compile()

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """Energy, forces, virial and stress of a structure, and their uncertainty where asked.

        Raises
        ------
        StructureError
            Empty structure, positions or cell that are not finite, overlapping atoms.
        UnknownSpeciesError
            An element the model was not fitted for.
        """
        return self.compiled.predict(atoms, uncertainty)

    def predict_pairs(self, pairs: Pairs, volume: float | None, uncertainty: bool = False) -> Prediction:
        """As `predict`, from a neighbour list that reaches `cutoff` and the volume in A^3 (None: no stress)."""
        return self.compiled.predict_pairs(pairs, volume, uncertainty)

    def predict_directly(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """As `predict`, straight from the formulas: the slow judge of the compiled model."""
        pairs = find_pairs(atoms, self.cutoff)
        species_indices(pairs.numbers, self.species)
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        with single_blas_thread():
            self.baseline.predict(pairs, energies, gradients)
            for term, part in zip(self.terms, columns(self.terms), strict=True):
                term.predict(pairs, self.weights[part], energies, gradients)
            deviations = np.sqrt(self._variances(pairs)[0].sum(axis=0)) if uncertainty else None
        return make_prediction(self, pairs, volume_of(atoms), energies, gradients, deviations)

    def total_deviation(self, pairs: Pairs) -> float:
        """Standard deviation of the total energy, eV.

        What the sparse points cannot explain is taken as independent between atoms (FITC; Snelson and Ghahramani, NIPS
        18, 1257 (2005)), so are all parts of an imported model.
        """
        with single_blas_thread():
            (unexplained, _), covariances = self._variances(pairs)
            if self.factor is None:
                return float(np.sqrt(unexplained.sum()))
            total = solve_triangular(self.factor, covariances.sum(axis=0), trans="T", check_finite=False)
        return float(np.sqrt(unexplained.sum() + total @ total))

    def _variances(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Variances (2, n_atoms) of the local energies, eV^2, and their covariances (n_atoms, M) with the sparse points.

        var_i = k_ii - k_i K_mm^-1 k_i, which no data can lower, and k_i (K_mm + K_mn Sigma^-1 K_nm)^-1 k_i.
        """
        out = np.zeros((2, pairs.n_atoms))
        if self.factor is None:
            for term in self.terms:
                out[0] += term.instance_variances(pairs, self.regularisation)
            return out, np.empty((pairs.n_atoms, 0))
        terms = cast(tuple[FittedTerm, ...], self.terms)
        covariances = np.concatenate([term.covariances(pairs) for term in terms], axis=1)
        prior = np.sum([term.variances(pairs) for term in terms], axis=0)
        for begin in range(0, pairs.n_atoms, CHUNK):
            part = slice(begin, begin + CHUNK)
            rows = covariances[part].T
            explained = _squares(solve_triangular(self.prior_factor, rows, lower=True, check_finite=False))
            out[0, part] = np.maximum(prior[part] - explained, 0.0)
            out[1, part] = _squares(solve_triangular(self.factor, rows, trans="T", check_finite=False))
        return out, covariances

    def save(self, file: str | Path) -> None:
        """Write the model to an HDF5 file, replacing any older one in a single step; see `load_model`."""
        from .files import save_model

        save_model(self, file)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("prior_factor", "compiled")}


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("si,si->i", rows, rows)
