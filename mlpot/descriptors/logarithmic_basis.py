"""Radial functions that are equally sharp relative to the distance: fine between bonded atoms, coarse far away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import jets
from .jets import Jet
from .radial_basis import GapRadialBasis, RadialBasis, cosine_cutoff, times_cutoff

FIRST = 0.8
"""Centre of the first function, A: shorter than all bonds, except H-H."""
ROUND = 0.5
"""Distance below which the logarithm levels off, A."""
LAST = 0.9
"""Centre of the last function relative to the cutoff."""


@dataclass(frozen=True)
class LogarithmicBasis:
    """Gaussians in the logarithm of the distance, an angular resolution that does not depend on distance, and a decaying weight:

        f[n, l](r) = exp(-(x - x_n)^2 / (2 d^2) - l (l + 1) a^2 / 2 - decay x) f_cut(r),    x = ln(r^2 + ROUND^2) / 2,

    with equally spaced x_n at a spacing of d. An atom at r is thus smeared in proportion to r, along and across. Forces and fields of
    charges change with distance in this way, so one density describes bonds and what reaches far beyond them.

    Parameters
    ----------
    n_max, l_max : int
        Number of radial functions, at least 2; highest angular degree (inclusive).
    cutoff, cutoff_width : float
        In A.
    angular_width : float
        a, the standard deviation of the angular smearing, rad.
    decay : float
        Power of the distance by which weights decay.
    own_weight : float
        Weight of the centre's own density, which is in the first function; neighbours have about r^-decay. A large weight makes
        features nearly linear in the density of the neighbours.
    """

    n_max: int
    l_max: int
    cutoff: float
    cutoff_width: float
    angular_width: float
    decay: float
    own_weight: float

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes and curvatures (3, n_distances, n_max, l_max + 1); see `RadialBasis`."""
        distances = np.asarray(distances, float)
        r = Jet.variable(distances)
        x = jets.log(r * r + ROUND**2) * 0.5
        first, last = (0.5 * np.log(place**2 + ROUND**2) for place in (FIRST, LAST * self.cutoff))
        centres = np.linspace(first, last, self.n_max)
        spacing = centres[1] - centres[0]
        shells = [(x + -centre) * (1 / spacing) for centre in centres.tolist()]
        radial = np.stack([jets.exp(s * s * -0.5 + x * -self.decay).array() for s in shells], axis=-1)
        degrees = np.arange(self.l_max + 1)
        smooth = radial[..., None] * np.exp(-0.5 * degrees * (degrees + 1) * self.angular_width**2)
        return times_cutoff(smooth, cosine_cutoff(distances, self.cutoff, self.cutoff_width))

    def self_coefficients(self) -> np.ndarray:
        """The centre's own density: a constant in the first function."""
        return self.own_weight * np.eye(self.n_max)[0]


PARAMETERS: dict[str, tuple[str, ...]] = {"gap": ("atom_sigma",), "logarithmic": ("angular_width", "decay", "own_weight")}
"""Parameters of the radial functions of targets besides n_max, l_max, cutoff and cutoff_width."""


def target_basis(name: str, common: tuple[int, int, float, float], parameters: Sequence[float]) -> RadialBasis:
    """Radial functions of a term of a target.

    Parameters
    ----------
    name : str
        "gap" or "logarithmic".
    common : tuple
        n_max, l_max, cutoff and cutoff_width.
    parameters : sequence of float
        In the order of `PARAMETERS`.
    """
    return LogarithmicBasis(*common, *parameters) if name == "logarithmic" else GapRadialBasis(*common, *parameters)
