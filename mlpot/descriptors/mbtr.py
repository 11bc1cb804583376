"""Local many-body tensor representation: distributions of distances and angles around an atom.

Huo, Rupp, Mach. Learn.: Sci. Technol. 3, 045017 (2022), doi:10.1088/2632-2153/aca005; local: dscribe, doi:10.1016/j.cpc.2019.106949:

    k2[A, b]    = sum_j w(r_j) step(r_j) D_b(g(r_j))                                 j of element A;  g: r or 1/r
    k3[A B, b]  = sum_{j<k} e^{-s (r_j + r_k + r_jk)} step(r_j) step(r_k) D_b(cos)   angles at the centre
    k3[A, B, b] = the same sum over j (A) and k (B), angles at j between the centre and k

The features equal dscribe's LMBTR where no neighbour is in the step that ends at the cutoff, and they vanish smoothly beyond.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .._ext.core import CHANNELS, AngleHistograms
from ..errors import ConfigError, required
from ..neighbours import Pairs
from .acsf import check_species
from .curves import tabulate_curves
from .cutoff_functions import CutoffFunction
from .density import species_indices
from .distributions import Angles, Distances
from .jets import Jet, exp
from .mapped_sums import MappedSums
from .neighbour_sums import Grouping, MomentSums
from .periodic import properties
from .summed_descriptor import SummedDescriptor

log = logging.getLogger(__name__)

KNOTS_PER_SIGMA = 14
"""Knots of the cosine: the curves between them are exact to 1e-10 of a Gaussian's height."""
ACCURACY = 1e-11
"""Largest error of the curves of distances, in units of the largest value of all."""
REACH = 8.5
"""Distance in units of sigma beyond which a Gaussian is 0."""
MOST_LOST = 0.02
"""Part of the weight of a distribution outside of its grid above which there is a warning."""
MOST_WEIGHTS = 4


