"""The model: a sum of sparse Gaussian processes over a baseline, as a frozen collection of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from ..descriptors.density import species_indices, unseen_among
from ..errors import ConfigError
from ..neighbours import Pairs, find_pairs
from ..structures import volume_of
from ..terms.layout import columns
from ..threads import single_blas_thread
from ..uncertainty.calibration import Calibration
from ..uncertainty.representatives import Choice, Representatives, choose
from ..uncertainty.variances import Variances
from .compiled_model import CompiledModel, Source
from .extrapolation import extended
from .prediction import Prediction, make_prediction
from .saving import save_model

DEFAULT_TOLERANCE = 1e-8
"""Largest change of an atom's energy by compilation, eV."""
MADE: tuple[str, ...] = ("cutoff", "choice", "representatives", "compiled")
"""Properties that are kept once they are made."""


@dataclass(frozen=True, repr=False)
class SparseGP(Source):
    """A fitted potential: its `Parameters`, and everything that is made of them when it is first needed."""

    def compile(self, tolerance: float = DEFAULT_TOLERANCE, precision: str = "float64") -> CompiledModel:
        """The model for simulations; `predict`, the calculators and the learning loop use the default.

        Parameters
        ----------
        tolerance : float
            Largest change of an atom's energy, eV.
        precision : "float64" or "float32"
            In single precision the products of those features are made that are small enough for an error of the forces
            below 1e-4 eV/A; `CompiledModel` says so. The uncertainty is the same in both.

        Raises
        ------
        ConfigError
            For a tolerance that is not positive, or another precision.
        """
        if not tolerance > 0:
            raise ConfigError(f"tolerance = {tolerance}: must be a positive number of eV")
        if precision not in ("float64", "float32"):
            raise ConfigError(f"precision = {precision!r}: must be 'float64' or 'float32'")
        regularisation = self.regularisation if self.factor is None else None
        known = {} if self.factor is None else self.choice.kept
        share = tolerance / len(self.terms)
        if self.baseline.lone_atoms:
            share /= 2  # a difference of two atoms' energies
        with single_blas_thread():
            terms = tuple(
                term.compile(self.weights[part], share, regularisation, single=precision == "float32", known=known.get(k))
                for k, (term, part) in enumerate(zip(self.terms, columns(self.terms), strict=True))
            )
        return CompiledModel(self, terms, tolerance, precision)

    @cached_property
    def compiled(self) -> CompiledModel:
        """The model compiled with the default tolerance, when it is first needed."""
        return self.compile()

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """Energy, forces, virial and stress of a structure, and their uncertainty where asked.

        Raises
        ------
        StructureError
            Empty structure, positions or cell that are not finite, overlapping atoms.
        UnknownSpeciesError
            An element the model was not fitted for.
        """
        return self.compiled.predict(atoms, uncertainty)

    def predict_pairs(self, pairs: Pairs, volume: float | None, uncertainty: bool = False) -> Prediction:
        """As `predict`, from a neighbour list that reaches `cutoff` and the volume in A^3 (None: no stress)."""
        return self.compiled.predict_pairs(pairs, volume, uncertainty)

    def predict_directly(self, atoms: Atoms, uncertainty: bool = False) -> Prediction:
        """As `predict`, straight from the formulas: the slow judge of the compiled model."""
        model = self.covering(atoms.numbers)
        pairs = find_pairs(atoms, model.cutoff)
        known = model.as_known(pairs)
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        with single_blas_thread():
            model.baseline.predict(pairs, energies, gradients)
            model.add_terms(known, energies, gradients)
            variances = model._variances(known) if uncertainty else None
        return make_prediction(pairs, volume_of(atoms), energies, gradients, variances, model.calibration)

    def covering(self, numbers: np.ndarray) -> SparseGP:
        """The model for atoms (n_atoms,) of these elements: this one, or one that answers for elements that it does not know.

        Raises
        ------
        UnknownSpeciesError
            For elements that it does not know, unless it was fitted with `extrapolate = true`.
        """
        if self.config is None or not self.config.extrapolate:
            species_indices(numbers, self.species)  # raises for those
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
        """Which sparse points of a fitted model stand for all."""
        with single_blas_thread():
            return choose(self.terms, self.fitted_species)

    @cached_property
    def representatives(self) -> Representatives:
        """The sparse points that stand for all in the uncertainty of a fitted model."""
        if self.factor is None:
            raise ConfigError("an imported model knows nothing of its data: it has no ensemble of weights; fit a model")
        with single_blas_thread():
            upper = self.choice.factor(self.factor) / np.sqrt(self.choice.share)
            return Representatives(self.choice, upper, self.jitter, self.noises, frozenset(self.baseline.lone_atoms))

    def _variances(self, pairs: Pairs) -> Variances:
        if self.factor is not None:
            return self.representatives.variances(pairs)
        unexplained = np.zeros(pairs.n_atoms)
        for term in self.terms:
            unexplained += term.instance_variances(pairs, self.regularisation)
        return Variances.of_instances(unexplained)

    def calibrated(self, calibration: Calibration) -> SparseGP:
        """The same model whose standard deviations are scaled otherwise; all that is compiled serves both."""
        other = replace(self, calibration=calibration)
        made = {name: self.__dict__[name] for name in MADE if name in self.__dict__}
        if "compiled" in made:
            made["compiled"] = self.compiled.of(other)
        other.__dict__.update(made)  # as `cached_property` does
        return other

    def save(self, file: str | Path) -> None:
        """Write the model to an HDF5 file, replacing any older one in a single step; see `load_model`."""
        save_model(self, file)

    def export_core(self, file: str | Path, uncertainty: bool = True) -> None:
        """Write the compiled model as a flat file for programs in C and C++: they load it with `mlpot_load` of
        `cython_ext/core/mlpot_core.h`, and get the same energies, forces, virials and deviations without Python.

        Parameters
        ----------
        file : path
            Replaced in a single step.
        uncertainty : bool
            Whether it holds what the uncertainty needs; it is a third to a half smaller without.

        Raises
        ------
        ModelFileError
            If the folder is missing, read-only or full.
        ConfigError
            For an element that the last many-body term has no sparse points of, with uncertainty.

        Examples
        --------
        >>> mlpot.load_model("model.h5").export_core("model.mlpot")  # doctest: +SKIP
        """
        self.compiled.export_core(file, uncertainty)
