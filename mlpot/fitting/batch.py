"""Fit of a model: from labelled structures to a SparseGP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, cast

import numpy as np
from ase import Atoms

from ..errors import ConfigError, FitError, quoted, required
from ..models.evaluate import compare_all, errors_per_config_type
from ..models.report import FitReport
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig, TermSettings
from ..settings.presets import resolve
from ..structures import LabelledStructure, all_labelled, has_labels, is_isolated_atom, list_of
from ..terms.baseline import Baseline, fit_isolated_atom_energies
from ..terms.calculator_baseline import CalculatorBaseline
from ..terms.layout import channels_of
from ..terms.linear_algebra import condition
from ..terms.protocol import FittedTerm, ManyBodyTerm, Tables
from ..terms.registry import empty_term, term_type
from ..threads import single_blas_thread
from .accumulate import Progress, silent
from .adaptation import Freedom, adapted
from .contradictions import contradictions
from .data_check import fitting
from .design_matrix import Group, noise_of
from .guesses import guess_of
from .label_check import LeftOut, calibration_of, covered, leave_out, some_structures, suspicious_labels
from .learned_mixing import learn_mixing
from .noises import left_open
from .posterior import Posterior
from .quality import label_quality
from .reweighing import reweigh
from .streamed_selection import choose_sparse_points
from .surroundings import ENOUGH, nearby, settled
from .task import FitTask
from .tensors import fit_targets

MOST_COPIED = 20
"""Number of structures whose strained and rattled copies provide sparse points if there are few environments."""


log = logging.getLogger(__name__)


def fit(
    frames: Iterable[Atoms],
    config: FitConfig | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> SparseGP:
    """Fit a potential to structures with attached results.

    Memory is independent of the number of structures, and the result is independent of the executor.

    Parameters
    ----------
    frames : iterable of ase.Atoms
        With energy, forces or stress attached by a calculator; labels may be missing per structure;
        `info["config_type"]` names a family.
    config : FitConfig
        Terms of the model and noises of the labels; the balanced preset by default.
    progress : callable
        Called with (stage, done, total).
    executor : concurrent.futures.Executor
        Computes the rows of the design matrix, for example a process pool or a Dask executor; threads of this process by default.

    Raises
    ------
    DataError
        If labels are missing everywhere, not finite, or belong to other atoms than those they are attached to.
    StructureError, ConfigError
        If structures cannot be used, or the data contradict names and energies in `config`.
    FitError
        If a covariance matrix is singular or a worker dies.
    BaselineError
        If the calculator beneath the fit fails.
    """
    frames, config = list_of(frames), FitConfig() if config is None else config
    if not isinstance(config, FitConfig):
        raise ConfigError(f"config = {quoted(config)}: must be a mlpot.FitConfig; write mlpot.FitConfig(**settings)")
    with_energies = [atoms for atoms in frames if has_labels(atoms)] if config.targets else frames
    structures = all_labelled(with_energies)
    species = sorted({int(z) for s in structures for z in s.atoms.numbers})
    targets = fit_targets(frames, config, config.seed, progress)
    model = fit_checked(structures, fitting(config, structures, species), progress, executor)
    return replace(model, targets=targets) if targets else model


def fit_checked(
    structures: Sequence[LabelledStructure],
    config: FitConfig,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> SparseGP:
    """As `fit`, for structures that have been checked and the configuration returned by `data_check.fitting`."""
    started = time.process_time()
    species = tuple(sorted({int(z) for s in structures for z in s.atoms.numbers}))
    config = resolve(config, species)
    beneath = None if config.baseline is None else CalculatorBaseline(config.baseline)
    structures = structures if beneath is None else beneath.differences(structures, progress)
    task = FitTask(structures, species, make_baseline(config, structures, species, beneath), config, progress, executor)
    with single_blas_thread():
        terms = make_terms(task)
        trials: list[dict[str, Any]] = []
        if config.tune:
            task, terms, posterior, trials = reweigh(task, terms)
        else:
            posterior = adapted_fit(task, terms)
        model = task.model(posterior, terms)
        sample = structures if config.check_labels else some_structures(structures, config.seed)
        left_out = leave_out(task.design(terms), posterior, sample, progress, executor)
    model = _with_report(task, model, posterior, left_out, trials)
    if config.extrapolate:
        model = replace(model, noises=replace(model.noises, guess=guess_of(model, structures)))
    report = replace(required(model.report, "report"), cpu_seconds=time.process_time() - started)
    return replace(model, report=report, beneath=beneath)


def _with_report(
    task: FitTask, model: SparseGP, posterior: Posterior, left_out: Sequence[LeftOut], trials: list[dict[str, Any]]
) -> SparseGP:
    """Calibrate a model by leave-out errors and attach the report of the fit and of suspicious labels."""
    config = task.config
    alone = [found.alone for found in left_out]
    # no other structure determines the energy of a free atom, so leaving it out does not test the fit
    bound = [found for found in left_out if not is_isolated_atom(found.alone.structure.atoms)] or left_out
    grouped = [found.grouped for found in bound]
    model = model.calibrated(calibration_of(grouped))
    noises = model.noises.by_label()
    noises["energy"] = min(noises["energy"], config.energy_noise or np.inf)  # wrong labels raise it
    report = replace(
        _report(task, model, posterior, bound, trials),
        suspicious=suspicious_labels(alone, noises) if config.check_labels else [],
        coverage=covered(grouped, model.calibration),
    )
    return replace(model, report=report)


def adapted_fit(task: FitTask, terms: tuple[FittedTerm, ...]) -> Posterior:
    """Fit the weights, with noises and energy scales determined by the data unless the configuration gives them."""
    design = task.design(terms)
    groups = task.gathered(design)
    start = task.hyperparameters(terms, groups)
    freedom = Freedom(start, left_open(task.config, groups), open_blocks(task.config, terms))
    return adapted(start.posterior(design.prior, groups), freedom)[0]


def open_blocks(config: FitConfig, terms: Sequence[FittedTerm]) -> np.ndarray:
    """Mask (n_blocks,) of the blocks whose energy scale a configuration leaves to the data."""
    return np.array([
        settings.energy_scale is None
        for settings, term in zip(config.terms, terms, strict=True)
        for _ in term.points
    ])  # fmt: skip


def _report(
    task: FitTask, model: SparseGP, posterior: Posterior, left_out: Sequence[LeftOut], trials: list[dict[str, Any]]
) -> FitReport:
    structures, config = task.structures, task.config
    trained = compare_all(model, structures, task.progress)
    bound = [c for c in trained if not is_isolated_atom(c.structure.atoms)]
    for said in contradictions(bound):
        log.warning("%s", said)
    return FitReport(
        n_structures=len(structures),
        n_atoms=sum(s.n_atoms for s in structures),
        n_energies=sum(s.energy is not None for s in structures),
        n_force_components=sum(3 * s.n_atoms for s in structures if s.forces is not None),
        n_virials=sum(s.virial is not None for s in structures),
        n_sparse=[term.n_sparse for term in model.terms],
        energy_scales=[list(term.energy_scales) for term in model.terms],
        isolated_atom_energies=task.baseline.isolated_atom_energies,
        isolated_atom_energies_fitted=config.isolated_atom_energies is None,
        condition=condition(required(model.factor, "factor")),
        log_likelihood=posterior.log_likelihood[0],
        residuals=errors_per_config_type(trained),
        left_out=errors_per_config_type([found.alone for found in left_out] if config.check_labels else []),
        trials=trials,
        noises=model.noises.by_label(),
        force_noises=dict(model.noises.forces),
        cpu_seconds=0.0,
        n_bound=len(bound),
        quality=label_quality(bound, [found.grouped for found in left_out]) if len(bound) > 1 else [],
    )


def fit_terms(
    structures: Sequence[LabelledStructure],
    species: tuple[int, ...],
    terms: tuple[FittedTerm, ...],
    baseline: Baseline,
    config: FitConfig,
    noises: Mapping[Group, float] | None = None,
) -> SparseGP:
    """Fit the weights of terms with given sparse points and energy scales.

    The noises are taken from the resolved configuration unless others are given. The model has no report.
    """
    task = FitTask(structures, species, baseline, config)
    with single_blas_thread():
        design = task.design(terms)
        groups = task.gathered(design)
        noises = noises or {group: noise_of(config, group) for group in groups}
        scales = task.hyperparameters(terms, ()).scales
        return task.model(Posterior(design.prior, groups, noises, scales), terms)


def make_baseline(
    config: FitConfig,
    structures: Sequence[LabelledStructure],
    species: Sequence[int],
    beneath: CalculatorBaseline | None = None,
) -> Baseline:
    """Baseline with the given isolated-atom energies; for all other elements they follow from least squares.

    With a calculator beneath the fit, labels are differences from it, and so are these energies.
    """
    given = config.given_energies
    if beneath is not None:
        given = {z: energy - beneath.lone_energy(z) for z, energy in given.items()}
    energies = given if set(species) <= set(given) else fit_isolated_atom_energies(structures, species, given) | given
    return Baseline(energies, config.repulsion, lone_atoms=dict.fromkeys(given, 0.0))


def default_energy_scale(structures: Sequence[LabelledStructure], baseline: Baseline, least: float = 1.0) -> float:
    """Prior standard deviation of a local energy, eV: the size of the energies per atom above the baseline, at least `least` eV."""
    left = [
        (s.energy - baseline.energies(s.atoms.numbers).sum()) / s.n_atoms for s in structures if s.energy is not None
    ]
    return max(float(np.sqrt(np.mean(np.square(left)))) if left else least, least)


Chooser = Callable[[ManyBodyTerm, Any], tuple[np.ndarray, ...]]
"""From a many-body term without points, and its settings, to sparse points (n, n_features) of every element."""


def make_terms(task: FitTask, choose: Chooser | None = None) -> tuple[FittedTerm, ...]:
    """Make the terms of a task, with sparse points from its structures: radii of pairs, environments drawn with its seed.

    Learned channels are optimised first, together with the pair terms. `choose` takes the place of the choice of environments.
    """
    scale = default_energy_scale(task.structures, task.baseline)
    rng = np.random.default_rng(task.config.seed)
    terms = _others(task, scale)
    others = tuple(terms.values())
    for k, settings in enumerate(task.config.terms):
        if k not in terms:
            term = _learned(task, settings, settings.energy_scale or scale, others)
            points = choose(term, settings) if choose else _environments(task, term, settings, rng)
            terms[k] = term.with_points(points)
    made = tuple(terms[k] for k in range(len(task.config.terms)))
    if not sum(term.n_sparse for term in made):
        raise FitError("no sparse points: the terms found no environments in the data; raise the cutoffs")
    return made


def learn_channels(
    structures: Sequence[LabelledStructure], config: FitConfig, species: tuple[int, ...]
) -> dict[int, Tables]:
    """Learn the channels of the terms with `embedding = "learned"` from structures, as `fit` does; keys are indices of terms.

    Raises
    ------
    FitError
        If there are too few structures with energies or forces.
    """
    beneath = None if config.baseline is None else CalculatorBaseline(config.baseline)
    structures = structures if beneath is None else beneath.differences(structures, silent)
    task = FitTask(structures, species, make_baseline(config, structures, species, beneath), config)
    scale = default_energy_scale(structures, task.baseline)
    with single_blas_thread():
        others = tuple(_others(task, scale).values())
        found = {
            k: _learned(task, settings, settings.energy_scale or scale, others)
            for k, settings in enumerate(config.terms)
            if settings.is_learned
        }
    return {k: channels_of((term,))[0] for k, term in found.items()}


def _others(task: FitTask, energy_scale: float) -> dict[int, FittedTerm]:
    """Terms whose sparse points follow directly from the structures, by index of the term."""
    found = {}
    for k, settings in enumerate(task.config.terms):
        if not term_type(settings).term.is_many_body:
            term = empty_term(settings, task.species, settings.energy_scale or energy_scale)
            found[k] = term.with_points(tuple(term.new_points(task.structures, settings)))
    return found


def _environments(
    task: FitTask, term: ManyBodyTerm, settings: Any, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Sparse points of every element."""
    points = []
    for z in task.species:
        own = choose_sparse_points(term, z, task.structures, settings, rng, task.progress)
        most = min(ENOUGH, settings.most_sparse(z)) - len(own)
        if most > 0:
            frames = [s.atoms for s in task.structures[:MOST_COPIED]]
            own = np.concatenate([own, nearby(own, frames, z, term, most, rng)])
        points.append(own)
    return tuple(points)


def _learned(
    task: FitTask, settings: TermSettings, energy_scale: float, others: tuple[FittedTerm, ...]
) -> ManyBodyTerm:
    """A many-body term without sparse points but with everything it learns from data: channels and means of features."""
    term: Any = empty_term(settings, task.species, energy_scale)
    if settings.is_learned:
        learned = learn_mixing(task, term.descriptor, term.exponent, energy_scale, others).reduction
        term = term.with_channels(learned, settings)
    return cast(ManyBodyTerm, settled(term, [s.atoms for s in task.structures]))
