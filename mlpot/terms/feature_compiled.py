"""Many-body term on a descriptor that only Python can compute, with fixed weights, and its ensemble: one `vjp` per set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import numpy as np

from ..errors import required
from ..neighbours import Pairs
from .core_terms import only_in_python
from .environments import EnvironmentTerm, centres_of
from .protocol import Observed, Residual, Whole
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
    in_core: ClassVar[bool] = False

    def predict(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, *, variances: np.ndarray | None = None
    ) -> None:
        """See `PythonTerm`; weights of zero, of the references of an imported model, cost nothing."""
        if np.any(self.weights):
            self.evaluate(pairs, self.unit.at(pairs), energies, pair_gradients)
        if variances is not None:
            instances = self.regularisation
            variances += self.term.variances(pairs) if instances is None else self.term.instance_variances(pairs, instances)

    def core_tables(self) -> dict[str, np.ndarray]:
        """Raise ConfigError: the compiled core cannot evaluate these descriptors."""
        raise only_in_python(self.term.label)

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
        Of the members, 1/eV.
    whole : Whole or None
        Given to the last term of a model, which then serves all elements: what members add where the points do not explain an
        environment joins their cotangents, so that there is one pullback for each member.
    """

    compiled: CompiledFeatureTerm
    chosen: EnvironmentTerm
    weights: np.ndarray
    whole: Whole | None = None
    in_core: ClassVar[bool] = False

    @property
    def served(self) -> frozenset[int]:
        """See `Observer`."""
        return frozenset(self.chosen.species if self.whole else ())

    @cached_property
    def _last(self) -> dict[int, tuple[list[np.ndarray], Residual]]:
        """Triangles and the members' residuals, by element."""
        whole = required(self.whole, "whole")
        return {z: (whole.triangles(z), cast(Residual, whole.residual(z))) for z in self.chosen.species}

    def add(self, pairs: Pairs, into: Observed) -> None:
        """See `PythonObserver`."""
        at = self.compiled.unit.at(pairs)
        self.compiled.evaluate(pairs, at, into.energies, into.pair_gradients)
        into.covariances[:] = self.chosen.covariances_of(pairs, at.features)
        cotangents = self._cotangents(pairs, at)
        if self.whole:
            for number in np.unique(pairs.numbers).tolist():
                self._serve(pairs, number, into, cotangents)
        _pull_back(at, cotangents, into.members)
        if into.variances is not None:
            into.variances[:] += self.chosen.variances(pairs)

    def add_members(self, pairs: Pairs, members: np.ndarray) -> None:
        """See `PythonObserver`."""
        at = self.compiled.unit.at(pairs)
        _pull_back(at, self._cotangents(pairs, at), members)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledFeatureTerm`."""
        return self.compiled.core_tables()

    def _cotangents(self, pairs: Pairs, at: FeaturesAt) -> np.ndarray:
        """dE/dfeatures (N_MEMBERS, n_atoms, n_features) of the members."""
        return np.stack([self.chosen.energies_of(pairs, at.features, weights)[1] for weights in self.weights.T])

    def _serve(self, pairs: Pairs, number: int, into: Observed, cotangents: np.ndarray) -> None:
        """Contribution of the last term for the atoms of an element: |G k|^2 of all terms, and the members' part of what is left."""
        whole, centres = cast(Whole, self.whole), centres_of(pairs, number)
        triangles, residual = self._last[number]
        own = into.covariances[np.ix_(centres, self.chosen.columns_of(number))]
        rows = np.concatenate([whole.before(number, into.seen)[centres], own], axis=1)
        for k, triangle in enumerate(triangles):
            into.explained[centres, k] += np.sum((rows @ triangle.T) ** 2, axis=1)
        left = residual.prior - into.explained[centres, 0] - residual.expected
        cotangents[:, centres] += np.sqrt(np.maximum(left, 0.0))[:, None] * residual.slopes.T[:, None, :]


def _pull_back(at: FeaturesAt, cotangents: np.ndarray, members: np.ndarray) -> None:
    for k, gradients in enumerate(at.vjps(list(cotangents))):
        members[:, :, k] += gradients
