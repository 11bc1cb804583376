"""Fit of targets: features, scales and noise by evidence, exact errors of structures left out, calibration.

Everything follows from the labels of the training structures (see `target_posterior`), in units of their spread, so that results do
not depend on units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from ..data.target_labels import TargetLabels, amount, labels_of, vacuum
from ..descriptors.couplings import PARTS, components
from ..errors import counted
from ..models.beneath import TargetBeneath
from ..models.target_errors import target_errors
from ..models.tensors import SphericalPart, TargetModel, TargetModels
from ..settings.targets import TargetSettings, TargetsSettings
from ..structures import name_of
from ..terms.calculator_baseline import CalculatorBaseline
from ..threads import single_blas_thread
from .accumulate import Progress, silent
from .target_check import mended, refuse_other_units
from .target_features import TargetFeatures, target_features
from .target_posterior import EVIDENCE_ROWS, TargetPosterior, block_scales, span

WITHIN = 0.683
"""Share of errors within one standard deviation that calibration aims at."""
ROUNDS = 4
"""Most rounds of mending branches."""


def fit_targets(
    frames: Sequence[Atoms], settings: TargetsSettings, seed: int = 0, progress: Progress = silent, trust_baseline: bool = True
) -> TargetModels:
    """Fit all targets of a configuration to the structures that have their labels.

    `trust_baseline` is for configurations that a user has not written: whether calculators that they name may be called.

    Raises
    ------
    BaselineError
        If a calculator beneath a target is not trusted, or fails.
    DataError
        For labels that are missing everywhere, of a wrong shape, not symmetric, in mixed units, or of charged systems without an
        origin; for properties per volume of structures without one.
    FitError
        If labels do not vary.
    """
    names = [name_of(atoms, f"structure {k}") for k, atoms in enumerate(frames)]
    found = {}
    for own in settings.targets:
        labels = labels_of(frames, names, own.label_key, own.target, own.label_unit, own.place)
        with single_blas_thread():
            found[own.name] = fit_target(labels, own, seed, progress, trust_baseline)
    return TargetModels(found)


def fit_target(
    labels: TargetLabels, settings: TargetSettings, seed: int = 0, progress: Progress = silent, trust_baseline: bool = True
) -> TargetModel:
    """Fit one target to labels in mlpot's units."""
    target, notes, beneath = settings.target, list[str](), _beneath(settings, trust_baseline)
    if labels.n_without:
        notes.append(f"no {settings.label_key!r} in {counted(labels.n_without, 'structure')}")
    sizes = [amount(target, atoms, name) for atoms, name in zip(labels.frames, labels.names, strict=True)]
    labels = replace(labels, values=[(v - vacuum(target)) * size for v, size in zip(labels.values, sizes, strict=True)])
    below = {} if beneath is None else _below(beneath, labels, progress)
    prepared = {
        degree: target_features(labels, settings, degree, seed, progress, below[degree][1] if below else None)
        for degree in PARTS[target.rank]
    }
    for _ in range(ROUNDS):
        solved = {degree: _solved(prepared[degree], labels, settings, degree) for degree in prepared}
        left_out = _combined(labels, {degree: s.left_out for degree, s in solved.items()}, settings)
        better, notes_of_round = mended(labels, left_out, target)
        if better is None:
            break
        labels = better
        notes += notes_of_round
    refuse_other_units(labels, left_out, target)
    training = _combined(labels, {degree: s.training for degree, s in solved.items()}, settings)
    values, left_out, training = (_divided(own, sizes) for own in (labels.values, left_out, training))
    stds = _combined(labels, {degree: s.deviations for degree, s in solved.items()}, settings, squares=True)
    stds = _divided(stds, sizes)
    return TargetModel(
        target, {degree: replace(s.part, beneath=below[degree][0] if below else None) for degree, s in solved.items()},
        solved[0].means if 0 in solved else {}, settings.label_key, settings.label_unit, settings.place,
        target_errors(values, left_out, target.rank, stds), target_errors(values, training, target.rank), tuple(notes), beneath,
    )  # fmt: skip


def _beneath(settings: TargetSettings, trusted: bool) -> TargetBeneath | None:
    if settings.baseline is None:
        return None
    return TargetBeneath(CalculatorBaseline(settings.baseline, trusted), settings.target, settings.label_unit, settings.place)


def _below(beneath: TargetBeneath, labels: TargetLabels, progress: Progress) -> dict[int, tuple[dict[int, float], np.ndarray]]:
    """By degree, contributions of elements to a calculator's components, and the components (n_rows,) without them."""
    values, rank, found = list[np.ndarray](), beneath.target.rank, {}
    for k, atoms in enumerate(labels.frames):
        values.append(beneath.value(atoms))
        progress("baseline", k + 1, len(labels.frames))
    for degree in PARTS[rank]:
        rows = np.concatenate([np.ravel(components(value, rank, degree)) for value in values])
        means = _means(labels, rows, degree, per_atom=False)
        found[degree] = means, rows - _summed(labels, means, per_atom=False) if degree == 0 else rows
    return found


def _divided(values: Sequence[np.ndarray], sizes: Sequence[float]) -> list[np.ndarray]:
    return [value / size for value, size in zip(values, sizes, strict=True)]


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


def _summed(labels: TargetLabels, means: Mapping[int, float], per_atom: bool) -> np.ndarray:
    """What elements contribute to every row of degree 0."""
    each = [np.array([means[z] for z in atoms.numbers.tolist()]) for atoms in labels.frames]
    return np.concatenate([own if per_atom else own.sum(keepdims=True) for own in each])


def _solved(data: TargetFeatures, labels: TargetLabels, settings: TargetSettings, degree: int) -> Solved:
    """Weights, noise and scales of one part, and its errors."""
    values = np.concatenate([np.ravel(components(v, settings.target.rank, degree)) for v in labels.values])
    means = _means(labels, values, degree, settings.per_atom)
    if degree == 0:
        values = values - _summed(labels, means, settings.per_atom)
    scales = _scales(data, values, settings.noise)
    of_features = np.repeat(scales, data.block_sizes)
    basis = of_features[:, None] * span(data.features, of_features)
    z, squares = data.projected(basis, of_features)
    posterior = TargetPosterior(z, values, settings.noise)
    n_blocks = sum(len(term.sizes) for term in data.terms)
    part = SphericalPart(
        data.terms, basis @ posterior.solution, basis @ posterior.known, scales[:n_blocks].reshape(len(data.terms), -1),
        posterior.noise, beneath_scale=0.0 if data.below is None else float(scales[-1]),
    )  # fmt: skip
    left_out, deviations = posterior.left_out(data.offsets)
    beyond = np.maximum(squares - np.sum(z**2, axis=1), 0.0) + data.outside @ scales**2
    deviations = np.sqrt(deviations**2 + beyond)
    ratio = np.abs(left_out) / np.maximum(deviations, 1e-300)
    part = replace(part, calibration=float(np.quantile(ratio, WITHIN)) if len(labels.frames) > 1 else 1.0)
    return Solved(part, means, z @ posterior.solution - values, left_out, part.calibration * deviations)


def _scales(data: TargetFeatures, values: np.ndarray, noise: float | None) -> np.ndarray:
    """Prior scales (n_blocks,), from a limited number of rows, spread over all structures."""
    few = np.unique(np.linspace(0, len(data.chosen) - 1, EVIDENCE_ROWS).astype(int))
    blocks = np.split(data.features[few], np.cumsum(data.block_sizes)[:-1], axis=1)
    return block_scales([own @ own.T for own in blocks], values[data.chosen[few]], noise)


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
