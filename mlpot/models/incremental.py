"""A fit that goes on: structures and sparse points join it in a fraction of the time of a fit from scratch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms

from ..descriptors.density import SoapDescriptor, species_indices
from ..errors import ConfigError, FitError
from ..neighbours import find_pairs
from ..structures import LabelledStructure, labelled
from ..threads import n_threads, single_blas_thread
from .baseline import Baseline
from .descriptor_tables import Tables
from .design_matrix import Design, Group, noise_of
from .fit import default_energy_scale, empty_term, make_baseline
from .gather import bounded_map
from .growing_factor import GrowingFactor
from .pair_term import PairTerm
from .presets import resolve
from .settings import FitConfig, NoiseSettings, PairTermSettings, SoapTermSettings, is_learned
from .soap_term import SoapTerm
from .sparse_gp import SparseGP
from .sparse_points import extend_by_variance
from .task import provenance
from .terms import FittedTerm

SparsePoints = Mapping[tuple[int, int], np.ndarray]
"""Features (n, n_features) of new sparse points by number of the term and atomic number."""

MOST_LOSS = 1e-4
"""The triangle is made anew when A R^-1 is farther from orthogonal than this; refinement needs it to be less than 1."""
NEW_POINT_TOLERANCE = 1e-7
"""An environment is proposed when this part of its prior variance is not explained by the sparse points."""
SHARE, FEWEST = 1 / 8, 4
"""A structure takes at most this part of the room for sparse points, so that small ones become points as a whole, each of which
is worth a label's information, and large ones leave room for those to come; but always so few."""
DRIFT = 1.2
"""A default energy scale follows the data in steps of this factor."""

logger = logging.getLogger("mlpot")


