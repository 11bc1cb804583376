"""Chebyshev expansions of radial and angular distribution functions.

Artrith, Urban, Ceder, Phys. Rev. B 96, 014112 (2017), doi:10.1103/PhysRevB.96.014112:

    c_n = sum_j w_j T_n(2 r / cutoff - 1) f_c(r)                  n = 0..radial_order
    a_n = sum_{j<k} w_j w_k T_n(cos) f_c(r_ij) f_c(r_ik)          n = 0..angular_order, with angular_cutoff

once with w = 1, and again with each set of weights of the elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy.sparse import csr_array

from .._ext.core import MAX_L
from ..errors import ConfigError
from .acsf import check_species
from .curves import Curve, tabulate_curves
from .cutoff_functions import CutoffFunction
from .jets import Jet
from .mapped_sums import MappedSums
from .neighbour_sums import Grouping, MomentSums, legendre_coefficients
from .periodic import properties
from .summed_descriptor import SummedDescriptor

LARGEST_WEIGHT = 1e6
WEIGHTS = ("spin", "periodic", "random")


def spins(n_species: int) -> np.ndarray:
    """aenet's weights (n_species,): -n//2 upward, without 0 for an even number."""
    half = n_species // 2
    return np.array([s for s in range(-half, half + 1) if s or n_species % 2], float)


