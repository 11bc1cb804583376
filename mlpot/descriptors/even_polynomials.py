"""Even functions of a distance as polynomials of its square: to evaluate them takes neither a root nor a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import chebyshev
from scipy import fft

from .curves import Curve

MOST_DEGREE = 32
"""Beyond this a table is faster where there are several functions."""
ERROR = 1e-14
"""Largest error of a polynomial, relative to the largest value of its function."""


def even_polynomial(curve: Curve, end: float) -> np.ndarray | None:
    """Coefficients of the powers of 2 (r / end)^2 - 1, the highest first, for a function of r < end.

    None for a function that is no polynomial of degree `MOST_DEGREE` to `ERROR`: one that is not even or not smooth, or too sharp.

    Examples
    --------
    >>> even_polynomial(lambda r: np.array([r**2, 2 * r, 2 + 0 * r]), 2.0)
    array([2., 2.])
    """
    nodes = np.cos(np.pi * (np.arange(2 * MOST_DEGREE) + 0.5) / (2 * MOST_DEGREE))
    values = curve(end * np.sqrt((1 + nodes) / 2))[0]
    scale = np.abs(values).max()
    series = fft.dct(values) / len(nodes)
    series[0] /= 2
    needed = np.flatnonzero(np.abs(series) > ERROR / 10 * scale)
    degree = int(max(needed, default=0))
    if not scale or degree > MOST_DEGREE:
        return None
    found = chebyshev.cheb2poly(series[: degree + 1])[::-1]
    places = np.linspace(-1, 1, 1001)[:-1]
    exact = curve(end * np.sqrt((1 + places) / 2))[0]
    return found if np.abs(np.polyval(found, places) - exact).max() < ERROR * scale else None


def padded(polynomials: Sequence[np.ndarray]) -> np.ndarray:
    """Coefficients (n, degree + 1) of polynomials of different degrees."""
    most = max((len(c) for c in polynomials), default=1)
    return np.array([np.pad(c, (most - len(c), 0)) for c in polynomials]).reshape(-1, most)
