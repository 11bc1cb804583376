"""Selection of sparse points from any number of environments: features are computed structure by structure, in chunks.

Only one chunk of features is in memory at a time, in addition to the points already chosen and, for CUR, one matrix
(n_features, n_features).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from ..errors import ConfigError
from ..neighbours import find_pairs
from ..settings.sparse import SparseSettings
from ..structures import LabelledStructure
from ..terms.kernels import Kernel
from ..terms.protocol import Features, ManyBodyTerm
from ..terms.selection import DUPLICATE, Distinct, ExplainedVariance, by_distance, leverage_factor, leverage_scores
from .accumulate import Progress

CHUNK_VALUES = 5e6
"""Feature values of a chunk (40 MB), unless `CORE_SETS` times the sparse points need more."""
CORE_SETS = 4
"""Smallest ratio of the size of a chunk to the number of points chosen from it, so that a core-set is a small part of its chunk."""

Choice = Callable[[np.ndarray], np.ndarray]
"""Function from features (n, n_features) to the indices of the chosen ones."""
logger = logging.getLogger(__name__)


def choose_sparse_points(
    term: ManyBodyTerm,
    number: int,
    structures: Sequence[LabelledStructure],
    settings: SparseSettings,
    rng: np.random.Generator,
    progress: Progress,
) -> np.ndarray:
    """Choose sparse points for one element: features (n_sparse, n_features) of representative environments.

    The quotas in `settings.config_type_n_sparse` are filled first, each from the structures of its config_type; the remaining
    points are chosen from all structures.

    Parameters
    ----------
    term : ManyBodyTerm
        Term whose features and kernel are used for the selection.
    number : int
        Atomic number of the element.
    progress : callable
        Called with (stage, structures done, structures); each pass over the structures is a stage.

    Raises
    ------
    ConfigError
        If `settings` name a config_type that no structure has, or do not include the element.
    """
    n_sparse = settings.n_sparse_of(number)
    present = {s.config_type for s in structures}
    if not present.issuperset(settings.config_type_n_sparse):
        absent = sorted(set(settings.config_type_n_sparse) - present)
        raise ConfigError(
            f"config_type_n_sparse: no structure has config_type {absent}; the data has {sorted(present)}"
        )
    size = chunk_size(term.features.n_features, settings.most_sparse(number))
    points = np.empty((0, term.features.n_features))
    choose = METHODS[settings.sparse_method]
    for config_type, quota in settings.config_type_n_sparse.items():
        members = [s for s in structures if s.config_type == config_type]
        environments = Environments(term.features, number, members, size, progress, f" of {config_type}")
        points = np.concatenate([points, choose(environments, quota, points, term.kernel, rng)])
        del environments  # it may hold a chunk
    if len(points) == n_sparse:
        return points
    everything = Environments(term.features, number, structures, size, progress)
    if n_sparse == "auto":
        return until_explained(everything, settings, term.kernel, points)
    return np.concatenate([points, choose(everything, n_sparse - len(points), points, term.kernel, rng)])


def chunk_size(n_features: int, n_sparse: int) -> int:
    """Environments per chunk: each needs memory for its features and, in some methods, a covariance with every point."""
    return max(int(CHUNK_VALUES / max(n_features, n_sparse)), CORE_SETS * n_sparse)


@dataclass
class Environments:
    """All environments of one element in a sequence of structures, numbered consecutively.

    Parameters
    ----------
    descriptor : Features
    number : int
        Atomic number of the element.
    structures : sequence of LabelledStructure
    size : int
        Largest number of environments whose features are in memory at once.
    progress : callable
        Called with (stage, structures done, structures).
    where : str
        Suffix of the names of stages.
    """

    descriptor: Features
    number: int
    structures: Sequence[LabelledStructure]
    size: int
    progress: Progress
    where: str = ""

    def __post_init__(self) -> None:
        self._centres = [np.flatnonzero(s.atoms.numbers == self.number) for s in self.structures]
        self._begins = np.cumsum([0, *map(len, self._centres)])
        self._all: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self._begins[-1])

    def chunks(self, stage: str) -> Iterator[np.ndarray]:
        """Yield features (n, n_features) of all environments; each array is valid until the next one is requested.

        All chunks except the last have `size` environments, independent of the sizes of structures. A single chunk with all
        environments is kept for the next pass.
        """
        if self._all is not None:
            yield self._all
            return
        for chunk in self._filled(self._centres, min(self.size, len(self)), stage):
            if len(chunk) == len(self):
                self._all = chunk
            yield chunk

    def features(self, indices: np.ndarray, stage: str) -> np.ndarray:
        """Features (n, n_features) of environments with the given indices (n,), at least one, in that order."""
        order = np.argsort(indices)
        parts = np.split(indices[order], np.searchsorted(indices[order], self._begins[1:-1]))
        centres = [
            atoms[part - begin] for atoms, part, begin in zip(self._centres, parts, self._begins[:-1], strict=True)
        ]
        (found,) = self._filled(centres, len(indices), stage)
        return found[np.argsort(order)]

    def _filled(self, centres: list[np.ndarray], size: int, stage: str) -> Iterator[np.ndarray]:
        """Yield features of the atoms `centres` of every structure, in one array of `size` rows that is reused."""
        buffer = np.empty((size, self.descriptor.n_features))
        n_filled = 0
        name = f"{chemical_symbols[self.number]} {stage}{self.where}"
        for k, (structure, atoms) in enumerate(zip(self.structures, centres, strict=True)):
            if not len(atoms):
                continue
            pairs = find_pairs(structure.atoms, self.descriptor.cutoff)
            while len(atoms):
                part, atoms = np.split(atoms, [size - n_filled])
                buffer[n_filled : n_filled + len(part)] = self.descriptor.compute(pairs, part)
                n_filled += len(part)
                if n_filled == size:
                    yield buffer
                    n_filled = 0
            self.progress(name, k + 1, len(self.structures))
        if n_filled:
            yield buffer[:n_filled]


def at_random(
    environments: Environments, most: int, known: np.ndarray, kernel: Kernel, rng: np.random.Generator
) -> np.ndarray:
    """Choose environments uniformly at random, without duplicates; few other features are computed."""
    order = rng.permutation(len(environments))
    distinct, points = Distinct(known), known[:0]
    begin, n_next = 0, most
    while len(points) < most and begin < len(order):
        found = environments.features(order[begin : begin + n_next], "environments")
        points = np.concatenate([points, found[distinct.first(found)]])[:most]
        begin += n_next
        n_next = min(2 * n_next, environments.size)
    return points


def by_leverage(
    environments: Environments, most: int, known: np.ndarray, kernel: Kernel, rng: np.random.Generator
) -> np.ndarray:
    """CUR: draw environments with probabilities proportional to their leverage scores, without duplicates.

    Mahoney and Drineas, PNAS 106, 697 (2009), doi:10.1073/pnas.0803205106. One pass for X'X, one for the scores.
    """
    distinct, firsts = Distinct(known), []
    gram = np.zeros((environments.descriptor.n_features,) * 2)
    for chunk in environments.chunks("environments"):
        firsts.append(np.flatnonzero(distinct.first(chunk)))
        gram += _gram(chunk[firsts[-1]])
    n_candidates = sum(map(len, firsts))
    if not n_candidates:
        return known[:0]
    factor = leverage_factor(gram)
    draws = np.split(np.log(rng.random(n_candidates)), np.cumsum([len(first) for first in firsts])[:-1])
    points, keys = known[:0], np.empty(0)
    for chunk, first, draw in zip(environments.chunks("leverage scores"), firsts, draws, strict=True):
        # Efraimidis and Spirakis' keys: the largest are a weighted draw without replacement.
        found = draw / np.maximum(leverage_scores(chunk[first], factor), 1e-300)
        best = _largest(found, most)
        points, keys = np.concatenate([points, chunk[first[best]]]), np.concatenate([keys, found[best]])
        best = _largest(keys, most)
        points, keys = points[best], keys[best]
    return points


def _gram(features: np.ndarray) -> np.ndarray:
    return features.T @ features


def _largest(keys: np.ndarray, most: int) -> np.ndarray:
    """Sorted indices of the `most` largest keys."""
    return np.sort(np.argsort(keys)[max(len(keys) - most, 0) :])


def by_farthest(
    environments: Environments, most: int, known: np.ndarray, kernel: Kernel, rng: np.random.Generator
) -> np.ndarray:
    """Farthest-point sampling in each chunk, then among the resulting core-sets."""
    return _from_core_sets(environments, known, lambda features: by_distance(features, most, known, rng))


def by_variance(
    environments: Environments, most: int, known: np.ndarray, kernel: Kernel, rng: np.random.Generator
) -> np.ndarray:
    """Greedy choice of the largest unexplained variance in each chunk, then among the resulting core-sets."""
    explained = ExplainedVariance.by(known, kernel)
    return _from_core_sets(environments, known, lambda features: explained.choose(features, most, DUPLICATE))


def until_explained(environments: Environments, settings: SparseSettings, kernel: Kernel, known: np.ndarray) -> np.ndarray:
    """Choose points, starting with the known ones, until no environment has more unexplained variance than a tolerance.

    The tolerance is relative to the prior variance. Core-sets satisfy it for their own chunks; a second pass adds the points that
    their union lacks and thereby verifies the bound. If `settings.max_sparse` points are not enough, a warning states the bound
    that was reached.
    """
    most, tolerance = settings.max_sparse, settings.sparse_tolerance
    start = ExplainedVariance.by(known, kernel)
    found = _from_core_sets(environments, known, lambda features: start.choose(features, most - len(known), tolerance))
    explained = ExplainedVariance.by(np.concatenate([known, found]), kernel)
    largest = 0.0
    for chunk in environments.chunks("unexplained variances"):
        explained, left = explained.extended(chunk, most - len(explained.points), tolerance)
        largest = max(largest, left)
    if largest > tolerance:
        logger.warning(
            "%d sparse points of %s leave up to %.1e of the prior variance of an environment, more than "
            "sparse_tolerance = %.1e; raise max_sparse or sparse_tolerance",
            most, chemical_symbols[environments.number], largest, tolerance,
        )  # fmt: skip
    return explained.points


def _from_core_sets(environments: Environments, known: np.ndarray, choose: Choice) -> np.ndarray:
    """Apply `choose` to every chunk and then to the union of its choices; features (n, n_features).

    Composable core-sets: Indyk, Mahabadi, Mahdian and Mirrokni, PODS 2014, doi:10.1145/2594538.2594560. When the
    core-sets themselves fill a chunk, they are replaced by the core-set of that chunk.
    """
    core_sets = [known[:0]]
    for chunk in environments.chunks("environments"):
        if sum(map(len, core_sets)) > environments.size:
            core_sets = [_chosen(np.concatenate(core_sets), choose)]
        core_sets.append(_chosen(chunk, choose))
    return core_sets[-1] if len(core_sets) <= 2 else _chosen(np.concatenate(core_sets), choose)


def _chosen(features: np.ndarray, choose: Choice) -> np.ndarray:
    return features[np.sort(choose(features))] if len(features) else features


METHODS: dict[str, Callable[[Environments, int, np.ndarray, Kernel, np.random.Generator], np.ndarray]] = {
    "cur": by_leverage,
    "farthest": by_farthest,
    "random": at_random,
    "variance": by_variance,
}
"""Function of (environments, largest number of points, known points, kernel, rng) that returns the features of new points."""
