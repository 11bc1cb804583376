"""A single fit: its data and settings, and the steps from sparse points to a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..models.lone_atoms import anchored
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig
from ..structures import LabelledStructure
from ..terms.baseline import Baseline
from ..terms.layout import reach
from ..terms.protocol import FittedTerm
from ..terms.witnesses import Witnesses
from .accumulate import Progress, gather, silent
from .adaptation import Hyperparameters
from .design_matrix import Design, Group, noise_of
from .noises import noises_of
from .posterior import NormalEquations, Posterior


@dataclass(frozen=True)
class FitTask:
    """Data and settings of a fit.

    Parameters
    ----------
    structures : sequence of LabelledStructure
    species : tuple of int
        Sorted atomic numbers.
    baseline : Baseline
    config : FitConfig
        Resolved.
    progress : callable
        Called with (stage, done, total).
    executor : concurrent.futures.Executor or None
        Computes the rows; threads of this process by default.
    """

    structures: Sequence[LabelledStructure]
    species: tuple[int, ...]
    baseline: Baseline
    config: FitConfig
    progress: Progress = silent
    executor: Executor | None = None

    def design(self, terms: tuple[FittedTerm, ...]) -> Design:
        """Design that computes the rows of structures for given terms."""
        return Design(terms, self.baseline, self.species, frozenset(self.config.config_type_noise), self.config.jitter)

    def gathered(
        self, design: Design, structures: Sequence[LabelledStructure] | None = None
    ) -> dict[Group, NormalEquations]:
        """Accumulated normal equations of all structures, or of the given ones, for a design."""
        chosen = self.structures if structures is None else structures
        return gather(design, chosen, self.progress, self.executor)

    def hyperparameters(self, terms: Sequence[FittedTerm], groups: Iterable[Group]) -> Hyperparameters:
        """The noises of the configuration and the energy scales of the terms."""
        scales = np.array([scale for term in terms for scale in term.energy_scales])
        return Hyperparameters({group: noise_of(self.config, group) for group in groups}, scales)

    def model(self, posterior: Posterior, terms: tuple[FittedTerm, ...]) -> SparseGP:
        """The model without a report; its terms have the energy scales of the posterior."""
        model = SparseGP(
            species=self.species,
            terms=with_scales(terms, posterior.scales),
            weights=posterior.weights,
            baseline=self.baseline,
            factor=posterior.factor,
            jitter=self.config.jitter,
            config=self.config,
            provenance=provenance(self.structures),
            noises=noises_of(posterior),
            witnesses=witnesses_of(self.structures, self.config, terms, self.baseline, self.species),
        )
        return anchored(model)


def witnesses_of(
    structures: Sequence[LabelledStructure],
    config: FitConfig,
    terms: Sequence[FittedTerm],
    baseline: Baseline,
    species: tuple[int, ...],
) -> Witnesses | None:
    """Environments that a model needs if its kernel is to be cut."""
    return Witnesses.of(structures, reach(terms, baseline, species)) if config.force_tolerance else None


def with_scales(terms: Sequence[FittedTerm], scales: np.ndarray) -> tuple[FittedTerm, ...]:
    """The terms with these energy scales (n_blocks,), eV."""
    ends = np.cumsum([0, *(len(term.points) for term in terms)])
    return tuple(
        term.with_scales(tuple(scales[a:b].tolist()))
        for term, (a, b) in zip(terms, pairwise(ends), strict=True)
    )


def provenance(structures: Sequence[LabelledStructure]) -> dict:
    """Hash of all data of a fit."""
    from .. import __version__

    digest = hashlib.sha256()
    for s in structures:
        for array in (s.atoms.numbers, s.atoms.positions, s.atoms.cell.array, s.energy, s.forces, s.virial):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return {"mlpot_version": __version__, "data_sha256": digest.hexdigest()}
