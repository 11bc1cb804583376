"""One fit: its data and settings, and the steps from sparse points to a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from ..structures import LabelledStructure
from .baseline import Baseline
from .design_matrix import Design, noise_of
from .evidence import Evidence, Posterior
from .gather import Progress, gather, silent
from .settings import FitConfig
from .sparse_gp import SparseGP
from .terms import FittedTerm


@dataclass(frozen=True)
class FitTask:
    """What is fitted to what.

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
        Makes the rows; threads of this process by default.
    """

    structures: Sequence[LabelledStructure]
    species: tuple[int, ...]
    baseline: Baseline
    config: FitConfig
    progress: Progress = silent
    executor: Executor | None = None

    @property
    def isolated_atom_energies(self) -> list[float]:
        """eV, in the order of species."""
        return [self.baseline.isolated_atom_energies[z] for z in self.species]

    def evidence(
        self, terms: tuple[FittedTerm, ...], structures: Sequence[LabelledStructure] | None = None
    ) -> Evidence:
        """What all structures, or some, tell about the sparse points of terms."""
        design = Design(terms, self.baseline, self.species, frozenset(self.config.config_type_noise))
        chosen = self.structures if structures is None else structures
        return gather(design, chosen, self.config.jitter, self.progress, self.executor)

    def posterior(self, evidence: Evidence, terms: Sequence[FittedTerm]) -> Posterior:
        """The fit with the noises of the configuration and the energy scales of the terms."""
        noises = {group: noise_of(self.config, group) for group in evidence.groups}
        return evidence.posterior(noises, [term.energy_scale for term in terms], self.isolated_atom_energies)

    def model(self, posterior: Posterior, terms: tuple[FittedTerm, ...]) -> SparseGP:
        """The model without a report."""
        return SparseGP(
            species=self.species,
            terms=terms,
            weights=posterior.weights,
            baseline=self.baseline,
            factor=posterior.factor,
            jitter=self.config.jitter,
            config=self.config,
            provenance=provenance(self.structures),
        )


def provenance(structures: Sequence[LabelledStructure]) -> dict:
    """Hash of everything a fit saw."""
    from .. import __version__

    digest = hashlib.sha256()
    for s in structures:
        for array in (s.atoms.numbers, s.atoms.positions, s.atoms.cell.array, s.energy, s.forces, s.virial):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return {"mlpot_version": __version__, "data_sha256": digest.hexdigest()}
