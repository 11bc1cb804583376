"""Benchmarks: what a step, a neighbour list, a fit and a refit cost, beside peers measured in the same process.

Times are processor time, the median of five; a speed means something only as a ratio within one run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import primitive_neighbor_list

from .drivers.ase import MlpotCalculator
from .learning.learner import Learner
from .models.fit import fit
from .models.settings import FitConfig
from .models.sparse_gp import SparseGP
from .neighbours import NeighbourList, find_pairs
from .threads import n_threads

CUTOFF = 5.4
SOAP = {
    "type": "soap", "n_max": 8, "l_max": 8, "cutoff": CUTOFF, "cutoff_width": 0.5, "atom_sigma": 0.5, "zeta": 4,
    "n_sparse": 1000, "sparse_method": "random", "energy_scale": 1.0,
}  # fmt: skip
REPEATS = 5
SHORTEST = 0.05
"""Seconds that a measurement takes at least."""
Row = dict[str, Any]


def run_benchmarks(peers: bool = False) -> Iterator[Row]:
    """Rows with "name", "system", "n_atoms", "n_sparse", "us_per_atom", "us_per_atom_with_uncertainty", "threads"."""
    frames = training_frames()
    yield from neighbour_rows(peers)
    model = fit(frames, FitConfig(terms=[SOAP]))
    yield from step_rows(model)
    if peers and find_spec("quippy") and which("gap_fit", path=str(Path(sys.executable).parent)):
        yield quippy_row(frames)
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
    """Processor time of an action, the median of `REPEATS`; a short one is done many times in each."""
    started = time.process_time()
    action()
    times_each = max(int(SHORTEST / max(time.process_time() - started, 1e-6)), 1)
    measured = []
    for _ in range(REPEATS):
        started = time.process_time()
        for _ in range(times_each):
            action()
        measured.append((time.process_time() - started) / times_each)
    return float(np.median(measured))


def silicon(copies: int, seed: int = 0) -> Atoms:
    """Rattled diamond of 8 * copies^3 atoms."""
    atoms = bulk("Si", cubic=True) * (copies, copies, copies)
    atoms.rattle(0.05, seed=seed)
    return atoms


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


def step_rows(model: SparseGP) -> Iterator[Row]:
    """Energy, forces and stress through the ASE calculator, with and without uncertainty, over sizes."""
    for copies in (2, 4, 8):
        atoms = silicon(copies)
        plain = cpu_seconds(moving(atoms, MlpotCalculator(model, uncertainty=False)))
        with_std = cpu_seconds(moving(atoms, MlpotCalculator(model, uncertainty=True)))
        yield row(
            "mlpot", atoms, plain, n_sparse=model.n_sparse, us_per_atom_with_uncertainty=1e6 * with_std / len(atoms)
        )


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


def quippy_row(frames: list[Atoms]) -> Row:
    """QUIP with as many sparse points of the same descriptor; its cost does not depend on what they were fitted to."""
    from quippy.potential import Potential

    with tempfile.TemporaryDirectory() as folder:
        ase.io.write(Path(folder, "train.xyz"), frames, format="extxyz")
        gap = (
            f"soap n_max=8 l_max=8 cutoff={CUTOFF} cutoff_transition_width=0.5 atom_sigma=0.5 zeta=4 n_sparse=1000 delta=1.0 "
            "covariance_type=dot_product sparse_method=random"
        )
        subprocess.run(
            [
                str(Path(sys.executable).parent / "gap_fit"), "at_file=train.xyz", f"gap={{{gap}}}", "e0_method=average",
                "default_sigma={0.01 0.1 0.1 0.0}", "force_parameter_name=none", "gp_file=gp.xml", "sparse_jitter=1e-8",
            ],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        potential = Potential("IP GAP", param_filename=str(Path(folder, "gp.xml")))
        atoms, wanted = silicon(4), ["energy", "forces", "stress"]
        rng = np.random.default_rng(1)

        def step(**options: Any) -> None:
            atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
            potential.calculate(atoms, wanted, **options)

        plain = cpu_seconds(step)
        spread = cpu_seconds(lambda: step(calc_args="local_gap_variance"))
    return row("quippy", atoms, plain, n_sparse=1000, us_per_atom_with_uncertainty=1e6 * spread / len(atoms))


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
    yield row("refit (per environment)", everything, time.process_time() - started, n_sparse=learner.model.n_sparse)
