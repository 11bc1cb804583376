"""Optimisers that are asked for points and given values, one by one and in any order: random search, and packages for the others."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError

Snap = Callable[[np.ndarray], np.ndarray]
WORST = 1e6
"""Value that optimisers of other packages receive for settings that failed."""


@dataclass(frozen=True, eq=False)
class Move:
    """A point to be evaluated.

    Parameters
    ----------
    particle : int
        Who asked; for the optimiser itself.
    point : (d,) array
        In the unit cube.
    """

    particle: int
    point: np.ndarray


class Optimiser(Protocol):
    """Interface of all optimisers: deterministic, given the seed and the order of the calls."""

    def ask(self) -> Move:
        """A point to be evaluated, also while the values of others are not known yet."""

    def tell(self, move: Move, objectives: np.ndarray | None) -> None:
        """The objectives (n_objectives,) at a point, smaller is better; None if its settings failed."""


class RandomSearch:
    """Independent points; arguments as for `Swarm`."""

    def __init__(self, dimension: int, weights: np.ndarray, snap: Snap, seed: int, start: np.ndarray | None = None):
        self._rng, self._dimension, self._snap, self._start = np.random.default_rng(seed), dimension, snap, start

    def ask(self) -> Move:
        """See `Optimiser`."""
        point, self._start = (self._start, None) if self._start is not None else (self._rng.random(self._dimension), None)
        return Move(0, self._snap(point))

    def tell(self, move: Move, objectives: np.ndarray | None) -> None:
        """See `Optimiser`: nothing is learned."""


class Nevergrad:
    """NGOptBase of the package nevergrad, on the sum of the objectives with the first row of the weights.

    It chooses a method by the budget and by `at_a_time`, the largest number of points under evaluation: its sequential methods block
    for ever when another point is requested. (NGOpt itself also has methods with a metamodel, which fail with NumPy 2.4.)
    """

    def __init__(
        self,
        dimension: int,
        weights: np.ndarray,
        snap: Snap,
        seed: int,
        start: np.ndarray | None = None,
        budget: int = 100,
        at_a_time: int = 1,
    ):
        ng = optional_package("nevergrad", "nevergrad")
        array = ng.p.Array(init=np.full(dimension, 0.5) if start is None else start)
        array.set_bounds(0.0, 1.0).set_mutation(sigma=1 / 6)
        array.random_state.seed(seed)
        self._weights, self._snap = np.atleast_2d(weights)[0], snap
        self._optimiser = ng.optimizers.NGOptBase(parametrization=array, budget=budget, num_workers=at_a_time)
        self._at_a_time = at_a_time
        self._asked: dict[int, Any] = {}
        self._n = 0

    def ask(self) -> Move:
        """See `Optimiser`."""
        if len(self._asked) >= self._at_a_time:
            raise ConfigError(f'tune.method = "nevergrad": no more than {self._at_a_time} evaluations at a time; tell one first')
        candidate = self._optimiser.ask()
        self._n += 1
        self._asked[self._n] = candidate
        return Move(self._n, self._snap(np.asarray(candidate.value, float)))

    def tell(self, move: Move, objectives: np.ndarray | None) -> None:
        """See `Optimiser`."""
        self._optimiser.tell(self._asked.pop(move.particle), _scalar(objectives, self._weights))


class Cma:
    """Covariance matrix adaptation of the package cma, on the sum of the objectives with the first row of the weights.

    A generation is reported when it is complete; until then further points are drawn from the same distribution.
    """

    def __init__(self, dimension: int, weights: np.ndarray, snap: Snap, seed: int, start: np.ndarray | None = None):
        cma = optional_package("cma", "cma")
        first = np.full(dimension, 0.5) if start is None else np.clip(start, 0.02, 0.98)
        options = {"bounds": [0, 1], "seed": seed + 1, "verbose": -9, "verb_log": 0}
        self._strategy = cma.CMAEvolutionStrategy(first if dimension > 1 else np.tile(first, 2), 0.25, options)
        self._dimension, self._weights, self._snap = dimension, np.atleast_2d(weights)[0], snap
        self._waiting: list[np.ndarray] = []
        self._asked: dict[int, np.ndarray] = {}
        self._told: list[tuple[np.ndarray, float]] = []
        self._n = 0

    def ask(self) -> Move:
        """See `Optimiser`."""
        if not self._waiting:
            self._waiting = list(self._strategy.ask())
        point = self._waiting.pop(0)
        self._n += 1
        self._asked[self._n] = point
        return Move(self._n, self._snap(np.clip(point[: self._dimension], 0.0, 1.0)))

    def tell(self, move: Move, objectives: np.ndarray | None) -> None:
        """See `Optimiser`."""
        self._told.append((self._asked.pop(move.particle), _scalar(objectives, self._weights)))
        if len(self._told) >= self._strategy.popsize:
            points, values = zip(*self._told, strict=True)
            self._strategy.tell(list(points), list(values))
            self._told, self._waiting = [], []


def _scalar(objectives: np.ndarray | None, weights: np.ndarray) -> float:
    return WORST if objectives is None else float(np.asarray(objectives) @ weights)


def optional_package(package: str, method: str) -> Any:
    """An optional package; ConfigError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f'tune.method = "{method}": the package {package} is not installed; pip install "mlpot[tune]", or use method = "swarm"'
        ) from error
