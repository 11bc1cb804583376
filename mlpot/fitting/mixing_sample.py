"""Sample of the data for learning the mixing of channels: full expansions and a few labels per structure.

The force labels of a structure are reduced to slopes of its energy along a few random directions in the space of all coordinates.
Only the derivatives of the expansions along these directions are needed; they are computed by central differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..descriptors.density import SoapDescriptor
from ..errors import FitError
from ..neighbours import find_pairs
from ..structures import LabelledStructure
from ..terms.protocol import FittedTerm
from .design_matrix import Design, Group, noise_of, parts_of
from .task import FitTask

MOST_LABELS = 1200
"""Largest number of energies and slopes: 200 structures with forces, or 1200 without."""
MOST_VALUES = 4e7
"""Largest number of expansion coefficients and derivatives of all environments, in single precision: 160 MB."""
FEWEST_STRUCTURES = 8
"""Cross-validation is meaningless with fewer structures."""
N_DIRECTIONS = 5
SOFTENING = 5.0
"""Ratio of the noises in the sample to the noises in the fit: with few points and labels, part of the errors is not noise."""
STEP = 1e-3
"""Root mean square displacement of atoms in central differences, A."""
MOST_POINTS = 100
"""Largest number of sparse points of an element."""
CHUNK = 32
"""Environments per block of expansions: a block with all channels should fit into the cache."""
JITTER = 1e-6
"""Addition to the diagonal of K_mm: the normal equations of a sample need a larger one than the fit."""


@dataclass(frozen=True)
class ElementSample:
    """Environments of one element.

    Parameters
    ----------
    chunks : tuple of (n_species * n_max, n, 1 + n_directions, n_harmonics) arrays
        Full expansions of n environments each, and their derivatives along each direction, 1/A.
    structure : (n_environments,) int array
        Index of the structure of each environment, ascending.
    points : (n_sparse,) int array
        Indices of the environments that serve as sparse points.
    """

    chunks: tuple[np.ndarray, ...]
    structure: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class MixingSample:
    """Data for learning the mixing; a row is the energy of a structure (first) or its slope along a direction.

    Parameters
    ----------
    elements : tuple of ElementSample
    labels : (n_structures, 1 + n_directions) array
        Energies minus baseline, eV, and slopes, eV/A, divided by the increased noises; 0 for missing labels.
    loads : (n_structures, 1 + n_directions) array
        1 / (increased noise), in 1/eV and A/eV; 0 for missing labels.
    others : (n_structures, 1 + n_directions, n_columns) array
        The same rows for the fixed terms, divided by the noises, in whitened coordinates (unit prior).
    """

    elements: tuple[ElementSample, ...]
    labels: np.ndarray
    loads: np.ndarray
    others: np.ndarray


def take_sample(
    task: FitTask, descriptor: SoapDescriptor, others: Sequence[FittedTerm], rng: np.random.Generator
) -> MixingSample:
    """Draw random structures of a task, up to the memory limit.

    Parameters
    ----------
    descriptor : SoapDescriptor
        The full descriptor, without a reduction.
    others : sequence of FittedTerm
        Terms whose sparse points have already been chosen.

    Raises
    ------
    FitError
        If there are too few structures with energies or forces.
    """
    able = [s for s in task.structures if s.energy is not None or s.forces is not None]
    if len(able) < FEWEST_STRUCTURES:
        raise FitError(
            f'embedding = "learned": needs at least {FEWEST_STRUCTURES} structures with energies or forces, there are '
            f'{len(able)}; add data or set embedding = "periodic"'
        )
    n_directions = N_DIRECTIONS if any(s.forces is not None for s in able) else 0
    per_atom = descriptor.n_channels * (descriptor.basis.l_max + 1) ** 2 * (1 + n_directions)
    shuffled = [able[k] for k in rng.permutation(len(able))]
    structures = _affordable(shuffled[: MOST_LABELS // (1 + n_directions)], MOST_VALUES / per_atom)
    directions = [_directions(s, n_directions, rng) for s in structures]
    expansions = []
    for done, (structure, along) in enumerate(zip(structures, directions, strict=True)):
        expansions.append(_expansions(descriptor, structure, along))
        task.progress("expansions to learn from", done + 1, len(structures))
    labels, loads, columns = _rows(task, others, structures, directions)
    elements = [_element_sample(structures, expansions, z, rng) for z in task.species]
    return MixingSample(tuple(e for e in elements if len(e.structure)), labels, loads, columns)


def _affordable(structures: list[LabelledStructure], most_atoms: float) -> list[LabelledStructure]:
    """The first structures, up to a total number of atoms, but at least as many as cross-validation needs."""
    ends = np.cumsum([s.n_atoms for s in structures])
    return structures[: max(int(np.searchsorted(ends, most_atoms)), FEWEST_STRUCTURES)]


def _directions(structure: LabelledStructure, n_directions: int, rng: np.random.Generator) -> np.ndarray:
    """Random directions (n_directions, n_atoms, 3), each normalised over all atoms."""
    found = rng.standard_normal((n_directions, structure.n_atoms, 3))
    return found / np.linalg.norm(found, axis=(1, 2), keepdims=True)


def _expansions(descriptor: SoapDescriptor, structure: LabelledStructure, directions: np.ndarray) -> np.ndarray:
    """Expansions and their derivatives (n_channels, n_atoms, 1 + n_directions, n_harmonics)."""

    def at(displacement: np.ndarray | float) -> np.ndarray:
        atoms = structure.atoms.copy()
        atoms.positions += displacement
        return descriptor.expand(find_pairs(atoms, descriptor.cutoff)).transpose(1, 0, 2)

    step = STEP * np.sqrt(structure.n_atoms)
    slopes = [(at(step * along) - at(-step * along)) / (2 * step) for along in directions]
    return np.stack([at(0.0), *slopes], axis=2).astype(np.float32)


def _element_sample(
    structures: list[LabelledStructure], expansions: list[np.ndarray], number: int, rng: np.random.Generator
) -> ElementSample:
    centres = [np.flatnonzero(s.atoms.numbers == number) for s in structures]
    structure = np.repeat(np.arange(len(structures)), [len(own) for own in centres])
    points = np.sort(rng.permutation(len(structure))[:MOST_POINTS])
    if not len(structure):
        return ElementSample((), structure, points)
    mine = np.concatenate([e[:, own] for e, own in zip(expansions, centres, strict=True)], axis=1)
    chunks = [np.ascontiguousarray(mine[:, k : k + CHUNK]) for k in range(0, len(structure), CHUNK)]
    return ElementSample(tuple(chunks), structure, points)


def _rows(
    task: FitTask, others: Sequence[FittedTerm], structures: list[LabelledStructure], directions: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and loads (n_structures, 1 + n_directions), and the corresponding rows of the fixed terms."""
    design = Design(tuple(others), task.baseline, task.species, jitter=JITTER)
    shape = (len(structures), 1 + len(directions[0]))
    values, loads = np.zeros((*shape, design.n_columns)), np.zeros(shape)
    for structure, along, value, load in zip(structures, directions, values, loads, strict=True):
        rows = design.rows(structure)
        parts = parts_of(structure, set())
        noises = {p.group: noise_of(task.config, replace(p.group, config_type=structure.config_type)) for p in parts}
        if structure.energy is not None:
            load[0] = 1 / (SOFTENING * noises[Group("energy", "")] * np.sqrt(structure.n_atoms))
            value[0] = rows[Group("energy", "")] * (np.sqrt(structure.n_atoms) * load[0])
        if structure.forces is not None:
            forces = [part for part in parts if part.group.label == "forces"]
            load[1:] = 1 / (SOFTENING * np.sqrt(np.mean([noises[part.group] ** 2 for part in forces])))
            flat = along.reshape(len(along), -1)
            value[1:] = -sum(flat[:, part.rows - 1] @ rows[part.group] for part in forces) * load[1:, None]
    n = design.n_sparse
    energies = [task.baseline.isolated_atom_energies[z] for z in task.species]
    labels = values[..., n] - values[..., n + 1 :] @ np.array(energies)
    return labels, loads, _whitened(design, others, values[..., :n])


def _whitened(design: Design, others: Sequence[FittedTerm], values: np.ndarray) -> np.ndarray:
    """Whitened columns (unit prior) from covariances for energy scales of 1 eV."""
    if not design.n_sparse:
        return values
    scales = np.concatenate([term.energy_scales for term in others])
    flat = values.reshape(-1, design.n_sparse)
    return (design.prior.whitened(flat) * design.prior.expanded(scales)).reshape(values.shape)
