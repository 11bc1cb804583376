"""Broadened distributions of distances and angles: grids, and the curves of their bins.

A bin of width dx is the integral of a normalised Gaussian over it, divided by dx, as in dscribe: the ends of a grid are centres of
its first and last bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import erf

from ..errors import ConfigError
from .jets import Jet, exp, inverse

MOST_BINS = 500
SHARPEST = 500
"""Largest range of a grid in units of sigma."""
COARSEST = 3.0
"""Largest width of a bin in units of sigma: beyond it, what falls between two bins is nearly invisible."""


@dataclass(frozen=True)
class Distribution:
    """Grid and weighting of a distribution.

    Parameters
    ----------
    geometry : str
        What is distributed: see `geometries` of the subclasses.
    min, max : float
        Centres of the first and the last bin, in units of the geometry.
    n : int
        Number of bins.
    sigma : float
        Standard deviation of the broadening.
    weighting : str
        See `weightings` of the subclasses.
    scale : float or None
        s of "exp", 1/A.

    Raises
    ------
    ConfigError
        For values that are out of range, or do not fit each other.
    """

    geometries: ClassVar[tuple[str, ...]] = ()
    weightings: ClassVar[tuple[str, ...]] = ()
    key: ClassVar[str] = ""

    geometry: str
    min: float
    max: float
    n: int
    sigma: float
    weighting: str = "exp"
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.geometry == "angle":
            raise ConfigError(
                f'{self.key}: geometry = "angle": an angle has a kink where atoms are in line: forces would jump; use "cosine"'
            )
        for name, allowed in (("geometry", self.geometries), ("weighting", self.weightings)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{self.key}: {name} = {getattr(self, name)!r}: must be one of {', '.join(allowed)}")
        if not (math.isfinite(self.min) and math.isfinite(self.max) and self.min < self.max):
            raise ConfigError(f"{self.key}: min = {self.min}, max = {self.max}: min must be below max")
        if not 2 <= self.n <= MOST_BINS:
            raise ConfigError(f"{self.key}: n = {self.n}: must lie between 2 and {MOST_BINS}")
        least = (self.max - self.min) / SHARPEST
        if not (math.isfinite(self.sigma) and least <= self.sigma):
            raise ConfigError(f"{self.key}: sigma = {self.sigma}: must be at least {least:g} for this grid")
        if self.sigma < self.width / COARSEST:
            least_n = math.ceil((self.max - self.min) / (COARSEST * self.sigma) - 1e-9) + 1
            raise ConfigError(
                f"{self.key}: sigma = {self.sigma}: is below a third of the width of a bin, {self.width:.3g}: what lies between two "
                f"bins would be unseen; set n to at least {least_n}, or sigma to {self.width / COARSEST:.3g}"
            )
        if (self.scale is not None) != (self.weighting == "exp") or not (self.scale is None or 0 < self.scale <= 100):
            raise ConfigError(
                f'{self.key}: scale = {self.scale}: a positive number of at most 100 belongs to weighting = "exp", and only to it'
            )

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.max - self.min) / (self.n - 1)

    @property
    def edges(self) -> np.ndarray:
        """Edges (n + 1,) of the bins."""
        return self.min + self.width * (np.arange(self.n + 1) - 0.5)

    def bins(self, x: np.ndarray) -> np.ndarray:
        """Values, slopes and curvatures (3, n_places, n) of all bins at places (n_places,)."""
        z = (self.edges - np.asarray(x)[:, None]) / self.sigma
        normal = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        parts = np.array([0.5 * erf(z / math.sqrt(2)), -normal / self.sigma, -z * normal / self.sigma**2])
        return np.diff(parts, axis=2) / self.width


@dataclass(frozen=True)
class Distances(Distribution):
    """Distribution of distances to the neighbours."""

    geometries: ClassVar[tuple[str, ...]] = ("distance", "inverse_distance")
    weightings: ClassVar[tuple[str, ...]] = ("unity", "exp", "inverse_square")
    key: ClassVar[str] = "k2"

    def weight(self, r: Jet) -> Jet:
        """1, e^(-s r) or 1 / r^2."""
        if self.weighting == "exp":
            return exp(r * -(self.scale or 0.0))
        return inverse(r * r) if self.weighting == "inverse_square" else r * 0.0 + 1.0

    def place(self, r: Jet) -> Jet:
        """Distributed quantity as a function of the distance."""
        return inverse(r) if self.geometry == "inverse_distance" else r

    @property
    def breaks(self) -> tuple[float, ...]:
        """Distances between which the curves have different widths, A."""
        if self.geometry == "distance":
            return ()
        shortest = 1 / (self.max + 8 * self.sigma)
        return tuple(shortest * 1.3**k for k in range(24))


@dataclass(frozen=True)
class Angles(Distribution):
    """Distribution of the cosines of angles.

    Parameters
    ----------
    vertices : str
        "all": angles at the centre and angles at a neighbour, one of whose ends is the centre; "centre": only the former.
    """

    geometries: ClassVar[tuple[str, ...]] = ("cosine",)
    weightings: ClassVar[tuple[str, ...]] = ("unity", "exp", "smooth_cutoff")
    key: ClassVar[str] = "k3"

    vertices: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vertices not in ("all", "centre"):
            raise ConfigError(f"{self.key}: vertices = {self.vertices!r}: must be one of all, centre")
        if self.max < -1 or self.min > 1:
            raise ConfigError(f"{self.key}: min = {self.min}, max = {self.max}: no cosine is in this range")
