"""Incremental fit: structures and sparse points are added in a fraction of the time of a fit from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ..data.overlaps import check_structures
from ..descriptors.density import species_indices
from ..errors import ConfigError, FitError
from ..models.files import blamed
from ..models.lone_atoms import anchored
from ..models.sparse_gp import SparseGP
from ..neighbours import find_pairs
from ..settings.fit import FitConfig, NoiseSettings
from ..settings.presets import resolve
from ..structures import LabelledStructure, checked_species, labelled, list_of, name_of
from ..terms.baseline import Baseline
from ..terms.calculator_baseline import BaselineResults, CalculatorBaseline
from ..terms.layout import channels_of, many_body
from ..terms.protocol import FittedTerm, ManyBodyTerm, Tables
from ..terms.registry import empty_term
from ..terms.selection import extend_by_variance
from ..threads import n_threads, single_blas_thread
from .accumulate import bounded_map
from .adaptation import STEPS, Freedom, Hyperparameters, adapted
from .batch import default_energy_scale, make_baseline, open_blocks
from .design_matrix import Design, noise_of, parts_of
from .growing_system import GrowingSystem
from .growing_targets import GrowingTargets
from .incremental_files import FitState, load_fit, save_fit
from .noises import left_open, noises_of
from .posterior import Posterior
from .prior import Prior
from .surroundings import ENOUGH, nearby, settled
from .task import provenance, with_scales, witnesses_of

SparsePoints = Mapping[tuple[int, int], np.ndarray]
"""Features (n, n_features) of new sparse points, by index of the term and atomic number."""
NEW_POINT_TOLERANCE = 1e-7
"""An environment is proposed if the sparse points leave at least this fraction of its prior variance unexplained."""
SHARE, FEWEST = 1 / 8, 4
"""Largest fraction of the remaining sparse points that one structure may use, and the number that it may always use. All environments
of a small structure become points, since each carries information of the label; a large one leaves room for later structures."""
MANY_COLUMNS, FEW_STEPS = 400, 3
"""With more columns than the first, noises and scales make only the second number of steps per label, from their current values."""


class Fit:
    """A fit to which structures and sparse points can be added at any time.

    The model is identical to one fitted from scratch to the same structures, with the same sparse points, noises and energy scales.
    Noises and scales that the configuration leaves open are updated with every addition. All covariances are stored: 8 bytes per
    row and sparse point.

    Parameters
    ----------
    config : FitConfig
        As for `fit`; sparse points are passed to `update`, except for pair terms, where they follow from the distances in the data.
    species : sequence of int
        Atomic numbers that will occur.
    tables : mapping or None
        Channels of another model (`channels_of`) by index of the term; the channels of the configuration by default.

    Attributes
    ----------
    structures : list of LabelledStructure
    config : FitConfig
        Resolved configuration.
    terms : tuple of FittedTerm
        Terms with energy scales of 1 eV and the current sparse points.
    levels : Hyperparameters
        Noises and energy scales of the current model.
    system : GrowingSystem
        Rows and columns.
    beneath : CalculatorBaseline or None
        Calculator beneath the fit; `structures` keep their whole labels.
    is_whole : bool
        False after an interrupted update: the fit can no longer be used.
    least_scale : float
        Energy scale, eV, at which the search for scales starts at least; 1 eV unless the energies are known to be smaller.
    """

    def __init__(self, config: FitConfig | None, species: Sequence[int], tables: Mapping[int, Tables] | None = None):
        self.species = checked_species(species)
        self.config = resolve(config or FitConfig(), self.species)
        self.targets = GrowingTargets(self.config.targets, self.config.seed)
        _check_all_is_known(self.config, tables := tables or {})
        self.structures: list[LabelledStructure] = []
        self.beneath = None if self.config.baseline is None else CalculatorBaseline(self.config.baseline)
        self._below: list[BaselineResults] = []
        self.terms: tuple[FittedTerm, ...] = tuple(
            empty_term(settings, self.species, 1.0, tables.get(k)) for k, settings in enumerate(self.config.terms)
        )
        n_blocks = sum(len(term.points) for term in self.terms)
        self.levels = Hyperparameters({}, self._given_scales(1.0))
        self.system = GrowingSystem(n_blocks, 1 + len(self.species))
        self.is_whole = True
        self.least_scale = 1.0
        self._model: SparseGP | None = None

    @property
    def model(self) -> SparseGP:
        """The current model with its targets; FitError before there is data."""
        if self._model is None:
            raise FitError("the fit has no structures yet; add some with `update`")
        return self._model.with_targets(self.targets.models) if self.targets.settings else self._model

    def points_of(self, term: int, number: int) -> np.ndarray:
        """Features (n, n_features) of the sparse points of an element in a many-body term."""
        return self.terms[term].points[self.species.index(number)]

    def propose(self, frames: Iterable[Atoms], coming: SparsePoints | None = None) -> dict[tuple[int, int], np.ndarray]:
        """Propose sparse points for `update`: the environments of structures that the present points explain least.

        For each element, a structure uses at most a fraction `SHARE` of the points that remain below the configuration's n_sparse or
        max_sparse. Points that are already `coming` count as present and come first in the result.
        """
        points, frames = dict(coming or {}), list_of(frames)
        self._settle_terms(frames)
        for atoms in frames:
            for k, term in many_body(self.terms).items():
                self._propose(k, term, self.config.terms[k], atoms, points)
        return points

    def _settle_terms(self, frames: Sequence[Atoms]) -> None:
        """Determine means and standard deviations of standardised features from the first structures."""
        if frames and not all(term.is_settled for term in self.terms):
            self.terms = tuple(settled(term, frames) for term in self.terms)

    def _propose(
        self, k: int, term: ManyBodyTerm, settings: Any, atoms: Atoms, points: dict[tuple[int, int], np.ndarray]
    ) -> None:
        """Append the points proposed from one structure for term k to `points`."""
        pairs = find_pairs(atoms, term.cutoff)
        for z in sorted(set(atoms.numbers.tolist()) & set(self.species)):
            centres = np.flatnonzero(atoms.numbers == z)
            coming = points.get((k, z), np.empty((0, term.features.n_features)))
            known = np.concatenate([self.points_of(k, z), coming])
            room = settings.most_sparse(z) - len(known)
            most = min(max(int(SHARE * room), FEWEST), room)
            found = term.features.compute(pairs, centres)
            new = found[extend_by_variance(known, found, most, term.kernel, NEW_POINT_TOLERANCE)]
            every = np.concatenate([known, new])
            most = min(ENOUGH, settings.most_sparse(z)) - len(every)
            rng = np.random.default_rng([len(self.structures), k, z])
            copies = nearby(every, [atoms], z, term, most, rng)
            points[k, z] = np.concatenate([coming, new, copies])

    def update(self, new_structures: Iterable[Atoms] = (), new_sparse_points: SparsePoints | None = None) -> None:
        """Add labelled structures and sparse points, in any order and number, and update `model`.

        Parameters
        ----------
        new_structures : iterable of ase.Atoms
            With results attached by a calculator.
        new_sparse_points : mapping
            Features (n, n_features), normalised, by (number of the term, atomic number).

        Raises
        ------
        DataError, StructureError, ConfigError, FitError
            If labels or points cannot be used; the fit is unchanged.
        """
        structures = [
            labelled(a, name_of(a, f"structure {len(self.structures) + k}")) for k, a in enumerate(list_of(new_structures))
        ]
        check_structures(structures)
        for structure in structures:
            species_indices(structure.atoms.numbers, self.species)
            find_pairs(structure.atoms, max(term.cutoff for term in self.terms))
        self.targets.check(structures)
        below = [] if self.beneath is None else [self.beneath.results(s.atoms) for s in structures]
        self._settle_terms([s.atoms for s in structures])
        with single_blas_thread():
            new_points = self._new_points(structures, new_sparse_points or {})
            prior = self._new_prior(new_points)
            values = self._new_values(new_points)
            if not prior.n_columns:
                raise FitError("there are no sparse points yet; pass some together with the first structures")
            # all checks have passed at this point
            self.is_whole = False
            self._add_points(new_points, prior, values)
            self._add_structures(structures, below)
            self.targets.add(structures)
            if self.structures:
                self._settle()
            self.is_whole = True

    def reweigh(self, **settings: Any) -> None:
        """Change noises, `config_type_noise` or `energy_scales` (one per term, eV) without recomputing covariances.

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
        known["adapt"] = tuple(key for key in known["adapt"] if key not in settings)
        if scales is not None:
            known["terms"] = [
                {**term, "energy_scale": float(scale)} for term, scale in zip(known["terms"], scales, strict=True)
            ]
        before, self.config = self.config, FitConfig.model_validate({**known, **settings})
        with single_blas_thread():
            if set(self.config.config_type_noise) != set(before.config_type_noise):
                self._regroup()
            self._settle()

    def _regroup(self) -> None:
        """Reassign rows to groups after a change of the config_types with noises of their own."""
        types = frozenset(self.config.config_type_noise)
        self.system.regroup((part.group, len(part.rows)) for s in self.structures for part in parts_of(s, types))

    def save(self, file: str | Path) -> None:
        """Write the complete fit to an HDF5 file, replacing an older one atomically; see `load`."""
        if not self.is_whole:
            raise FitError("an update of this fit was interrupted; load the last saved one")
        tables, points = channels_of(self.terms), [term.points for term in self.terms]
        state = FitState(self.config, self.species, tables, points, self.structures, self.levels, self.system, self._below)
        save_fit(state, self.terms, self.targets.arrays(), file)

    @classmethod
    def load(cls, file: str | Path, trust_baseline: bool = False) -> Fit:
        """Load a fit written by `save`; the next update gives the same numbers as without the interruption.

        Updates of a fit with calculators beneath need `trust_baseline`, as for `load_model`.
        """
        state = load_fit(file)
        fit = cls(state.config, state.species, state.tables)
        fit.targets.trust_baseline = trust_baseline
        if fit.config.baseline is not None:
            fit.beneath = CalculatorBaseline(fit.config.baseline, trust_baseline)
        with blamed(file):
            (fit._restore if state.is_current else fit._rebuild)(state)
        return fit

    def _restore(self, state: FitState) -> None:
        """Take over a saved state."""
        self.structures, self.levels, self.system, self._below = state.structures, state.levels, state.system, state.below
        self.targets.add(state.structures)
        self.terms = tuple(term.with_points(p) for term, p in zip(self.terms, state.points, strict=True))
        if self.structures:
            with single_blas_thread():
                self._make_model(self._baseline())
            self.model.compiled.prepare()

    def _rebuild(self, state: FitState) -> None:
        """As `_restore`, with all rows recomputed from the labels."""
        new = [list(blocks) for blocks in state.points]
        with single_blas_thread():
            self._add_points(new, self._new_prior(new), self._new_values(new))
            self._add_structures(state.structures, state.below)
        self._restore(replace(state, system=self.system))

    def _design(self, terms: tuple[FittedTerm, ...]) -> Design:
        types = frozenset(self.config.config_type_noise)
        baseline = Baseline({}, self.config.repulsion, lone_atoms=dict.fromkeys(self.config.given_energies, 0.0))
        return Design(terms, baseline, self.species, types, self.config.jitter)

    def _given_scales(self, default: float) -> np.ndarray:
        """Energy scales (n_blocks,) of the configuration, eV, with a default for terms without one."""
        given = zip(self.config.terms, self.terms, strict=True)
        return np.array([settings.energy_scale or default for settings, term in given for _ in term.points])

    def _new_points(self, structures: list[LabelledStructure], given: SparsePoints) -> list[list[np.ndarray]]:
        """New sparse points of every block of every term: the given ones, and pair radii for shorter distances."""
        new = [[block[:0] for block in term.points] for term in self.terms]
        for (term, number), features in given.items():
            self._check_points(term, number, features)
            new[term][self.species.index(number)] = np.ascontiguousarray(features, float)
        for k, (own, settings) in enumerate(zip(self.terms, self.config.terms, strict=True)):
            if not own.is_many_body:
                new[k] = own.new_points(structures, settings)
        return new

    def _check_points(self, term: int, number: int, features: np.ndarray) -> None:
        """Raise ConfigError for sparse points that do not fit any term."""
        place = f"new_sparse_points[{term}, {number}]"
        found = many_body(self.terms)
        if term not in found or number not in self.species:
            raise ConfigError(
                f"{place}: give a many-body term, one of {list(found)}, and one of the elements {self.species}"
            )
        n_features = found[term].features.n_features
        if np.ndim(features) != 2 or features.shape[1] != n_features or not np.all(np.isfinite(features)):
            raise ConfigError(f"{place}: has shape {np.shape(features)}; features must be finite and (n, {n_features})")

    def _new_prior(self, new: list[list[np.ndarray]]) -> Prior:
        """The prior with new sparse points."""
        blocks = [
            (term.between(old, added), term.between(added, added) + self.config.jitter * np.eye(len(added)))
            for term, points in zip(self.terms, new, strict=True)
            for old, added in zip(term.points, points, strict=True)
        ]
        return self.system.prior.with_points(*zip(*blocks, strict=True))

    def _new_values(self, new: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Columns (n, q_b) of new sparse points, block by block, for all existing rows."""
        sizes = [len(block) for points in new for block in points]
        design = self._design(tuple(term.with_points(tuple(p)) for term, p in zip(self.terms, new, strict=True)))
        columns = [np.empty((0, design.n_sparse))]
        if design.n_sparse:
            with ThreadPoolExecutor(n_threads()) as threads:
                columns += threads.map(design.covariances, self.structures)
        else:
            columns = [np.empty((self.system.n_rows, 0))]
        return np.split(np.concatenate(columns), np.cumsum(sizes)[:-1], axis=1)

    def _add_points(self, new: list[list[np.ndarray]], prior: Prior, values: list[np.ndarray]) -> None:
        if not any(len(block) for points in new for block in points):
            return
        self.system.add_columns(prior, values)
        self.terms = tuple(
            term.with_points(tuple(np.concatenate(both) for both in zip(term.points, points, strict=True)))
            for term, points in zip(self.terms, new, strict=True)
        )

    def _add_structures(self, structures: list[LabelledStructure], below: list[BaselineResults]) -> None:
        """Append the rows of new structures, with all existing columns."""
        self._below += below
        differences = _differences(structures, below)
        design = self._design(self.terms)
        m = design.n_sparse
        with ThreadPoolExecutor(n_threads()) as threads:
            for structure, rows in zip(
                structures, bounded_map(threads, design.rows, differences, 2 * n_threads()), strict=True
            ):
                self.structures.append(structure)
                for group, part in rows.items():
                    self.system.add_rows(group, part[:, :m], part[:, m:])

    def _baseline(self) -> Baseline:
        return make_baseline(self.config, _differences(self.structures, self._below), self.species, self.beneath)

    def _settle(self) -> None:
        """Adapt noises and scales to the data, and make the model."""
        baseline = self._baseline()
        groups = self.system.equations(self._combination(baseline))
        scale = default_energy_scale(_differences(self.structures, self._below), baseline, self.least_scale)
        start = Hyperparameters({group: noise_of(self.config, group) for group in groups}, self._given_scales(scale))
        freedom = Freedom(start, left_open(self.config, groups), open_blocks(self.config, self.terms))
        known = self.levels.noises
        noises = {g: known.get(g, noise) if g in freedom.groups else noise for g, noise in start.noises.items()}
        scales = np.where(freedom.blocks & bool(known), self.levels.scales, start.scales)
        steps = STEPS if self.system.n_columns <= MANY_COLUMNS else FEW_STEPS
        now = Hyperparameters(noises, scales).posterior(self.system.prior, groups)
        posterior, self.levels = adapted(now, freedom, steps)
        self._make_model(baseline, posterior)

    def _combination(self, baseline: Baseline) -> np.ndarray:
        """Coefficients that combine the right-hand sides to labels minus isolated-atom energies."""
        return np.array([1.0, *(-baseline.isolated_atom_energies[z] for z in self.species)])

    def _make_model(self, baseline: Baseline, posterior: Posterior | None = None) -> None:
        combination = self._combination(baseline)
        if posterior is None:
            posterior = self.levels.posterior(self.system.prior, self.system.equations(combination))
        coefficients = self.system.prior.coefficients(self.system.refined(posterior, combination))
        if not np.all(np.isfinite(coefficients)):
            raise FitError("the weights are not finite; check the structures and their labels, or raise fit.jitter")
        model = SparseGP(
            species=self.species,
            terms=with_scales(self.terms, posterior.scales),
            weights=coefficients / posterior.column_scales**2,
            baseline=baseline,
            factor=posterior.factor,
            jitter=self.config.jitter,
            config=self.config,
            provenance=provenance(self.structures),
            noises=noises_of(posterior),
            beneath=self.beneath,
            witnesses=witnesses_of(self.structures, self.config, self.terms, baseline, self.species),
        )
        self._model = anchored(model)


def _differences(structures: list[LabelledStructure], below: list[BaselineResults]) -> list[LabelledStructure]:
    """The structures with the results of the calculator beneath the fit subtracted, if there is one."""
    return [b.beneath(s) for s, b in zip(structures, below, strict=True)] if below else structures


def _check_all_is_known(config: FitConfig, tables: Mapping[int, Tables]) -> None:
    """Raise ConfigError for channels that would have to be learned before there is data."""
    for k, settings in enumerate(config.terms):
        if settings.is_learned and k not in tables:
            raise ConfigError(
                'embedding = "learned": there is no data to learn from; start from data ([data]) or from a model that '
                '`mlpot fit` made (learning.model), or set embedding = "periodic" and leave embedding_start out'
            )
