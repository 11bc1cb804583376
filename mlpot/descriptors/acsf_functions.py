"""Symmetry functions as users write them, checked, and their curves.

Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717; weighted: Gastegger et al., doi:10.1063/1.5019667; compact:
Bircher, Singraber, Dellago, arXiv:2010.14414.

    G1 = sum_j fc            G2 = sum_j exp(-eta (r - r_s)^2) fc            G3 = sum_j cos(kappa r) fc
    G4 = 2^(1-zeta) sum_{j<k} (1 + lambda cos)^zeta prod exp(-eta (r - r_s)^2) fc   of r_ij, r_ik and r_jk;   G5 of r_ij and r_ik only
    C20 = sum_j C(r)         C21 = sum_{j<k} C(r_ij) C(r_ik) C(r_jk) C(theta)       C22 without r_jk
    G12, G13, C23, C24, C25: G2, G4, C20, C21, C22 with the atomic numbers of the neighbours as weights, of all elements
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from ..errors import ConfigError, required
from . import jets
from .cutoff_functions import CompactFunction, CutoffFunction
from .jets import Jet

WEIGHTED = {"G12": "G2", "G13": "G4", "C23": "C20", "C24": "C21", "C25": "C22"}
RADIAL = ("G1", "G2", "G3", "C20")
ANGULAR = ("G4", "G5", "C21", "C22")
NARROW = ("G4", "C21")
WITH_WINDOW = ("C21", "C22")
PARAMETERS = {
    "G1": "", "G2": "eta r_s", "G3": "kappa", "G4": "eta zeta lambda [r_s]", "G5": "eta zeta lambda [r_s]",
    "C20": "kind low high", "C21": "kind low high left right", "C22": "kind low high left right",
}  # fmt: skip
"""Parameters after the name of a function; distances in A, angles in degrees."""
MOST_ETA = 1000
"""1/A^2: a width of 0.02 A, which tables cannot miss."""
MOST_ZETA = 1000
EDGE = math.sqrt(2)
"""`angle_place` of 180 degrees."""


@dataclass(frozen=True)
class RadialFactor:
    """A function of one distance."""

    cutoff: CutoffFunction | CompactFunction
    eta: float = 0.0
    r_s: float = 0.0
    kappa: float = 0.0

    @property
    def end(self) -> float:
        """Distance from which on it is 0, A."""
        return self.cutoff.cutoff if isinstance(self.cutoff, CutoffFunction) else self.cutoff.high

    def curve(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes, curvatures (3, n_distances)."""
        return self._jet(Jet.variable(distances)).array()

    def square(self, distances: np.ndarray) -> np.ndarray:
        """The same of its square."""
        found = self._jet(Jet.variable(distances))
        return (found * found).array()

    def _jet(self, r: Jet) -> Jet:
        found = self.cutoff(r)
        if self.eta:
            found = jets.exp(-self.eta * (r - self.r_s) ** 2) * found
        return jets.cos(self.kappa * r) * found if self.kappa else found


@dataclass(frozen=True)
class SymmetryFunction:
    """One symmetry function.

    Parameters
    ----------
    kind : str
        One of RADIAL or ANGULAR.
    factor : RadialFactor
        Of r_ij, and of r_ik and r_jk where these occur.
    zeta, lambda_ : float
        Of "G4", "G5".
    window : CompactFunction or None
        Of the angle in degrees, of "C21", "C22".
    weighted : bool
        Whether neighbours of all elements are summed with their atomic numbers.
    neighbours : tuple of int
        Atomic numbers of the one or two neighbours it is for; empty: all elements and pairs of elements in turn.
    centre : int
        Atomic number of the centres it is for, 0 for others; 0: all.
    """

    kind: str
    factor: RadialFactor
    zeta: float = 1.0
    lambda_: float = 1.0
    window: CompactFunction | None = None
    weighted: bool = False
    neighbours: tuple[int, ...] = ()
    centre: int = 0

    def __post_init__(self) -> None:
        if self.kind not in PARAMETERS:
            raise ConfigError(f"functions: {self.kind!r}: must be one of {', '.join(PARAMETERS)}")
        if not 1 <= self.zeta <= MOST_ZETA:
            raise ConfigError(f"{self.kind}: zeta = {self.zeta}: must be at least 1 and at most {MOST_ZETA}")
        named = 0 if self.weighted else 1 if self.is_radial else 2
        if len(self.neighbours) not in (0, named):
            raise ConfigError(f"{self.kind}: neighbours = {self.neighbours}: must be of {named} elements, or of none")
        if self.zeta != int(self.zeta) and self.lambda_ not in (-1.0, 1.0):
            raise ConfigError(
                f"{self.kind}: lambda = {self.lambda_} with zeta = {self.zeta}: the base of a power that is no integer must not "
                "be negative; use lambda = 1 or -1"
            )
        if not (math.isfinite(self.lambda_) and abs(self.lambda_) <= 1):
            raise ConfigError(f"{self.kind}: lambda = {self.lambda_}: must lie between -1 and 1")
        if not (0 <= self.factor.eta <= MOST_ETA and math.isfinite(self.factor.r_s)):
            raise ConfigError(
                f"{self.kind}: eta = {self.factor.eta}, r_s = {self.factor.r_s}: eta must be at least 0 and at most {MOST_ETA} 1/A^2"
            )
        if (self.window is None) != (self.kind not in WITH_WINDOW):
            raise ConfigError(f"{self.kind}: window = {self.window}: {', '.join(WITH_WINDOW)} have one, the others have none")
        if self.window is not None:
            _check_window(self.kind, self.window)

    def __str__(self) -> str:
        found = {"eta": self.factor.eta, "r_s": self.factor.r_s, "kappa": self.factor.kappa}
        found = {name: value for name, value in found.items() if value}
        if self.kind in ("G4", "G5"):
            found |= {"zeta": self.zeta, "lambda": self.lambda_}
        if isinstance(self.factor.cutoff, CompactFunction):
            found |= {"low": self.factor.cutoff.low, "high": self.factor.cutoff.high}
        if self.window is not None:
            found |= {"left": self.window.low, "right": self.window.high}
        centre = f", centre={chemical_symbols[self.centre]}" if self.centre else ""
        return f"{self.kind}({', '.join(f'{name}={value:.6g}' for name, value in found.items())}{centre})"

    @property
    def is_radial(self) -> bool:
        return self.kind in RADIAL

    @property
    def is_narrow(self) -> bool:
        return self.kind in NARROW

    def power(self, cosine: np.ndarray) -> np.ndarray:
        """2^(1-zeta) (1 + lambda cos)^zeta."""
        return 2 * ((1 + self.lambda_ * cosine) / 2) ** self.zeta

    def angle_curve(self, places: np.ndarray) -> np.ndarray:
        """Values, slopes, curvatures (3, n_places) of the angular window, in the variable of `angle_place`."""
        window = required(self.window, "window")
        acute = places <= EDGE / 2
        sign = np.where(acute, 1.0, -1.0)
        half = Jet(np.where(acute, places, EDGE - places), sign, np.zeros_like(places))
        away = jets.arcsin(half) * (360 / np.pi)
        return window(
            Jet(np.where(acute, away.value, 180 - away.value), sign * away.slope, sign * away.curvature)
        ).array()


