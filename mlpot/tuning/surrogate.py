"""Models of a function of a few variables through the points at which it is known: a Gaussian process, and a local quadratic form.

The Gaussian process has the covariance

    k(x, x') = a^2 exp(-sum_k (x_k - x'_k)^2 / (2 l_k^2)) + b^2 (1 + 4 x.x')^2 + s^2 delta,

whose second part is any quadratic polynomial; a, b, l and s maximise the marginal likelihood (Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006), chapter 5). Values with a heavy tail are first compressed, by the power that the likelihood
prefers (Box and Cox, J. R. Stat. Soc. B 26, 211 (1964), doi:10.1111/j.2517-6161.1964.tb00553.x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, lapack, solve_triangular
from scipy.optimize import lsq_linear, minimize
from scipy.special import ndtr

HOPELESS = 1e25
SHORTEST, LONGEST = 0.03, 3.0
"""Bounds of the length scales l in units of the edge of the cube."""
POWERS = (1.0, 0.5, 0.25)
MOST_POINTS = 120
"""The Gaussian process uses the best points only, up to this number."""


@dataclass(frozen=True)
class Warp:
    """Compression of values: ((y - low) / scale + 1)^power."""

    low: float
    scale: float
    power: float

    def apply(self, y: np.ndarray) -> np.ndarray:
        return ((y - self.low) / self.scale + 1.0) ** self.power

    def log_slope(self, y: np.ndarray) -> float:
        """Sum of the logarithms of the derivatives."""
        inner = (y - self.low) / self.scale + 1.0
        return float(np.sum(np.log(self.power / self.scale) + (self.power - 1.0) * np.log(inner)))


@dataclass(frozen=True)
class Process:
    """A Gaussian process conditioned on values.

    Parameters
    ----------
    x : (n, d) array
        Points of the unit cube.
    logs : (d + 3,) array
        Logarithms of the length scales, of a, b and s.
    mean, spread : float
        Shift and factor of the warped values.
    warp : Warp
    lower : (n, n) array
        Cholesky factor of the covariances.
    solved : (n,) array
    best : float
        Smallest standardised value.
    """

    x: np.ndarray
    logs: np.ndarray
    mean: float
    spread: float
    warp: Warp
    lower: np.ndarray
    solved: np.ndarray
    best: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, last: Process | None, steps: int) -> Process | None:
        """Process through values y (n,) at points x (n, d); None where round-off prevents it.

        Parameters
        ----------
        last : Process or None
            The one whose hyper-parameters are improved, or kept.
        steps : int
            Iterations of the optimiser; 0 keeps the hyper-parameters.
        """
        order = np.argsort(y, kind="stable")[:MOST_POINTS]
        x, y = x[order], y[order]
        scale = max(float(np.median(y) - y[0]), 1e-300)
        found = []
        for power in POWERS if steps or last is None else [last.warp.power]:
            warp = Warp(float(y[0]), scale, power)
            z = warp.apply(y)
            mean, spread = float(z.mean()), max(float(z.std()), 1e-12)
            if steps or last is None:
                logs, cost = most_likely(x, (z - mean) / spread, None if last is None else last.logs, steps)
            else:
                logs, cost = last.logs, 0.0
            found.append((cost + len(y) * np.log(spread) - warp.log_slope(y), logs, mean, spread, warp))
        _, logs, mean, spread, warp = min(found, key=lambda item: item[0])
        z = (warp.apply(y) - mean) / spread
        lower, failed = lapack.dpotrf(covariance(x, x, logs) + np.exp(2 * logs[-1]) * np.eye(len(x)), lower=1, clean=1)
        if failed:
            return None
        return cls(x, logs, mean, spread, warp, lower, cho_solve((lower, True), z), float(z.min()))

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations (m,) of standardised values at points (m, d)."""
        k = covariance(points, self.x, self.logs)
        half = solve_triangular(self.lower, k.T, lower=True, check_finite=False)
        own = np.exp(2 * self.logs[-3]) + np.exp(2 * self.logs[-2]) * (1 + 4 * np.sum((points - 0.5) ** 2, axis=1)) ** 2
        return k @ self.solved, np.sqrt(np.maximum(own - np.sum(half**2, axis=0), 1e-12))

    def expected_gain(self, points: np.ndarray) -> np.ndarray:
        """Expected improvement (m,) over the best value, in standardised units (Jones et al., J. Global Optim. 13, 455 (1998))."""
        mean, deviation = self.predict(points)
        u = (self.best - mean) / deviation
        return deviation * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))

    def with_pending(self, points: np.ndarray) -> Process:
        """As if the means had been found at points (m, d) whose values are not known yet (Ginsbourger et al. (2010),
        doi:10.1007/978-3-642-10701-6_6)."""
        if not len(points):
            return self
        x = np.concatenate([self.x, points])
        values = np.concatenate([covariance(self.x, self.x, self.logs) @ self.solved, self.predict(points)[0]])
        lower, failed = lapack.dpotrf(
            covariance(x, x, self.logs) + max(np.exp(2 * self.logs[-1]), 1e-6) * np.eye(len(x)), lower=1, clean=1
        )
        if failed:
            return self
        return Process(x, self.logs, self.mean, self.spread, self.warp, lower, cho_solve((lower, True), values), self.best)