@dataclass(frozen=True)
class Chebyshev(SummedDescriptor):
    """Chebyshev descriptor: its size does not depend on the number of elements.

    Features: c_n, a_n with w = 1; then, for more than one element, c_n, a_n with each set of weights.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        Of c_n, A.
    radial_order, angular_order : int
    angular_cutoff : float or None
        Of a_n, A; None: `cutoff`.
    species_weights : str or sequence
        "spin", by atomic number; "periodic": standardised properties of the elements; "random"; or numbers (n_species,), or
        (n_weights, n_species).
    n_weights : int
        Sets of weights of "periodic" (at most 4) and "random".
    seed : int
        Of "random".

    Raises
    ------
    ConfigError
        For orders or cutoffs out of range, or weights that do not fit the species.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from mlpot.neighbours import find_pairs
    >>> Chebyshev((1, 8), 4.0, 10, 3).compute(find_pairs(molecule("H2O"), 4.0)).shape
    (3, 30)
    """

    species: tuple[int, ...]
    cutoff: float
    radial_order: int = 16
    angular_order: int = 4
    angular_cutoff: float | None = None
    species_weights: str | Sequence = "spin"
    n_weights: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_species(self.species)
        CutoffFunction(self.cutoff)
        if not 0 <= self.radial_order <= 200:
            raise ConfigError(f"radial_order = {self.radial_order}: must lie between 0 and 200")
        if not 0 <= self.angular_order <= MAX_L:
            raise ConfigError(f"angular_order = {self.angular_order}: must lie between 0 and {MAX_L}")
        if not (math.isfinite(self.reach) and 0 < self.reach <= self.cutoff):
            raise ConfigError(
                f"angular_cutoff = {self.reach}: must be positive and not beyond cutoff = {self.cutoff} A"
            )
        if not isinstance(self.species_weights, str):
            object.__setattr__(self, "species_weights", _frozen(list(self.species_weights)))
        _ = self.weights

    @property
    def reach(self) -> float:
        """Cutoff of the angular part, A."""
        return self.cutoff if self.angular_cutoff is None else self.angular_cutoff

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights (n_species, n_sets) of every set, the first all 1."""
        n = len(self.species)
        ones = np.ones((n, 1))
        if n == 1 and isinstance(self.species_weights, str):
            return ones
        return np.hstack([ones, self._further_weights(n)])

    def _further_weights(self, n: int) -> np.ndarray:
        if not isinstance(self.species_weights, str):
            given = np.array(self.species_weights, float).reshape(
                -1, n if np.size(self.species_weights) % n == 0 else 1
            )
            if given.shape[1] != n or not np.all(np.abs(given) <= LARGEST_WEIGHT):
                raise ConfigError(
                    f"species_weights = {self.species_weights}: must be finite numbers of at most {LARGEST_WEIGHT:g}, one for each "
                    f"of {n} elements"
                )
            return given.T
        if self.species_weights not in WEIGHTS:
            raise ConfigError(
                f"species_weights = {self.species_weights!r}: must be one of {', '.join(WEIGHTS)} or numbers"
            )
        most = {"spin": 1, "periodic": 4}.get(self.species_weights, 64)
        if not 1 <= self.n_weights <= most:
            raise ConfigError(
                f'n_weights = {self.n_weights}: must lie between 1 and {most} for "{self.species_weights}"'
            )
        if self.species_weights == "spin":
            return spins(n)[:, None]
        if self.species_weights == "periodic":
            return properties(self.species)[:, ::-1][:, : self.n_weights]
        streams = [np.random.default_rng([self.seed, z]).standard_normal(64)[: self.n_weights] for z in self.species]
        return np.array(streams)

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return self.weights.shape[1] * (self.radial_order + self.angular_order + 2)

    def feature_names(self) -> tuple[str, ...]:
        """See `Descriptor`: c_n and a_n of every set of weights."""
        degrees = [("c", n) for n in range(self.radial_order + 1)] + [("a", n) for n in range(self.angular_order + 1)]
        return tuple(f"{kind}_{n} weights={k}" for k in range(self.weights.shape[1]) for kind, n in degrees)

    @cached_property
    def moments(self) -> MomentSums:
        """Radial functions and the square of the angular cutoff function; one moment."""
        n, order = self.weights.shape[1], self.angular_order
        radial, angular = CutoffFunction(self.cutoff), CutoffFunction(self.reach)
        curves: list[Curve] = [partial(_cutoff, radial, 1), partial(_cutoff, angular, 2), partial(_cutoff, angular, 1)]
        return MomentSums(
            Grouping(self.cutoff, np.zeros(len(self.species), int)), tabulate_curves(curves, [self.reach], self.cutoff),
            self.radial_order + 2, np.hstack([self.weights, self.weights[:, 1:] ** 2]), self.weights,
            np.arange(order + 1), np.zeros(order + 1, int), np.arange(n), np.arange(n), self.radial_order + 1,
        )  # fmt: skip

    @cached_property
    def sums(self) -> MappedSums:
        """See `SummedDescriptor`: c_n as they are; a_n from spectra, in which a neighbour also meets itself."""
        n, order, n_radial = self.weights.shape[1], self.angular_order, self.radial_order + 1
        matrix = np.zeros((n, n_radial + order + 1, self.moments.core.n_values))
        spectra = matrix[:, n_radial:, (2 * n - 1) * (n_radial + 1) :].reshape(n, order + 1, n, order + 1)
        for k, square in enumerate(self._squares):
            matrix[k, np.arange(n_radial), k * (n_radial + 1) + np.arange(n_radial)] = 1.0
            matrix[k, n_radial:, square * (n_radial + 1) + n_radial] = -0.5
            spectra[k, :, k] = 0.5 * self.angular_map.T
        matrix[:, n_radial:, (2 * n - 1) * (n_radial + 1) :] = spectra.reshape(n, order + 1, -1)
        return MappedSums([self.moments.core], csr_array(matrix.reshape(self.n_features, -1)))

    @cached_property
    def angular_map(self) -> np.ndarray:
        """(angular_order + 1, angular_order + 1) from degrees of the spectrum to sums over pairs of T_n, each pair twice."""
        order = self.angular_order
        found = np.zeros((order + 1, order + 1))
        for n in range(order + 1):
            a = legendre_coefficients(np.polynomial.Chebyshev.basis(n), n)
            found[: n + 1, n] = a * 4 * np.pi / (2 * np.arange(n + 1) + 1)
        return found

    @property
    def _squares(self) -> np.ndarray:
        """Indices of the squared weights of every set among the weights of the sums."""
        n = self.weights.shape[1]
        return np.append(0, np.arange(n, 2 * n - 1))


def _frozen(values: Sequence) -> tuple:
    return tuple(_frozen(list(v)) if isinstance(v, Sequence | np.ndarray) else v for v in values)


def _cutoff(function: CutoffFunction, power: int, distances: np.ndarray) -> np.ndarray:
    return (function(Jet.variable(distances)) ** power).array()
