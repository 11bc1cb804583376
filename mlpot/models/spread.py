"""The uncertainty of energies and forces beside their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .._ext.density import KernelModel
from ..neighbours import Pairs
from ..threads import single_blas_thread
from .compiled_soap import CompiledSoapTerm, centres_of
from .factor import inverse_lower, prior_factor
from .representatives import Representatives
from .terms import CompiledTerm
from .variances import Variances

if TYPE_CHECKING:
    from .sparse_gp import SparseGP


class Spread(Protocol):
    """Evaluates the terms of a model together with what is not known of the structure."""

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3)."""


@dataclass(frozen=True)
class JointSpread:
    """Of a fitted model: sparse points of all terms know of each other through the data.

    Parameters
    ----------
    terms : tuple of CompiledTerm
    representatives : Representatives
    """

    terms: tuple[CompiledTerm, ...]
    representatives: Representatives

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """See `Spread`."""
        for term in self.terms:
            term.predict(pairs, energies, pair_gradients)
        with single_blas_thread():
            return self.representatives.variances(pairs)


@dataclass(frozen=True)
class IndependentSpread:
    """Of an imported model, of whose data nothing is known: var = k_ii - k_i (K_mm + regularisation)^-1 k_i for each
    instance of each term as if they were independent, which is what QUIP reports.

    Parameters
    ----------
    terms : tuple of CompiledTerm
        Pair and three-body terms add the variances of their instances themselves.
    models : dict of int to list of KernelModel
        Those of the many-body terms, by their place in `terms`.
    regularisation : float
        eV^2, part of the prior variance of each instance.
    """

    terms: tuple[CompiledTerm, ...]
    models: dict[int, list[KernelModel]]
    regularisation: float

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """See `Spread`."""
        variances = np.zeros(pairs.n_atoms)
        for k, term in enumerate(self.terms):
            if not isinstance(term, CompiledSoapTerm):
                term.predict(pairs, energies, pair_gradients, variances=variances)
                continue
            explained = np.zeros(pairs.n_atoms)
            term.evaluate(pairs, energies, pair_gradients, self.models[k], explained=explained)
            for part in term.parts:
                centres = centres_of(pairs, part.number)
                variances[centres] += term.prior_variance + self.regularisation - explained[centres]
        return Variances.of_instances(variances)


def make_spread(model: SparseGP, terms: Sequence[CompiledTerm]) -> Spread:
    """The uncertainty of a compiled model."""
    if model.factor is not None:
        return JointSpread(tuple(terms), model.representatives)
    with single_blas_thread():
        return _independent(model, terms)


def _independent(model: SparseGP, terms: Sequence[CompiledTerm]) -> IndependentSpread:
    variance = model.regularisation**2
    models = {}
    for k, (term, compiled) in enumerate(zip(model.terms, terms, strict=True)):
        if isinstance(compiled, CompiledSoapTerm):
            triangles = [inverse_lower(prior_factor(block, variance)) for block in term.prior()]
            models[k] = [part.model(triangle) for part, triangle in zip(compiled.parts, triangles, strict=True)]
    return IndependentSpread(tuple(terms), models, variance)
