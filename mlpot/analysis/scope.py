"""Structure and generality of a descriptor: the shape of its features, and structures that it takes."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ..errors import MlpotError
from .probes import around, classes, cluster, crystal
from .rows import Row
from .subject import Subject

N_SAMPLES = 300
ZERO = 1e-14
"""Entries below this part of the largest are zero, standard deviations below it none."""
MANY = tuple(z for z in range(1, 60) if z not in (2, 10, 18, 36, 43, 54))[:40]
"""40 elements, without noble gases and technetium."""
LARGE = 10_000


def structure(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """Length of the features, whether it is fixed, and how many of them carry something, on random environments."""
    sizes = [0, 1, *rng.integers(2, 15, N_SAMPLES).tolist()]
    found = [subject.of_first(cluster(subject.species, subject.reach, n, rng)) for n in sizes]
    lengths = {len(f) for f in found}
    width = min(lengths)
    table = np.array([f[:width] for f in found])
    rows = [
        Row("structure", "number of features", float(max(lengths))),
        Row("structure", "lengths beyond one", float(len(lengths) - 1), "", 0.0, f"between {width} and {max(lengths)}"),
    ]
    table = table[np.isfinite(table).all(axis=1)]
    deviations = table.std(axis=0)
    varying = deviations > 1e-10 * max(float(deviations.max(initial=0.0)), 1e-300)
    rows.append(
        Row("structure", "features that never vary", float(np.sum(~varying)), note=f"on {len(table)} environments")
    )
    rows.append(
        Row(
            "structure",
            "zero entries",
            float(np.mean(np.abs(table) <= ZERO * max(np.abs(table).max(initial=0), 1e-300))),
            "part",
        )
    )
    if not varying.any():
        return rows
    scaled = (table[:, varying] - table[:, varying].mean(axis=0)) / deviations[varying]
    squares = np.linalg.svd(scaled, compute_uv=False) ** 2
    parts = squares[squares > 0] / squares.sum()
    enough = int(np.searchsorted(np.cumsum(parts), 0.999)) + 1
    return [
        *rows,
        Row(
            "structure",
            "effective rank",
            float(np.exp(-np.sum(parts * np.log(parts)))),
            "",
            None,
            "exp(entropy of variances)",
        ),
        Row("structure", "directions with 99.9 % of the variance", float(enough)),
        Row(
            "structure", "condition number", float(np.sqrt(parts[0] / parts[-1])), "", None, "of standardised features"
        ),
    ]


def generality(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """Structures that it refuses or answers with NaN; a row for 40 elements where it can be made for others."""
    first, last = subject.species[0], subject.species[-1]
    chain = 0.4 * subject.reach * np.array([[0, 0, 1.0], [0, 0, -1.0]])
    n = int(np.ceil(LARGE ** (1 / 3)))
    cases = {
        **classes(subject.species, subject.reach, rng),
        "isolated atom": Atoms([first]),
        "pair at 0.5 A": around(first, [last], np.array([[0, 0, 0.5]])),
        "linear chain": around(first, [last, last], chain),
        "atoms outside of the cell": _outside(crystal(subject.species, subject.reach, (2, 2, 2), rng)),
        f"{n**3} atoms": crystal(subject.species, subject.reach, (n, n, n), rng),
    }
    troubles = {name: trouble for name, atoms in cases.items() if (trouble := _trouble(subject, atoms))}
    note = "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items()) or ", ".join(cases)
    rows = [
        Row("generality", "structures refused", float(len(troubles)), f"of {len(cases)}", 0.0, note),
        Row(
            "generality",
            "shortest distance with finite features",
            _shortest(subject),
            "A",
            None,
            f"from {_least(subject):.2f} A",
        ),
    ]
    if subject.remake is None:
        return [
            *rows,
            Row("generality", "features for 40 elements", None, note="does not apply: made for given elements"),
        ]
    try:
        many = subject.remake(MANY)
        count = float(many.compute(cluster(MANY, many.reach, 12, rng)).shape[1])
        return [*rows, Row("generality", "features for 40 elements", count)]
    except MlpotError as error:
        return [*rows, Row("generality", "features for 40 elements", None, note=str(error))]


def _outside(atoms: Atoms) -> Atoms:
    atoms.positions[::2] += 2 * atoms.cell.array[0] - atoms.cell.array[1]
    return atoms


def _trouble(subject: Subject, atoms: Atoms) -> str:
    try:
        found = subject.compute(atoms)
    except MlpotError as error:
        return str(error)
    return "" if np.all(np.isfinite(found)) else "not finite"


def _least(subject: Subject) -> float:
    return 0.1 * float(np.mean(covalent_radii[list(subject.species)]))


def _shortest(subject: Subject) -> float | None:
    for distance in np.geomspace(_least(subject), 1.0, 12):
        if not _trouble(subject, around(subject.species[0], [subject.species[-1]], np.array([[0, 0, distance]]))):
            return float(distance)
    return None