@dataclass(frozen=True)
class Mbtr(SummedDescriptor):
    """Local MBTR of distances (k2), of angles (k3), or both.

    Features: k2 for every element; k3 at the centre for every pair of elements (a, b), b <= a; k3 at neighbours for every two
    elements, of the vertex and of the end. With `n_weights`, sets of weights take the place of elements in all of them, and both
    neighbours have weights of the same set.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        A.
    k2 : Distances, mapping or None
    k3 : Angles, mapping or None
        Grids; see `Distribution`.
    cutoff_width : float
        Width of the smooth step that ends at the cutoff, A.
    n_weights : int or None
        Sum over all elements, once with weights 1 and `n_weights` times (0 to 4) with standardised properties of the elements; None:
        elements apart. Features then do not multiply with the number of elements.

    Raises
    ------
    ConfigError
        For values that are out of range, or without k2 and k3.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from mlpot.neighbours import find_pairs
    >>> k2 = {"geometry": "inverse_distance", "min": 0.0, "max": 1.5, "n": 40, "sigma": 0.05, "scale": 0.5}
    >>> Mbtr((1, 8), 6.0, k2).compute(find_pairs(molecule("H2O"), 6.0)).shape
    (3, 80)
    """

    species: tuple[int, ...]
    cutoff: float
    k2: Distances | Mapping[str, Any] | None = None
    k3: Angles | Mapping[str, Any] | None = None
    cutoff_width: float = 1.0
    n_weights: int | None = None

    def __post_init__(self) -> None:
        check_species(self.species)
        CutoffFunction(self.cutoff)
        if not 0 < self.cutoff_width <= self.cutoff:
            raise ConfigError(f"cutoff_width = {self.cutoff_width}: must be positive and at most cutoff = {self.cutoff} A")
        if self.k2 is None and self.k3 is None:
            raise ConfigError("k2, k3: give at least one of them")
        for name, kind in (("k2", Distances), ("k3", Angles)):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, _grid(name, kind, given))
        if self.n_weights is not None and not 0 <= self.n_weights <= MOST_WEIGHTS:
            raise ConfigError(f"n_weights = {self.n_weights}: must lie between 0 and {MOST_WEIGHTS}")
        _ = self.weights

    def state(self) -> dict[str, Any]:
        """See `Descriptor`."""
        found = super().state()
        return found | {name: found[name] and asdict(found[name]) for name in ("k2", "k3")}

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights (n_species, n_sets) of the elements; a column of 1 where elements are apart."""
        ones = np.ones((len(self.species), 1))
        if not self.n_weights:
            return ones
        return np.hstack([ones, properties(self.species)[:, ::-1][:, : self.n_weights]])

    @property
    def _grouping(self) -> Grouping:
        n = len(self.species)
        return Grouping(self.cutoff, np.arange(n) if self.n_weights is None else np.zeros(n, int))

    @property
    def n_distances(self) -> int:
        """Number of features of k2."""
        return 0 if self.k2 is None else self._grouping.n_groups * self.weights.shape[1] * self.k2.n  # type: ignore[union-attr]

    @property
    def n_angles(self) -> int:
        """Number of features of k3."""
        if self.k3 is None:
            return 0
        n, grid = self._grouping.n_groups, self._angles
        at_neighbours = n * n if grid.vertices == "all" else 0
        return (n * (n + 1) // 2 + at_neighbours) * self.weights.shape[1] * grid.n

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return self.n_distances + self.n_angles

    @property
    def _step(self) -> CutoffFunction:
        return CutoffFunction(self.cutoff, "cosine", max(0.0, 1 - self.cutoff_width / self.cutoff))

    @property
    def _distances(self) -> Distances:
        return required(self.k2, "k2")  # type: ignore[return-value]

    @property
    def _angles(self) -> Angles:
        return required(self.k3, "k3")  # type: ignore[return-value]

    @cached_property
    def sums(self) -> MappedSums:
        """See `SummedDescriptor`: of distances, then of angles."""
        distances = [] if self.k2 is None else [self._distance_sums().core]
        return MappedSums([*distances, *([] if self.k3 is None else [self._angle_sums()])])

    def _distance_sums(self) -> MomentSums:
        grid, step = self._distances, self._step

        def curves(distances: np.ndarray) -> np.ndarray:
            r = Jet.variable(distances)
            x, weight = grid.place(r), grid.weight(r) * step(r)
            jet = Jet(*(part[:, None] for part in (x.value, x.slope, x.curvature))).of(*grid.bins(x.value))
            return (jet * Jet(*(part[:, None] for part in (weight.value, weight.slope, weight.curvature)))).array()

        none = np.zeros(0, int)
        cached = _Columns(curves)
        columns, breaks = [cached.column(k) for k in range(grid.n)], {*grid.breaks, *step.breaks}
        table = tabulate_curves(columns, breaks, self.cutoff, tolerance=ACCURACY, floor=1.0)
        return MomentSums(
            self._grouping, table, grid.n, self.weights, np.zeros((len(self.species), 0)), none, none, none, none
        )

    def _angle_sums(self) -> AngleHistograms:
        grid = self._angles
        n_knots = max(8, math.ceil(2 * KNOTS_PER_SIGMA / grid.sigma)) + 1
        places = np.linspace(-1, 1, n_knots)
        size = 2 / (n_knots - 1)
        table = grid.bins(places).transpose(1, 0, 2) * size ** np.arange(3)[:, None]
        padded = np.pad(table, [(0, 0), (0, 0), (0, -grid.n % CHANNELS)])
        return AngleHistograms(
            **self._grouping.core_arrays(tabulate_curves([self._envelope], self._step.breaks, self.cutoff)),
            weights=self.weights, decay=(grid.scale or 0.0) if grid.weighting == "exp" else 0.0,
            at_neighbours=grid.vertices == "all", per_step=1 / size, n_bins=grid.n, table=np.ascontiguousarray(padded),
            bands=_bands(grid, places, padded.shape[2]),
        )  # fmt: skip

    def _envelope(self, distances: np.ndarray) -> np.ndarray:
        """Factor of each of the two distances from the centre."""
        r = Jet.variable(distances)
        if self._angles.weighting == "smooth_cutoff":
            return CutoffFunction(self.cutoff, "polynomial", gamma=2)(r).array()
        weight = exp(r * -(self._angles.scale or 0.0)) if self._angles.weighting == "exp" else r * 0.0 + 1.0
        return (weight * self._step(r)).array()

    def lost_weight(self, structures: Sequence[Pairs]) -> float:
        """Part of the weight of k2 that lies outside of its grid, 0 to 1."""
        grid, total, kept = self._distances, 0.0, 0.0
        for pairs in structures:
            species_indices(pairs.numbers, self.species)
            r = Jet.variable(pairs.distances[pairs.distances < self.cutoff])
            weight = (grid.weight(r) * self._step(r)).value
            z = (grid.edges[[0, -1]] - grid.place(r).value[:, None]) / grid.sigma
            inside = np.array([[0.5 * math.erfc(-x / math.sqrt(2)) for x in row] for row in z.tolist()]).reshape(-1, 2)
            total, kept = total + weight.sum(), kept + float((weight * (inside[:, 1] - inside[:, 0])).sum())
        return 1 - kept / total if total > 0 else 0.0

    def settled(self, structures: Sequence[Pairs]) -> Mbtr:
        """Itself, with a warning if much of the data is outside of the grid of distances."""
        if self.k2 is not None and (lost := self.lost_weight(structures)) > MOST_LOST:
            log.warning(
                "mbtr: k2: %.0f %% of the weight of the distances in the data is outside of min = %g to max = %g; widen the grid",
                100 * lost, self._distances.min, self._distances.max,
            )  # fmt: skip
        return self


class _Columns:
    """Columns of curves that are computed together, as single curves: a table asks for them one after another."""

    def __init__(self, curves: Any) -> None:
        self._curves, self._key, self._found = curves, b"", np.empty(0)

    def column(self, k: int) -> Any:
        """The curve of column k."""

        def curve(places: np.ndarray) -> np.ndarray:
            if (key := places.tobytes()) != self._key:
                self._key, self._found = key, self._curves(places)
            return self._found[:, :, k]

        return curve


def _grid(name: str, kind: type[Distances] | type[Angles], given: Mapping[str, Any]) -> Distances | Angles:
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"{name} = {dict(given)}: {error}") from error


def _bands(grid: Angles, places: np.ndarray, n_columns: int) -> np.ndarray:
    """First and last + 1 column (n_knots, 2) within reach of every knot, in whole vectors."""
    low = np.searchsorted(grid.edges[1:], places - REACH * grid.sigma)
    high = np.searchsorted(grid.edges[:-1], places + REACH * grid.sigma)
    found = np.stack([low // CHANNELS * CHANNELS, -(-high // CHANNELS) * CHANNELS], axis=1)
    return np.ascontiguousarray(np.clip(found, 0, n_columns), np.int32)
