"""Whether forces and stresses are in the units and of the sign that the energies say: derivatives against differences.

Two structures of the same atoms that differ by a strain e and displacements u differ in energy by

    dE = -(F + F') . u / 2 + (W + W') : e / 2 + third order,    W = stress * volume = -virial,

exactly where energies are quadratic. Over the pairs of a data set dE = a A + b B with the first and second term A and B: a and b are
one, and what they are instead is the factor between units. Pairs have weights, as the third order grows with the cube of their
difference. Stresses of structures that share one cell cannot be
checked like this; they are doubted if they are implausibly large.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from ase.units import Bohr, GPa, Hartree, Ry, kcal, kJ, mol

from ..structures import LabelledStructure

NEAR, LARGEST_STRAIN = 0.4, 0.1
"""Displacement of an atom (A) and strain that make a difference of one."""
LARGEST_DIFFERENCE = 1.5
"""Largest difference of two structures over which a trapezoid is trusted."""
PAIRS = 3
"""For every structure, with those that are nearest to it."""
MOST = 150
"""Structures of the same atoms that are compared with each other, evenly spaced."""
FEWEST = 6
MOST_LEFT = 0.5
"""Largest unexplained fraction of the energy differences (squared): a larger one means several levels of theory."""
ALIKE = 0.3
"""Factors within this of a unit, in logarithms, are a matter of rounding and third order."""
SMALLEST, LARGEST = 0.35, 1.5
"""Factors between them, or less than four standard errors outside, are one: the third order makes them smaller by up to a half."""
LARGEST_VIRIAL = 15.0
"""eV/atom, of half of the structures: 200 GPa in copper, 420 GPa in diamond. Data of this field have 1 to 3."""
FACTORS = {
    "forces": {
        1.0: "eV/A", Hartree / Bohr: "Hartree/bohr", Ry / Bohr: "Ry/bohr", kcal / mol: "kcal/mol/A", kJ / mol: "kJ/mol/A",
        0.001: "meV/A or kJ/mol/nm", 1 / Bohr: "eV/bohr, or Hartree/bohr with energies in Hartree",
    },
    "stress": {1.0: "eV/A^3", GPa: "GPa", 0.1 * GPa: "kBar", Hartree / Bohr**3: "Hartree/bohr^3"},
    "energies": {1 / Hartree: "Hartree", 1 / Ry: "Ry", mol / kcal: "kcal/mol", mol / kJ: "kJ/mol", 1000.0: "meV"},
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
        "like GPa, kBar or virials; convert the labels to eV/A^3, or name virials with virial_key"
    ]


def _differing(structures: Sequence[LabelledStructure]) -> list[str]:
    """Messages for labels that differ from the differences between energies."""
    families = _families(structures)
    rows = np.array([row for family in families for row in _differences(family)]).reshape(-1, 4)
    weights, terms = 1 / (rows[:, 0] ** 3 + 1e-3), rows[:, 2:]
    used = [k for k in range(2) if np.any(terms[:, k])]
    if len(rows) < FEWEST * max(len(used), 1) or not used:
        return []
    differences, weighted = rows[:, 1] * weights, terms[:, used] * weights[:, None]
    sizes = np.sqrt(np.mean(weighted**2, axis=0))
    scaled = weighted / sizes
    solution, _, rank, _ = np.linalg.lstsq(scaled, differences, rcond=None)
    left = differences - scaled @ solution
    if rank < len(used) or np.sum(left**2) > MOST_LEFT * np.sum(differences**2):
        return []
    errors = np.sqrt(np.diag(np.linalg.inv(scaled.T @ scaled)) * np.sum(left**2) / (len(rows) - len(used)))
    factors = {
        ("forces", "stress")[k]: float(value / size)
        for k, value, size, error in zip(used, solution, sizes, errors, strict=True)
        if is_off(value / size, error / size)
    }
    return doubts_of(factors, [s for family in families for s in family]) if factors else []


def is_off(factor: float, error: float) -> bool:
    """Whether a factor with its standard error is certain, and certainly not one."""
    return bool(error < 0.2 * abs(factor) and not SMALLEST - 4 * error <= factor <= LARGEST + 4 * error)


def doubts_of(
    factors: Mapping[str, float], structures: Sequence[LabelledStructure], unknown_units: bool = True
) -> list[str]:
    """Messages for the factors by which forces and stress must be multiplied to agree with the energies.

    Parameters
    ----------
    factors : mapping
        By label, "forces" or "stress"; if both have the same one, the energies are doubted.
    structures : sequence of LabelledStructure
        Their sizes are factors, too: of energies per atom, and of virials in place of stresses.
    unknown_units : bool
        Whether factors are reported that no unit explains.
    """
    n_atoms = float(np.median([s.n_atoms for s in structures]))
    volume = float(np.median([abs(s.atoms.cell.volume) for s in structures])) or np.inf
    if len(factors) == 2 and factors["forces"] > 0 and _are_near(*factors.values()):
        factors = {"energies": factors["forces"]}
    found = {label: _likely(label, factor, n_atoms, volume) for label, factor in factors.items()}
    return [_doubt(label, factors[label], names) for label, names in found.items() if names or unknown_units]


def _are_near(first: float, second: float) -> bool:
    return bool(abs(np.log(abs(first / second))) < ALIKE)


def _likely(label: str, factor: float, n_atoms: float, volume: float) -> list[str]:
    """Units that a factor may stand for, the likeliest first."""
    energies = FACTORS["energies"] | {1 / n_atoms: "eV per atom, not of the whole structure"}
    known = FACTORS[label] if label != "energies" else energies
    if label != "energies":
        if factor < 0 and SMALLEST < -factor < LARGEST:
            return [known[1.0]]
        known = known | {unit: f"{known[1.0]} with energies in {name}" for unit, name in energies.items()}
    if label == "stress":
        known = known | {1 / volume: "stresses times volume (virials have virial_key)"}
    distances = {name: abs(np.log(abs(factor) / unit)) for unit, name in known.items() if unit}
    return sorted((name for name in distances if distances[name] < ALIKE), key=distances.__getitem__)[:2]


def _doubt(label: str, factor: float, names: Sequence[str]) -> str:
    """Message with the likely units of a label."""
    sign = " with the sign turned" + (" (gradients)" if label == "forces" else "") if factor < 0 else ""
    looks = f"they look like {', or '.join(names)}" if names else "no unit is known for that"
    changing, others = ("they", "forces and stresses") if label == "energies" else ("energies", "these labels")
    return f"{label}: {changing} change by {factor:.3g} times what {others} say; {looks}{sign}; convert the labels, or the energies"


def _families(structures: Sequence[LabelledStructure]) -> list[list[LabelledStructure]]:
    """Structures of the same atoms and config_type that have an energy and forces, some of each."""
    families: dict[tuple, list[LabelledStructure]] = defaultdict(list)
    for s in structures:
        if s.energy is not None and s.forces is not None and s.n_atoms:
            is_strainable = s.virial is not None
            families[s.atoms.numbers.tobytes(), s.config_type, tuple(s.atoms.pbc), is_strainable].append(s)
    return [family[:: 1 + len(family) // MOST] for family in families.values() if len(family) > 1]


def _differences(family: Sequence[LabelledStructure]) -> list[tuple[float, float, float, float]]:
    """Rows (difference, dE, A, B) for every structure and its nearest ones."""
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
        for other in np.argsort(sizes)[:PAIRS].tolist():
            if sizes[other] <= LARGEST_DIFFERENCE and frozenset((k, other)) not in seen:
                seen.add(frozenset((k, other)))
                found.append((float(sizes[other]), *_difference(family[k], family[other], moved[other], strains[other])))
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
