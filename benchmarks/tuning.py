"""Measurements of `mlpot tune`: optimisers on functions, data sets of the field, steps, workers.

    python benchmarks/tuning.py functions [--seeds 7] [--methods swarm published pyswarms tpe nevergrad random]
    python benchmarks/tuning.py workers
    python benchmarks/tuning.py crystals DATA/C_crystals.xyz
    python benchmarks/tuning.py dimer [--points 15] [--start 6] [--exchange]
    python benchmarks/tuning.py data TRAIN.xyz [--test TEST.xyz] [--evaluations N] [--max-cost C] [--joint] [--also JSON]

`pyswarms`, `tpe` (optuna) and `nevergrad` need these packages, `dimer` needs tblite.
"""

import argparse
import functools
import heapq
import json
import time

import numpy as np

import mlpot
from mlpot.settings.fit import FitConfig
from mlpot.settings.tune import TuneSettings
from mlpot.tuning.defaults import default_search, with_terms
from mlpot.tuning.material import Material
from mlpot.tuning.optimisers import Nevergrad, RandomSearch
from mlpot.tuning.swarm import Swarm

DIMENSION, HALF = 4, 5.0
"""Functions are on [-HALF, HALF]^DIMENSION, their minima at random in [-2, 2]^DIMENSION."""
CHECKS = (60, 200)


def sphere(x):
    return float(np.sum(x**2))


def rosenbrock(x):
    x = x + 1
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rastrigin(x):
    return float(10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)))


def asked(optimiser, function, n):
    """Values of n evaluations, one after the other."""
    found = []
    for _ in range(n):
        move = optimiser.ask()
        found.append(function(move.point))
        optimiser.tell(move, np.array([found[-1]]))
    return found


def ours(kind, function, seed, n, **more):
    return asked(kind(DIMENSION, np.ones((8, 1)), lambda p: np.clip(p, 0, 1), seed, **more), function, n)


def published(function, seed, n, particles=8):
    """A swarm as Natarajan and Caro (arXiv:2101.00049) describe it: no inertia, attraction to the best of the swarm and of each
    particle with random weights, and a barrier at the end of each generation."""
    rng, found = np.random.default_rng(seed), []
    x = rng.random((particles, DIMENSION))
    own, own_values = x.copy(), np.full(particles, np.inf)
    while len(found) < n:
        values = np.array([function(p) for p in x])
        found += values.tolist()
        better = values < own_values
        own[better], own_values[better] = x[better], values[better]
        leader = own[np.argmin(own_values)]
        first, second = rng.random((2, particles, DIMENSION))
        x = np.clip(x + 1.5 * first * (own - x) + 1.5 * second * (leader - x), 0, 1)
    return found[:n]


def pyswarms(function, seed, n, particles=8):
    import logging

    from pyswarms.single import GlobalBestPSO

    logging.disable(logging.CRITICAL)
    np.random.seed(seed)  # noqa: NPY002  (pyswarms has no other way)
    found = []

    def values(points):
        found.extend(function(p) for p in points)
        return np.array(found[-len(points) :])

    options = {"c1": 1.49618, "c2": 1.49618, "w": 0.7298}
    swarm = GlobalBestPSO(particles, DIMENSION, options, bounds=(np.zeros(DIMENSION), np.ones(DIMENSION)))
    swarm.optimize(values, -(-n // particles), verbose=False)
    return found[:n]


def tpe(function, seed, n):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, found = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed)), []

    def objective(trial):
        found.append(function(np.array([trial.suggest_float(f"x{k}", 0, 1) for k in range(DIMENSION)])))
        return found[-1]

    study.optimize(objective, n)
    return found


METHODS = {
    "swarm": functools.partial(ours, Swarm),
    "random": functools.partial(ours, RandomSearch),
    "nevergrad": functools.partial(ours, Nevergrad, budget=CHECKS[-1]),
    "published": published,
    "pyswarms": pyswarms,
    "tpe": tpe,
}


