"""The fitted model: a sum of sparse Gaussian processes on top of a baseline, as a frozen collection of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ..descriptors.density import species_indices, unseen_among
from ..errors import ConfigError
from ..neighbours import Pairs, find_pairs
from ..structures import a_structure, volume_of
from ..terms.layout import columns
from ..terms.soap_cut import Cut
from ..threads import single_blas_thread
from ..uncertainty.calibration import Calibration
from ..uncertainty.references import References
from ..uncertainty.representatives import Choice, Representatives, choose
from ..uncertainty.variances import NoveltyAlone, Variances
from .compiled_model import CompiledModel, Source
from .extrapolation import extended
from .prediction import Prediction, make_prediction, raised
from .saving import save_model
from .tensors import TargetModels

DEFAULT_TOLERANCE = 1e-8
"""Default tolerance of compilation: largest change of an atom's energy, eV."""
MADE: tuple[str, ...] = ("cutoff", "choice", "representatives", "compiled")
"""Cached properties that a recalibrated model shares."""


@dataclass(frozen=True, repr=False)
class SparseGP(Source):
    """A fitted potential: its `Parameters`, and everything derived from them on first use."""

    def compile(
        self, tolerance: float = DEFAULT_TOLERANCE, precision: str = "float64", force_tolerance: float | None = None
    ) -> CompiledModel:
        """Compile the model for simulations; `predict`, the calculators and the learning loop use the default settings.

        Parameters
        ----------
        tolerance : float
            Largest change of an atom's energy, eV.
        precision : "float64" or "float32"
            With "float32", products of features that are small enough for a force error below 1e-4 eV/A are computed in single
            precision. The uncertainty is the same in both cases.
        force_tolerance : float or None
            Root mean square change of forces on shaken environments of the data, eV/A, up to which the kernel is cut to a
            lower rank; 0: not at all; None: as the configuration of the fit says. It is measured when the model is compiled,
            and models without environments of their data are not cut.

        Raises
        ------
        ConfigError
            For a tolerance that is not positive, a negative force_tolerance, or another precision.
        """
        for key, value in (("tolerance", tolerance), ("force_tolerance", force_tolerance or 0.0)):
            if not isinstance(value, int | float | np.number):
                raise ConfigError(f"{key} = {value!r}: must be a number")
        if not tolerance > 0:
            raise ConfigError(f"tolerance = {tolerance}: must be a positive number of eV")
        if precision not in ("float64", "float32"):
            raise ConfigError(f"precision = {precision!r}: must be 'float64' or 'float32'")
        if force_tolerance is None:
            force_tolerance = (self.config and self.config.force_tolerance) or 0.0
        if not 0 <= force_tolerance < np.inf:
            raise ConfigError(f"force_tolerance = {force_tolerance}: must be zero or a positive number of eV/A")
        regularisation = self.regularisation if self.factor is None else None
        known = {} if self.factor is None else self.choice.kept
        share = tolerance / len(self.terms)
        if self.baseline.lone_atoms:
            share /= 2  # two compiled energies are subtracted
        cut = self._cut(force_tolerance)
        with single_blas_thread():
            terms = tuple(
                term.compile(
                    self.weights[part], share, regularisation, single=precision == "float32", known=known.get(k),
                    **({"cut": cut} if term.can_be_cut else {}),
                )
                for k, (term, part) in enumerate(zip(self.terms, columns(self.terms), strict=True))
            )  # fmt: skip
        return CompiledModel(self, terms, tolerance, precision, force_tolerance)

    def _cut(self, force_tolerance: float) -> Cut | None:
        """Share of a force tolerance (eV/A) for each of the terms that can be cut."""
        if not force_tolerance or self.witnesses is None:
            return None
        n_terms = sum(term.can_be_cut for term in self.terms)
        return Cut(force_tolerance / np.sqrt(n_terms), self.as_known(self.witnesses.shaken())) if n_terms else None

    @cached_property
    def compiled(self) -> CompiledModel:
        """The model compiled with the default tolerance, on first use."""
        return self.compile()

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """Predict energy, forces, virial and stress of a structure, and their uncertainty if requested.

        Raises
        ------
        StructureError
            If it is no structure or empty, positions or cell are not finite, or atoms overlap.
        UnknownSpeciesError
            If the model was not fitted for an element.
        """
        return self.compiled.predict(atoms, uncertainty)

    def predict_pairs(
        self, pairs: Pairs, volume: float | None, uncertainty: bool = False, atoms: Atoms | None = None
    ) -> Prediction:
        """As `predict`, from a neighbour list that reaches `cutoff` and the volume in A^3 (None: no stress)."""
        return self.compiled.predict_pairs(pairs, volume, uncertainty, atoms)

    def predict_directly(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """As `predict`, evaluated directly from the formulas: slow reference for the compiled model."""
        model = self.covering(a_structure(atoms).numbers)
        pairs = find_pairs(atoms, model.cutoff)
        known = model.as_known(pairs)
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        with single_blas_thread():
            model.baseline.predict(pairs, energies, gradients)
            model.add_terms(known, energies, gradients)
            variances = model._variances(known) if uncertainty else None
        p = make_prediction(pairs, volume_of(atoms), energies, gradients, variances, model.calibration)
        return raised(p, model.beneath_of(atoms), volume_of(atoms))

    def covering(self, numbers: np.ndarray) -> SparseGP:
        """The model for atoms with these atomic numbers (n_atoms,): itself, or one extrapolated to unknown elements.

        Raises
        ------
        UnknownSpeciesError
            If the model does not know an element, unless it was fitted with `extrapolate = true`.
        """
        if self.config is None or not self.config.extrapolate:
            species_indices(numbers, self.species)  # raises UnknownSpeciesError
            return self
        unseen = unseen_among(numbers, self.species)
        if not unseen:
            return self
        if unseen not in self._extended:
            self._extended[unseen] = extended(self, unseen)
        return self._extended[unseen]

    @cached_property
    def _extended(self) -> dict[tuple[int, ...], SparseGP]:
        return {}

    @cached_property
    def choice(self) -> Choice:
        """Choice of the representatives of a fitted model."""
        with single_blas_thread():
            return choose(self.terms, self.fitted_species)

    @cached_property
    def representatives(self) -> Representatives:
        """Representatives: the sparse points that carry the uncertainty of a fitted model."""
        if self.factor is None:
            raise ConfigError("an imported model has no ensemble of weights, since its training data are not known; fit a model")
        with single_blas_thread():
            upper = self.choice.factor(self.factor) / np.sqrt(self.choice.share)
            return Representatives(self.choice, upper, self.jitter, self.noises, frozenset(self.baseline.lone_atoms))

    def _variances(self, pairs: Pairs) -> Variances | NoveltyAlone | None:
        if self.factor is not None:
            return self.representatives.variances(pairs)
        if not all(term.has_prior for term in self.terms):
            known = References.among(self.terms)
            return None if known is None else NoveltyAlone(known.novelty(pairs))
        unexplained = np.zeros(pairs.n_atoms)
        for term in self.terms:
            unexplained += term.instance_variances(pairs, self.regularisation)
        return Variances.of_instances(unexplained)

    def calibrated(self, calibration: Calibration) -> SparseGP:
        """The same model with another calibration of standard deviations; compiled tables are shared."""
        return self._with(calibration=calibration)

    def with_targets(self, targets: TargetModels) -> SparseGP:
        """The same model with other targets; compiled tables are shared."""
        return self._with(targets=targets)

    def _with(self, **changes: Any) -> SparseGP:
        """A copy that differs in nothing that compiled tables depend on."""
        other = replace(self, **changes)
        made = {name: self.__dict__[name] for name in MADE if name in self.__dict__}
        if "compiled" in made:
            made["compiled"] = self.compiled.of(other)
        other.__dict__.update(made)  # as `cached_property` does
        return other

    def save(self, file: str | Path) -> None:
        """Write the model to an HDF5 file, replacing an older one atomically; see `load_model`."""
        save_model(self, file)

    def export_core(self, file: str | Path, uncertainty: bool = True) -> None:
        """Write the compiled model to a flat file for programs in C and C++.

        Programs load it with `mlpot_load` of `cython_ext/core/mlpot_core.h` and compute the same energies, forces, virials and
        standard deviations without Python.

        Parameters
        ----------
        file : path
            Replaced atomically.
        uncertainty : bool
            Whether to include the tables for the uncertainty; without them the file is a third to a half smaller.

        Raises
        ------
        ModelFileError
            If the folder is missing, read-only or full.
        ConfigError
            For a model with a calculator beneath it, or with a term that only Python can compute: a descriptor of a user's, features
            of a network; with uncertainty, if an element has no sparse points in the last many-body term, or for an imported SNAP.

        Examples
        --------
        >>> mlpot.load_model("model.h5").export_core("model.mlpot")  # doctest: +SKIP
        """
        self.compiled.export_core(file, uncertainty)
