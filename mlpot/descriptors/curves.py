"""Tables of functions of one variable for the compiled sums: quintic Hermite curves on segments of uniform knots.

A segment ends wherever a derivative of a function may jump, so that a curve is never drawn across it. The error between knots is
below `TOLERANCE` of the largest value of each function: what is left is rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .._ext.core import CHANNELS, CurveTable
from ..errors import ConfigError
from .radial_table import hermite_weights

TOLERANCE = 1e-13
ROUNDING = 2e-12
"""Errors below this that no longer fall with more knots are rounding of the functions themselves (high polynomials at their ends)."""
MAX_KNOTS = 20_000
Curve = Callable[[np.ndarray], np.ndarray]
"""Values, slopes and curvatures (3, n_places) at places (n_places,)."""


@dataclass(frozen=True)
class Curves:
    """Knots of curves; the last segment is 0 and has no end.

    Parameters
    ----------
    start, step : (n_segments,) arrays
    first, n_intervals : (n_segments,) int arrays
        First knot of each segment among all, and its intervals: one knot less.
    knots : (n_knots, 3, n_columns) array
        Value, step * slope, step^2 * curvature; columns padded to whole vectors.
    """

    start: np.ndarray
    step: np.ndarray
    first: np.ndarray
    n_intervals: np.ndarray
    knots: np.ndarray

    def table(self) -> CurveTable:
        """As the core reads them."""
        integers = [np.ascontiguousarray(a, np.int32) for a in (self.first, self.n_intervals)]
        return CurveTable(self.start, self.step, *integers, self.knots)


def tabulate_curves(
    curves: Sequence[Curve], breaks: Iterable[float], end: float, *, tolerance: float = TOLERANCE, floor: float = 0.0
) -> Curves:
    """Table of curves from 0 to `end`; `breaks` are the places at which a derivative of any may jump.

    Errors are relative to the largest value of each curve, or to the part `floor` of the largest value of all.

    Raises
    ------
    ConfigError
        If a curve is too sharp for `MAX_KNOTS` knots.
    """
    places = _segments(breaks, end)
    scale = _largest(curves, places)
    scale = np.maximum(scale, floor * scale.max())
    pieces = [_segment(curves, low, high, scale, tolerance) for low, high in pairwise(places.tolist())]
    pieces.append(np.zeros((2, 3, pieces[0].shape[2])))
    n_intervals = np.array([len(piece) - 1 for piece in pieces])
    first = np.concatenate([[0], np.cumsum(n_intervals + 1)[:-1]])
    step = np.concatenate([np.diff(places) / n_intervals[:-1], [1.0]])
    knots = np.concatenate(pieces)
    padding = -knots.shape[2] % CHANNELS
    return Curves(places, step, first, n_intervals, np.ascontiguousarray(np.pad(knots, [(0, 0), (0, 0), (0, padding)])))


def _segments(breaks: Iterable[float], end: float) -> np.ndarray:
    found = [0.0]
    for place in sorted(breaks):
        if found[-1] + 1e-9 * end < place < end * (1 - 1e-9):
            found.append(float(place))
    return np.array([*found, end])


def _evaluate(curves: Sequence[Curve], places: np.ndarray) -> np.ndarray:
    return np.stack([curve(places) for curve in curves], axis=2)


def _largest(curves: Sequence[Curve], places: np.ndarray) -> np.ndarray:
    inner = np.concatenate([np.linspace(a, b, 66)[1:-1] for a, b in pairwise(places.tolist())])
    largest = np.abs(_evaluate(curves, inner)[0]).max(axis=0)
    return np.where(largest > 0, largest, 1.0)


def _segment(curves: Sequence[Curve], low: float, high: float, scale: np.ndarray, tolerance: float) -> np.ndarray:
    """Knots (n_intervals + 1, 3, n_curves) from `low` to `high`, as many as the tolerance takes."""
    n_intervals, before = max(4, int(np.ceil(high - low))), np.inf  # errors are seen where functions are wider than 0.15 A
    while True:
        step = (high - low) / n_intervals
        places = low + step * np.arange(n_intervals + 1)
        knots = _inner_limits(curves, places).transpose(1, 0, 2) * step ** np.arange(3)[:, None]
        error = _error(curves, low, step, knots, scale)
        if error < tolerance or before / 2 < error < ROUNDING:
            return knots
        before = error
        n_intervals = int(np.ceil(1.3 * n_intervals))
        if n_intervals > MAX_KNOTS:
            raise ConfigError(
                f"a function between {low:g} and {high:g} is too sharp to tabulate; use a smaller eta or a wider window"
            )


def _inner_limits(curves: Sequence[Curve], places: np.ndarray) -> np.ndarray:
    """Jets (3, n_places, n_curves) at ascending places; at both ends those seen from inside."""
    shifts = np.zeros(len(places))
    shifts[[0, -1]] = 1e-12 * (places[-1] - places[0]) * np.array([1, -1])
    values, slopes, curvatures = _evaluate(curves, places + shifts)
    back = -shifts[:, None]
    return np.array([values + back * slopes, slopes + back * curvatures, curvatures])


def _error(curves: Sequence[Curve], low: float, step: float, knots: np.ndarray, scale: np.ndarray) -> float:
    """Largest error between knots, in units of `scale`."""
    fractions = np.array([0.2, 0.5, 0.8])
    places = (low + step * (np.arange(len(knots) - 1)[:, None] + fractions)).ravel()
    exact = _evaluate(curves, places)[0].reshape(len(knots) - 1, 3, -1)
    weights = hermite_weights(fractions)
    found = np.einsum("df,kdc->kfc", weights[:3], knots[:-1]) + np.einsum("df,kdc->kfc", weights[3:], knots[1:])
    return float((np.abs(found - exact) / scale).max())