def covariance(x: np.ndarray, y: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """k(x, y) (n, m) without the noise."""
    scaled_x, scaled_y = x / np.exp(logs[:-3]), y / np.exp(logs[:-3])
    apart = np.sum(scaled_x**2, axis=1)[:, None] + np.sum(scaled_y**2, axis=1) - 2 * scaled_x @ scaled_y.T
    polynomial = (1 + 4 * (x - 0.5) @ (y - 0.5).T) ** 2
    return np.exp(2 * logs[-3] - 0.5 * np.maximum(apart, 0.0)) + np.exp(2 * logs[-2]) * polynomial


def most_likely(x: np.ndarray, z: np.ndarray, start: np.ndarray | None, steps: int) -> tuple[np.ndarray, float]:
    """Logarithms of the hyper-parameters and the negative log likelihood that they reach, with weak priors."""
    n, d = x.shape
    centre = np.log(np.array([0.4] * d + [1.0, 0.5, 1e-3]))
    width = np.array([0.8] * d + [1.5, 2.0, 2.0])
    squares = np.ascontiguousarray(((x[:, None, :] - x) ** 2).transpose(2, 0, 1).reshape(d, n * n))
    polynomial = (1 + 4 * (x - 0.5) @ (x - 0.5).T) ** 2

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        lengths = np.exp(-2 * logs[:d])
        smooth = np.exp(2 * logs[d] - 0.5 * lengths @ squares).reshape(n, n)
        noise = np.exp(2 * logs[-1])
        lower, failed = lapack.dpotrf(
            smooth + np.exp(2 * logs[-2]) * polynomial + (noise + 1e-10) * np.eye(n), lower=1, clean=1
        )
        if failed:
            return HOPELESS, np.zeros(d + 3)
        alpha = cho_solve((lower, True), z)
        inverse = lapack.dpotri(lower, lower=1)[0]
        inverse = inverse + np.tril(inverse, -1).T
        outer = inverse - np.outer(alpha, alpha)
        by_length = 0.5 * (squares @ (outer * smooth).ravel()) * lengths
        slopes = [np.vdot(outer, smooth), np.exp(2 * logs[-2]) * np.vdot(outer, polynomial), noise * np.trace(outer)]
        left = (logs - centre) / width
        value = 0.5 * z @ alpha + np.sum(np.log(np.diagonal(lower))) + 0.5 * left @ left
        return float(value), np.array([*by_length, *slopes]) + left / width

    bounds = [(np.log(SHORTEST), np.log(LONGEST))] * d + [(-6.0, 4.0), (-9.0, 4.0), (np.log(1e-5), 0.0)]
    best = minimize(cost, centre if start is None else start, jac=True, method="L-BFGS-B", bounds=bounds,
                    options={"maxiter": steps})  # fmt: skip
    return best.x, float(best.fun)


def quadratic_minimum(x: np.ndarray, y: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray | None:
    """Minimum (d,) of a quadratic form through the points around a centre, at most `radius` from it in each direction.

    The form has the smallest second derivatives that fit the values (Powell, Math. Program. 100, 183 (2004)), with weights that
    decrease with the distance; None with fewer than d + 2 points.
    """
    d = x.shape[1]
    n_terms = (d + 1) * (d + 2) // 2
    near = np.argsort(np.max(np.abs(x - centre), axis=1), kind="stable")[: n_terms + d + 2]
    if len(near) < d + 2:
        return None
    step = (x[near] - centre) / radius
    first, second = np.triu_indices(d)
    columns = np.concatenate([np.ones((len(near), 1)), step, step[:, first] * step[:, second]], axis=1)
    weights = 1.0 / (1.0 + np.max(np.abs(step), axis=1) ** 2) ** 1.5
    left = columns * weights[:, None]
    level = np.std(y[near]) + 1e-300
    ridge = np.concatenate([np.full(d + 1, 1e-9), np.full(len(first), 1e-5)])
    right = weights * (y[near] - y[near][0]) / level
    found = np.linalg.solve(left.T @ left + np.diag(ridge), left.T @ right)
    slope, curvature = found[1 : d + 1], np.zeros((d, d))
    np.add.at(curvature, (first, second), found[d + 1 :])
    curvature = curvature + curvature.T
    low, high = np.maximum(-1.0, -centre / radius), np.minimum(1.0, (1 - centre) / radius)
    best = _box_minimum(slope, curvature, low, np.maximum(high, low + 1e-12))
    return np.clip(centre + radius * best, 0.0, 1.0)


def _box_minimum(slope: np.ndarray, curvature: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Minimum (d,) of g.s + s.H.s / 2 in a box."""
    values, vectors = np.linalg.eigh(curvature)
    if values[0] > 1e-9 * max(values[-1], 1e-300):
        root = (vectors * np.sqrt(values)).T
        target = -(vectors / np.sqrt(values)).T @ slope
        return lsq_linear(root, target, bounds=(low, high), method="bvls").x
    starts = [np.zeros(len(slope)), np.where(slope > 0, low, high)]
    found = [
        minimize(lambda s: (slope @ s + 0.5 * s @ curvature @ s, slope + curvature @ s), start, jac=True, method="L-BFGS-B",
                 bounds=list(zip(low, high, strict=True)))
        for start in starts
    ]  # fmt: skip
    return min(found, key=lambda f: f.fun).x
