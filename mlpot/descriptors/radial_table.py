"""Tables of radial functions for the compiled expansion: quintic Hermite splines.

With value, slope and curvature at each knot, the spline is twice continuously differentiable and its error is O(step^6). An error of
1e-10 relative to the exact radial integral requires 208 knots, compared with 1277 for a cubic Hermite spline (n_max 8, l_max 8,
cutoff 5.4 A, width 0.5 A), so the table fits into the L2 cache together with the sparse points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from .radial_basis import RadialBasis

MAX_KNOTS = 20_000


@dataclass(frozen=True)
class RadialTable:
    """Knot data of radial functions f[l, n](r) on r = start + k step.

    Parameters
    ----------
    start, step : float
        First knot (<= 0) and spacing, in A; cutoff and cutoff - cutoff_width are knots.
    kink : int
        Knot at cutoff - cutoff_width, where the curvature of a cutoff function may jump: it is stored twice, with the limits from
        the left and from the right.
    knots : (n_intervals + 2, 3, l_max + 1, n_functions) array
        Value, step * slope, step^2 * curvature.
    """

    start: float
    step: float
    kink: int
    knots: np.ndarray

    @property
    def grid(self) -> tuple[float, float, int]:
        """Parameters of the grid for the core."""
        return self.start, self.step, self.kink

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Spline values (n_distances, l_max + 1, n_functions); slow reference for the compiled spline."""
        position = (np.asarray(distances, float) - self.start) / self.step
        interval = np.clip(position.astype(int), 0, len(self.knots) - 3)
        weights = hermite_weights(position - interval)
        interval += interval >= self.kink
        left = np.einsum("dr,rdln->rln", weights[:3], self.knots[interval])
        return left + np.einsum("dr,rdln->rln", weights[3:], self.knots[interval + 1])


def hermite_weights(t: np.ndarray) -> np.ndarray:
    """Quintic Hermite weights (6, ...) at t in [0, 1]: value, slope, curvature at the left knot, then the right."""
    s = 1.0 - t

    def half(u, v):
        return [u**3 * (1 + 3 * v + 6 * v**2), u**3 * v * (1 + 3 * v), 0.5 * u**3 * v**2]

    right = half(t, s)
    return np.array([*half(s, t), right[0], -right[1], right[2]])


def tabulate(basis: RadialBasis, tolerance: float = 1e-10) -> RadialTable:
    """Tabulate a basis with a spline error below `tolerance` between all knots, relative to the largest value.

    Raises
    ------
    ConfigError
        If the functions are too sharp for `MAX_KNOTS` knots.
    """
    intervals_in_step = 4
    while True:
        # checked before allocation: functions that are too sharp would use all memory
        if basis.cutoff / basis.cutoff_width * intervals_in_step > MAX_KNOTS:
            raise ConfigError(
                f"radial functions with cutoff = {basis.cutoff} A, cutoff_width = {basis.cutoff_width} A are too sharp "
                "to tabulate; increase cutoff_width or atom_sigma"
            )
        table = _tabulate(basis, intervals_in_step)
        if _spline_error(basis, table) < tolerance:
            return table
        intervals_in_step = int(np.ceil(intervals_in_step * 1.25))


def _tabulate(basis: RadialBasis, intervals_in_step: int) -> RadialTable:
    step = basis.cutoff_width / intervals_in_step
    plateau = basis.cutoff - basis.cutoff_width
    kink = max(int(np.ceil(plateau / step - 1e-9)), 0)
    start = min(plateau - kink * step, 0.0)  # rounding must not put the first knot beyond the centre
    radii = start + step * np.concatenate([np.arange(kink + 1), np.arange(kink, kink + intervals_in_step + 1)])
    nudge = 1e-12 * basis.cutoff  # one-sided limits at the two ends of the cutoff function
    radii[kink] -= nudge
    radii[kink + 1] += nudge
    radii[-1] = basis.cutoff - nudge
    data = basis.evaluate(radii) * step ** np.arange(3)[:, None, None, None]
    data[:2, -1] = 0.0
    return RadialTable(start, step, kink, np.ascontiguousarray(np.transpose(data, (1, 0, 3, 2))))


def _spline_error(basis: RadialBasis, table: RadialTable) -> float:
    n_intervals = len(table.knots) - 2
    fractions = np.array([0.25, 0.5, 0.75])
    radii = table.start + table.step * (np.arange(n_intervals)[:, None] + fractions).ravel()
    radii = radii[radii > 0]
    exact = np.moveaxis(basis.evaluate(radii)[0], 1, 2)
    scale = np.abs(exact).max()
    return float(np.abs(table.evaluate(radii) - exact).max() / scale)
