"""Compiled model, used by all simulations: the predictions of a `SparseGP` at a fraction of the cost.

It is a handle on tables in the C library (`terms.core_terms`), which computes the terms it knows, the baseline and the sums behind
the uncertainty in one call, as in a C program. Terms that exist in Python only are added to it.

Pair potentials become splines, features without influence on the energy are omitted, and the sum over sparse points is contracted
where this is cheaper (`terms.soap_compiled`), all within a given tolerance. The uncertainty of energies is exact, the uncertainty of
forces accurate to some percent (`uncertainty.evaluators`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from ..neighbours import Pairs, find_pairs
from ..structures import a_structure, volume_of
from ..terms.baseline import Baseline
from ..terms.core_terms import CoreModel, evaluate, load
from ..terms.protocol import CompiledTerm
from ..uncertainty.evaluators import Spread, in_python, make_spread
from ..uncertainty.representatives import Representatives
from ..uncertainty.variances import Members
from .core_file import export_core, handle_tables
from .lone_atoms import lone_energies
from .parameters import Parameters
from .prediction import Prediction, make_prediction, raised

MADE = ("_baseline", "_core", "_observing", "_spread")
"""Cached properties that a model with another calibration shares."""


class Source(Parameters, ABC):
    """Model parameters that can be compiled and extended: the interface of the source of a compiled model."""

    @abstractmethod
    def compile(self, tolerance: float, precision: str, force_tolerance: float | None) -> CompiledModel:
        """Compile the model for simulations; see `SparseGP.compile`."""

    @abstractmethod
    def covering(self, numbers: np.ndarray) -> Source:
        """The model for atoms with these atomic numbers (n_atoms,); see `SparseGP.covering`."""

    @property
    @abstractmethod
    def representatives(self) -> Representatives:
        """Representatives: the sparse points that carry the uncertainty of a fitted model."""


@dataclass(frozen=True)
class CompiledModel:
    """A model with the predictions of its `source`, but faster; created by `SparseGP.compile`.

    Parameters
    ----------
    source : SparseGP
    terms : tuple of CompiledTerm
        In the order of the source's terms.
    tolerance : float
        Largest change of an atom's energy, eV.
    precision : str
        "float64", or "float32" for the products of features and sparse points.
    force_tolerance : float
        Largest change of forces on shaken environments of the data by a cut of the kernel, eV/A; 0: it was not cut.
    """

    source: Source
    terms: tuple[CompiledTerm, ...]
    tolerance: float
    precision: str
    force_tolerance: float = 0.0

    def __repr__(self) -> str:
        return f"CompiledModel({self.source!r}, tolerance {self.tolerance:g} eV, {self.precision})"

    @property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return self.source.cutoff

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers the model knows."""
        return self.source.species

    @property
    def n_sparse(self) -> int:
        return self.source.n_sparse

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """Predict energy, forces, virial and stress of a structure, and their uncertainty; see `SparseGP.predict`."""
        model = self.covering(a_structure(atoms).numbers)
        p = model.predict_pairs(find_pairs(atoms, model.cutoff), volume_of(atoms), uncertainty, atoms)
        return self.with_targets(p, atoms, uncertainty)

    def with_targets(self, prediction: Prediction, atoms: Atoms, uncertainty: bool) -> Prediction:
        """The prediction with the targets of the model, if it has any; each is computed when it is first asked for."""
        targets = self.source.targets
        return replace(prediction, targets=targets.predict(atoms, uncertainty)) if targets else prediction

    def covering(self, numbers: np.ndarray) -> CompiledModel:
        """Compiled model for atoms with these atomic numbers (n_atoms,); see `SparseGP.covering`."""
        source = self.source.covering(numbers)
        if source is self.source:
            return self
        if source.species not in self._extended:
            self._extended[source.species] = source.compile(self.tolerance, self.precision, self.force_tolerance)
        return self._extended[source.species]

    @cached_property
    def _extended(self) -> dict[tuple[int, ...], CompiledModel]:
        return {}

    def predict_pairs(
        self, pairs: Pairs, volume: float | None, uncertainty: bool = False, atoms: Atoms | None = None
    ) -> Prediction:
        """As `predict`, from a neighbour list that reaches `cutoff` and the volume in A^3 (None: no stress).

        `atoms` are needed by a model with a calculator beneath it.
        """
        beneath = self.source.beneath_of(atoms)
        if not uncertainty:
            return raised(make_prediction(pairs, volume, *self._energies(pairs)), beneath, volume)
        found = self._spread.predict(self._observing, self.source.as_known(pairs))
        return raised(make_prediction(pairs, volume, *found, self.source.calibration), beneath, volume)

    def virials(self, pairs: Pairs, atoms: Atoms | None = None) -> np.ndarray:
        """-dE_i/dstrain (n_atoms, 3, 3) of every local energy, eV, from which ASE's `stresses` are computed."""
        beneath, virials = self.source.beneath_of(atoms), pairs.virials(self._energies(pairs)[1])
        return virials if beneath is None else virials + beneath.virial / len(virials)

    def _energies(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Local energies (n_atoms,) in eV and pair gradients (n_pairs, 3) in eV/A."""
        return self._evaluate(self._core, self.source.as_known(pairs))

    def _evaluate(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Energies and pair gradients of a part in the core, and of the terms that it does not know."""
        energies, gradients = evaluate(core, pairs)
        for term in in_python(self.terms):
            term.predict(pairs, energies, gradients)
        return energies, gradients

    @cached_property
    def _core(self) -> CoreModel:
        """The model in the compiled core, without uncertainty."""
        return load(handle_tables(self.source, self.terms, self._baseline))

    @cached_property
    def _observing(self) -> CoreModel:
        """The model in the compiled core with the sums for `_spread`, on the same tables as `_core`."""
        return load(handle_tables(self.source, self.terms, self._baseline, self._spread))

    @cached_property
    def _baseline(self) -> Baseline:
        """Baseline of the source, with lone-atom energies of the compiled terms: exact whatever the tolerance."""
        baseline = self.source.baseline
        if not baseline.lone_atoms:
            return baseline
        nothing = Baseline(dict.fromkeys(self.species, 0.0), repulsion=False)
        terms = load(handle_tables(self.source, self.terms, nothing))
        return replace(baseline, lone_atoms=lone_energies(self.source, lambda pairs: self._evaluate(terms, pairs)[0]))

    def predict_members(
        self, pairs: Pairs, volume: float | None, atoms: Atoms | None = None
    ) -> tuple[Prediction, Members]:
        """As `predict_pairs` with uncertainty, together with an ensemble of potentials that are compatible with the data.

        Members are draws from the posterior of the weights, shifted so that their mean is the prediction, with deviations from the
        mean scaled by the calibration of the forces. Forces and virials are derivatives of the members' energies to within some
        percent of the deviations. The variance that the sparse points cannot represent is not included.

        Raises
        ------
        ConfigError
            If the model was imported without its training data.
        """
        found = self._spread.predict_members(self._observing, self.source.as_known(pairs))
        energies, gradients, variances, deviations = found
        calibration = self.source.calibration
        p = make_prediction(pairs, volume, energies, gradients, variances, calibration)
        p = raised(p, self.source.beneath_of(atoms), volume)
        scale = calibration.force_scale
        return p, Members(
            p.energy + scale * deviations.energies,
            p.forces + scale * deviations.forces,
            p.virial + scale * deviations.virials,
        )

    @cached_property
    def _spread(self) -> Spread:
        source = self.source
        rep = None if source.factor is None else source.representatives
        return make_spread(self.terms, rep, source.terms)

    def prepare(self) -> None:
        """Make all tables of predictions and their uncertainty, which are otherwise made on first use.

        Raises
        ------
        MlpotError, numpy.linalg.LinAlgError
            If they cannot be made of the model's numbers, or are not finite: a file was changed.
        """
        _ = self._core, self._observing
        if self.source.factor is not None:
            self.source.representatives.check()

    def export_core(self, file: str | Path, uncertainty: bool = True) -> None:
        """Write the model for C and C++ programs; see `SparseGP.export_core`."""
        if self.source.beneath is not None:
            raise ConfigError(
                f"the model is a difference from {self.source.beneath.settings.calculator}, which needs Python; "
                "fit a model without [baseline] to export it"
            )
        export_core(self.source, self.terms, self._baseline, self._spread if uncertainty else None, file)

    def of(self, source: Source) -> CompiledModel:
        """The same tables for a model that differs only in its calibration or its targets."""
        other = replace(self, source=source)
        other.__dict__.update({name: self.__dict__[name] for name in MADE if name in self.__dict__})  # as `cached_property` does
        return other

    def __reduce__(self) -> tuple:
        return _compile, (self.source, self.tolerance, self.precision, self.force_tolerance)


def _compile(source: Source, tolerance: float, precision: str, force_tolerance: float) -> CompiledModel:
    """Compile a model when it is unpickled, since compiled tables contain addresses."""
    return source.compile(tolerance, precision, force_tolerance)
