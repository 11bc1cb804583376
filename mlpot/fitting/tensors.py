"""Fit of targets: sparse points, rows, evidence, exact errors of structures left out, calibration.

The least-squares problem is the same as for energies (`posterior`), with one block of columns for every term and element. Noise and
scales follow from the evidence (MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415), from starting values
proportional to the spread of the labels, so that results do not depend on units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from scipy.linalg import solve_triangular

from ..data.target_labels import TargetLabels, labels_of
from ..descriptors.couplings import PARTS, components
from ..descriptors.density import SoapDescriptor
from ..descriptors.mixing import Mixing, make_reduction
from ..descriptors.radial_basis import GapRadialBasis
from ..errors import FitError, counted
from ..models.target_errors import target_errors
from ..models.tensors import SphericalPart, TargetModel, TargetModels
from ..neighbours import find_pairs
from ..settings.targets import CovariantTermSettings, TargetSettings, TargetsSettings
from ..structures import name_of
from ..terms.covariant import CovariantTerm, Points
from ..terms.linear_algebra import prior_factor
from ..terms.selection import pivots
from ..threads import single_blas_thread
from .accumulate import Progress, silent
from .design_matrix import Group
from .posterior import NormalEquations, Posterior
from .prior import Prior
from .target_check import mended, refuse_other_units

JITTER = 1e-8
"""Addition to the diagonal of the covariances of sparse points, relative to its mean."""
STEPS, CLOSE = 60, 1.05
"""Most steps of the evidence, and largest change by a factor at which it has converged."""
SMALLEST_NOISE = 1e-5
"""Relative to the spread of the labels."""
CANDIDATES = 20
"""Environments from which each sparse point is chosen, at most."""
SCALE_COUNTS = 1.0
"""The starting value of a scale counts as one determined direction."""
WITHIN = 0.683
"""Share of errors within one standard deviation that calibration aims at."""
ROUNDS = 4
"""Most rounds of mending branches."""
DEFAULT_TERMS = (
    CovariantTermSettings(n_max=4, l_max=3, cutoff=2.5, cutoff_width=0.5, atom_sigma=0.3),
    CovariantTermSettings(n_max=4, l_max=3, cutoff=3.5, atom_sigma=0.5),
    CovariantTermSettings(n_max=4, l_max=3, cutoff=4.5, atom_sigma=0.7),
    CovariantTermSettings(n_max=4, l_max=3, cutoff=6.0, atom_sigma=0.9),
)
"""Terms of a target for which none are given."""


@dataclass(frozen=True)
class TargetRows:
    """Whitened rows and labels of one spherical part.

    Parameters
    ----------
    rows : (n, M) array
    labels : (n,) array
        Components minus the means of the elements.
    offsets : (n_structures + 1,) int array
        Rows of structure k are offsets[k]:offsets[k + 1].
    prior : Prior
    terms : tuple of CovariantTerm
    """

    rows: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    prior: Prior
    terms: tuple[CovariantTerm, ...]


def fit_targets(frames: Sequence[Atoms], settings: TargetsSettings, seed: int = 0, progress: Progress = silent) -> TargetModels:
    """Fit all targets of a configuration to the structures that have their labels.

    Raises
    ------
    DataError
        For labels that are missing everywhere, of a wrong shape, not symmetric, in mixed units, or of charged systems without an
        origin.
    FitError
        If a covariance matrix is singular, or labels do not vary.
    """
    names = [name_of(atoms, f"structure {k}") for k, atoms in enumerate(frames)]
    found = {}
    for own in settings.targets:
        labels = labels_of(frames, names, own.label_key, own.target, own.label_unit, own.place)
        with single_blas_thread():
            found[own.name] = fit_target(labels, own, seed, progress)
    return TargetModels(found)


def fit_target(labels: TargetLabels, settings: TargetSettings, seed: int = 0, progress: Progress = silent) -> TargetModel:
    """Fit one target to labels in mlpot's units."""
    target, notes = settings.target, list[str]()
    if labels.n_without:
        notes.append(f"no {settings.label_key!r} in {counted(labels.n_without, 'structure')}")
    prepared = {degree: _prepared(labels, settings, degree, seed, progress) for degree in PARTS[target.rank]}
    for _ in range(ROUNDS):
        solved = {degree: _solved(prepared[degree], labels, settings, degree) for degree in prepared}
        left_out = _combined(labels, {degree: s.left_out for degree, s in solved.items()}, settings)
        refuse_other_units(labels, left_out, target)
        better, notes_of_round = mended(labels, left_out, target)
        if better is None:
            break
        labels = better
        notes += notes_of_round
    training = _combined(labels, {degree: s.training for degree, s in solved.items()}, settings)
    stds = _combined(labels, {degree: s.deviations for degree, s in solved.items()}, settings, squares=True)
    return TargetModel(
        target, {degree: s.part for degree, s in solved.items()}, solved[0].means if 0 in solved else {}, settings.label_key,
        settings.label_unit, settings.place, target_errors(labels.values, left_out, target.rank, stds),
        target_errors(labels.values, training, target.rank), tuple(notes),
    )  # fmt: skip


