"""Continuity: jumps of features and of their first and second derivatives while an atom moves along a path.

A jump J of the k-th derivative adds a multiple of J h^k to differences of order n between points with spacing h, where smooth
functions leave h^n. So a scan of a path finds suspicious places, and nested intervals find the jump to the last digits that rounding
leaves. There the derivatives from both sides are compared, by polynomials through points of one side only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.special import binom

from .probes import around, bond
from .rows import Row
from .subject import Subject

N_POINTS = 240
"""Number of points in the scan of a path."""
SUSPECTS = 3
"""Places of a path that are looked at closely, apart from known cutoffs."""
DIFFERENCES = (3, 4, 3)
"""Orders n of the differences for k = 0, 1, 2: n - k is odd, so that a jump in the middle of the points counts."""
NARROW = (1e-10, 1e-6, 1e-4)
"""Widths at which the search for a jump of the value, slope, curvature ends, A: below, rounding hides it."""
SIDE = (0.0, 2e-6, 1e-4)
"""Spacing of the points on one side, A: the shortest that rounding allows, so that a jump of the next derivative between them
has no weight."""
LIMITS = (1e-6, 1e-4, 1e-2)
"""Largest jumps of values, slopes and curvatures, relative to their own size along the path."""
FLOOR = 1e-2
"""Features that vary less than this part of the most varying one are judged on that scale: their rounding is no jump."""
NAMES = ("value", "first derivative", "second derivative")


@dataclass(frozen=True)
class Path:
    """An atom on its way.

    Parameters
    ----------
    name : str
    structure : callable
        Structure at a place s, A.
    begin, end : float
        A.
    known : tuple of float
        Places where a jump is likely.
    """

    name: str
    structure: Callable[[float], Atoms]
    begin: float
    end: float
    known: tuple[float, ...] = ()


def paths(subject: Subject) -> list[Path]:
    """A neighbour that comes in through the cutoff, and neighbours that pass the line through two other atoms at both ends."""
    near, reach = bond(subject.species, subject.reach), subject.reach
    centre, first, second = (subject.species[k % len(subject.species)] for k in range(3))

    def approach(s: float) -> Atoms:
        fixed = near * np.array([[0.9, 0.2, 0.1], [-0.4, 0.9, -0.3]])
        return around(centre, [first, second, first], np.vstack([fixed, s * np.array([0.36, 0.48, 0.8])]))

    def crossing(side: float) -> Callable[[float], Atoms]:
        def at(s: float) -> Atoms:
            return around(centre, [first, second], near * np.array([[0, 0, 1.0], [0, s / near, 1.7 * side]]))

        return at

    return [
        Path("through the cutoff", approach, 0.7 * near, reach + 0.3, (reach,)),
        Path("through 180 degrees", crossing(-1.0), -0.35 * near, 0.37 * near, (0.0,)),
        Path("through 0 degrees", crossing(1.0), -0.35 * near, 0.37 * near, (0.0,)),
    ]


def continuity(subject: Subject) -> list[Row]:
    """A row for values, slopes and curvatures, the worst of all paths, and the largest slope."""
    worst = [(0.0, "")] * 3
    steepest = 0.0
    for path in paths(subject):
        scanned = _Scan(subject, path)
        steepest = max(steepest, scanned.steepest())
        for order in range(3):
            found, place = scanned.jump(order)
            if found > worst[order][0]:
                worst[order] = (found, f"{path.name}, at {place:.3f} A")
    rows = [
        Row(
            "continuity",
            NAMES[k],
            worst[k][0],
            "relative jump",
            LIMITS[k],
            f"largest {worst[k][1]}" if worst[k][1] else "",
        )
        for k in range(3)
    ]
    return [*rows, Row("continuity", "largest slope", steepest, "1/A, of features of norm 1")]


class _Scan:
    """Features (n_points, n) along a path; features of all atoms count, as far as their number stays the same."""

    def __init__(self, subject: Subject, path: Path) -> None:
        self.subject, self.path = subject, path
        self.places = np.linspace(path.begin, path.end, N_POINTS)
        found = [subject.compute(path.structure(float(s))) for s in self.places]
        self.width = min(f.shape[1] for f in found)
        self.values = np.array([f[:, : self.width].ravel() for f in found])

    def at(self, place: float) -> np.ndarray:
        return self.subject.compute(self.path.structure(place))[:, : self.width].ravel()

    def steepest(self) -> float:
        """Largest length of the derivative, in units of the largest length of the features."""
        slopes = np.gradient(self.values, self.places, axis=0)
        return float(np.linalg.norm(slopes, axis=1).max() / max(np.linalg.norm(self.values, axis=1).max(), 1e-300))

    def jump(self, order: int) -> tuple[float, float]:
        """Largest relative jump of a derivative, and its place; infinity for values that are not finite."""
        if not np.all(np.isfinite(self.values)):
            return float("inf"), float(self.places[int(np.argmin(np.isfinite(self.values).all(axis=1)))])
        derivative = self.values
        for _ in range(order):
            derivative = np.gradient(derivative, self.places, axis=0)
        scale = np.abs(derivative).max(axis=0)
        scale = np.maximum(scale, FLOOR * scale.max(initial=0.0))
        if not scale.any():
            return 0.0, float(self.places[0])
        best = (0.0, float(self.places[0]))
        for left, right in self._suspects(order, scale):
            a, b = self._narrowed(left, right, order, scale)
            sides = [_one_sided(self.at, place, step, order) for place, step in ((a, -SIDE[order]), (b, SIDE[order]))]
            found = float((np.abs(sides[1] - sides[0]) / scale).max())
            best = max(best, (found, 0.5 * (a + b)))
        return best

    def _suspects(self, order: int, scale: np.ndarray) -> list[tuple[float, float]]:
        """Intervals whose differences stick out from those around them, and those around known places."""
        n = DIFFERENCES[order]
        sizes = np.linalg.norm(np.diff(self.values, n=n, axis=0) / scale, axis=1)
        usual = np.array([np.median(sizes[max(k - 8, 0) : k + 9]) for k in range(len(sizes))])
        first = np.argsort(usual - sizes)[:SUSPECTS]
        h = self.places[1] - self.places[0]
        found = [(float(self.places[k]), float(self.places[k + n])) for k in first]
        return found + [(s - 0.41 * h, s + 0.59 * h) for s in self.path.known]

    def _narrowed(self, a: float, b: float, order: int, scale: np.ndarray) -> tuple[float, float]:
        """Nested intervals around the largest difference."""
        while b - a > NARROW[order]:
            half = 0.5 * (b - a)
            parts = [(a + 0.5 * k * half, a + (0.5 * k + 1) * half) for k in range(3)]
            a, b = max(parts, key=lambda part: self._difference(part[0], part[1], order, scale))
        return a, b

    def _difference(self, a: float, b: float, order: int, scale: np.ndarray) -> float:
        n = DIFFERENCES[order]
        places = np.linspace(a, b, n + 1)
        signs = [(-1) ** k * binom(n, k) for k in range(n + 1)]
        total = sum(sign * self.at(float(s)) for sign, s in zip(signs, places, strict=True))
        return float(np.abs(total / scale).max())


def _one_sided(at: Callable[[float], np.ndarray], place: float, step: float, order: int) -> np.ndarray:
    """A derivative at a place by the polynomial through it and points on one side; second-order accurate."""
    if order == 0:
        return at(place)
    weights = {1: (-1.5, 2.0, -0.5), 2: (2.0, -5.0, 4.0, -1.0)}[order]
    return np.sum([w * at(place + k * step) for k, w in enumerate(weights)], axis=0) / step**order
