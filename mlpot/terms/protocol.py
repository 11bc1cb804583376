"""What the parts of a model are: each a Gaussian process of its own with sparse points of its own."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..neighbours import Pairs


class CompiledTerm(Protocol):
    """A term with its weights, ready for simulations."""

    def predict(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, *, variances: np.ndarray | None = None
    ) -> None:
        """Add local energies (n_atoms,), pair gradients (n_pairs, 3), and variances (n_atoms,) where asked."""

    def core_tables(self) -> dict[str, np.ndarray]:
        """Sections of a model file for the compiled core; see `models.core_file`."""


class CorrelatedTerm(CompiledTerm, Protocol):
    """A compiled term that also knows its covariances with the sparse points."""

    def predict(
        self,
        pairs: Pairs,
        energies: np.ndarray,
        pair_gradients: np.ndarray,
        covariances: np.ndarray | None = None,
        variances: np.ndarray | None = None,
    ) -> None:
        """As `CompiledTerm`, the variances being those of the prior; write covariances (n_atoms, M) where asked."""


class Term(Protocol):
    """What a prediction needs."""

    @property
    def cutoff(self) -> float:
        """Reach, A."""

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""

    @property
    def energy_scales(self) -> tuple[float, ...]:
        """Prior standard deviation of every block, eV."""

    def columns_of(self, number: int) -> np.ndarray:
        """Sparse points (n,) that atoms of an element have to do with."""

    def prior(self) -> list[np.ndarray]:
        """Blocks of K_mm, eV^2."""

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Variances (n_atoms,) of instances that the sparse points leave, added up as if they were independent, eV^2."""

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3), straight from the formulas."""

    def compile(self, weights: np.ndarray, tolerance: float, regularisation: float | None = None) -> CompiledTerm:
        """The term for simulations, to `tolerance` (eV per atom); a regularisation (eV) asks for instance variances."""


class FittedTerm(Term, Protocol):
    """What a fit needs besides."""

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """Sparse points (n, ...) of each block: blocks know nothing of each other."""

    def with_points(self, points: tuple[np.ndarray, ...]) -> FittedTerm:
        """The same term with other sparse points."""

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariances (n, m) of sparse points of one block for an energy scale of 1 eV, eV^2."""

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """Add covariances of the energy (M,), forces (3 n_atoms, M) and virial (9, M) with the sparse points."""

    def covariances(self, pairs: Pairs) -> np.ndarray:
        """Covariances (n_atoms, M) of the local energies with the sparse points, eV^2."""

    def variances(self, pairs: Pairs) -> np.ndarray:
        """Prior variances (n_atoms,) of the local energies, eV^2."""
