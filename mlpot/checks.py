"""Public contract check: properties that any potential must satisfy, measured on a given structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from scipy.spatial.transform import Rotation

from .models.prediction import Prediction
from .models.sparse_gp import SparseGP
from .neighbours import find_pairs
from .terms.layout import many_body

STEPS = (1e-3, 1e-4, 1e-5)
"""Displacements (A) and strains of the finite differences. A large one fails if a pair crosses the kink of a cutoff function, a small
one suffers from rounding; a correct derivative agrees with one of them."""
DEGENERATE = 1e-6
"""Features that differ by less are identical apart from rounding and tabulation errors."""
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


class Potential(Protocol):
    """Interface that is checked: models of mlpot, and any object with the same methods."""

    @property
    def cutoff(self) -> float:
        """Reach, A."""

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers it knows."""

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """Energy, forces, virial, stress."""


@dataclass(frozen=True)
class Check:
    """Result for one property: measured deviation and tolerance, in `unit`."""

    name: str
    value: float
    tolerance: float
    unit: str

    @property
    def passed(self) -> bool:
        return bool(self.value <= self.tolerance)


def validate_model(model: Potential, atoms: Atoms, seed: int = 0) -> list[Check]:
    """Check derivatives, invariances, additivity and the smoothness at the cutoff.

    Parameters
    ----------
    model : Potential
        A SparseGP, or any object with `predict` and `cutoff`.
    atoms : ase.Atoms
        A structure that the model can predict; small ones are faster.

    Returns
    -------
    list of Check
        Results, each with `passed`; examine all of them.
    """
    rng = np.random.default_rng(seed)
    p = model.predict(atoms)
    checks = [
        Check("energy is the sum of local energies", abs(p.energy - p.energies.sum()), 1e-8 * len(atoms), "eV"),
        Check("forces are minus the gradient", _force_error(model, atoms, p, rng), 1e-6, "eV/A"),
        Check("forces add up to zero", float(np.abs(p.forces.sum(axis=0)).max()), 1e-8 * len(atoms), "eV/A"),
        Check("virial is minus the derivative by strain", _virial_error(model, atoms, p), 1e-6 * len(atoms), "eV"),
        Check("invariant under rotation", _rotation_error(model, atoms, p, rng), 1e-7, "eV, eV/A"),
        Check("invariant under translation", _difference(model, translated(atoms, rng), p), 1e-7, "eV, eV/A"),
        Check("invariant under permutation", _permutation_error(model, atoms, p, rng), 1e-8, "eV, eV/A"),
        Check("smooth at the cutoff", _cutoff_jump(model, atoms), 1e-6, "eV, eV/A"),
    ]
    if np.any(atoms.pbc):
        checks.append(Check("a supercell has the same energy per cell", _supercell_error(model, atoms, p), 1e-7, "eV"))
    return checks


def default_structure(model: Potential) -> Atoms:
    """A small rattled crystal of the model's elements with typical bond lengths."""
    numbers = list(model.species)
    spacing = 2 * float(np.mean(covalent_radii[numbers])) * 1.15
    atoms = bulk("X", "sc", a=spacing) * (2, 2, 2)
    atoms.numbers = np.resize(numbers, len(atoms))
    atoms.rattle(0.08, seed=0)
    return atoms


def homometric_pair(centre: int, ring: int, radius: float) -> tuple[Atoms, Atoms]:
    """Two environments of atom 0 that differ but have the same distances and angles, so the same power spectrum, whatever its
    parameters: four atoms on a circle (Pozdnyakov et al., doi:10.1103/PhysRevLett.125.166001).

    Parameters
    ----------
    centre, ring : int
        Atomic numbers of the centre and of the four.
    radius : float
        Radius of the circle, A.
    """

    def around(places: tuple[int, ...]) -> Atoms:
        angles = np.pi / 4 * np.array(places)
        positions = radius * np.array([np.cos(angles), np.sin(angles), np.zeros(4)]).T
        return Atoms([centre] + 4 * [ring], positions=np.vstack([np.zeros(3), positions]))

    return around((0, 1, 3, 4)), around((0, 1, 2, 5))


