"""What a model is made of: a frozen record below everything that predicts, compiles, extends or saves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase.data import chemical_symbols

from ..neighbours import Pairs
from ..settings.fit import FitConfig
from ..terms.baseline import Baseline
from ..terms.layout import columns, reach
from ..terms.protocol import Term
from ..uncertainty.calibration import UNCALIBRATED, Calibration
from ..uncertainty.noises import Noises
from ..uncertainty.variances import NONE
from .report import FitReport


@dataclass(frozen=True)
class Parameters:
    """A sum of sparse Gaussian processes over a baseline.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers it was fitted for.
    terms : tuple of Term
        Parts with sparse points of their own.
    weights : (M,) array
        Fitted coefficients of all sparse points, term after term, 1/eV.
    baseline : Baseline
        Energy that was known before the fit.
    factor : (M, M) array or None
        Upper triangular R with R'R = K_mm + K_mn Sigma^-1 K_nm; None for an imported model, of whose data nothing is known.
    jitter : float
        Addition to the diagonal of K_mm in units of the squared energy scales.
    config : FitConfig or None
        What the fit was asked for, written out; None for an imported model.
    report : FitReport or None
        How the fit went.
    provenance : dict
        Version of mlpot, hash of the data.
    regularisation : float
        eV; its square is added to K_mm and to the prior variances of an imported model (QUIP's
        gap_variance_regularisation).
    calibration : Calibration
        Of the standard deviations; see `calibrated`.
    noises : Noises
        Of its labels: the model's discrepancy.
    stand_ins : dict of int to int
        Elements that the data did not have, and those whose sparse points they take; see `covering`.
    """

    species: tuple[int, ...]
    terms: tuple[Term, ...]
    weights: np.ndarray
    baseline: Baseline
    factor: np.ndarray | None
    jitter: float
    config: FitConfig | None = None
    report: FitReport | None = None
    provenance: dict = field(default_factory=dict)
    regularisation: float = 0.0
    calibration: Calibration = UNCALIBRATED
    noises: Noises = NONE
    stand_ins: Mapping[int, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        elements = " ".join(chemical_symbols[z] for z in self.species)
        kinds = " + ".join(term.label for term in self.terms)
        return f"{type(self).__name__}({elements}: {kinds}, {self.n_sparse} sparse points, cutoff {self.cutoff:.3g} A)"

    @cached_property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return reach(self.terms, self.baseline, self.species)

    @property
    def n_sparse(self) -> int:
        return len(self.weights)

    @property
    def fitted_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers that the data had."""
        return tuple(z for z in self.species if z not in self.stand_ins)

    def add_terms(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3) of all terms, straight from the formulas, for pairs of
        `as_known`."""
        for term, part in zip(self.terms, columns(self.terms), strict=True):
            term.predict(pairs, self.weights[part], energies, pair_gradients)

    def as_known(self, pairs: Pairs) -> Pairs:
        """The pairs as the terms take them: unseen elements count as those that stand in for them."""
        if not self.stand_ins:
            return pairs
        return pairs.counting_as(np.array([self.stand_ins.get(z, z) for z in pairs.numbers.tolist()], np.int32))

    def __getstate__(self) -> dict:
        return {key: self.__dict__[key] for key in self.__dataclass_fields__}
