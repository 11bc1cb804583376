"""Environments from the data of a fit that travel with a model: compiled tables are checked on them, shaken.

A tolerance stated as a force error needs environments, and sparse points are features only. A few environments of every element
are kept; shaken, they are stranger than anything a simulation should visit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.stored import Stored
from ..neighbours import Pairs, find_pairs
from ..structures import LabelledStructure

MOST_WITNESSES = 24
"""Environments of every element: root mean squares over them are known to some ten percent."""
MOST_NEIGHBOURS = 100_000
"""Neighbours of all witnesses together, in files."""
SHAKE = 0.15
"""Standard deviation of displacements in units of the shortest distance of an environment: 0.35 A in silicon."""
SEED = 25
SHORTEST = 0.3
"""Shaken atoms stay at least at this fraction of their distance."""


@dataclass(frozen=True, eq=False)
class Witnesses:
    """Environments: centres with their neighbours, element by element.

    Parameters
    ----------
    numbers : (n,) int array
        Atomic numbers of the centres.
    counts : (n,) int array
        Number of neighbours of each centre.
    neighbours : (n_pairs,) int array
        Atomic numbers of the neighbours, centre after centre.
    vectors : (n_pairs, 3) array
        From the centres to the neighbours, A.
    """

    numbers: np.ndarray
    counts: np.ndarray
    neighbours: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, structures: Sequence[LabelledStructure], cutoff: float) -> Witnesses:
        """Environments within `cutoff` (A) from structures that are evenly spaced in the data, always the same ones."""
        rng = np.random.default_rng(SEED)
        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, holders in _holders(structures).items():
            chosen = np.unique(np.linspace(0, len(holders) - 1, MOST_WITNESSES).round().astype(int))
            for structure in (structures[holders[k]] for k in chosen):
                pairs = find_pairs(structure.atoms, cutoff)
                centre = rng.choice(np.flatnonzero(pairs.numbers == number))
                own = slice(*pairs.offsets[centre : centre + 2])
                found.setdefault(number, []).append((pairs.numbers[pairs.j[own]], pairs.vectors[own]))
        both = [environment for number in sorted(found) for environment in found[number]]
        return cls(
            np.repeat(sorted(found), [len(found[number]) for number in sorted(found)]).astype(np.int64),
            np.array([len(neighbours) for neighbours, _ in both], np.int64),
            np.concatenate([np.empty(0, np.int64), *(neighbours for neighbours, _ in both)]).astype(np.int64),
            np.concatenate([np.empty((0, 3)), *(vectors for _, vectors in both)]),
        )

    @classmethod
    def read(cls, stored: Stored, species: tuple[int, ...]) -> Witnesses | None:
        """Read what `arrays` wrote, below "witnesses" in a file; None if there are none. ValueError for invalid content."""
        if "witnesses/numbers" not in stored:
            return None
        low, high = min(species), max(species)
        numbers = stored.integers("witnesses/numbers", (None,), low, high)
        counts = stored.integers("witnesses/counts", (len(numbers),), 0, MOST_NEIGHBOURS)
        n_pairs = int(counts.sum())
        neighbours = stored.integers("witnesses/neighbours", (n_pairs,), low, high)
        vectors = stored.floats("witnesses/vectors", (n_pairs, 3), -1e3, 1e3)
        if strangers := {*numbers.tolist(), *neighbours.tolist()} - set(species):
            raise ValueError(f"witnesses: atomic number {min(strangers)} is not one of the model's")
        if n_pairs and np.linalg.norm(vectors, axis=1).min() <= 0:
            raise ValueError("witnesses: an atom coincides with its neighbour")
        return cls(numbers, counts, neighbours, vectors)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays for a file, by name."""
        return {f"witnesses/{name}": getattr(self, name) for name in ("numbers", "counts", "neighbours", "vectors")}

    def shaken(self) -> Pairs:
        """All environments as pairs, shaken by `SHAKE`; the first atoms are the centres, and only they have neighbours."""
        n, n_pairs = len(self.numbers), len(self.neighbours)
        i = np.repeat(np.arange(n), self.counts).astype(np.int32)
        distances = np.linalg.norm(self.vectors, axis=1)
        shortest = np.full(n, np.inf)
        np.minimum.at(shortest, i, distances)
        rng = np.random.default_rng(SEED)
        steps = SHAKE * shortest[i][:, None] * rng.standard_normal((n_pairs, 3))
        vectors = self.vectors + steps
        closest = SHORTEST * distances / np.maximum(np.linalg.norm(vectors, axis=1), 1e-300)
        vectors *= np.maximum(closest, 1.0)[:, None]
        return Pairs(
            np.concatenate([self.numbers, self.neighbours]), i, (n + np.arange(n_pairs)).astype(np.int32),
            np.zeros((n_pairs, 3), np.int32), np.ascontiguousarray(vectors), np.linalg.norm(vectors, axis=1),
            np.concatenate([[0], np.cumsum(self.counts), np.full(n_pairs, n_pairs)]).astype(np.int64),
        )  # fmt: skip


def _holders(structures: Sequence[LabelledStructure]) -> dict[int, list[int]]:
    """Indices of the structures that hold each element."""
    found: dict[int, list[int]] = {}
    for k, structure in enumerate(structures):
        for number in np.unique(structure.atoms.numbers).tolist():
            found.setdefault(number, []).append(k)
    return found
