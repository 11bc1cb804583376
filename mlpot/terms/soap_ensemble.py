"""Tables for an ensemble of weights in a many-body term: derivatives of features with respect to expansion coefficients."""

from __future__ import annotations

import numpy as np

from .._ext.core import N_MEMBERS, TILE, Density, packed_rows
from .core_terms import kept
from .kernels import dot_product_kernel
from .member_forms import form_tables, steps_to_nearest
from .protocol import Residual
from .soap_compiled import CompiledSpecies

MEMBER_ERROR = 0.01
"""Estimated relative error of the members' gradients. The estimate is rough: with `balanced` models of silicon the forces of members
are off by 0.13 of the deviations, standard deviations by 0.03 on average, 0.07 rms. A standard deviation from 8 members has a
statistical error of a quarter."""
FORM_ERROR = 0.1 * MEMBER_ERROR
"""Likewise for the directions that quadratic forms depend on."""


def member_tables(
    part: CompiledSpecies, weights: np.ndarray, energy_scale: float, zeta: float, residual: Residual | None = None
) -> dict[str, np.ndarray]:
    """Tables of an ensemble for centres of one element, from the members' weights (n_known, N_MEMBERS) in 1/eV."""
    n_features = min(
        _features_that_show(part.known_features, weights, energy_scale, zeta), len(part.kept)
    )  # without the constant, which has no slope
    found = _tables(part.core, n_features)
    sizes = [_whole_tiles(n_features), len(found["m.channel"]), len(found["m.feature"]), residual is not None, 0]
    if zeta == 2 and np.any(part.known_features):  # those of lone atoms are zero
        found |= form_tables(part.known_features, weights, energy_scale, n_features, FORM_ERROR)
        sizes[-1] = int(found["m.sizes"][0])
    else:
        padded = np.zeros((_whole_tiles(len(weights)), N_MEMBERS))
        padded[: len(weights)] = weights
        found |= {"m.packed": packed_rows(part.known_features[:, :n_features]), "m.weights": padded}
    found |= {"m.sizes": np.array(sizes), "m.reals": np.zeros(2)}
    if residual is not None:
        slopes = np.zeros((_whole_tiles(n_features), N_MEMBERS))
        slopes[:n_features] = part.compact.rotate(residual.slopes.T)[:, part.kept].T[:n_features]
        found |= {"m.reals": np.array([residual.prior, residual.expected]), "m.residual": slopes}
    return kept(found)


def _whole_tiles(n: int) -> int:
    return -(-n // TILE) * TILE


def _features_that_show(features: np.ndarray, weights: np.ndarray, energy_scale: float, zeta: float) -> int:
    """Number of features (n_known, n_features), largest first, that give the members' gradients to `MEMBER_ERROR`.

    The error is measured at the points themselves, from first-order changes of the members' energies towards the nearest points.
    The data determine most directions, so the contributions of single features would be a poor measure.
    """
    slopes = zeta * dot_product_kernel(features, features, energy_scale, zeta - 1)
    gradients = np.einsum("as,sm,sf->amf", slopes, weights, features, optimize=True)
    gradients -= np.einsum("amf,af->am", gradients, features)[:, :, None] * features[:, None, :]
    steps = steps_to_nearest(features)

    def left(first: int) -> float:
        return float(np.linalg.norm(gradients[:, :, first:] @ steps[:, :, first:].transpose(0, 2, 1)))

    allowed = MEMBER_ERROR * left(0)
    return next((n for n in range(TILE, features.shape[1], TILE) if left(n) < allowed), features.shape[1])


def _tables(core: Density, n_features: int) -> dict[str, np.ndarray]:
    """Rows, group_rows, channel, entries, feature, partner and coupling of the core's `mlpot_members`.

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
    return {
        "m.rows": rows, "m.group_rows": group_rows, "m.channel": keys % core.n_channels, "m.entries": entries,
        "m.feature": n_contracted + feature[order], "m.partner": partner[order], "m.coupling": strength[order].astype(np.float32),
    }  # fmt: skip


def _contracted_rows(core: Density) -> np.ndarray:
    """Row numbers of the (degree, channel) that enter contractions of more than two densities."""
    if core.contractions is None:
        return np.empty(0, int)
    degree, channel = np.nonzero(np.any(core.contractions.shares, axis=1))
    return core.n_channels * degree + channel
