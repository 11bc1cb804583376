"""Invariants of three and four densities of the same channel, as tables of products for the compiled core.

They distinguish environments that have the same power spectrum for any parameters (Pozdnyakov et al.,
doi:10.1103/PhysRevLett.125.166001). Each channel is contracted only with itself, so the cost is linear in the number of channels
(Darby et al., doi:10.1103/PhysRevLett.131.028001).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from .array_record import ArrayRecord
from .invariant_polynomials import Monomial, Polynomial, invariant_polynomials


@dataclass(frozen=True)
class Program:
    """Invariants of one density A_lm and their derivatives.

    Nodes are the A_lm and products of two earlier nodes. dB_t/dA_x is a row: a sum of coefficients times nodes; the value
    is sum_x A_x dB_t/dA_x / degree (Euler).

    Parameters
    ----------
    polynomials : tuple of Polynomial
    left, right : (n_nodes - n_lm,) int arrays
        Factors of the product nodes.
    rows : (n_invariants + 1,) int array
        First row of every invariant.
    variable : (n_rows,) int array
        Index x of every row, ascending for each invariant.
    entries : (n_rows + 1,) int array
        First entry of every row.
    node, coefficient : (n_entries,) arrays
    """

    polynomials: tuple[Polynomial, ...]
    left: np.ndarray
    right: np.ndarray
    rows: np.ndarray
    variable: np.ndarray
    entries: np.ndarray
    node: np.ndarray
    coefficient: np.ndarray


@lru_cache(maxsize=16)
def make_program(order: int, l_max: int) -> Program:
    """Make the program for all invariants of three to `order` densities with degrees l up to l_max."""
    polynomials = tuple(p for degree in range(3, order + 1) for p in invariant_polynomials(l_max, degree))
    nodes: dict[Monomial, int] = {(x,): x for x in range((l_max + 1) ** 2)}
    products: list[tuple[int, int]] = []

    def node_of(monomial: Monomial) -> int:
        if monomial not in nodes:
            products.append((node_of(monomial[:-1]), monomial[-1]))
            nodes[monomial] = len(nodes)
        return nodes[monomial]

    rows, variable, entries = [0], list[int](), [0]
    node, coefficient = list[int](), list[float]()
    for polynomial in polynomials:
        for x, terms in sorted(_derivatives(polynomial).items()):
            variable.append(x)
            node.extend(node_of(monomial) for monomial in terms)
            coefficient.extend(terms.values())
            entries.append(len(node))
        rows.append(len(variable))
    factors = np.array(products, np.int32).reshape(-1, 2).T
    integers = {"rows": rows, "variable": variable, "entries": entries, "node": node}
    return Program(
        polynomials, left=factors[0].copy(), right=factors[1].copy(), coefficient=np.array(coefficient),
        **{name: np.array(values, np.int32) for name, values in integers.items()},
    )  # fmt: skip


def _derivatives(polynomial: Polynomial) -> dict[int, dict[Monomial, float]]:
    """dB/dA_x for every x that B depends on, as coefficients of monomials."""
    found: defaultdict[int, dict[Monomial, float]] = defaultdict(dict)
    for monomial, coefficient in zip(polynomial.monomials, polynomial.coefficients, strict=True):
        for x, power in Counter(monomial).items():
            place = monomial.index(x)
            found[x][monomial[:place] + monomial[place + 1 :]] = power * coefficient
    return found


@dataclass(frozen=True, eq=False)
class Contractions(ArrayRecord):
    """Contractions of mixtures of a descriptor's channels.

    Parameters
    ----------
    order : int
        Largest number of densities in an invariant, 3 or 4.
    shares : (l_max + 1, n_mixed, n_channels) array
        Mixed density of degree l: A_lm = shares[l] @ c_lm.
    scales : (order - 2,) array
        Factors of invariants of 3 and 4 densities relative to the power spectrum.
    kept : (n_features,) int array or None
        Indices of the computed features, mixed channel * n_invariants + invariant, ascending; None: all.
    """

    order: int
    shares: np.ndarray
    scales: np.ndarray
    kept: np.ndarray | None = None

    @cached_property
    def program(self) -> Program:
        return make_program(int(self.order), len(self.shares) - 1)

    @property
    def n_features(self) -> int:
        return self.shares.shape[1] * len(self.program.polynomials) if self.kept is None else len(self.kept)

    def only(self, kept: np.ndarray) -> Contractions | None:
        """Restrict to the invariants with these indices; None if there are none."""
        return replace(self, kept=np.sort(kept)) if len(kept) else None

    def rotated(self, rotations: list[np.ndarray]) -> Contractions:
        """The same invariants as functions of rotated channels, c~ = rotations[l]' c for each degree."""
        n_l = len(self.shares)
        return replace(self, shares=np.array([s @ r for s, r in zip(self.shares, rotations[:n_l], strict=True)]))

    def core_arrays(self) -> dict[str, np.ndarray]:
        """The program and the features in the layout of the core."""
        p, n = self.program, len(self.program.polynomials)
        kept = np.arange(self.n_features) if self.kept is None else self.kept
        degree = np.array([polynomial.degree for polynomial in p.polynomials], np.int32)
        mixed, invariant = (array.astype(np.int32) for array in np.divmod(kept, n))
        return {
            "left": p.left, "right": p.right, "rows": p.rows, "variable": p.variable, "entries": p.entries,
            "node": p.node, "coefficient": p.coefficient, "degree": degree, "mixed": mixed, "invariant": invariant,
            "scale": self.scales[degree[invariant] - 3],
        }  # fmt: skip


def make_contractions(
    order: int, l_max: int, weight: float, weights: np.ndarray, numbers: tuple[int, ...], n_mixed: int, seed: int,
    own: float,
) -> Contractions:  # fmt: skip
    """Make contractions of random mixtures of all elements and radial functions.

    Channels that are such mixtures are used directly; otherwise random sums of the channels are used, in which the weights of an
    element depend only on its atomic number and the seed.

    Parameters
    ----------
    weight : float
        Factor for every density beyond two.
    weights : (n_channels, n_species, n_max) array
        Channels, as in `Reduction`.
    numbers : tuple of int
        Atomic numbers of the species.
    n_mixed : int
    own : float
        Norm of the density of one atom, the unit that makes contractions comparable to the power spectrum.
    """
    n_channels = len(weights)
    if n_channels >= n_mixed and np.all(weights[:n_mixed]):
        shares = np.eye(n_mixed, n_channels)
    else:
        rows = [
            np.random.default_rng([seed, number]).standard_normal((n_mixed, weights.shape[2])) for number in numbers
        ]
        target = np.stack(rows, axis=1).reshape(n_mixed, -1)
        shares = target @ np.linalg.pinv(weights.reshape(n_channels, -1))
    mixed = np.einsum("sq,qzn->szn", shares, weights)
    shares = shares / np.sqrt(np.mean(mixed**2, axis=(1, 2)))[:, None]
    scales = (weight / own) ** np.arange(1, order - 1) / np.sqrt(n_mixed)
    return Contractions(order, np.repeat(shares[None], l_max + 1, axis=0), scales)
