"""A particle swarm that never waits, and whose particles choose their moves by models of everything that the swarm has seen.

A particle moves as soon as its own value is there, with the update

    v <- w v + c1 r1 (own best - x) + c2 r2 (leader - x),        x <- x + v

(Clerc and Kennedy, IEEE Trans. Evol. Comput. 6, 58 (2002), doi:10.1109/4235.985692, with their constants), r1 and r2 uniform in
[0, 1]. Instead of one draw it makes many, at several temperatures, and takes the one with the largest expected improvement under a
Gaussian process through all values. In every other move it goes to the minimum of a local quadratic form around the leader, in a
region that grows with success and shrinks with failure. Values still being computed count as found at their expectation, so that
particles do not follow each other.

With several objectives every particle has weights of its own, and with them its own leader and model: the swarm spreads along the
front (Knowles, IEEE Trans. Evol. Comput. 10, 50 (2006), doi:10.1109/TEVC.2005.851274, with fixed weights).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import qmc

from ..threads import single_blas_thread
from .optimisers import Move, Snap
from .surrogate import Process, quadratic_minimum

INERTIA, ATTRACTION = 0.7298, 1.49618
N_DRAWS = 300
"""Moves of which a particle takes the best."""
LARGEST, SMALLEST = 0.5, 1e-5
"""Bounds of the trust radius, edges of the cube."""
FIRST_RADIUS = 0.2
REFIT = 1.15
"""Hyper-parameters of the Gaussian process are optimised again whenever the number of values has grown by this factor."""


@dataclass
class Particle:
    """One particle.

    Parameters
    ----------
    weights : (n_objectives,) array
        Its value is the sum of the objectives with these weights.
    position, velocity : (d,) arrays
    radius : float
        Trust radius of its local model.
    is_busy : bool
    turns : int
        Moves made.
    """

    weights: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    radius: float = FIRST_RADIUS
    is_busy: bool = False
    turns: int = 0
    own: list[int] = field(default_factory=list)


class Swarm:
    """The optimiser; see the module.

    Parameters
    ----------
    dimension : int
    weights : (n_particles, n_objectives) array
        One row for every particle.
    snap : callable
        Moves a point to the one that stands for the same settings.
    seed : int
    start : (d,) array or None
        First point; the others are spread evenly.
    """

    def __init__(self, dimension: int, weights: np.ndarray, snap: Snap, seed: int, start: np.ndarray | None = None):
        self._rng, self._snap = np.random.default_rng(seed), snap
        spread = qmc.Sobol(dimension, rng=np.random.default_rng([seed, 1])).random_base2(max(int(np.ceil(np.log2(len(weights)))), 0))
        points = spread[: len(weights)]
        if start is not None:
            points[0] = start
        self._particles = [
            Particle(w, p, self._rng.uniform(-0.2, 0.2, dimension)) for w, p in zip(np.atleast_2d(weights), points, strict=True)
        ]
        self._points: list[np.ndarray] = []
        self._values: list[np.ndarray | None] = []
        """Objectives; None for settings that failed."""
        self._pending: list[np.ndarray] = []
        self._models: dict[bytes, tuple[Process, int]] = {}
        """The last Gaussian process for each set of weights, and the number of values at which it was optimised."""

    def ask(self) -> Move:
        """The next move, of the particle that has waited longest."""
        free = [k for k, p in enumerate(self._particles) if not p.is_busy]
        if not free:  # more workers than particles
            self._particles.append(self._offspring())
            free = [len(self._particles) - 1]
        index = min(free, key=lambda k: (self._particles[k].turns, k))
        particle = self._particles[index]
        if particle.turns:
            with single_blas_thread():
                known = len(self._points) > 1
                particle.position = self._moved(particle) if known else self._rng.random(len(particle.position))
        particle.turns, particle.is_busy = particle.turns + 1, True
        point = self._snap(particle.position)
        self._pending.append(point)
        return Move(index, point)

    def tell(self, move: Move, objectives: np.ndarray | None) -> None:
        """The objectives (n_objectives,) of a move; None if its settings failed."""
        particle = self._particles[move.particle]
        self._pending = [p for p in self._pending if p is not move.point]
        found = None if objectives is None else np.asarray(objectives, float)
        value = np.inf if found is None else float(found @ particle.weights)
        best = self._scalars(particle).min(initial=np.inf)
        if particle.turns > 1:
            particle.radius = float(np.clip(particle.radius * (1.6 if value < best else 0.7), SMALLEST, LARGEST))
        particle.is_busy = False
        particle.own.append(len(self._points))
        self._points.append(move.point)
        self._values.append(found)

    def _offspring(self) -> Particle:
        """Another particle, with the weights of an existing one."""
        parent = self._particles[int(self._rng.integers(len(self._particles)))]
        d = len(parent.position)
        return Particle(parent.weights, self._rng.random(d), self._rng.uniform(-0.2, 0.2, d))

    def _scalars(self, particle: Particle) -> np.ndarray:
        """Values (n,) of everything known, with the weights of a particle; failures as bad as the worst."""
        if not self._values:
            return np.empty(0)
        values = np.array([np.inf if v is None else v @ particle.weights for v in self._values])
        known = values[np.isfinite(values)]
        worst = known.max() + 0.3 * (np.ptp(known) + 1e-3) if len(known) else 1.0
        return np.where(np.isfinite(values), values, worst)

    def _moved(self, particle: Particle) -> np.ndarray:
        """New position (d,) of a particle, and its velocity."""
        x, y = np.array(self._points), self._scalars(particle)
        leader = x[int(np.argmin(y))]
        own = x[min(particle.own, key=lambda k: y[k])] if particle.own else particle.position
        here = particle.position
        if particle.turns % 2:
            found = quadratic_minimum(x, y, leader, particle.radius)
            if found is not None and self._is_new(found):
                particle.velocity = np.clip(found - here, -0.5, 0.5)
                return found
        draws = self._draws(particle, own, leader)
        order = np.argsort(-self._gain(particle, x, y, draws), kind="stable")
        found = next((draws[k] for k in order if self._is_new(draws[k])), draws[order[0]])
        particle.velocity = np.clip(found - here, -0.5, 0.5)
        return found

    def _draws(self, particle: Particle, own: np.ndarray, leader: np.ndarray) -> np.ndarray:
        """Possible positions (n, d): the update of the swarm, steps around the leader, and anywhere."""
        d, rng = len(own), self._rng
        first, second = rng.random((2, N_DRAWS, d))
        moved = particle.position + (
            INERTIA * particle.velocity
            + ATTRACTION * (first * (own - particle.position) + second * (leader - particle.position))
        )
        size = np.geomspace(0.5 * particle.radius, 0.3, N_DRAWS)[:, None]
        near = leader + size * rng.standard_normal((N_DRAWS, d)) * (rng.random((N_DRAWS, d)) < 0.6)
        return np.clip(np.concatenate([moved, near, rng.random((N_DRAWS, d))]), 0.0, 1.0)

    def _is_new(self, point: np.ndarray) -> bool:
        """Whether a point is neither known nor being computed."""
        snapped = self._snap(point)
        others = np.array(self._points + self._pending)
        return bool(np.all(np.max(np.abs(others - snapped), axis=1) > 1e-9))

    def _gain(self, particle: Particle, x: np.ndarray, y: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Expected improvement at positions (n, d); random where there is no model."""
        last, fitted = self._models.get(particle.weights.tobytes(), (None, 0))
        again = last is None or len(y) >= REFIT * fitted
        process = Process.of(x, y, last, 25 if again else 0)
        if process is None:
            return self._rng.random(len(draws))
        self._models[particle.weights.tobytes()] = (process, len(y) if again else fitted)
        return process.with_pending(np.array(self._pending).reshape(-1, x.shape[1])).expected_gain(draws)