def functions(arguments):
    """Best values, medians over the seeds."""
    print(f"{'':12s}" + "".join(f"{f'{g.__name__} {n}':>16s}" for g in (sphere, rosenbrock, rastrigin) for n in CHECKS))
    for name in arguments.methods:
        cells = []
        for function in (sphere, rosenbrock, rastrigin):
            best = []
            for seed in range(arguments.seeds):
                shift = np.random.default_rng(100 + seed).uniform(-2, 2, DIMENSION)
                found = METHODS[name](lambda u, f=function, s=shift: f(2 * HALF * u - HALF - s), seed, CHECKS[-1])
                best.append(np.minimum.accumulate(found)[[n - 1 for n in CHECKS]])
            cells += np.median(best, axis=0).tolist()
        print(f"{name:12s}" + "".join(f"{cell:16.2e}" for cell in cells), flush=True)


def simulated(n_workers, n, waits, seed=0):
    """Time of n evaluations whose durations are spread evenly over 1 to 10, and the best value, by a simulated clock.

    `waits`: a barrier after every `n_workers` evaluations, as in a synchronous swarm.
    """
    rng = np.random.default_rng(seed)
    durations = rng.uniform(1, 10, n)
    swarm = Swarm(DIMENSION, np.ones((max(8, 2 * n_workers), 1)), lambda p: p, seed)
    clock, running, best, started = 0.0, [], np.inf, 0
    while started < n or running:
        if not waits or not running:
            while started < n and len(running) < n_workers:
                heapq.heappush(running, (clock + durations[started], started, swarm.ask()))
                started += 1
        clock, _, move = heapq.heappop(running)
        value = sphere(2 * HALF * move.point - HALF - 1.0)
        best = min(best, value)
        swarm.tell(move, np.array([value]))
    return clock, best


def workers(arguments):
    """Speed of 8 workers against one with spread evaluation times, asynchronous and with a barrier."""
    one, best = simulated(1, 96, False)
    print(f"1 worker: {one:.0f} time units, best value {best:.1e}")
    for waits in (False, True):
        clock, best = simulated(8, 96, waits)
        print(f"8 workers, {'barrier' if waits else 'asynchronous'}: {one / clock:.2f} x, best value {best:.1e}")


def crystals(arguments):
    """120 structures for training and 200 for the test out of C_crystals, as in the issue that asked for this command."""
    frames = mlpot.read(arguments.data)
    order = np.random.default_rng(arguments.seed).permutation(len(frames))
    train, test = [frames[k] for k in sorted(order[:120])], [frames[k] for k in order[120:320]]
    config = FitConfig(isolated_atom_energies={"C": -148.314002})
    run(train, test, config, arguments)


DIMER = 0.9, 5.0
"""Distances of the carbon dimer, A."""
CROSSING = 1.5, 1.75
"""Distances between which its electronic states cross: the force changes by 6 eV/A within 0.06 A."""
ROUGH = {
    "terms": [{"type": "pair", "cutoff": 8.0, "cutoff_width": 6.0, "n_sparse": 60, "kernel": "matern", "length_scale": 2.0}],
    "repulsion": False, "jitter": 1e-12, "energy_noise": 2e-4, "force_noise": 0.02, "check_labels": False,
}  # fmt: skip
GAUSSIAN = {
    "terms": [{"type": "pair", "cutoff": 8.0, "cutoff_width": 6.0, "n_sparse": 40, "kernel": "gaussian"}],
    "repulsion": False, "check_labels": False,
}  # fmt: skip


