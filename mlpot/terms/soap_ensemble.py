"""Tables for an ensemble of weights in a many-body term: derivatives of features with respect to expansion coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._ext.core import TILE, Density, KernelModel, Members
from ..neighbours import Pairs
from .kernels import dot_product_kernel
from .protocol import Observed, Residual, Whole
from .soap_compiled import CompiledSoapTerm, CompiledSpecies

MEMBER_ERROR = 0.01
"""Estimated relative error of the members' gradients; the actual error is two to five times larger. For comparison, a standard
deviation from 8 members has an error of a quarter."""
NEAREST = 8
"""Number of points that each point is compared with."""


@dataclass(frozen=True)
class SoapObserver:
    """Observer of a compiled many-body term; see `Observer`.

    Parameters
    ----------
    term : CompiledSoapTerm
    models : tuple of KernelModel
        Kernel model of every element, with members; in the last term of a model also with the triangles of `whole`.
    whole : Whole or None
        Data of all terms, for the last term only.
    """

    term: CompiledSoapTerm
    models: tuple[KernelModel, ...]
    whole: Whole | None

    @classmethod
    def of(
        cls,
        term: CompiledSoapTerm,
        members: np.ndarray,
        energy_scales: tuple[float, ...],
        zeta: float,
        whole: Whole | None,
    ) -> SoapObserver:
        """Create from the members' weights (n_known, N_MEMBERS), 1/eV, of the known points of a term."""
        scales = dict(zip(term.descriptor.species, energy_scales, strict=True))
        models = tuple(
            part.model(
                whole.triangles(part.number) if whole else (),
                compile_members(
                    part, members[part.columns], scales[part.number], zeta, whole.residual(part.number) if whole else None
                ),
            )
            for part in term.parts
        )
        return cls(term, models, whole)

    @property
    def served(self) -> frozenset[int]:
        """See `Observer`."""
        return frozenset(part.number for part in self.term.parts)

    def add(self, pairs: Pairs, into: Observed) -> None:
        """See `Observer`."""
        beside: dict[str, Any] = {"covariances": into.covariances, "member_gradients": into.members}
        if self.whole:
            others = [self.whole.before(part.number, into.seen) for part in self.term.parts]
            beside |= {"explained": into.explained, "others": others}
        self.term.evaluate(pairs, into.energies, into.pair_gradients, self.models, **beside)
        if into.variances is not None:
            into.variances[:] += self.term.variances(pairs)

    def add_members(self, pairs: Pairs, members: np.ndarray) -> None:
        """See `Observer`."""
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        self.term.evaluate(pairs, energies, gradients, self.models, member_gradients=members)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `Observer`."""
        return self.term.core_tables(self.models)


def compile_members(
    part: CompiledSpecies, weights: np.ndarray, energy_scale: float, zeta: float, residual: Residual | None = None
) -> Members:
    """Compile the members of an ensemble for centres of one element, from their weights (n_known, N_MEMBERS) in 1/eV."""
    n_features = min(
        _features_that_show(part.known_features, weights, energy_scale, zeta), len(part.kept)
    )  # without the constant, which has no slope
    tables = _tables(part.core, n_features)
    if residual is None:
        return Members(part.known_features[:, :n_features], weights, *tables)
    slopes = part.compact.rotate(residual.slopes.T)[:, part.kept].T
    slopes = np.ascontiguousarray(slopes[:n_features])
    return Members(
        part.known_features[:, :n_features], weights, *tables, slopes, residual.prior, residual.expected
    )


def _features_that_show(features: np.ndarray, weights: np.ndarray, energy_scale: float, zeta: float) -> int:
    """Number of features (n_known, n_features), largest first, that give the members' gradients to `MEMBER_ERROR`.

    The error is measured at the points themselves, from first-order changes of the members' energies towards the nearest points.
    The data determine most directions, so the contributions of single features would be a poor measure.
    """
    overlaps = features @ features.T
    nearest = np.argsort(-overlaps, axis=1)[:, 1 : 1 + NEAREST]
    slopes = zeta * dot_product_kernel(features, features, energy_scale, zeta - 1)
    gradients = np.einsum("as,sm,sf->amf", slopes, weights, features, optimize=True)
    gradients -= np.einsum("amf,af->am", gradients, features)[:, :, None] * features[:, None, :]
    steps = features[nearest] - features[:, None, :]

    def left(first: int) -> float:
        return float(np.linalg.norm(gradients[:, :, first:] @ steps[:, :, first:].transpose(0, 2, 1)))

    allowed = MEMBER_ERROR * left(0)
    return next((n for n in range(TILE, features.shape[1], TILE) if left(n) < allowed), features.shape[1])


def _tables(core: Density, n_features: int) -> tuple[np.ndarray, ...]:
    """Rows, group_rows, channel, entries, feature, partner and coupling as in the core's `mlpot_members`.

    dp_f/dc[l, m, a] = coupling c[l, m, b] for a feature of channels a and b, twice that for a = b.
    """
    n_contracted = 0 if core.contractions is None else core.contractions.n_features
    degree, a, b, coupling = (array[: max(n_features - n_contracted, 0)] for array in core.spectrum)
    both = np.flatnonzero(a != b)
    feature = np.concatenate([np.arange(len(degree)), both])
    strength = np.concatenate([np.where(a == b, 2.0, 1.0) * coupling, coupling[both]])
    own = core.n_channels * degree[feature] + np.concatenate([a, b[both]])
    other = core.n_channels * degree[feature] + np.concatenate([b, a[both]])
    keys = np.union1d(own, _contracted_rows(core))
    row = np.searchsorted(keys, own)
    order = np.argsort(row, kind="stable")
    first = core.n_channels * np.arange(core.l_max + 2)
    rows = np.searchsorted(keys, first)
    blocks = np.append(core.first_channels, core.n_channels)
    group_rows = np.searchsorted(keys, first[:-1, None] + blocks)
    entries = np.searchsorted(row[order], np.arange(len(keys) + 1))
    partner = np.searchsorted(keys, other) - rows[degree[feature]]
    integers = (rows, group_rows, keys % core.n_channels, entries, n_contracted + feature[order], partner[order])
    return (*(np.ascontiguousarray(array, np.int32) for array in integers), strength[order].astype(np.float32))


def _contracted_rows(core: Density) -> np.ndarray:
    """Row numbers of the (degree, channel) that enter contractions of more than two densities."""
    if core.contractions is None:
        return np.empty(0, int)
    degree, channel = np.nonzero(np.any(core.contractions.shares, axis=1))
    return core.n_channels * degree + channel
