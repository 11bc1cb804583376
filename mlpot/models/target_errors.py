"""Errors of targets on labelled structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ..data.target_labels import label_of, labels_of
from ..descriptors.couplings import PARTS, components
from ..structures import name_of
from .tensors import TargetErrors, TargetModels


def evaluate_targets(models: TargetModels, frames: Sequence[Atoms]) -> dict[str, TargetErrors]:
    """Errors of all targets that have labels in the structures, with the coverage of their standard deviations.

    Labels are looked for under the key and in the unit of the fit. Dipoles of periodic structures are compared on the branch nearest
    to the prediction.

    Raises
    ------
    DataError
        If a label is wrong; see `labels_of`.
    """
    names = [name_of(atoms, f"structure {k}") for k, atoms in enumerate(frames)]
    found = {}
    for name, model in models.items():
        target = model.target
        if all(label_of(a, model.key, target, model.label_unit, n) is None for a, n in zip(frames, names, strict=True)):
            continue
        labels = labels_of(frames, names, model.key, target, model.label_unit, model.origin)
        predictions = [model.predict(atoms, uncertainty=True, gradients=False) for atoms in labels.frames]
        errors = []
        for atoms, value, p in zip(labels.frames, labels.values, predictions, strict=True):
            shift = model.origin.shift(atoms) if model.has_origin else 0.0
            errors.append(_on_nearest_branch(p.value - shift - value, atoms, target.name == "dipole"))
        found[name] = target_errors(labels.values, errors, target.rank, [p.std for p in predictions if p.std is not None])
    return found


def _on_nearest_branch(error: np.ndarray, atoms: Atoms, is_dipole: bool) -> np.ndarray:
    """The error of a dipole without lattice vectors times the elementary charge."""
    cell = atoms.cell.array[atoms.pbc]
    if not is_dipole or not len(cell):
        return error
    return error - np.round(np.linalg.lstsq(cell.T, error, rcond=None)[0]) @ cell


def target_errors(
    values: Sequence[np.ndarray], errors: Sequence[np.ndarray], rank: int, stds: Sequence[np.ndarray] | None = None
) -> TargetErrors:
    """Errors of values, overall and in percent by degree; `stds` are standard deviations for the coverage."""
    lead = [np.reshape(v, (-1, *(3,) * rank)) for v in values]
    every = np.concatenate(lead)
    wrong = np.concatenate([np.reshape(e, (-1, *(3,) * rank)) for e in errors])
    parts = {}
    for degree in PARTS[rank]:
        spread = components(every, rank, degree)
        size = float(np.sqrt(np.mean((spread - spread.mean(axis=0)) ** 2)))
        own = float(np.sqrt(np.mean(components(wrong, rank, degree) ** 2)))
        parts[str(degree)] = 100 * own / size if size > 0 else float("nan")
    coverage = None
    if stds is not None:
        allowed = np.concatenate([np.reshape(s, (-1, *(3,) * rank)) for s in stds])
        coverage = float(np.mean(np.abs(wrong) <= allowed))
    return TargetErrors(
        len(values), float(np.mean(np.abs(wrong))), float(np.sqrt(np.mean(wrong**2))),
        float(np.sqrt(np.mean((every - every.mean(axis=0)) ** 2))), parts, coverage,
    )  # fmt: skip
