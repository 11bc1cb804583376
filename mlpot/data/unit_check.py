"""Whether forces and stresses are in the units and of the sign that the energies say: derivatives against differences.

Two structures of the same atoms that differ by a strain e and displacements u differ in energy by

    dE = -(F + F') . u / 2 + (W + W') : e / 2 + third order,    W = stress * volume = -virial,

exactly where energies are quadratic. Over the pairs of a data set dE = a A + b B with the first and second term A and B: a and b are
one, and what they are instead is the factor between units. Stresses of structures that share one cell cannot be
checked like this; they are doubted if they are implausibly large.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase.units import Bohr, GPa, Hartree, Ry, kcal, mol

from ..structures import LabelledStructure

NEAR = 0.4
"""A: largest displacement of an atom, over which a trapezoid is trusted; strains up to a tenth."""
LARGEST_STRAIN = 0.1
MOST = 150
"""Structures of the same atoms that are compared with each other, evenly spaced."""
FEWEST = 6
ALIKE = 0.3
"""Coefficients this close to one, relatively, are a matter of rounding and third order."""
LARGEST_VIRIAL = 15.0
"""eV/atom, of half of the structures: 200 GPa in copper, 420 GPa in diamond. Data of this field have 1 to 3."""
FACTORS = {
    "forces": {
        1.0: "eV/A", Hartree / Bohr: "Hartree/bohr", Ry / Bohr: "Ry/bohr", kcal / mol: "kcal/mol/A", 0.001: "meV/A",
        1 / Hartree: "forces in eV/A with energies in Hartree", 1 / Bohr: "Hartree/bohr with energies in Hartree",
    },
    "stress": {1.0: "eV/A^3", GPa: "GPa", 0.1 * GPa: "kBar", Hartree / Bohr**3: "Hartree/bohr^3"},
}  # fmt: skip
"""Other units in ASE's units."""


def unit_doubts(structures: Sequence[LabelledStructure]) -> list[str]:
    """Messages for forces and stresses that are not the derivatives of the energies, with their likely unit; may be empty."""
    doubts = _differing(structures)
    return doubts if any(doubt.startswith("stress") for doubt in doubts) else doubts + _implausible(structures)


def _implausible(structures: Sequence[LabelledStructure]) -> list[str]:
    """A message for stresses that are implausibly large."""
    rows = [(np.abs(s.virial).max(), s.n_atoms, s.atoms.get_volume()) for s in structures if s.virial is not None and s.n_atoms]
    if len(rows) < FEWEST:
        return []
    virials, n_atoms, volumes = np.array(rows).T
    typical = float(np.median(virials / n_atoms))
    if typical < LARGEST_VIRIAL:
        return []
    pressure = float(np.median(virials / volumes)) / GPa
    return [
        f"stress: half of the structures have more than {pressure:.0f} GPa, {typical:.3g} eV/atom of stress times volume; they look "
        "like GPa or kBar; convert the labels to eV/A^3"
    ]


def _differing(structures: Sequence[LabelledStructure]) -> list[str]:
    """Messages for labels that differ from the differences between energies."""
    rows = np.array([row for family in _families(structures) for row in _differences(family)]).reshape(-1, 3)
    differences, terms = rows[:, 0], rows[:, 1:]
    used = [k for k in range(2) if np.any(terms[:, k])]
    if len(rows) < FEWEST * max(len(used), 1) or not used:
        return []
    sizes = np.sqrt(np.mean(terms[:, used] ** 2, axis=0))
    scaled = terms[:, used] / sizes
    solution, _, rank, _ = np.linalg.lstsq(scaled, differences, rcond=None)
    left = differences - scaled @ solution
    if rank < len(used) or np.sum(left**2) > 0.1 * np.sum(differences**2):
        return []  # anharmonic, or of several levels of theory: nothing can be told
    errors = np.sqrt(np.diag(np.linalg.inv(scaled.T @ scaled)) * np.sum(left**2) / (len(rows) - len(used)))
    return [
        _doubt(("forces", "stress")[k], float(value / size))
        for k, value, size, error in zip(used, solution, sizes, errors, strict=True)
        if error < 0.2 * abs(value) and abs(value / size - 1) > ALIKE + 4 * error / size
    ]


def _doubt(label: str, factor: float) -> str:
    """In words, what a label that must be multiplied by a factor looks like."""
    known = FACTORS[label]
    nearest = min(known, key=lambda unit: abs(np.log(abs(factor) / unit)))
    is_known = abs(np.log(abs(factor) / nearest)) < ALIKE
    sign = " with the sign turned" + (" (gradients)" if label == "forces" else "") if factor < 0 else ""
    looks = f"they look like {known[nearest]}{sign}" if is_known else f"no unit is known for that{sign}"
    return f"{label}: energies change by {factor:.3g} times what these labels say; {looks}; convert the labels, or the energies"


def _families(structures: Sequence[LabelledStructure]) -> list[list[LabelledStructure]]:
    """Structures of the same atoms and config_type that have an energy and forces, some of each."""
    families: dict[tuple, list[LabelledStructure]] = defaultdict(list)
    for s in structures:
        if s.energy is not None and s.forces is not None and s.n_atoms:
            is_strainable = s.virial is not None
            families[s.atoms.numbers.tobytes(), s.config_type, tuple(s.atoms.pbc), is_strainable].append(s)
    return [family[:: 1 + len(family) // MOST] for family in families.values() if len(family) > 1]


def _differences(family: Sequence[LabelledStructure]) -> list[tuple[float, float, float]]:
    """dE, A and B for every structure and the one that is nearest to it."""
    periodic = family[0].atoms.pbc
    cells = np.array([s.atoms.cell.array if s.atoms.cell.rank == 3 else np.eye(3) for s in family])
    scaled = np.array([s.atoms.positions @ np.linalg.inv(cell) for s, cell in zip(family, cells, strict=True)])
    found, seen = [], set()
    for k, cell in enumerate(cells):
        shifts = scaled - scaled[k]
        shifts -= np.where(periodic, np.round(shifts), 0.0)
        moved = shifts @ cell
        moved -= moved.mean(axis=1, keepdims=True)
        strains = np.linalg.inv(cell) @ (cells - cell)
        sizes = np.abs(moved).max(axis=(1, 2)) / NEAR + np.abs(strains).max(axis=(1, 2)) / LARGEST_STRAIN
        if family[k].virial is None:  # without a virial only structures in the same cell can be compared
            sizes[np.abs(strains).max(axis=(1, 2)) > 1e-6] = np.inf
        sizes[k] = np.inf
        other = int(np.argmin(sizes))
        if sizes[other] > 1 or frozenset((k, other)) in seen:
            continue
        seen.add(frozenset((k, other)))
        found.append(_difference(family[k], family[other], moved[other], strains[other]))
    return found


def _difference(
    first: LabelledStructure, second: LabelledStructure, moved: np.ndarray, strain: np.ndarray
) -> tuple[float, float, float]:
    """dE, A and B of two structures: displacements (n_atoms, 3) in A beyond the strain (3, 3)."""
    if first.energy is None or second.energy is None or first.forces is None or second.forces is None:
        raise ValueError("only structures with an energy and forces can be compared")
    forces = -0.5 * float(np.sum((first.forces + second.forces) * moved))
    stress = 0.0
    if first.virial is not None and second.virial is not None:
        stress = -0.5 * float(np.sum((first.virial + second.virial) * strain))
    return second.energy - first.energy, forces, stress