def angle_place(degrees: float) -> float:
    """sin(theta / 2) up to 90 degrees, sqrt(2) - cos(theta / 2) above: what windows of the angle are tabulated in.

    Cosines and angles have no smooth map onto each other at 0 and 180 degrees; this has one.
    """
    half = math.radians(min(max(degrees, 0.0), 180.0)) / 2
    return math.sin(half) if degrees <= 90 else EDGE - math.cos(half)


def _check_window(kind: str, window: CompactFunction) -> None:
    if window.high <= 0 or window.low >= 180:
        raise ConfigError(f"{kind}: angles {window.low} to {window.high}: must overlap with 0 to 180 degrees")
    if (window.low < 0 and window.centre != 0) or (window.high > 180 and window.centre != 180):
        raise ConfigError(
            f"{kind}: angles {window.low} to {window.high}: a window beyond 0 or 180 degrees must be centred there, or forces jump "
            "at straight lines"
        )


def parse_function(entry: Sequence, cutoff: CutoffFunction, weighted: bool = False) -> SymmetryFunction:
    """The function that an entry of a table means, such as ["G2", 0.5, 1.0].

    Raises
    ------
    ConfigError
        For an unknown name, a number of parameters that does not fit, or impossible values.

    Examples
    --------
    >>> parse_function(["G4", 0.01, 2, -1], CutoffFunction(4.0)).lambda_
    -1.0
    """
    if isinstance(entry, str) or not entry or not isinstance(entry[0], str):
        raise ConfigError(f'functions: {entry!r}: must be a list such as ["G2", 0.5, 1.0], its name first')
    name = entry[0]
    kind = WEIGHTED.get(name, name)
    if kind not in PARAMETERS:
        raise ConfigError(f"functions: {name!r}: must be one of {', '.join([*PARAMETERS, *WEIGHTED])}")
    values = _values(name, kind, list(entry[1:]))
    weighted = weighted or name in WEIGHTED
    if kind.startswith("C"):
        factor = RadialFactor(CompactFunction(values[1], values[2], values[0]))
        angles = CompactFunction(values[3], values[4], values[0].rstrip("a")) if kind in ANGULAR else None
        return SymmetryFunction(kind, factor, window=angles, weighted=weighted)
    if kind in ANGULAR:
        factor = RadialFactor(cutoff, values[0], values[3] if len(values) > 3 else 0.0)
        return SymmetryFunction(kind, factor, values[1], values[2], weighted=weighted)
    if kind == "G3":
        return SymmetryFunction(kind, RadialFactor(cutoff, kappa=values[0]), weighted=weighted)
    return SymmetryFunction(kind, RadialFactor(cutoff, *values), weighted=weighted)


def _values(name: str, kind: str, given: list) -> list:
    wanted = PARAMETERS[kind].split()
    least = sum(not word.startswith("[") for word in wanted)
    if not least <= len(given) <= len(wanted):
        raise ConfigError(
            f"functions: {[name, *given]}: {name} is written with {PARAMETERS[kind] or 'nothing'} behind its name"
        )
    numbers = given[1:] if kind.startswith("C") else given
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in numbers):
        raise ConfigError(f"functions: {[name, *given]}: {PARAMETERS[kind]} must be finite numbers")
    return given[: len(given) - len(numbers)] + [float(v) for v in numbers]
