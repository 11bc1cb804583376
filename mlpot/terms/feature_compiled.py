"""Many-body term on any descriptor with fixed weights, and its ensemble: one `vjp` per set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import ConfigError
from ..neighbours import Pairs
from .environments import EnvironmentTerm
from .unit_features import FeaturesAt, UnitFeatures


@dataclass(frozen=True)
class CompiledFeatureTerm:
    """A term on any descriptor with fixed weights, evaluated without approximations.

    Parameters
    ----------
    term : EnvironmentTerm
    unit : UnitFeatures
        Features of the term.
    weights : (n_sparse,) array
        Weights, 1/eV.
    regularisation : float or None
        Regularisation of instance variances, eV; None: prior variances are computed instead.
    """

    term: EnvironmentTerm
    unit: UnitFeatures
    weights: np.ndarray
    regularisation: float | None

    def predict(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, *, variances: np.ndarray | None = None
    ) -> None:
        """See `CompiledTerm`."""
        self.evaluate(pairs, self.unit.at(pairs), energies, pair_gradients)
        if variances is not None:
            instances = self.regularisation
            variances += self.term.variances(pairs) if instances is None else self.term.instance_variances(pairs, instances)

    def core_tables(self) -> dict[str, np.ndarray]:
        """Raise ConfigError: the compiled core cannot evaluate these descriptors."""
        raise ConfigError(
            f"a {self.term.label} term is evaluated in Python: programs that read exported models have no such descriptor, so the "
            "model cannot be exported; use pair and soap terms for that"
        )

    def instance_tables(self) -> dict[str, np.ndarray]:
        """See `core_tables`."""
        return self.core_tables()

    def evaluate(self, pairs: Pairs, at: FeaturesAt, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3) from the features of the structure."""
        values, cotangent = self.term.energies_of(pairs, at.features, self.weights)
        energies += values
        pair_gradients += at.vjp(cotangent)


@dataclass(frozen=True)
class FeatureObserver:
    """Observer of a compiled term on any descriptor; see `Observer`.

    Parameters
    ----------
    compiled : CompiledFeatureTerm
    chosen : EnvironmentTerm
        The term restricted to its representatives.
    weights : (n, N_MEMBERS) array
        Weights of the members, 1/eV.
    """

    compiled: CompiledFeatureTerm
    chosen: EnvironmentTerm
    weights: np.ndarray
    served: ClassVar[frozenset[int]] = frozenset()

    def add(
        self,
        pairs: Pairs,
        energies: np.ndarray,
        pair_gradients: np.ndarray,
        covariances: np.ndarray,
        members: np.ndarray,
        variances: np.ndarray | None,
        seen: np.ndarray,
        explained: np.ndarray,
    ) -> None:
        """See `Observer`."""
        at = self.compiled.unit.at(pairs)
        self.compiled.evaluate(pairs, at, energies, pair_gradients)
        covariances[:] = self.chosen.covariances_of(pairs, at.features)
        self._add_members(pairs, at, members)
        if variances is not None:
            variances += self.chosen.variances(pairs)

    def add_members(self, pairs: Pairs, members: np.ndarray) -> None:
        """See `Observer`."""
        self._add_members(pairs, self.compiled.unit.at(pairs), members)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledFeatureTerm`."""
        return self.compiled.core_tables()

    def _add_members(self, pairs: Pairs, at: FeaturesAt, members: np.ndarray) -> None:
        for k, weights in enumerate(self.weights.T):
            members[:, :, k] += at.vjp(self.chosen.energies_of(pairs, at.features, weights)[1])
