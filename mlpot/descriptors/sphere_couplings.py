"""Tables for products of three densities on the three-sphere, in the layout of cython_ext/core/bispectrum.h."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, factorial, sqrt

import numpy as np

Density = tuple[int, int]
"""Degree t = 2 j of a matrix U, and channel."""
Triple = tuple[Density, Density, Density]
"""The densities of a bispectrum component B_{j1 j2 j}, in this order."""


def coupling(t1: int, p1: int, t2: int, p2: int, t: int) -> float:
    """Clebsch-Gordan coefficient <t1/2 m1, t2/2 m2 | t/2 m1+m2> with m = p - t/2, from sums of whole numbers."""
    excess, first, second = (t1 + t2 - t) // 2, (t1 - t2 + t) // 2, (t2 - t1 + t) // 2
    p = p1 + p2 - excess
    if not 0 <= p <= t:
        return 0.0
    low, high = max(0, t1 - p1 - first, p2 - second), min(excess, t1 - p1, p2)
    terms = ((-1) ** z * comb(excess, z) * comb(first, t1 - p1 - z) * comb(second, p2 - z) for z in range(low, high + 1))
    numerator = comb(t1, excess) * comb(t2, excess)
    return sum(terms) * sqrt(
        numerator / (comb((t1 + t2 + t) // 2 + 1, excess) * comb(t1, p1) * comb(t2, p2) * comb(t, p))
    )


def degrees_of(t1: int, t2: int, two_j_max: int) -> range:
    """Degrees to which two couple, from the highest down."""
    highest = min(t1 + t2, two_j_max - (two_j_max - t1 - t2) % 2)
    return range(highest, abs(t1 - t2) - 1, -2)


@lru_cache(maxsize=16)
def coupling_tables(two_j_max: int) -> tuple[np.ndarray, np.ndarray]:
    """`couplings` and `rows` of the core: coefficients of every t1 >= t2 by k = p1 + p2, then p1, then t."""
    n = two_j_max + 1
    rows = np.zeros((n, n, 2 * n - 1), np.int32)
    found: list[float] = []
    for t1 in range(n):
        for t2 in range(t1 + 1):
            degrees = degrees_of(t1, t2, two_j_max)
            for k in range(t1 + t2 + 1):
                rows[t1, t2, k] = len(found)
                for p1 in range(max(0, k - t2), min(k, t1) + 1):
                    found += [coupling(t1, p1, t2, k - p1, t) for t in degrees]
    return np.array(found), rows.ravel()


@lru_cache(maxsize=16)
def norms(two_j_max: int) -> np.ndarray:
    """Factors by which matrix elements on monomials become those on normalised ones, in the stored columns."""
    return np.array(
        [
            sqrt(factorial(p) * factorial(t - p) / (factorial(column) * factorial(t - column)))
            for t in range(two_j_max + 1)
            for column in range(t // 2 + 1)
            for p in range(t + 1)
        ]
    )


def snap_triples(two_j_max: int, n_channels: int = 1) -> tuple[Triple, ...]:
    """Components j2 <= j1 <= j in the order of SNAP; of several channels, all combinations, the last running fastest."""
    degrees = [
        (t1, t2, t)
        for t1 in range(two_j_max + 1)
        for t2 in range(t1 + 1)
        for t in reversed(degrees_of(t1, t2, two_j_max))
        if t >= t1
    ]
    own = range(n_channels)
    return tuple(
        ((t1, a), (t2, b), (t, c)) for a in own for b in own for c in own for t1, t2, t in degrees
    )


def amp_triples(two_j_max: int) -> tuple[Triple, ...]:
    """Components j1 = j2 with whole j, in the order of AMP."""
    return tuple(
        ((t1, 0), (t1, 0), (t, 0)) for t1 in range(two_j_max + 1) for t in reversed(degrees_of(t1, t1, two_j_max)) if t % 2 == 0
    )


@dataclass(frozen=True)
class ProductTables:
    """Blocks of products that are computed, and the places of the features in them.

    A component divided by 2 j + 1 is symmetric in its three densities; its derivative by each of these is the product of the
    other two, so each product serves several components.

    Parameters
    ----------
    two_j_max, n_channels : int
    triples : sequence of Triple
        One for each feature.
    scale : (n_features,) array
    """

    two_j_max: int
    n_channels: int
    triples: Sequence[Triple]
    scale: np.ndarray

    def core_arrays(self) -> dict[str, np.ndarray]:
        """Arguments of `SphereBispectrum`."""
        shares = [self._shares(triple, scale) for triple, scale in zip(self.triples, self.scale, strict=True)]
        valued = [(*sorted(triple[:2], reverse=True), triple[2]) for triple in self.triples]
        blocks = sorted({(a, b) for a, b, _ in valued} | {(a, b) for own in shares for a, b, _ in own})
        number = {block: k for k, block in enumerate(blocks)}
        degrees = [degrees_of(a[0], b[0], self.two_j_max) for a, b in blocks]
        first = np.cumsum([0, *(len(own) * self.n_channels for own in degrees)])

        def place(a: Density, b: Density, c: Density) -> tuple[int, int, int]:
            block = number[a, b]
            return block, degrees[block].index(c[0]), c[1]

        n_valued, value = np.zeros(len(blocks), np.int32), []
        for block, t, channel in (place(*own) for own in valued):
            n_valued[block] = max(n_valued[block], t + 1)
            value.append(first[block] + t * self.n_channels + channel)
        entries = np.array([place(*key) for own in shares for key in own], np.int32)
        couplings, rows = coupling_tables(self.two_j_max)
        return {
            "norms": norms(self.two_j_max), "couplings": couplings, "rows": rows,
            "blocks": np.array([(*a, *b) for a, b in blocks], np.int32), "first_output": first.astype(np.int32),
            "n_valued": n_valued, "value": np.array(value, np.int32), "scale": np.array(self.scale, float),
            "begin": np.cumsum([0, *map(len, shares)]).astype(np.int32),
            "entry_block": entries[:, 0].copy(), "entry_t": entries[:, 1].copy(), "entry_channel": entries[:, 2].copy(),
            "entry_factor": np.array([factor for own in shares for factor in own.values()]),
        }  # fmt: skip

    def _shares(self, triple: Triple, scale: float) -> dict[Triple, float]:
        """Derivatives of a component by each of its densities: two densities whose product it is, the density, factor."""
        found: dict[Triple, float] = {}
        for k, own in enumerate(triple):
            a, b = sorted(triple[:k] + triple[k + 1 :], reverse=True)
            found[a, b, own] = found.get((a, b, own), 0.0) + scale * (triple[2][0] + 1) / (own[0] + 1)
        return found