def make_descriptor(settings: CovariantTermSettings, species: tuple[int, ...]) -> SoapDescriptor:
    """The density of a term."""
    width = settings.cutoff_width or settings.cutoff / 2
    basis = GapRadialBasis(settings.n_max, settings.l_max, settings.cutoff, width, settings.atom_sigma)
    reduction = None
    if settings.n_channels is not None:
        mixing = Mixing(mix="both", n_channels=settings.n_channels, embedding="random")
        reduction = make_reduction(mixing, species, settings.n_max)
    return SoapDescriptor(species, basis, reduction=reduction)


def _with_points(term: CovariantTerm, frames: Sequence[Atoms], n_sparse: int, rng: np.random.Generator) -> CovariantTerm:
    """The term with sparse points, each the environment that the points before it explain least."""
    points = []
    for number in term.descriptor.species:
        p, q, wanted = [], [], CANDIDATES * n_sparse
        n_all = sum(int(np.count_nonzero(atoms.numbers == number)) for atoms in frames)
        share = min(1.0, wanted / max(n_all, 1))
        for atoms in frames:
            if number not in atoms.numbers:
                continue
            found = term.environments(find_pairs(atoms, term.descriptor.cutoff), number, 1.0)
            kept = np.flatnonzero(rng.random(len(found.centres)) < share) if share < 1.0 else slice(None)
            p.append(found.p[kept])
            q.append(found.q[kept])
        every, of_q = np.concatenate(p), np.concatenate(q)
        size = float(np.sqrt(np.mean(np.einsum("nf,nf->n", every, every)))) or 1.0
        chosen = pivots(every / size, term.zeta, n_sparse)
        points.append(Points(every[chosen] / size, of_q[chosen] / size, size))
    return replace(term, points=tuple(points))


def _prepared(labels: TargetLabels, settings: TargetSettings, degree: int, seed: int, progress: Progress) -> TargetRows:
    """Sparse points and whitened rows of one part; the labels are added by `_solved`."""
    species = tuple(sorted({int(z) for atoms in labels.frames for z in atoms.numbers}))
    rng = np.random.default_rng(seed)
    terms = tuple(
        _with_points(CovariantTerm(make_descriptor(own, species), degree, own.zeta), labels.frames, own.n_sparse, rng)
        for own in settings.terms or DEFAULT_TERMS
    )
    kernels = [term.between(points) for term in terms for points in term.points]
    prior = Prior(tuple(prior_factor(k, JITTER * float(np.trace(k)) / max(len(k), 1)) for k in kernels))
    cutoff, per_atom = max(term.descriptor.cutoff for term in terms), settings.per_atom
    rows = []
    for k, atoms in enumerate(labels.frames):
        pairs = find_pairs(atoms, cutoff)
        own = np.concatenate([term.rows(pairs, per_atom) for term in terms], axis=-1)
        rows.append(own.reshape(-1, own.shape[-1]))
        progress(settings.name, k + 1, len(labels.frames))
    offsets = np.cumsum([0, *map(len, rows)])
    return TargetRows(prior.whitened(np.concatenate(rows)), np.empty(0), offsets, prior, terms)


@dataclass(frozen=True)
class Solved:
    """A fitted part, with errors (n_rows,) of the components of training structures and of the same structures left out, and the
    standard deviations (n_rows,) of the latter."""

    part: SphericalPart
    means: Mapping[int, float]
    training: np.ndarray
    left_out: np.ndarray
    deviations: np.ndarray


def _means(labels: TargetLabels, values: np.ndarray, degree: int, per_atom: bool) -> dict[int, float]:
    """Contribution of each element to a component of degree 0, by least squares."""
    species = sorted({int(z) for atoms in labels.frames for z in atoms.numbers})
    if degree:
        return {}
    if len(values) == 1:  # means would explain it, and leave nothing to learn from
        return dict.fromkeys(species, 0.0)
    numbers = [atoms.numbers for atoms in labels.frames]
    counts = (
        np.concatenate([own[:, None] == species for own in numbers]).astype(float)
        if per_atom
        else np.array([[np.count_nonzero(own == z) for z in species] for own in numbers], float)
    )
    found = np.linalg.lstsq(counts, values, rcond=1e-10)[0]
    return dict(zip(species, found.tolist(), strict=True))


