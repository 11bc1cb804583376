"""Covariant features of an environment: products of two densities that rotate as spherical harmonics of degree 0, 1 or 2.

    q[m, f] = s_f sum_{m1 m2} C(l1 m1 l2 m2 | lambda m) c[a, l1 m1] c[b, l2 m2],        l1 + l2 + lambda even,

the symmetry-adapted features of Grisafi, Wilkins, Csanyi, Ceriotti, Phys. Rev. Lett. 120, 036002 (2018),
doi:10.1103/PhysRevLett.120.036002; with lambda = 0 they are the power spectrum. The factors s_f make the sum of the products of two
environments equal to the sum over all ordered pairs of densities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._ext.core import CovariantTables, PairView, expand_vjp
from ..neighbours import Pairs
from ..threads import n_threads
from .couplings import real_clebsch_gordan
from .density import Reduction, SoapDescriptor


def coupled_degrees(l_max: int, order: int) -> list[tuple[int, int]]:
    """Pairs of degrees l1 <= l2 that couple to `order` with the parity of a tensor."""
    return [
        (l1, l2)
        for l1 in range(l_max + 1)
        for l2 in range(l1, min(l1 + order, l_max) + 1)
        if (l1 + l2 + order) % 2 == 0 and l1 + l2 >= order
    ]


Run = tuple[int, int, int, np.ndarray]
"""Padded channel of the first density, first channel of the second, step of the first (0 or 1), factors of the pairs."""


def _whole_runs(descriptor: SoapDescriptor, l1: int, l2: int) -> Iterator[Run]:
    """All pairs of channels: with equal degrees every pair once, else both orders."""
    channels, width = descriptor.blocks.channels, descriptor.basis.n_max
    for k, a in enumerate(channels):
        last = k + 1 if l1 == l2 else len(channels)
        for start in range(0, last, width):  # channels of one element lie side by side
            others = np.arange(start, min(start + width, last))
            yield int(a), int(channels[start]), 0, np.where((l1 == l2) & (others == k), 1.0, np.sqrt(2))


def _reduced_runs(descriptor: SoapDescriptor, reduction: Reduction, l1: int, l2: int) -> Iterator[Run]:
    """The pairs of a reduction; with different degrees in both orders, or once for pairs of a channel with itself."""
    for a, b, scale in zip(reduction.a.tolist(), reduction.b.tolist(), reduction.scale.tolist(), strict=True):
        if l1 == l2 or a == b:
            yield a, b, 0, np.array([scale if l1 == l2 else np.sqrt(2) * scale])
        else:
            yield a, b, 0, np.array([scale])
            yield b, a, 0, np.array([scale])


def _joined(runs: Iterator[Run]) -> list[Run]:
    """Runs of single pairs a + k, b + k, which element-wise coupling has, as one."""
    found: list[Run] = []
    for a, b, step, factors in runs:
        if found and len(factors) == 1:
            first_a, first_b, joined, others = found[-1]
            n = len(others)
            if (joined or n == 1) and (a, b) == (first_a + n, first_b + n):
                found[-1] = first_a, first_b, 1, np.append(others, factors)
                continue
        found.append((a, b, step, factors))
    return found


@dataclass(frozen=True)
class Covariants:
    """Covariants of one degree of a density.

    Parameters
    ----------
    descriptor : SoapDescriptor
        Its expansion, channels and pairs of channels.
    order : int
        Degree of the covariants: 0, 1 or 2.
    """

    descriptor: SoapDescriptor
    order: int

    @cached_property
    def tables(self) -> CovariantTables:
        """Couplings in the layout of the core."""
        runs, scales, couplings, entries, values = [], [], [0], list[tuple[int, int, int]](), list[float]()
        n_features = 0
        for k, (l1, l2) in enumerate(coupled_degrees(self.descriptor.basis.l_max, self.order)):
            found = real_clebsch_gordan(l1, l2, self.order)
            for m1, m2, m in np.argwhere(found).tolist():
                entries.append((m, l1 * l1 + m1, l2 * l2 + m2))
                values.append(found[m1, m2, m])
            couplings.append(len(values))
            reduction = self.descriptor.reduction
            pairs = _whole_runs(self.descriptor, l1, l2) if reduction is None else _reduced_runs(self.descriptor, reduction, l1, l2)
            for a, b, step, factors in _joined(pairs):
                runs.append((k, a, b, step, len(factors), n_features))
                scales.append(factors)
                n_features += len(factors)
        return CovariantTables(
            l_max=self.descriptor.basis.l_max, n_channels=self.descriptor.blocks.n_padded, order=self.order,
            runs=np.array(runs, np.int32).reshape(-1, 6), couplings=np.array(couplings, np.int32),
            entries=np.array(entries, np.int32).reshape(-1, 3), values=np.array(values),
            scale=np.concatenate([np.empty(0), *scales]),
        )  # fmt: skip

    def __getstate__(self) -> dict:
        return {"descriptor": self.descriptor, "order": self.order}

    @property
    def n_features(self) -> int:
        return self.tables.n_features

    def compute(self, c: np.ndarray) -> np.ndarray:
        """Covariants (n, 2 order + 1, n_features) of coefficients (n, n_harmonics, n_padded) from `Environments`."""
        return self.tables.compute(c, n_threads())

    def vjp(self, c: np.ndarray, cotangent: np.ndarray, dc: np.ndarray) -> None:
        """Add the derivatives of outputs to dc (n, n_out, n_harmonics * n_padded).

        Parameters
        ----------
        cotangent : (n, n_out, n_features) or (n, 1, n_features) array
            One for every output, or one for all. Output o is the sum over features of row o of the covariants times the
            cotangent; with order 0 all outputs use the only row.
        """
        self.tables.vjp(c, np.ascontiguousarray(cotangent), n_threads(), dc)


@dataclass(frozen=True)
class Environments:
    """Environments of some centres: invariants and covariants, and their pullback.

    They are not normalised: their products are polynomials of the density, smooth everywhere, and an atom without neighbours is
    like any other.

    Parameters
    ----------
    invariants, covariants : Covariants
        Of order 0 and of the order wanted, of one descriptor.
    pairs : Pairs
    centres : (n,) int32 array
        Indices of atoms.
    expanded : Environments or None
        Of the same density and centres: its expansion and invariants are used, whatever its order.
    """

    invariants: Covariants
    covariants: Covariants
    pairs: Pairs
    centres: np.ndarray
    expanded: Environments | None = None

    @cached_property
    def _view(self) -> PairView:
        return self.invariants.descriptor.view(self.pairs) if self.expanded is None else self.expanded._view

    @cached_property
    def _coefficients(self) -> np.ndarray:
        if self.expanded is not None:
            return self.expanded._coefficients
        return self.invariants.descriptor.core.expand(self._view, self.centres)

    @cached_property
    def p(self) -> np.ndarray:
        """Invariants (n, n_invariants)."""
        return self.invariants.compute(self._coefficients)[:, 0] if self.expanded is None else self.expanded.p

    @cached_property
    def q(self) -> np.ndarray:
        """Covariants (n, 2 order + 1, n_covariants); of order 0 these are the invariants."""
        return self.covariants.compute(self._coefficients) if self.covariants.order else self.p[:, None]

    def gradients(self, to_p: np.ndarray, to_q: np.ndarray | None) -> np.ndarray:
        """Derivatives (n_out, n_pairs, 3) of the sums over centres with respect to the vectors of the pairs, 1/A.

        Parameters
        ----------
        to_p : (n, n_out, n_invariants) array
            Derivatives of the outputs with respect to `p`.
        to_q : (n, n_covariants) array or None
            Derivative of output m with respect to row m of `q`, the same for all; None with order 0.
        """
        n, n_out = to_p.shape[:2]
        dc = np.zeros((n, n_out, self._coefficients[0].size if n else 0))
        self.invariants.vjp(self._coefficients, to_p, dc)
        if to_q is not None:
            self.covariants.vjp(self._coefficients, to_q[:, None], dc)
        out = np.zeros((n_out, self.pairs.n_pairs, 3))
        expand_vjp(self.invariants.descriptor.core, self._view, self.centres, dc, out, n_threads())
        return out