def resolved_degeneracy(model: SparseGP) -> float:
    """Distance between the normalised features of the two environments of `homometric_pair`, which have equal distances and angles.

    The largest value over the many-body terms of a model; 0 if none distinguishes them, or without such terms.
    """
    found = [0.0]
    for term in many_body(model.terms).values():
        pair = homometric_pair(model.species[0], model.species[-1], 0.4 * term.cutoff)
        first, second = (term.features.compute(find_pairs(atoms, term.cutoff), np.array([0])) for atoms in pair)
        found.append(float(np.linalg.norm(first - second)))
    return max(found)


def slope_error(energy: Callable[[float], float], expected: float) -> float:
    """Distance of a derivative at zero from the nearest of its finite differences, fourth order."""
    slopes = [sum(weight * energy(shift * step) for shift, weight in STENCIL) / step for step in STEPS]
    return min(abs(slope - expected) for slope in slopes)


def _force_error(model: Potential, atoms: Atoms, p: Prediction, rng: np.random.Generator) -> float:
    """Largest difference between a force component and the finite difference of the energy, for up to six atoms."""

    def energy(atom: int, axis: int, shift: float) -> float:
        moved = atoms.copy()
        moved.positions[atom, axis] += shift
        return model.predict(moved).energy

    return max(
        slope_error(partial(energy, int(atom), axis), -p.forces[atom, axis])
        for atom in rng.permutation(len(atoms))[:6]
        for axis in range(3)
    )


def _virial_error(model: Potential, atoms: Atoms, p: Prediction) -> float:
    """Largest difference between a component of the virial and the finite difference for a symmetric strain."""

    def energy(a: int, b: int, shift: float) -> float:
        strain = np.eye(3)
        strain[a, b] += 0.5 * shift
        strain[b, a] += 0.5 * shift
        moved = atoms.copy()
        moved.cell = atoms.cell.array @ strain
        moved.positions = atoms.positions @ strain
        return model.predict(moved).energy

    return max(slope_error(partial(energy, a, b), -p.virial[a, b]) for a in range(3) for b in range(a, 3))


def _difference(model: Potential, atoms: Atoms, p: Prediction) -> float:
    q = model.predict(atoms)
    return max(abs(q.energy - p.energy), float(np.abs(q.forces - p.forces).max()))


def rotated(atoms: Atoms, rng: np.random.Generator) -> tuple[Atoms, np.ndarray]:
    """The structure and its cell, randomly rotated, and the matrix (3, 3) by which row vectors were multiplied."""
    matrix = Rotation.random(rng=rng).as_matrix()
    turned = atoms.copy()
    turned.cell = atoms.cell.array @ matrix
    turned.positions = atoms.positions @ matrix
    return turned, matrix


def translated(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The structure translated at random."""
    moved = atoms.copy()
    moved.positions += rng.uniform(-5, 5, 3)
    return moved


def _rotation_error(model: Potential, atoms: Atoms, p: Prediction, rng: np.random.Generator) -> float:
    turned, matrix = rotated(atoms, rng)
    q = model.predict(turned)
    return max(abs(q.energy - p.energy), float(np.abs(q.forces - p.forces @ matrix).max()))


def _permutation_error(model: Potential, atoms: Atoms, p: Prediction, rng: np.random.Generator) -> float:
    order = rng.permutation(len(atoms))
    q = model.predict(atoms[order])
    return max(abs(q.energy - p.energy), float(np.abs(q.forces - p.forces[order]).max()))


def _supercell_error(model: Potential, atoms: Atoms, p: Prediction) -> float:
    copies = [2 if periodic else 1 for periodic in atoms.pbc]
    return abs(model.predict(atoms.repeat(copies)).energy / np.prod(copies) - p.energy)


def _cutoff_jump(model: Potential, atoms: Atoms) -> float:
    """Change of energy and forces when the distance of a pair of atoms crosses the cutoff."""
    numbers = [int(atoms.numbers[0]), int(atoms.numbers[-1])]
    gap = 1e-6
    inside, outside = (
        model.predict(Atoms(numbers, positions=[[0, 0, 0], [0, 0, model.cutoff + side * gap]])) for side in (-1, 1)
    )
    return max(abs(inside.energy - outside.energy), float(np.abs(inside.forces - outside.forces).max()) * gap)