def dimers(distances):
    """C2 by GFN1-xTB, and the energy of an atom."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from tblite.ase import TBLite

    def labelled(atoms):
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        return atoms

    return [labelled(Atoms("C2", [[0, 0, 0], [0, 0, r]])) for r in distances], float(labelled(Atoms("C")).get_potential_energy())


def dimer_errors(settings, chosen, frames):
    """Errors of the energies of frames (eV) by a fit to the chosen ones."""
    model = mlpot.fit(chosen, FitConfig(**settings))
    return np.array([model.predict(a).energy - a.get_potential_energy() for a in frames])


def said(errors, frames):
    distances = np.array([a.get_distance(0, 1) for a in frames])
    smooth = (distances < CROSSING[0]) | (distances > CROSSING[1])
    parts = [np.sqrt(np.mean(part**2)) for part in (errors, errors[smooth])]
    return "RMSE {:.2f} meV, {:.2f} without the crossing, largest {:.1f} at {:.3f} A".format(
        *(1e3 * part for part in parts), 1e3 * np.abs(errors).max(), distances[np.abs(errors).argmax()]
    )


def greedy(pool, settings, n_points, start):
    """Indices of the points that a fit gets: at even distances, then always the one with the largest error."""
    chosen = np.round(np.linspace(0, len(pool) - 1, start)).astype(int).tolist()
    while len(chosen) < n_points:
        chosen.append(int(np.abs(dimer_errors(settings, [pool[k] for k in sorted(chosen)], pool)).argmax()))
    return sorted(chosen)


def exchanged(pool, settings, chosen, least=3):
    """Points moved one by one, `least` grid steps apart at least, while that lowers the error on all."""
    def error(points):
        return np.sqrt(np.mean(dimer_errors(settings, [pool[k] for k in sorted(points)], pool) ** 2))

    best = error(chosen)
    for step in (8, 4, 2, 1, 2, 1):
        for k in range(len(chosen)):
            for move in (-step, step):
                moved = [*chosen[:k], min(max(chosen[k] + move, 0), len(pool) - 1), *chosen[k + 1 :]]
                if min(np.diff(sorted(moved))) >= least and (found := error(moved)) < best:
                    best, chosen = found, moved
    return sorted(chosen)


def dimer(arguments):
    """A curve with a crossing of states from few points, tested halfway between the distances that they were chosen from."""
    grid = np.arange(DIMER[0], DIMER[1] + 1e-9, 0.01)
    pool, lone = dimers(grid)
    test = dimers(grid[:-1] + 0.005)[0]
    geometric = [int(np.argmin(np.abs(grid - r))) for r in np.geomspace(*DIMER, arguments.points)]
    for settings in (GAUSSIAN, ROUGH):
        settings = {**settings, "isolated_atom_energies": {"C": lone}}
        places = {"geometric": geometric, "chosen": greedy(pool, settings, arguments.points, arguments.start)}
        if arguments.exchange:
            places["exchanged"] = exchanged(pool, settings, places["chosen"])
        for name, chosen in places.items():
            print(f"{settings['terms'][0]['kernel']}, {name}: {' '.join(f'{grid[k]:.2f}' for k in chosen)}")
            print(f"  {said(dimer_errors(settings, [pool[k] for k in chosen], test), test)}", flush=True)


def data(arguments):
    """Any data set; without a test set one group in five is held out."""
    test = mlpot.read(arguments.test) if arguments.test else None
    run(mlpot.read(arguments.data), test, FitConfig(), arguments)


def run(train, test, config, arguments):
    started = time.process_time()
    settings = {"evaluations": arguments.evaluations, "max_cost": arguments.max_cost, "replicas": arguments.replicas}
    settings |= {"steps": ("joint",)} if arguments.joint else {}
    settings |= {} if arguments.cost or arguments.max_cost else {"objectives": ("forces", "energies")}
    space = None
    if arguments.also:
        material = Material.of(train, config, test, TuneSettings(seed=arguments.seed))
        space = default_search(with_terms(material.config, material), material) | json.loads(arguments.also)
    result = mlpot.tune(train, space, config, test, seed=arguments.seed, environments=arguments.environments, **settings)
    search = sum(t.outcome.seconds for t in result.trials if t.step != "final")
    print(f"{time.process_time() - started:.0f} CPU s, of which trials {search:.0f}")
    for row in result.rows():
        print("  ".join(f"{cell:>12s}" for cell in row))
    print("\n".join(result.summary()))
    print(result.best)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("functions")
    part.add_argument("--seeds", type=int, default=7)
    part.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    part.set_defaults(call=functions)
    parts.add_parser("workers").set_defaults(call=workers)
    part = parts.add_parser("dimer")
    part.add_argument("--points", type=int, default=15)
    part.add_argument("--start", type=int, default=6)
    part.add_argument("--exchange", action="store_true")
    part.set_defaults(call=dimer)
    for name, call in (("crystals", crystals), ("data", data)):
        part = parts.add_parser(name)
        part.add_argument("data")
        part.add_argument("--test")
        part.add_argument("--evaluations", type=int, default=40)
        part.add_argument("--environments", type=int, default=2000)
        part.add_argument("--max-cost", type=float)
        part.add_argument("--replicas", type=int, default=2)
        part.add_argument("--seed", type=int, default=0)
        part.add_argument("--joint", action="store_true")
        part.add_argument("--also", help="more entries of [tune.search], as JSON, beside the default ones")
        part.add_argument("--cost", action="store_true", help="cost as an objective")
        part.set_defaults(call=call)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
