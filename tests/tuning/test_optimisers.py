"""Optimisers: seeded, asynchronous, and better than a plain swarm on functions whose minimum is known."""

import numpy as np
import pytest

from mlpot.errors import ConfigError
from mlpot.tuning.optimisers import Cma, Nevergrad, RandomSearch
from mlpot.tuning.swarm import Swarm


def sphere(x):
    return float(np.sum((10 * x - 5 - np.array([1.0, -1.5, 0.5])[: len(x)]) ** 2))


def rosenbrock(x):
    x = 10 * x - 5
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def best_of(optimiser, function, n):
    found = []
    for _ in range(n):
        move = optimiser.ask()
        found.append(function(move.point))
        optimiser.tell(move, np.array([found[-1]]))
    return min(found)


def make(kind, dimension=3, seed=0, **more):
    return kind(dimension, np.ones((6, 1)), lambda p: np.clip(p, 0, 1), seed, **more)


def test_the_swarm_finds_minima_that_random_search_does_not():
    for function, target in ((sphere, 1e-4), (rosenbrock, 2.0)):
        assert best_of(make(Swarm), function, 60) < target < best_of(make(RandomSearch), function, 60)


@pytest.mark.parametrize("kind", [Swarm, RandomSearch])
def test_the_same_seed_makes_the_same_moves(kind):
    runs = []
    for seed in (0, 0, 1):
        optimiser, points = make(kind, seed=seed), []
        for _ in range(20):
            move = optimiser.ask()
            points.append(move.point)
            optimiser.tell(move, np.array([sphere(move.point)]))
        runs.append(np.array(points))
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def test_nobody_waits_and_nobody_follows():
    """Eight points under way at any time, told in another order: all differ, and the minimum is found all the same."""
    swarm, rng, running, points, best = make(Swarm), np.random.default_rng(0), [], [], np.inf
    for _ in range(80):
        while len(running) < 8:
            running.append(swarm.ask())
            points.append(running[-1].point)
        move = running.pop(int(rng.integers(8)))
        best = min(best, sphere(move.point))
        swarm.tell(move, np.array([sphere(move.point)]))
    distances = np.max(np.abs(np.array(points)[:, None] - np.array(points)), axis=2) + np.eye(len(points))
    assert distances.min() > 1e-9
    assert best < 0.01


def test_failures_are_avoided():
    """Half of the cube fails; the minimum of the rest lies at its border."""
    swarm, good, found = make(Swarm, 2), 0, []
    for k in range(60):
        move = swarm.ask()
        fails = move.point[0] > 0.5
        good += k >= 30 and not fails
        found += [] if fails else [sphere(move.point)]
        swarm.tell(move, None if fails else np.array([found[-1]]))
    assert good > 15
    assert min(found) < 1.5  # 1 at the border


def test_weights_spread_the_swarm_along_a_front():
    """Two objectives with different minima: particles go to their own one."""
    swarm = Swarm(2, np.array([[1.0, 0.0], [0.0, 1.0]] * 3), lambda p: p, 0)
    values = []
    for _ in range(60):
        move = swarm.ask()
        values.append([np.sum((move.point - 0.2) ** 2), np.sum((move.point - 0.8) ** 2)])
        swarm.tell(move, np.array(values[-1]))
    assert np.all(np.min(values, axis=0) < 1e-3)


@pytest.mark.parametrize(("kind", "package", "more"), [(Nevergrad, "nevergrad", {"at_a_time": 2}), (Cma, "cma", {})])
def test_other_packages(kind, package, more):
    try:
        optimiser = make(kind, **more)
    except ConfigError as error:
        assert f'the package {package} is not installed; pip install "mlpot[tune]"' in str(error)
        return
    first, second = optimiser.ask(), optimiser.ask()  # two at a time
    optimiser.tell(second, np.array([sphere(second.point)]))
    optimiser.tell(first, None)
    assert best_of(optimiser, sphere, 80) < 1.0


def test_nevergrad_is_not_asked_for_more_than_it_can_give():
    """Its sequential methods would wait without end."""
    pytest.importorskip("nevergrad")
    optimiser = make(Nevergrad)
    optimiser.ask()
    with pytest.raises(ConfigError, match="no more than 1 evaluations at a time"):
        optimiser.ask()
