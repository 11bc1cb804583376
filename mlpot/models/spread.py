"""The uncertainty of local energies beside their values, at the price of one more product.

    var_i = k_ii - |G k_i|^2,    G'G = K_mm^-1 - (K_mm + K_mn Sigma^-1 K_nm)^-1,

with G a lower triangle over the sparse points that an element's atoms have to do with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from scipy.linalg import lapack, solve_triangular

from .._ext.density import KernelModel
from ..errors import FitError
from ..neighbours import Pairs
from ..threads import single_blas_thread
from .compiled_soap import CompiledSoapTerm, centres_of
from .design_matrix import columns
from .factor import inverse_lower, prior_factor
from .terms import CompiledTerm, CorrelatedTerm

if TYPE_CHECKING:
    from .sparse_gp import SparseGP

FLOORS = 10.0 ** np.arange(-14, -7)
"""Parts of the prior variance that may count as explained in excess, so that a triangle exists where the data say next to
nothing; the least that rounding permits is taken."""


class Spread(Protocol):
    """Evaluates the terms of a model together with the variances of the local energies."""

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, variances: np.ndarray) -> None:
        """Add local energies (n_atoms,), pair gradients (n_pairs, 3), variances (n_atoms,) in eV^2."""


@dataclass(frozen=True)
class SpeciesSpread:
    """Uncertainty of the atoms of one element.

    Parameters
    ----------
    number : int
        Atomic number.
    other : (n_other,) int array
        Their columns among the covariances with all terms but the last many-body one.
    triangle : (n, n) array
        G over these, then the last term's sparse points of this element.
    model : KernelModel or None
        Evaluates the last term and |G k|^2 at once; None where it has no sparse points of this element.
    """

    number: int
    other: np.ndarray
    triangle: np.ndarray
    model: KernelModel | None


@dataclass(frozen=True)
class JointSpread:
    """Of a fitted model: sparse points of all terms know of each other through the data.

    Parameters
    ----------
    first : tuple of (CorrelatedTerm, slice)
        Terms whose covariances are written out, and where.
    last : CompiledSoapTerm or None
        The last many-body term; its covariances stay in the cache.
    n_columns : int
        Width of the covariances of `first`.
    species : tuple of SpeciesSpread
    """

    first: tuple[tuple[CorrelatedTerm, slice], ...]
    last: CompiledSoapTerm | None
    n_columns: int
    species: tuple[SpeciesSpread, ...]

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, variances: np.ndarray) -> None:
        """See `Spread`."""
        covariances = np.zeros((pairs.n_atoms, self.n_columns))
        for term, part in self.first:
            term.predict(pairs, energies, pair_gradients, covariances[:, part], variances)
        explained = np.zeros(pairs.n_atoms)
        for own in self.species:
            centres = centres_of(pairs, own.number)
            if own.model is None and len(centres):
                with single_blas_thread():
                    rows = covariances[np.ix_(centres, own.other)] @ own.triangle.T
                explained[centres] += np.einsum("as,as->a", rows, rows)
        if self.last is not None:
            models = [own.model for own in self.species if own.model is not None]
            others = [
                covariances if len(own.other) == self.n_columns else np.ascontiguousarray(covariances[:, own.other])
                for own in self.species
                if own.model is not None
            ]
            self.last.evaluate(pairs, energies, pair_gradients, models, explained=explained, others=others)
            variances += self.last.prior_variance
        variances -= explained


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

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, variances: np.ndarray) -> None:
        """See `Spread`."""
        for k, term in enumerate(self.terms):
            if not isinstance(term, CompiledSoapTerm):
                term.predict(pairs, energies, pair_gradients, variances=variances)
                continue
            explained = np.zeros(pairs.n_atoms)
            term.evaluate(pairs, energies, pair_gradients, self.models[k], explained=explained)
            for part in term.parts:
                centres = centres_of(pairs, part.number)
                variances[centres] += term.prior_variance + self.regularisation - explained[centres]


def make_spread(model: SparseGP, terms: Sequence[CompiledTerm]) -> Spread:
    """The uncertainty of a compiled model."""
    with single_blas_thread():
        return _independent(model, terms) if model.factor is None else _joint(model, terms)


def _independent(model: SparseGP, terms: Sequence[CompiledTerm]) -> IndependentSpread:
    variance = model.regularisation**2
    models = {}
    for k, (term, compiled) in enumerate(zip(model.terms, terms, strict=True)):
        if isinstance(compiled, CompiledSoapTerm):
            triangles = [inverse_lower(prior_factor(block, variance)) for block in term.prior()]
            models[k] = [part.model(triangle) for part, triangle in zip(compiled.parts, triangles, strict=True)]
    return IndependentSpread(tuple(terms), models, variance)


def _joint(model: SparseGP, terms: Sequence[CompiledTerm]) -> JointSpread:
    last = max((k for k, term in enumerate(terms) if isinstance(term, CompiledSoapTerm)), default=None)
    soap = None if last is None else cast(CompiledSoapTerm, terms[last])
    parts = columns(model.terms)
    order = [k for k in range(len(terms)) if k != last]
    ends = np.cumsum([0, *(model.terms[k].n_sparse for k in order)])
    first = tuple(
        (cast(CorrelatedTerm, terms[k]), slice(int(a), int(b))) for k, (a, b) in zip(order, pairwise(ends), strict=True)
    )
    species = []
    for number in model.species:
        seen = [model.terms[k].columns_of(number) for k in order]
        other = _joined(columns_in + begin for columns_in, begin in zip(seen, ends[:-1], strict=True))
        everywhere = [columns_in + parts[k].start for k, columns_in in zip(order, seen, strict=True)]
        own = None
        if last is not None:
            own = next((part for part in soap.parts if part.number == number), None)
            everywhere.append(parts[last].start + model.terms[last].columns_of(number))
        triangle = _triangle(model, _joined(everywhere))
        species.append(SpeciesSpread(number, other, triangle, None if own is None else own.model(triangle)))
    return JointSpread(first, soap, int(ends[-1]), tuple(species))


def _joined(indices: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, int), *indices]).astype(int)


def _triangle(model: SparseGP, chosen: np.ndarray) -> np.ndarray:
    """G over the chosen sparse points, which are whole blocks of K_mm.

    With K_mm = L L', R'R = K_mm + K_mn Sigma^-1 K_nm and W = R^-T L, G'G = L^-T (1 - W'W) L^-1: the difference is taken
    where it is harmless, before L is undone.
    """
    if not len(chosen):
        return np.zeros((0, 0))
    prior = model.prior_factor[:, chosen]
    known = solve_triangular(model.factor, prior, trans="T", check_finite=False)
    lower = _reversed_factor(np.eye(len(chosen)) - known.T @ known)
    return np.ascontiguousarray(solve_triangular(prior[chosen], lower.T, lower=True, trans="T", check_finite=False).T)


def _reversed_factor(matrix: np.ndarray) -> np.ndarray:
    """Lower triangle T with T'T = matrix: Cholesky of the matrix read backwards."""
    for floor in FLOORS:
        backwards, info = lapack.dpotrf(matrix[::-1, ::-1] + floor * np.eye(len(matrix)), lower=1, clean=1)
        if not info:
            return backwards[::-1, ::-1].T
    raise FitError("the uncertainty has lost its digits: K_mm is nearly singular; raise fit.jitter or lower n_sparse")
