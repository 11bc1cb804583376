"""Parameters of a model: a frozen record used by everything that predicts, compiles, extends or saves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ..errors import ConfigError
from ..neighbours import Pairs
from ..settings.fit import FitConfig
from ..terms.baseline import Baseline
from ..terms.calculator_baseline import BaselineResults, CalculatorBaseline
from ..terms.layout import columns, reach
from ..terms.protocol import Term
from ..terms.witnesses import Witnesses
from ..uncertainty.calibration import UNCALIBRATED, Calibration
from ..uncertainty.noises import Noises
from ..uncertainty.variances import NONE
from .report import FitReport
from .tensors import NO_TARGETS, TargetModels


@dataclass(frozen=True)
class Parameters:
    """Parameters of a sum of sparse Gaussian processes on top of a baseline.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers that the model was fitted for.
    terms : tuple of Term
        Terms, each with its own sparse points.
    weights : (M,) array
        Fitted coefficients of all sparse points, term after term, 1/eV.
    baseline : Baseline
        Energy known before the fit.
    factor : (M, M) array or None
        Upper triangular R with R'R = K_mm + K_mn Sigma^-1 K_nm; None for a model imported without its training data.
    jitter : float
        Addition to the diagonal of K_mm in units of the squared energy scales.
    config : FitConfig or None
        Resolved configuration of the fit; None for an imported model.
    report : FitReport or None
        Report of the fit.
    provenance : dict
        Version of mlpot and hash of the data.
    regularisation : float
        eV; its square is added to K_mm and to the prior variances of an imported model (QUIP's
        gap_variance_regularisation).
    calibration : Calibration
        Calibration of the standard deviations; see `calibrated`.
    noises : Noises
        Fitted noises of the labels: the model discrepancy.
    stand_ins : dict of int to int
        Elements absent from the data, and the known elements whose sparse points they use; see `covering`.
    targets : TargetModels
        Quantities learned besides energies: dipoles, polarisabilities, ...
    beneath : CalculatorBaseline or None
        Calculator whose results are added to the sum of the terms and the baseline.
    witnesses : Witnesses or None
        Environments of the data on which compiled tables are checked; None: the kernel is compiled exactly.
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
    targets: TargetModels = NO_TARGETS
    beneath: CalculatorBaseline | None = None
    witnesses: Witnesses | None = None

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
        """Sorted atomic numbers in the training data."""
        return tuple(z for z in self.species if z not in self.stand_ins)

    def add_terms(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3) of all terms, directly from the formulas.

        `pairs` must come from `as_known`.
        """
        for term, part in zip(self.terms, columns(self.terms), strict=True):
            term.predict(pairs, self.weights[part], energies, pair_gradients)

    def as_known(self, pairs: Pairs) -> Pairs:
        """The pairs with unseen elements replaced by their stand-ins, as the terms expect them."""
        if not self.stand_ins:
            return pairs
        return pairs.counting_as(np.array([self.stand_ins.get(z, z) for z in pairs.numbers.tolist()], np.int32))

    def beneath_of(self, atoms: Atoms | None) -> BaselineResults | None:
        """Results of the calculator beneath the model for a structure, or None if there is no such calculator.

        Raises
        ------
        ConfigError
            If the structure is needed and not given.
        """
        if self.beneath is None:
            return None
        if atoms is None:
            raise ConfigError("this model is a difference from a calculator, which needs the structure: pass atoms, not pairs alone")
        return self.beneath.results(atoms)

    def __getstate__(self) -> dict:
        return {key: self.__dict__[key] for key in self.__dataclass_fields__}