class Fit:
    """Structures, sparse points and the model fitted to both, any of which can grow.

    The model equals that of a fit from scratch with the same structures and sparse points. All covariances and reflections
    are kept: 16 bytes for every row and sparse point.

    Parameters
    ----------
    config : FitConfig
        As for `fit`; sparse points are given to `update`, those of pair terms follow from the distances in the data.
    species : sequence of int
        Atomic numbers that will occur.
    tables : mapping or None
        Channels of terms by their numbers, of another model (`channels_of`); those of the configuration by default.

    Attributes
    ----------
    structures : list of LabelledStructure
    config : FitConfig
        Every choice written out.
    terms : tuple of FittedTerm
        With energy scales of 1 eV and the sparse points so far.
    scales : (n_terms,) array
        Energy scales, eV.
    factor : GrowingFactor
        Columns in the order in which they came.
    block_of : (M,) int array
        Which block, of all terms' blocks in a row, each column belongs to.
    is_whole : bool
        False after an update that was interrupted: such a fit is of no more use.
    """

    def __init__(self, config: FitConfig | None, species: Sequence[int], tables: Mapping[int, Tables] | None = None):
        self.species = tuple(sorted(species))
        self.config = resolve(config or FitConfig(), self.species)
        tables = tables or {}
        _check_all_is_known(self.config, tables)
        self.structures: list[LabelledStructure] = []
        self.terms = tuple(
            empty_term(settings, self.species, 1.0, tables.get(k)) for k, settings in enumerate(self.config.terms)
        )
        self.scales = np.array([settings.energy_scale or 1.0 for settings in self.config.terms])
        self.factor = GrowingFactor(1 + len(self.species))
        self.block_of = np.empty(0, int)
        self.is_whole = True
        self._model: SparseGP | None = None

    @property
    def model(self) -> SparseGP:
        """The current model; FitError before there is data."""
        if self._model is None:
            raise FitError("the fit has no structures yet; give some to `update`")
        return self._model

    @property
    def loss(self) -> float:
        """Estimate of the digits lost by growing; see `MOST_LOSS`."""
        return self.factor.loss

    def points_of(self, term: int, number: int) -> np.ndarray:
        """Features (n, n_features) of the sparse points of an element in a many-body term."""
        return self.terms[term].points[self.species.index(number)]

    def propose(self, frames: Iterable[Atoms], coming: SparsePoints | None = None) -> dict[tuple[int, int], np.ndarray]:
        """Sparse points for `update`, out of the environments of structures: those that the sparse points explain least.

        A structure takes at most a part `SHARE` of the room that is left below the configuration's n_sparse or max_sparse of
        each element, those that are `coming` already included; they come first in what is returned.
        """
        points = dict(coming or {})
        for atoms in frames:
            for k, (term, settings) in enumerate(zip(self.terms, self.config.terms, strict=True)):
                if isinstance(term, SoapTerm) and isinstance(settings, SoapTermSettings):
                    self._propose(k, term.descriptor, settings, atoms, points)
        return points

    def _propose(
        self,
        k: int,
        descriptor: SoapDescriptor,
        settings: SoapTermSettings,
        atoms: Atoms,
        points: dict[tuple[int, int], np.ndarray],
    ) -> None:
        """Join to `points` those of one structure for term number k."""
        pairs = find_pairs(atoms, descriptor.cutoff)
        for z in sorted(set(atoms.numbers.tolist()) & set(self.species)):
            centres = np.flatnonzero(atoms.numbers == z)
            coming = points.get((k, z), np.empty((0, descriptor.n_features)))
            known = np.concatenate([self.points_of(k, z), coming])
            room = settings.most_sparse(z) - len(known)
            most = min(max(int(SHARE * room), FEWEST), room)
            found = descriptor.compute(pairs, centres)
            new = extend_by_variance(known, found, most, settings.zeta, NEW_POINT_TOLERANCE)
            points[k, z] = np.concatenate([coming, found[new]])

    def update(self, new_structures: Iterable[Atoms] = (), new_sparse_points: SparsePoints | None = None) -> None:
        """Add labelled structures and sparse points, in any order and number; `model` is then the model of all.

        Parameters
        ----------
        new_structures : iterable of ase.Atoms
            With results attached by a calculator.
        new_sparse_points : mapping
            Features (n, n_features), normalised, by (number of the term, atomic number).

        Raises
        ------
        DataError, StructureError, ConfigError, FitError
            For labels or points that cannot be used; the fit is left as it was.
        """
        structures = [labelled(a, f"structure {len(self.structures) + k}") for k, a in enumerate(new_structures)]
        for structure in structures:
            species_indices(structure.atoms.numbers, self.species)
            find_pairs(structure.atoms, max(term.cutoff for term in self.terms))
        with single_blas_thread():
            new_points = self._new_points(structures, new_sparse_points or {})
            prior = self._new_prior(new_points)
            values = self._new_values(new_points)
            if not len(prior) and not self.factor.n_columns:
                raise FitError("there are no sparse points yet; give some with the first structures")
            # what cannot be used has been found by now
            self.is_whole = False
            if len(prior):
                self._add_points(new_points, prior, values)
            self._add_structures(structures)
            if self.structures:
                self._settle()
            self.is_whole = True

    def reweigh(self, **settings: Any) -> None:
        """Change noises, `config_type_noise` or `energy_scales` (one per term, eV); no covariance is computed again.

        Raises
        ------
        ConfigError
            For any other setting.
        """
        scales = settings.pop("energy_scales", None)
        allowed = [*NoiseSettings.model_fields, "config_type_noise"]
        if unknown := sorted(set(settings) - set(allowed)):
            raise ConfigError(f"reweigh: {unknown} would need new covariances; {allowed} and 'energy_scales' do not")
        known = self.config.model_dump()
        if scales is not None:
            known["terms"] = [
                {**term, "energy_scale": float(scale)} for term, scale in zip(known["terms"], scales, strict=True)
            ]
            self.scales = np.array(scales, float)
        self.config = FitConfig.model_validate({**known, **settings})
        with single_blas_thread():
            self._refactor()
            self._settle()

    def save(self, file: str | Path) -> None:
        """Write everything to an HDF5 file, replacing any older one in a single step; see `load`."""
        from .fit_files import save_fit

        if not self.is_whole:
            raise FitError("an update of this fit was interrupted; load the last one that was saved")
        save_fit(self, file)

    @staticmethod
    def load(file: str | Path) -> Fit:
        """The fit that `save` wrote; the next update gives the same numbers as if there had been no interruption."""
        from .fit_files import load_fit

        return load_fit(file)

    def restore(
        self,
        structures: list[LabelledStructure],
        points: Sequence[tuple[np.ndarray, ...]],
        scales: np.ndarray,
        block_of: np.ndarray,
        factor: GrowingFactor,
    ) -> None:
        """Stand where another fit stood; see the attributes."""
        self.structures, self.scales, self.block_of, self.factor = structures, scales, block_of, factor
        self.terms = tuple(term.with_points(p) for term, p in zip(self.terms, points, strict=True))
        if structures:
            with single_blas_thread():
                self._settle()

    def _design(self, terms: tuple[FittedTerm, ...]) -> Design:
        return Design(terms, Baseline({}, self.config.repulsion), self.species)

    def _new_points(self, structures: list[LabelledStructure], given: SparsePoints) -> list[list[np.ndarray]]:
        """New sparse points of every block of every term: those given, and radii of pairs for shorter distances."""
        new = [[block[:0] for block in term.points] for term in self.terms]
        for (term, number), features in given.items():
            self._check_points(term, number, features)
            new[term][self.species.index(number)] = np.ascontiguousarray(features, float)
        for k, (own, settings) in enumerate(zip(self.terms, self.config.terms, strict=True)):
            if isinstance(own, PairTerm) and isinstance(settings, PairTermSettings):
                new[k] = own.new_radii(structures, settings.n_sparse)
        return new

    def _check_points(self, term: int, number: int, features: np.ndarray) -> None:
        """ConfigError for sparse points that no term can take."""
        place = f"new_sparse_points[{term}, {number}]"
        many_body = [k for k, t in enumerate(self.terms) if isinstance(t, SoapTerm)]
        if term not in many_body or number not in self.species:
            raise ConfigError(
                f"{place}: give a many-body term, one of {many_body}, and one of the elements {self.species}"
            )
        n_features = cast(SoapTerm, self.terms[term]).descriptor.n_features
        if np.ndim(features) != 2 or features.shape[1] != n_features or not np.all(np.isfinite(features)):
            raise ConfigError(f"{place}: has shape {np.shape(features)}; features must be finite and (n, {n_features})")

    def _new_prior(self, new: list[list[np.ndarray]]) -> np.ndarray:
        """Columns of the factor of k_mm for new sparse points; none where there are none."""
        blocks = _blocks_of(new)
        known, own = np.zeros((len(self.block_of), len(blocks))), np.zeros((len(blocks), len(blocks)))
        block = 0
        for term, points in zip(self.terms, new, strict=True):
            for old, added in zip(term.points, points, strict=True):
                mine = blocks == block
                known[np.ix_(self.block_of == block, mine)] = term.between(old, added)
                own[np.ix_(mine, mine)] = term.between(added, added) + self.config.jitter * np.eye(len(added))
                block += 1
        return self.factor.extended_prior(known, own) if len(blocks) else np.empty((0, 0))

    def _new_values(self, new: list[list[np.ndarray]]) -> np.ndarray:
        """Columns of new sparse points for all rows that are there."""
        design = self._design(tuple(term.with_points(tuple(p)) for term, p in zip(self.terms, new, strict=True)))
        if not design.n_sparse:
            return np.empty((len(self.factor.weights), 0))
        with ThreadPoolExecutor(n_threads()) as threads:
            columns = list(threads.map(design.covariances, self.structures))
        return np.concatenate([np.empty((0, design.n_sparse)), *columns])

    def _add_points(self, new: list[list[np.ndarray]], prior: np.ndarray, values: np.ndarray) -> None:
        scales = np.repeat(self.scales, [sum(map(len, points)) for points in new])
        self.factor.add_columns(prior, values, scales)
        self.block_of = np.concatenate([self.block_of, _blocks_of(new)])
        self.terms = tuple(
            term.with_points(tuple(np.concatenate(both) for both in zip(term.points, points, strict=True)))
            for term, points in zip(self.terms, new, strict=True)
        )

    @property
    def _order(self) -> np.ndarray:
        """Which of the columns, in the order in which they came, stands at every place of the model."""
        return np.argsort(self.block_of, kind="stable")

    def _add_structures(self, structures: list[LabelledStructure]) -> None:
        """Rows of new structures, for all columns that are there."""
        design, order = self._design(self.terms), self._order
        with ThreadPoolExecutor(n_threads()) as threads:
            for structure, rows in zip(
                structures, bounded_map(threads, design.rows, structures, 2 * n_threads()), strict=True
            ):
                stacked = np.concatenate(list(rows.values()))
                values = np.empty((len(stacked), len(order)))
                values[:, order] = stacked[:, : len(order)]
                self.structures.append(structure)
                self.factor.add_rows(values, stacked[:, len(order) :], self._weights([structure]))

    def _weights(self, structures: Sequence[LabelledStructure]) -> np.ndarray:
        """1/noise of every row of the structures."""
        parts = [np.empty(0)]
        for s in structures:
            for label, n_rows in s.rows_by_label.items():
                parts.append(np.full(n_rows, 1 / noise_of(self.config, Group(label, s.config_type))))
        return np.concatenate(parts)

    def _refactor(self) -> None:
        self.factor.weights = self._weights(self.structures)
        self.factor.scales = self.scales[self._term_of_column()]
        self.factor.refactor()

    def _term_of_column(self) -> np.ndarray:
        """Number of the term (M,) of every column, in the order in which they came."""
        return np.repeat(np.arange(len(self.terms)), [len(t.points) for t in self.terms])[self.block_of]

    def _settle(self) -> None:
        """The model of all that is there; the triangle is made anew where it has lost too much."""
        baseline = make_baseline(self.config, self.structures, self.species)
        self._follow_scales(default_energy_scale(self.structures, baseline))
        combination = np.array([1.0, *(-baseline.isolated_atom_energies[z] for z in self.species)])
        coefficients = self.factor.solve(combination)
        if self.loss > MOST_LOSS:
            logger.warning(
                "the fit has lost digits by growing (%.0e of at most %.0e); it is made anew from its covariances",
                self.loss, MOST_LOSS,
            )  # fmt: skip
            self.factor.refactor()
            coefficients = self.factor.solve(combination)
        if not np.all(np.isfinite(coefficients)):
            raise FitError("the weights are not finite; check the structures and their labels, or raise fit.jitter")
        order = self._order
        variances = (self.factor.scales**2)[order]
        self._model = SparseGP(
            species=self.species,
            terms=tuple(replace(cast(Any, t), energy_scale=s) for t, s in zip(self.terms, self.scales, strict=True)),
            weights=coefficients[order] / variances,
            baseline=baseline,
            factor=np.asfortranarray(self.factor.upper_in_order(order) * variances),
            jitter=self.config.jitter,
            config=self.config,
            provenance=provenance(self.structures),
        )

    def _follow_scales(self, default: float) -> None:
        """Let energy scales that nobody gave follow the data, in steps: each costs a factorisation."""
        given = [settings.energy_scale for settings in self.config.terms]
        wanted = np.array([default if scale is None else scale for scale in given])
        if np.any(np.abs(np.log(wanted / self.scales)) > np.log(DRIFT)):
            self.scales = wanted
            self._refactor()


def _check_all_is_known(config: FitConfig, tables: Mapping[int, Tables]) -> None:
    """ConfigError for channels that would have to be learned before there is data."""
    for k, settings in enumerate(config.terms):
        if is_learned(settings) and k not in tables:
            raise ConfigError(
                'embedding = "learned": there is no data to learn from; start from data ([data]) or from a model that '
                '`mlpot fit` made (learning.model), or set embedding = "periodic" and leave embedding_start out'
            )


def _blocks_of(points: list[list[np.ndarray]]) -> np.ndarray:
    """Number of the block (n,) of every point, blocks of all terms counted in a row."""
    sizes = [len(block) for term in points for block in term]
    return np.repeat(np.arange(len(sizes)), sizes)
