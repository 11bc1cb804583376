"""Cutoff functions of symmetry functions, and compact functions that need no cutoff.

Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717; Bircher, Singraber, Dellago, arXiv:2010.14414; AMP's polynomial:
Khorshidi, Peterson, doi:10.1016/j.cpc.2016.05.010.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from . import jets
from .jets import Jet

STEPS = {
    "poly1": (1, 0, -3, 2),
    "poly2": (1, 0, 0, -10, 15, -6),
    "poly3": (1, 0, 0, 0, -35, 84, -70, 20),
    "poly4": (1, 0, 0, 0, 0, -126, 420, -540, 315, -70),
}
"""Coefficients, by rising power, of steps from 1 at x = 0 to 0 at x = 1 with 1, 2, 3, 4 continuous derivatives."""
CUTOFF_FUNCTIONS = ("hard", "cosine", "tanhu", "tanh", "exponential", *STEPS, "polynomial")
"""In n2p2's order, 0 to 8, then AMP's polynomial."""
WITH_PLATEAU = ("cosine", "exponential", *STEPS)
COMPACT_KINDS = tuple(kind + suffix for kind in ("p1", "p2", "p3", "p4", "e") for suffix in ("", "a"))


@dataclass(frozen=True)
class CutoffFunction:
    """f_c(r), 1 at r = 0 (but for "tanhu") and 0 from the cutoff on.

    Parameters
    ----------
    cutoff : float
        A.
    kind : str
        One of CUTOFF_FUNCTIONS: "hard" 1; "cosine" (1 + cos(pi x)) / 2; "tanhu" tanh^3(1 - r / cutoff); "tanh" the same divided by
        tanh^3(1); "exponential" exp(1 - 1 / (1 - x^2)); "poly1" to "poly4" smooth steps in x; "polynomial"
        1 + gamma x^(gamma + 1) - (gamma + 1) x^gamma. x = (r - alpha cutoff) / (cutoff - alpha cutoff), at least 0.
    alpha : float
        Fraction of the cutoff up to which the function is 1, 0 <= alpha < 1.
    gamma : int
        Parameter of "polynomial".

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    cutoff: float
    kind: str = "cosine"
    alpha: float = 0.0
    gamma: int = 4

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cutoff) and self.cutoff > 0):
            raise ConfigError(f"cutoff = {self.cutoff}: must be a positive number of angstrom")
        if self.kind not in CUTOFF_FUNCTIONS:
            raise ConfigError(f"cutoff_function = {self.kind!r}: must be one of {', '.join(CUTOFF_FUNCTIONS)}")
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"cutoff_alpha = {self.alpha}: must be at least 0 and less than 1")
        if self.alpha and self.kind not in WITH_PLATEAU:
            raise ConfigError(f'cutoff_alpha = {self.alpha}: "{self.kind}" has no plateau; leave cutoff_alpha out')
        if self.gamma < 2 or self.gamma != int(self.gamma):
            raise ConfigError(f"cutoff_gamma = {self.gamma}: must be an integer of at least 2")

    @property
    def breaks(self) -> tuple[float, ...]:
        """Distances at which a derivative may jump."""
        return (self.alpha * self.cutoff, self.cutoff)

    def __call__(self, r: Jet) -> Jet:
        """f_c with two derivatives."""
        x = (r - self.alpha * self.cutoff) * (1 / (self.cutoff * (1 - self.alpha)))
        beyond = r.value < self.cutoff
        plateau = x.value > 0
        held = np.clip(np.where(beyond & plateau, x.value, 0.5), 0.0, 1.0)
        return self._step(Jet(held, x.slope, x.curvature)).where(plateau, self._at_zero).where(beyond)

    @property
    def _at_zero(self) -> float:
        return math.tanh(1.0) ** 3 if self.kind == "tanhu" else 1.0

    def _step(self, x: Jet) -> Jet:
        if self.kind == "hard":
            return x * 0.0 + 1.0
        if self.kind == "cosine":
            return 0.5 * (jets.cos(math.pi * x) + 1.0)
        if self.kind in ("tanh", "tanhu"):
            return jets.tanh(1.0 - x) ** 3 * (1.0 if self.kind == "tanhu" else 1 / math.tanh(1.0) ** 3)
        if self.kind == "exponential":
            return _bump(x)
        if self.kind == "polynomial":
            return self.gamma * x ** (self.gamma + 1) - (self.gamma + 1.0) * x**self.gamma + 1.0
        return x.polynomial(np.array(STEPS[self.kind], float))


@dataclass(frozen=True)
class CompactFunction:
    """C(x) between `low` and `high`, 1 in the middle, 0 outside: a step of |x - centre| / halfwidth.

    Parameters
    ----------
    low, high : float
    kind : str
        "p1" to "p4" (polynomial steps) or "e" (exp(1 - 1 / (1 - x^2))), with the suffix "a": of (2 - x) x instead of x.

    Raises
    ------
    ConfigError
        If low >= high, or the kind is unknown.
    """

    low: float
    high: float
    kind: str = "p2"

    def __post_init__(self) -> None:
        if self.kind not in COMPACT_KINDS:
            raise ConfigError(f"compact function of kind {self.kind!r}: must be one of {', '.join(COMPACT_KINDS)}")
        if not self.low < self.high:
            raise ConfigError(
                f"compact function from {self.low} to {self.high}: the first must be less than the second"
            )

    @property
    def centre(self) -> float:
        return 0.5 * (self.low + self.high)

    @property
    def breaks(self) -> tuple[float, ...]:
        """Places at which a derivative may jump."""
        return (self.low, self.centre, self.high)

    def __call__(self, x: Jet) -> Jet:
        """C with two derivatives."""
        away = jets.absolute(x - self.centre) * (2 / (self.high - self.low))
        inside = away.value < 1
        away = Jet(np.where(inside, away.value, 0.5), away.slope, away.curvature)
        if self.kind.endswith("a"):
            away = (2.0 - away) * away
        if self.kind.startswith("e"):
            return _bump(away).where(inside)
        return away.polynomial(np.array(STEPS[f"poly{self.kind[1]}"], float)).where(inside)


def _bump(x: Jet) -> Jet:
    """exp(1 - 1 / (1 - x^2)), 0 with all derivatives at x = 1."""
    near = 1 - x.value < 1e-3  # exp(-500)
    held = Jet(np.where(near, 0.5, x.value), x.slope, x.curvature)
    return jets.exp(1.0 - jets.inverse(1.0 - held * held)).where(~near)
