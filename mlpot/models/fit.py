"""Fit of a model: labelled structures in, a SparseGP out."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ..descriptors.density import SoapDescriptor
from ..descriptors.radial_basis import RADIAL_BASES
from ..errors import FitError
from ..neighbours import find_pairs
from ..structures import LabelledStructure, all_labelled
from ..threads import n_threads, single_blas_thread
from .baseline import Baseline, fit_isolated_atom_energies
from .candidates import choose_sparse_points
from .design_matrix import noise_of, reach, structure_rows
from .factor import TriangularFactor, condition, prior_factor
from .pair_term import PairTerm, species_pairs
from .presets import resolve
from .report import FitReport, residuals
from .settings import FitConfig, PairTermSettings, SoapTermSettings
from .soap_term import SoapTerm
from .sparse_gp import SparseGP
from .terms import FittedTerm

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""


def _silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def fit(frames: Iterable[Atoms], config: FitConfig | None = None, progress: Progress = _silent) -> SparseGP:
    """Fit a potential to structures with attached results.

    Parameters
    ----------
    frames : iterable of ase.Atoms
        With energy, forces or stress attached by a calculator; labels may be missing per structure;
        `info["config_type"]` names a family.
    config : FitConfig
        What the model is and how the data is weighed; the balanced preset by default.
    progress : callable
        Called with (stage, done, total).

    Raises
    ------
    DataError
        Labels that are missing everywhere, or not finite.
    FitError
        A singular covariance.
    """
    started = time.process_time()
    structures = all_labelled(frames)
    species = tuple(sorted({int(z) for s in structures for z in s.atoms.numbers}))
    config = resolve(config or FitConfig(), species)
    baseline = make_baseline(config, structures, species)
    rng = np.random.default_rng(config.seed)

    def choose(_: int, settings: SoapTermSettings, descriptor: SoapDescriptor, z: int) -> np.ndarray:
        return choose_sparse_points(descriptor, z, structures, settings, rng, progress)

    with single_blas_thread():
        terms = make_terms(config, structures, species, baseline, choose)
    model = fit_terms(structures, species, terms, baseline, config, progress)
    report = FitReport(
        n_structures=len(structures),
        n_atoms=sum(s.n_atoms for s in structures),
        n_energies=sum(s.energy is not None for s in structures),
        n_force_components=sum(3 * s.n_atoms for s in structures if s.forces is not None),
        n_virials=sum(s.virial is not None for s in structures),
        n_sparse=[term.n_sparse for term in terms],
        energy_scales=[term.energy_scale for term in terms],
        isolated_atom_energies=baseline.isolated_atom_energies,
        isolated_atom_energies_fitted=config.isolated_atom_energies is None,
        condition=condition(model.factor),
        residuals=residuals(model, structures, progress),
        cpu_seconds=time.process_time() - started,
    )
    return replace(model, report=report)


def fit_terms(
    structures: Sequence[LabelledStructure],
    species: tuple[int, ...],
    terms: tuple[FittedTerm, ...],
    baseline: Baseline,
    config: FitConfig,
    progress: Progress = _silent,
) -> SparseGP:
    """Fit the weights of given terms (sparse points chosen) with a resolved configuration; the model has no report."""
    with single_blas_thread():
        priors = [prior_factor(block, config.jitter) for term in terms for block in term.prior()]
        factor = TriangularFactor.from_prior(priors)
        for rows in _all_rows(structures, terms, baseline, config, reach(terms, baseline, species), progress):
            factor.absorb(rows)
        return SparseGP(
            species=species,
            terms=terms,
            weights=factor.solve(),
            baseline=baseline,
            factor=np.asfortranarray(np.triu(factor.upper)),
            jitter=config.jitter,
            config=config,
            provenance=_provenance(structures),
        )


def make_baseline(config: FitConfig, structures: Sequence[LabelledStructure], species: Sequence[int]) -> Baseline:
    """Given isolated-atom energies, or those that least squares finds in the data."""
    if config.isolated_atom_energies is None:
        return Baseline(fit_isolated_atom_energies(structures, species), config.repulsion)
    given = {atomic_numbers[symbol]: value for symbol, value in config.isolated_atom_energies.items()}
    baseline = Baseline(given, config.repulsion)
    baseline.energies(np.array(species))  # says so when one is missing
    return baseline


def default_energy_scale(structures: Sequence[LabelledStructure], baseline: Baseline) -> float:
    """Prior std of a local energy: the size of the energies per atom that are left to explain, at least 1 eV."""
    left = [
        (s.energy - baseline.energies(s.atoms.numbers).sum()) / s.n_atoms for s in structures if s.energy is not None
    ]
    return max(float(np.sqrt(np.mean(np.square(left)))) if left else 1.0, 1.0)


SparseChoice = Callable[[int, SoapTermSettings, SoapDescriptor, int], np.ndarray]
"""Number and settings of a term, its descriptor, an element -> features (n_sparse, n_features) of its sparse points."""


def make_terms(
    config: FitConfig,
    structures: Sequence[LabelledStructure],
    species: tuple[int, ...],
    baseline: Baseline,
    sparse_points: SparseChoice,
) -> tuple[FittedTerm, ...]:
    """Terms of a resolved configuration, with the sparse points that `sparse_points` gives their elements."""
    scale = default_energy_scale(structures, baseline)
    terms: list[FittedTerm] = []
    for k, settings in enumerate(config.terms):
        if isinstance(settings, PairTermSettings):
            terms.append(make_pair_term(settings, structures, species, scale))
        else:
            descriptor = make_descriptor(settings, species)
            points = tuple(sparse_points(k, settings, descriptor, z) for z in species)
            terms.append(SoapTerm(descriptor, settings.zeta, settings.energy_scale or scale, points))
    if not sum(term.n_sparse for term in terms):
        raise FitError("no sparse points: the terms found no environments in the data; raise the cutoffs")
    return tuple(terms)


@lru_cache(maxsize=32)
def make_descriptor(settings: SoapTermSettings, species: tuple[int, ...]) -> SoapDescriptor:
    """The density descriptor that the settings of a term describe."""
    basis = RADIAL_BASES[settings.radial_basis](
        settings.n_max, settings.l_max, settings.cutoff, settings.cutoff_width, settings.atom_sigma
    )
    return SoapDescriptor(species, basis, settings.central_weight)


def make_pair_term(
    settings: PairTermSettings, structures: Sequence[LabelledStructure], species: tuple[int, ...], scale: float
) -> PairTerm:
    """Sparse radii equally spaced from the shortest distance in the data to the cutoff, per pair of elements."""
    kinds = species_pairs(species)
    shortest = np.full(len(kinds), np.inf)
    bare = PairTerm(
        species, settings.cutoff, settings.cutoff_width, settings.length_scale, settings.energy_scale or scale,
        tuple(np.empty(0) for _ in kinds),
    )  # fmt: skip
    for structure in structures:
        pairs = find_pairs(structure.atoms, settings.cutoff)
        of_kind = bare.pair_kinds(pairs)
        np.minimum.at(shortest, of_kind[of_kind >= 0], pairs.distances[of_kind >= 0])
    # at the cutoff itself the covariance vanishes and a sparse radius would be void
    radii = tuple(
        np.linspace(r, settings.cutoff, settings.n_sparse, endpoint=False) if np.isfinite(r) else np.empty(0)
        for r in shortest
    )
    return PairTerm(species, bare.cutoff, bare.cutoff_width, bare.length_scale, bare.energy_scale, radii)


def _all_rows(
    structures: Sequence[LabelledStructure],
    terms: Sequence[FittedTerm],
    baseline: Baseline,
    config: FitConfig,
    cutoff: float,
    progress: Progress,
) -> Iterator[np.ndarray]:
    """Whitened rows of every structure, in order, a bounded number of structures at a time."""
    make = partial(_rows_of, terms=terms, baseline=baseline, config=config, cutoff=cutoff)
    with ThreadPoolExecutor(n_threads()) as executor:
        for k, rows in enumerate(_bounded_map(executor, make, structures, 2 * n_threads())):
            yield rows
            progress("design matrix", k + 1, len(structures))


def _rows_of(
    structure: LabelledStructure, terms: Sequence[FittedTerm], baseline: Baseline, config: FitConfig, cutoff: float
) -> np.ndarray:
    return structure_rows(structure, terms, baseline, cutoff, noise_of(config, structure.config_type))


def _bounded_map(executor: Executor, function: Callable, items: Iterable, in_flight: int) -> Iterator:
    """executor.map that never has more than `in_flight` results waiting: a result is a large array."""
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _provenance(structures: Sequence[LabelledStructure]) -> dict:
    """Hash of everything the fit saw."""
    from .. import __version__

    digest = hashlib.sha256()
    for s in structures:
        for array in (s.atoms.numbers, s.atoms.positions, s.atoms.cell.array, s.energy, s.forces, s.virial):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return {"mlpot_version": __version__, "data_sha256": digest.hexdigest()}