def _solved(data: TargetRows, labels: TargetLabels, settings: TargetSettings, degree: int) -> Solved:
    """Weights, noise and scales of one part, and its errors."""
    values = np.concatenate([np.ravel(components(v, settings.target.rank, degree)) for v in labels.values])
    means = _means(labels, values, degree, settings.per_atom)
    if degree == 0:
        each = [np.array([means[z] for z in atoms.numbers.tolist()]) for atoms in labels.frames]
        values = values - np.concatenate([own if settings.per_atom else own.sum(keepdims=True) for own in each])
    posterior = _adapted(data.prior, data.rows, values, settings.noise)
    noise = float(next(iter(posterior.noises.values())))
    errors = data.rows @ posterior.whitened - values
    part = SphericalPart(
        data.terms, posterior.coefficients,
        np.triu(data.prior.times_transposed(np.asfortranarray(posterior.lower.T) / posterior.column_scales)),
        posterior.scales.reshape(len(data.terms), -1), noise,
    )  # fmt: skip
    left_out, deviations = _left_out(data, posterior, errors, noise)
    open_part = _unexplained(part, labels, settings.per_atom)
    deviations = np.sqrt(deviations**2 + open_part)
    ratio = np.abs(left_out) / np.maximum(deviations, 1e-300)
    part = replace(part, calibration=float(np.quantile(ratio, WITHIN)) if len(labels.frames) > 1 else 1.0)
    return Solved(part, means, errors, left_out, part.calibration * deviations)


def _adapted(prior: Prior, rows: np.ndarray, values: np.ndarray, noise: float | None) -> Posterior:
    """The posterior at the maximum of the evidence; a given noise is kept."""
    spread = float(np.sqrt(np.mean(values**2)))
    if not spread > 0:
        raise FitError("targets: the labels do not vary, or vanish everywhere; there is nothing to learn")
    group, equations = Group("target", ""), NormalEquations.empty(prior.n_columns)
    equations.absorb(np.ascontiguousarray(rows), values)
    per_block = np.array([max(np.mean(np.sum(rows[:, part] ** 2, axis=1)), 1e-300) for part in prior.slices])
    start = scales = spread / np.sqrt(per_block)
    sigma = noise or 0.03 * spread
    for _ in range(STEPS):
        posterior = Posterior(prior, {group: equations}, {group: sigma}, scales)
        wanted = np.sqrt((posterior.sizes + SCALE_COUNTS * (start * 0.1) ** 2) / (posterior.determined + SCALE_COUNTS))
        left = max(equations.n_rows - posterior.leverage(group), 1.0)
        rms = np.sqrt(posterior.square_sums()[group] / left)
        new = noise or max(float(rms), SMALLEST_NOISE * spread)
        change = np.exp(np.max(np.abs(np.log(np.append(wanted / scales, new / sigma)))))
        scales, sigma = wanted, new
        if change < CLOSE:
            break
    return Posterior(prior, {group: equations}, {group: sigma}, scales)


def _left_out(data: TargetRows, posterior: Posterior, errors: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n,) of structures, each predicted by all others, and their standard deviations: exact for given noise and scales.

    With H the block of Z S B^-1 S Z' / sigma^2 of a structure, the error becomes (1 - H)^-1 e, its covariance sigma^2 (1 - H)^-1.
    """
    half = solve_triangular(posterior.lower, (data.rows * posterior.column_scales).T, lower=True, check_finite=False) / noise
    found, deviations = np.empty(len(errors)), np.empty(len(errors))
    for a, b in zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True):
        own = half[:, a:b]
        inverse = np.linalg.inv(np.eye(b - a) - own.T @ own)
        found[a:b] = inverse @ errors[a:b]
        deviations[a:b] = noise * np.sqrt(np.maximum(np.diagonal(inverse), 1.0))
    return found, deviations


def _unexplained(part: SphericalPart, labels: TargetLabels, per_atom: bool) -> np.ndarray:
    """Prior variance (n,) of the components of every structure that the sparse points leave open."""
    found = []
    for atoms in labels.frames:
        own = part.unexplained(find_pairs(atoms, part.cutoff))
        found.append(np.ravel(own if per_atom else own.sum(axis=0)))
    return np.concatenate(found)


def _combined(
    labels: TargetLabels, parts: Mapping[int, np.ndarray], settings: TargetSettings, squares: bool = False
) -> list[np.ndarray]:
    """Cartesian values of every structure from the components (n,) of all parts; with `squares` standard deviations, added in
    quadrature."""
    rank, out = settings.target.rank, [np.zeros_like(value, dtype=float) for value in labels.values]
    for degree, values in parts.items():
        basis = PARTS[rank][degree].reshape(2 * degree + 1, -1)
        start, matrix = 0, basis**2 if squares else basis
        for k, label in enumerate(labels.values):
            size = (len(labels.frames[k]) if settings.per_atom else 1) * (2 * degree + 1)
            own = values[start : start + size].reshape(-1, 2 * degree + 1)
            out[k] += ((own**2 if squares else own) @ matrix).reshape(np.shape(label))
            start += size
    return [np.sqrt(value) for value in out] if squares else out
