"""Structures of a run in its report: turned with a finger or the mouse, atoms coloured by the uncertainty of their forces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import combinations, product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from .frames import sampled_frames
from .html import paragraph
from .run_data import Run

MOST_FRAMES, MOST_ATOMS = 12, 20_000
"""Largest number of structures of a walker, and of atoms in all of them: the page stays below a megabyte."""
COLOURED = 99.0
"""Percentile of the deviations at which the colours end."""


def viewer_section(run: Run) -> list[str]:
    """A viewer for each walker whose trajectory has frames with uncertainties."""
    shown = []
    for walker in run.walkers:
        if not walker.trajectory.exists():
            continue
        frames = [atoms for atoms in sampled_frames(walker.trajectory, MOST_FRAMES) if "forces_std" in atoms.arrays]
        most = max(MOST_ATOMS // max((len(atoms) for atoms in frames), default=1), 1)
        if frames:
            shown.append(viewer(frames[-most:], f"Walker {walker.name}"))
    if not shown:
        return []
    told = paragraph(
        "Atoms are coloured by the standard deviation of their forces. Drag to turn, pinch or scroll to zoom, and move the slider "
        "along the trajectory."
    )
    return [files(__package__).joinpath("viewer.html").read_text(encoding="utf-8"), told, *shown]


def viewer(frames: Sequence[Atoms], title: str) -> str:
    """HTML of a viewer for frames with the array `forces_std` (n_atoms, 3), eV/A; needs the script of viewer.html once on the page.

    Parameters
    ----------
    frames : sequence of ase.Atoms
    title : str
    """
    content = json.dumps(_content(frames), separators=(",", ":")).replace("<", "\\u003c")
    steps = len(frames) - 1
    return (
        f'<div class="viewer"><canvas role="img" aria-label="{escape(title)}"></canvas><div class="row">'
        f'<input type="range" min="0" max="{steps}" value="{steps}" aria-label="frame of the trajectory"><span>0</span>'
        f'<span class="ramp"></span><span>{_largest(frames):.2g} eV/Å</span></div><output></output>'
        f'<script type="application/json">{content}</script></div>'
        '<script>{const box = document.currentScript.previousElementSibling;'
        'mlpotViewer(box, JSON.parse(box.querySelector("script").textContent));}</script>'
    )


def _content(frames: Sequence[Atoms]) -> dict[str, Any]:
    numbers = sorted({int(z) for atoms in frames for z in atoms.numbers})
    return {
        "symbols": {z: chemical_symbols[z] for z in numbers},
        "radii": {z: round(float(covalent_radii[z]), 2) for z in numbers},
        "largest": _largest(frames),
        "frames": [_frame(atoms) for atoms in frames],
    }


def _frame(atoms: Atoms) -> dict[str, Any]:
    """A structure for the script: wrapped into its cell, lengths in A to 0.01."""
    atoms = atoms.copy()
    atoms.wrap()
    edges = _edges(atoms)
    corners = np.concatenate([atoms.positions, *(np.array(edge) for edge in edges)])
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    radius = float(np.linalg.norm(corners - middle, axis=1).max()) + 1.0
    return {
        "name": f"step {atoms.info['step']}" if "step" in atoms.info else "structure",
        "numbers": atoms.numbers.tolist(),
        "positions": np.round(atoms.positions, 2).tolist(),
        "std": [float(f"{x:.3g}") for x in _deviations(atoms)],
        "edges": edges,
        "middle": np.round(middle, 2).tolist(),
        "radius": round(radius, 2),
    }


def _edges(atoms: Atoms) -> list[list[list[float]]]:
    """Both ends of the edges of the cell; none without three periodic directions."""
    if not atoms.pbc.all():
        return []
    corners = list(product((0, 1), repeat=3))
    pairs = [(a, b) for a, b in combinations(corners, 2) if sum(abs(x - y) for x, y in zip(a, b, strict=True)) == 1]
    return [np.round(np.array(pair) @ atoms.cell.array, 2).tolist() for pair in pairs]


def _deviations(atoms: Atoms) -> np.ndarray:
    """Root mean square deviation (n_atoms,) of the force on every atom, eV/A."""
    return np.sqrt(np.mean(np.asarray(atoms.arrays["forces_std"], float) ** 2, axis=1))


def _largest(frames: Sequence[Atoms]) -> float:
    return max(float(np.percentile(np.concatenate([_deviations(atoms) for atoms in frames]), COLOURED)), 1e-6)
