"""Trials: from settings to errors on left-out groups and the cost of a prediction.

In the step "features" the model has a few environments, the same ones for all settings, or is linear in the summed features: no
sparse points are chosen. In the step "joint" a trial is a full fit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from ..errors import ConfigError, FitError
from ..fitting.batch import make_baseline, make_terms
from ..fitting.posterior import Posterior
from ..fitting.task import FitTask
from ..models.sparse_gp import SparseGP
from ..neighbours import find_pairs
from ..settings.fit import FitConfig
from ..settings.presets import resolve
from ..settings.tune import TuneSettings
from ..structures import LabelledStructure
from ..terms.protocol import FittedTerm
from .cost import microseconds_per_atom, timed_structures
from .journal import Outcome
from .left_out import errors_left_out
from .material import Group
from .space import Space, Values

MOST_MEMORY = 0.5
"""Part of the free memory that a trial may need."""
NEIGHBOUR_BYTES = 3 * 8
"""Memory for one component of a gradient, for each neighbour and column."""


@dataclass(frozen=True)
class Trials:
    """Evaluation of settings on a sample of the training data.

    Parameters
    ----------
    space : Space
    groups : sequence of lists of LabelledStructure
        Left out one after the other.
    always : sequence of LabelledStructure
        Isolated atoms.
    species : tuple of int
    settings : TuneSettings
    is_joint : bool
        Whether every trial is a full fit.
    """

    space: Space
    groups: Sequence[Group]
    always: Sequence[LabelledStructure]
    species: tuple[int, ...]
    settings: TuneSettings
    is_joint: bool = False

    def __call__(self, values: Values) -> Outcome:
        """Errors and cost of settings; MlpotError if they cannot be fitted."""
        started = time.process_time()
        structures = [*self.always, *(s for group in self.groups for s in group)]
        config = resolved(self.space.config(values), self.species)
        self._check_memory(config)
        task = FitTask(structures, self.species, make_baseline(config, structures, self.species), config)
        terms = make_terms(task) if self.is_joint else self._small_terms(task)
        errors, posterior = errors_left_out(task, terms, self.groups)
        is_timed = "cost" in self.settings.objectives or self.settings.max_cost
        cost = self._cost(task, terms, posterior) if is_timed else None
        return Outcome(
            forces=errors.forces,
            energies=errors.energies,
            cost=cost,
            seconds=time.process_time() - started,
            n_fits=int(self.is_joint),
        )

    def _small_terms(self, task: FitTask) -> tuple[FittedTerm, ...]:
        """Terms without selected points: with probes, or linear in the features."""
        if self.settings.loss == "kernel":
            return make_terms(task, lambda term, settings: self.environments(term, self.settings.probes))
        terms = make_terms(task, lambda term, settings: tuple(np.eye(term.features.n_features) for _ in self.species))
        if any(term.is_many_body and term.exponent is None for term in terms):
            raise ConfigError('tune.loss = "linear": needs kernel = "polynomial" in every term; set tune.loss = "kernel"')
        return tuple(term.with_exponent(1.0) if term.is_many_body else term for term in terms)

    def environments(self, term: Any, most: int) -> tuple[np.ndarray, ...]:
        """Features (n, n_features) of at most `most` environments of each element: the same atoms for all settings."""
        found = []
        structures = [s for group in self.groups for s in group]
        for z in self.species:
            where = [(k, i) for k, s in enumerate(structures) for i in np.flatnonzero(s.atoms.numbers == z).tolist()]
            rng = np.random.default_rng([self.settings.seed, z])
            chosen = sorted(where[k] for k in rng.permutation(len(where))[:most].tolist())
            parts = [np.empty((0, term.features.n_features))]
            for k in sorted({k for k, _ in chosen}):
                pairs = find_pairs(structures[k].atoms, term.cutoff)
                parts.append(term.features.compute(pairs, np.array([i for m, i in chosen if m == k], np.int32)))
            found.append(np.concatenate(parts))
        return tuple(found)

    def _cost(self, task: FitTask, terms: tuple[FittedTerm, ...], posterior: Posterior) -> float:
        """us/atom of the model; with probes, of its many-body terms with arbitrary weights and points up to the final number."""
        timed = timed_structures([s for group in self.groups for s in group])
        many = [(t, s) for t, s in zip(terms, task.config.terms, strict=True) if t.is_many_body]
        if self.is_joint or not many:
            return microseconds_per_atom(task.model(posterior, terms), timed)
        whole = tuple(self._of_final_size(term, settings) for term, settings in many)
        weights = 1e-3 * np.random.default_rng(0).standard_normal(sum(term.n_sparse for term in whole))
        baseline = task.baseline
        model = SparseGP(species=self.species, terms=whole, weights=weights, baseline=baseline, factor=None, jitter=0.0)
        return microseconds_per_atom(model, timed)

    def _of_final_size(self, term: Any, settings: Any) -> FittedTerm:
        rng, points = np.random.default_rng(1), []
        counts = [sum(int(np.sum(s.atoms.numbers == z)) for g in self.groups for s in g) for z in self.species]
        for z, own, available in zip(self.species, self.environments(term, self.settings.probes), counts, strict=True):
            wanted = min(settings.most_sparse(z), max(available, len(own))) if len(own) else 0
            drawn = own[rng.integers(len(own), size=wanted)] if wanted else own
            drawn = drawn + 0.01 * rng.standard_normal(drawn.shape) / np.sqrt(max(drawn.shape[1], 1))
            points.append(drawn / np.linalg.norm(drawn, axis=1, keepdims=True) if wanted else drawn)
        zeta = getattr(settings, "zeta", None)
        whole = term if term.exponent is None else term.with_exponent(zeta)
        return whole.with_points(tuple(points))

    def _check_memory(self, config: FitConfig) -> None:
        """FitError before a trial that would exhaust the memory of the machine, which might end this process."""
        largest = max((s for group in self.groups for s in group), key=lambda s: s.n_atoms)
        reach = max(getattr(term, "cutoff", 0.0) for term in config.terms)
        n_columns = self.settings.probes * len(self.species)
        needed = largest.n_atoms * neighbours_of(largest, reach) * n_columns * NEIGHBOUR_BYTES
        free = psutil.virtual_memory().available
        if needed > MOST_MEMORY * free:
            raise FitError(
                f"{neighbours_of(largest, reach):.0f} neighbours within {reach:g} A need about {needed / 2**30:.1f} GB, and "
                f"{free / 2**30:.1f} GB are free; reduce the upper bound of the cutoff"
            )


def resolved(config: FitConfig, species: tuple[int, ...]) -> FitConfig:
    """Configuration of a trial: everything written out, without checks of labels."""
    return resolve(config.model_copy(update={"check_labels": False, "tune": False}), species)


def neighbours_of(structure: LabelledStructure, cutoff: float) -> float:
    """Approximate number of neighbours of an atom, from the density; at most all other atoms without periodicity."""
    atoms = structure.atoms
    if not atoms.pbc.all():
        return float(len(atoms) - 1) * float(np.prod(np.where(atoms.pbc, 1 + cutoff / np.maximum(atoms.cell.lengths(), 1.0), 1)))
    return len(atoms) / atoms.get_volume() * 4 / 3 * np.pi * cutoff**3
