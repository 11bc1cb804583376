"""Efficiency: time of features and of their pullback, and how it grows with atoms, neighbours and elements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms

from ..errors import MlpotError
from ..neighbours import find_pairs
from ..threads import n_threads
from .probes import crystal
from .rows import Row
from .subject import Subject

MOST = 1.5
"""Exponent of the time in the number of atoms up to which it counts as linear: caches and constant costs move it around 1."""
REPEATS, ENOUGH = 6, 0.5
"""Runs of which the fastest counts, and processor seconds after which there are no more."""


def efficiency(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """us/atom on a crystal of 216 atoms with some 65 neighbours, with and without pullback, and exponents."""
    atoms = crystal(subject.species, subject.reach, (6, 6, 6), rng)
    values = _fastest(lambda: subject.compute(atoms))
    neighbours = find_pairs(atoms, subject.reach).n_pairs / len(atoms)
    width = subject.compute(atoms).shape[1]
    where = f"{len(atoms)} atoms, {neighbours:.0f} neighbours, processor time of {n_threads()} threads, neighbour list included"
    rows = [
        Row("efficiency", "features", 1e6 * values / len(atoms), "us/atom", None, where),
        Row("efficiency", "features and pullback", _pullback(subject, atoms), "us/atom", None, _if_any(subject)),
        Row("efficiency", "memory of the features", width * 8 / 1024, "kB/atom"),
    ]
    sizes = [crystal(subject.species, subject.reach, (n, n, n), rng) for n in (5, 10)]
    times = [_fastest(lambda s=s: subject.compute(s)) for s in sizes]  # type: ignore[misc]
    rows.append(
        Row("efficiency", "exponent in atoms", _exponent([len(s) for s in sizes], times), "", MOST, "125 to 1000 atoms")
    )
    return [*rows, _in_neighbours(subject, atoms), _in_elements(subject, rng)]


def _in_neighbours(subject: Subject, atoms: Atoms) -> Row:
    """Exponent of the time in the number of neighbours, by crystals that are compressed."""
    counts, times = [], []
    for scale in (1.15, 0.85):
        squeezed = atoms.copy()
        squeezed.set_cell(scale * atoms.cell.array, scale_atoms=True)
        counts.append(find_pairs(squeezed, subject.reach).n_pairs / len(atoms))
        times.append(_fastest(lambda s=squeezed: subject.compute(s)))  # type: ignore[misc]
    return Row(
        "efficiency",
        "exponent in neighbours",
        _exponent(counts, times),
        "",
        None,
        f"{counts[0]:.0f} to {counts[1]:.0f}",
    )


def _in_elements(subject: Subject, rng: np.random.Generator) -> Row:
    name = "exponent in elements"
    if subject.remake is None:
        return Row("efficiency", name, None, note="does not apply: made for given elements")
    counts, times = (2, 8), []
    for n in counts:
        try:
            made = subject.remake(tuple(range(3, 3 + n)))
        except MlpotError as error:
            return Row("efficiency", name, None, note=str(error))
        atoms = crystal(made.species, made.reach, (5, 5, 5), rng)
        times.append(_fastest(lambda s=made, a=atoms: s.compute(a)))  # type: ignore[misc]
    return Row("efficiency", name, _exponent(counts, times), "", None, "2 to 8 elements")


def _pullback(subject: Subject, atoms: Atoms) -> float | None:
    own = subject.descriptor
    if own is None:
        return None
    cotangent = np.ones((len(atoms), own.n_features))

    def both() -> None:
        pairs = find_pairs(atoms, own.cutoff)
        own.compute(pairs)
        own.vjp(pairs, cotangent)

    return 1e6 * _fastest(both) / len(atoms)


def _if_any(subject: Subject) -> str:
    return "" if subject.descriptor is not None else "does not apply: the interface has values only"


def _fastest(call: Callable[[], object]) -> float:
    """Processor seconds, of all threads, of the fastest of some calls, after a first one, which may make tables."""
    call()
    found: list[float] = []
    while len(found) < REPEATS and sum(found) < ENOUGH:
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


def _exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    return float(np.log(times[1] / times[0]) / np.log(sizes[1] / sizes[0]))
