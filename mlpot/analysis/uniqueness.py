"""Uniqueness: whether environments that differ have different features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms

from ..errors import DataError
from ..settings.fit import ModelSettings
from .probes import around, bond, cluster, homometric
from .reconstruction import Split, global_error, local_error
from .rows import Row
from .sources import source_of_settings
from .subject import Subject, subject_of

SAME = 1e-6
"""Features that differ by less, in units of their length, are the same apart from rounding and tables."""
PARTS = (0.03, 0.06, 0.09, 0.125, 0.16, 0.19, 0.22)
"""Parts of a turn: members of the family of homometric pairs."""
SIZES = (2, 4, 8)
"""Numbers of neighbours of the environments in which all displacements should be noticed."""
UNNOTICED = 1e-6
"""Singular values of the derivatives below this part of the largest belong to displacements that change nothing."""
N_SAMPLES = 240
N_LOCAL = 20


def uniqueness(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """Rows for pairs of environments, unnoticed displacements, and reconstruction errors against SOAP with three densities.

    A descriptor that does not see angles cannot see what takes more than angles: only the first failure has a verdict.
    """
    pairs, moves = _pairs(subject), _sensitivity(subject, rng)
    first = next((k for k, row in enumerate(pairs) if row.passed is False), len(pairs) - 1)
    pairs[first + 1 :] = [_following(row, pairs[first]) for row in pairs[first + 1 :]]
    if first < len(pairs) - 1:
        moves = [_following(row, pairs[first]) for row in moves]
    return [*pairs, *moves, *_reconstruction(subject, rng)]


def _following(row: Row, cause: Row) -> Row:
    """A row without a verdict, as it follows from another one."""
    return replace(row, limit=None, note=f"{row.note}; follows from: {cause.name}")


def difference(subject: Subject, first: Atoms, second: Atoms) -> float:
    """Distance of the features of the first atoms of two structures, in units of their length."""
    a, b = subject.of_first(first), subject.of_first(second)
    n = min(len(a), len(b))
    size = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    return float(np.linalg.norm(a[:n] - b[:n])) / size if size > 0 else 0.0


def _pairs(subject: Subject) -> list[Row]:
    """Pairs of environments, each of which takes a higher body order than the one before it to distinguish."""
    near, (first, last) = bond(subject.species, subject.reach), (subject.species[0], subject.species[-1])

    def angle(degrees: float) -> Atoms:
        turn = np.radians(degrees)
        return around(first, [last, last], near * np.array([[1, 0, 0], [np.cos(turn), np.sin(turn), 0]]))

    def distance(length: float) -> Atoms:
        return around(first, [last], np.array([[0, 0, length * near]]))

    compared = {
        "distance of a neighbour": [(distance(1.0), distance(1.1))],
        "angle of two neighbours": [(angle(90.0), angle(120.0))],
    }
    if first != last:
        other = around(first, [first], np.array([[0, 0, near]]))
        compared = {"element of a neighbour": [(distance(1.0), other)], **compared}
    compared["equal distances and angles"] = [homometric(first, last, near, part) for part in PARTS]
    rows = []
    for name, pairs in compared.items():
        found = min(difference(subject, *pair) for pair in pairs)
        rows.append(
            Row(
                "uniqueness",
                name,
                float(found < SAME),
                "pairs not distinguished",
                0.0,
                f"features differ by {found:.1e}",
            )
        )
    return rows


def _sensitivity(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """Displacements of neighbours, apart from rotations, that change no feature in first order.

    They are null vectors of S_ab = sum_k dX_k/dr_a dX_k/dr_b; Parsaeifar, Goedecker, J. Chem. Phys. 156, 034302 (2022),
    doi:10.1063/5.0070488. The singular values of dX/dr are the square roots of its eigenvalues.
    """
    unnoticed, weakest, where = 0, np.inf, ""
    for size in SIZES:
        atoms = cluster(subject.species, 0.8 * subject.reach, size, rng)
        values = np.linalg.svd(subject.slopes(atoms), compute_uv=False)
        free = 3 * size - (3 if size > 1 else 2)
        kept = values[values > UNNOTICED * values[0]] if len(values) and values[0] > 0 else values[:0]
        missing = max(free - len(kept), 0)
        if missing >= max(unnoticed, 1):
            unnoticed, where = missing, f"of {free} of {size} neighbours"
        if len(kept):
            weakest = min(weakest, float(kept[:free].min() / kept[0]))
    return [
        Row("uniqueness", "unnoticed displacements", float(unnoticed), "", 0.0, where),
        Row(
            "uniqueness",
            "weakest displacement",
            weakest,
            "part of the strongest",
            None,
            "smallest non-zero sensitivity",
        ),
    ]


def _reconstruction(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """Linear maps to and from SOAP with three densities."""
    settings = {
        "type": "soap",
        "n_max": 4,
        "l_max": 3,
        "order": 3,
        "cutoff": subject.reach,
        "cutoff_width": 0.5 * subject.reach,
    }
    reference = subject_of(source_of_settings(ModelSettings(terms=(settings,)), subject.species, []), "reference")
    sizes = rng.integers(4, 13, N_SAMPLES)
    atoms = [cluster(subject.species, subject.reach, int(n), rng) for n in sizes]
    own, other = ([s.of_first(a) for a in atoms] for s in (subject, reference))
    width = min(map(len, own))
    x, y = np.array([f[:width] for f in own]), np.array(other)
    split, order = Split.of(N_SAMPLES, rng), rng.permutation(N_LOCAL)
    halves = (order[: N_LOCAL // 2], order[N_LOCAL // 2 :])
    rows = []
    for name, a, b in (("SOAP-3 from these features", x, y), ("these features from SOAP-3", y, x)):
        for kind in ("GFRE", "LFRE"):
            try:
                found = global_error(a, b, split) if kind == "GFRE" else local_error(a, b, split, halves)
                rows.append(Row("uniqueness", f"{kind}: {name}", found, "0: all, 1: nothing"))
            except (DataError, np.linalg.LinAlgError) as error:
                rows.append(Row("uniqueness", f"{kind}: {name}", None, note=str(error)))
    return rows
