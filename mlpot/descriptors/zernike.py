"""Zernike moments of the density, AMP's second descriptor.

Khorshidi, Peterson, Comput. Phys. Commun. 207, 310 (2016), doi:10.1016/j.cpc.2016.05.010:

    sum_m |c_nlm|^2,  c_nlm = sum_j Z_j R_nl(r / cutoff) Y_lm f_c(r),   n = 0..n_max, l <= n, n - l even
    R_nl(x) = sqrt(2n + 3) sum_s (-1)^s C(k, s) C(n - s + 1/2, k) x^(n - 2s),   k = (n - l) / 2
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy.sparse import csr_array
from scipy.special import binom

from .._ext.core import MAX_L
from ..errors import ConfigError
from .acsf import check_species
from .curves import tabulate_curves
from .cutoff_functions import CutoffFunction
from .jets import Jet
from .mapped_sums import MappedSums
from .neighbour_sums import Grouping, MomentSums
from .summed_descriptor import SummedDescriptor


@dataclass(frozen=True)
class Zernike(SummedDescriptor):
    """Squared Zernike moments of the neighbours, weighted with their atomic numbers.

    Features are ordered by n, then l.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        A.
    n_max : int
        Highest degree, inclusive.
    cutoff_function, cutoff_gamma
        "cosine" or "polynomial", AMP's two, or any other of `CutoffFunction`.

    Raises
    ------
    ConfigError
        If n_max is below 0 or above 20.

    Examples
    --------
    >>> Zernike((1, 8), 6.5, 4).n_features
    9
    """

    species: tuple[int, ...]
    cutoff: float
    n_max: int = 5
    cutoff_function: str = "cosine"
    cutoff_gamma: int = 4

    def __post_init__(self) -> None:
        check_species(self.species)
        if not 0 <= self.n_max <= MAX_L:
            raise ConfigError(f"n_max = {self.n_max}: must lie between 0 and {MAX_L}")
        _ = self._step

    @property
    def _step(self) -> CutoffFunction:
        return CutoffFunction(self.cutoff, self.cutoff_function, gamma=self.cutoff_gamma)

    @cached_property
    def degrees(self) -> tuple[tuple[int, int], ...]:
        """n and l of every feature."""
        return tuple((n, l) for n in range(self.n_max + 1) for l in range(n % 2, n + 1, 2))

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return len(self.degrees)

    def feature_names(self) -> tuple[str, ...]:
        """See `Descriptor`."""
        return tuple(f"n={n} l={l}" for n, l in self.degrees)

    @cached_property
    def sums(self) -> MappedSums:
        """See `SummedDescriptor`: spectra of moments, with one radial function for every n and l, in another order."""
        curves = [partial(_radial, self._step, n, l) for n, l in self.degrees]
        weights = np.array(self.species, float)[:, None]
        one = np.zeros(1, int)
        degree = np.array([l for _, l in self.degrees])[self._order]
        moments = MomentSums(
            Grouping(self.cutoff, np.zeros(len(self.species), int)), tabulate_curves(curves, self._step.breaks, self.cutoff),
            0, np.zeros((len(self.species), 0)), weights, degree, self._order, one, one,
        )  # fmt: skip
        return MappedSums([moments.core], csr_array(np.eye(self.n_features)[np.argsort(self._order)]))

    @property
    def _order(self) -> np.ndarray:
        """Indices of features (n_features,) ordered by degree l, as in the spectra."""
        return np.argsort([l for _, l in self.degrees], kind="stable")


def _radial(step: CutoffFunction, n: int, l: int, distances: np.ndarray) -> np.ndarray:
    """R_nl(r / cutoff) f_c(r): values, slopes, curvatures."""
    k = (n - l) // 2
    coefficients = np.zeros(n + 1)
    for s in range(k + 1):
        coefficients[n - 2 * s] = np.sqrt(2 * n + 3) * (-1) ** s * binom(k, s) * binom(n - s + 0.5, k)
    r = Jet.variable(distances)
    return ((r * (1 / step.cutoff)).polynomial(coefficients) * step(r)).array()
