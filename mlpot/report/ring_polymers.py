"""Quantum kinetic energies of ring polymers, from the beads and forces of a trajectory.

The centroid virial estimator of atom i, with beads q_ik, their centroid c_i, and forces f_ik of the potential:

    K_i = 3 kT / 2 - 1 / (2 P) sum_k (q_ik - c_i) . f_ik

Herman, Bruskin and Berne, J. Chem. Phys. 76, 5150 (1982), doi:10.1063/1.442815.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matplotlib.figure import Figure

from ..errors import counted
from ..units import BOLTZMANN, MILLI
from .frames import sampled_steps
from .html import captioned, paragraph, table
from .plots import image
from .run_data import Run, RunWalker

STEPS = 400
"""Most frames that are read."""
BLOCKS = 5
"""Number of blocks for the standard error."""


def kinetic_energies(beads: Sequence[Atoms], temperature: float) -> np.ndarray:
    """Kinetic energy of each atom (n_atoms,), eV, from the beads of one step with their forces; temperature in K."""
    positions = np.stack([atoms.positions for atoms in beads])
    forces = np.stack([atoms.get_forces() for atoms in beads])
    spread = positions - positions.mean(axis=0)
    return 1.5 * BOLTZMANN * temperature - 0.5 * np.einsum("kix,kix->ki", spread, forces).mean(axis=0)


def spreads(beads: Sequence[Atoms]) -> np.ndarray:
    """Root mean square distance of the beads of each atom from their centroid (n_atoms,), A."""
    positions = np.stack([atoms.positions for atoms in beads])
    return np.sqrt(((positions - positions.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))


def kinetic_section(run: Run) -> list[str]:
    """Kinetic energies of the elements, where a walker is a ring polymer: has beads and a temperature."""
    polymers = [(walker, walker.temperature) for walker in run.walkers if walker.n_beads > 1]
    return [part for walker, kelvin in polymers if kelvin is not None for part in _of_walker(walker, kelvin)]


def _of_walker(walker: RunWalker, temperature: float) -> list[str]:
    if not walker.trajectory.exists():
        return []
    steps = sampled_steps(walker.trajectory, STEPS, walker.n_beads)
    steps = dict(list(steps.items())[len(steps) // 2 :])
    if len(steps) < BLOCKS:
        return []
    frames = list(steps.values())
    numbers = frames[0][0].numbers
    radii = np.array([spreads(beads) for beads in frames])
    energies = np.array([kinetic_energies(beads, temperature) for beads in frames]) / MILLI
    means = {int(z): energies[:, numbers == z].mean(axis=1) for z in np.unique(numbers)}
    classical = 1.5 * BOLTZMANN * temperature / MILLI
    rows = [
        (
            chemical_symbols[z], f"{np.sqrt(np.mean(radii[:, numbers == z] ** 2)):.4f}", f"{values.mean():.1f}",
            f"{_standard_error(values):.1f}", f"{classical:.1f}",
        )
        for z, values in means.items()
    ]  # fmt: skip
    heads = ("element", "radius of gyration Å", "kinetic energy meV", "standard error", "of a classical atom")
    figure = _figure(list(steps), means, classical)
    first, last = min(steps), max(steps)
    told = (
        f"{counted(walker.n_beads, 'bead')}, {len(steps)} steps between {first} and {last}, the second half of the run: "
        "centroid virial estimator, per atom."
    )
    return [
        captioned(image(figure, "kinetic energies"), "Lines: means from the first step shown on."),
        paragraph(told),
        table(rows, heads, "kinetic"),
    ]


def _standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of correlated values, from the means of blocks."""
    blocks = np.array([block.mean() for block in np.array_split(values, BLOCKS)])
    return float(blocks.std(ddof=1) / np.sqrt(BLOCKS))


def _figure(steps: Sequence[int], energies: dict[int, np.ndarray], classical: float) -> Figure:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for z, values in energies.items():
        points = axes.plot(steps, values, ".", ms=3, alpha=0.4)
        running = np.cumsum(values) / np.arange(1, len(values) + 1)
        axes.plot(steps, running, color=points[0].get_color(), label=chemical_symbols[z])
    axes.axhline(classical, color="black", lw=1, ls="--", label="classical")
    axes.set_xlabel("step")
    axes.set_ylabel("kinetic energy / (meV/atom)")
    axes.legend(fontsize=8, ncols=len(energies) + 1)
    return figure
