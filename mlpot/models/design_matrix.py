"""Rows of the design matrix: covariances of a structure's labels with the sparse points, whitened by the noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..neighbours import Pairs, find_pairs
from ..structures import LabelledStructure
from .baseline import Baseline
from .settings import FitConfig, NoiseSettings
from .terms import FittedTerm, Term

VIRIAL_ROWS = [0, 4, 8, 5, 2, 1]
"""xx yy zz yz xz xy among the nine components of a 3 x 3 matrix."""


def columns(terms: Sequence[Term]) -> list[slice]:
    """Columns of the design matrix that belong to each term."""
    ends = np.cumsum([0, *(term.n_sparse for term in terms)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def noise_of(config: FitConfig, config_type: str) -> NoiseSettings:
    """Noises of one config_type: its own where given, else the general ones of a resolved configuration."""
    own = config.config_type_noise.get(config_type, NoiseSettings())
    return NoiseSettings(
        energy_noise=own.energy_noise or config.energy_noise,
        force_noise=own.force_noise or config.force_noise,
        virial_noise=own.virial_noise or config.virial_noise,
    )


def reach(terms: Sequence[Term], baseline: Baseline, species: Sequence[int]) -> float:
    """Largest cutoff of a model's parts, A."""
    return max([baseline.cutoff(species), *(term.cutoff for term in terms)])


def structure_rows(
    structure: LabelledStructure, terms: Sequence[FittedTerm], baseline: Baseline, cutoff: float, noise: NoiseSettings
) -> np.ndarray:
    """Whitened rows (n_rows, M + 1) of one structure, labels minus baseline in the last column.

    The std of a total energy is energy_noise * sqrt(n_atoms), of a virial virial_noise * sqrt(n_atoms).
    """
    pairs = find_pairs(structure.atoms, cutoff)
    n_columns = sum(term.n_sparse for term in terms)
    n_atoms = structure.n_atoms
    block = np.zeros((1 + 3 * n_atoms + 9, n_columns + 1))
    energy, forces, virial = block[0], block[1 : 1 + 3 * n_atoms], block[1 + 3 * n_atoms :]
    for term, part in zip(terms, columns(terms), strict=True):
        term.add_rows(
            pairs,
            energy[part],
            None if structure.forces is None else forces[:, part],
            None if structure.virial is None else virial[:, part],
        )
    keep, scales = _labels_into(block, structure, pairs, baseline, noise)
    rows = block[keep]
    rows /= np.asarray(scales)[:, None]
    return rows


def _labels_into(
    block: np.ndarray, structure: LabelledStructure, pairs: Pairs, baseline: Baseline, noise: NoiseSettings
) -> tuple[list[int], list[float]]:
    """Write labels minus baseline into the last column; rows to keep and their standard deviations."""
    n_atoms, root = structure.n_atoms, np.sqrt(structure.n_atoms)
    known, gradients = np.zeros(n_atoms), np.zeros((pairs.n_pairs, 3))
    baseline.predict(pairs, known, gradients)
    keep: list[int] = []
    scales: list[float] = []
    if structure.energy is not None:
        block[0, -1] = structure.energy - known.sum()
        keep.append(0)
        scales.append(noise.energy_noise * root)
    if structure.forces is not None:
        block[1 : 1 + 3 * n_atoms, -1] = (structure.forces - pairs.forces(gradients)).ravel()
        keep.extend(range(1, 1 + 3 * n_atoms))
        scales.extend([noise.force_noise] * (3 * n_atoms))
    if structure.virial is not None:
        block[1 + 3 * n_atoms :, -1] = (structure.virial - pairs.virial(gradients)).ravel()
        keep.extend(1 + 3 * n_atoms + row for row in VIRIAL_ROWS)
        scales.extend([noise.virial_noise * root] * 6)
    return keep, scales
