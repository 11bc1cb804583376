"""Labels of targets that all other structures contradict: dipoles of other branches, labels in another unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..data.target_labels import DIPOLE, UNITS, TargetLabels
from ..data.targets import Target
from ..errors import DataError

FAR = 6.0
"""Errors of that many times the typical one are no accident."""
NAMED = 5
"""Structures named in a message."""


def _typical(errors: Sequence[np.ndarray]) -> float:
    """Typical size of the error of a component: robust, so that outliers do not hide themselves."""
    return float(np.median(np.abs(np.concatenate([np.ravel(e) for e in errors])))) / 0.6745


def _far(errors: Sequence[np.ndarray]) -> list[int]:
    """Structures whose largest error is far beyond what is typical."""
    typical = _typical(errors)
    return [k for k, e in enumerate(errors) if np.abs(e).max(initial=0.0) > FAR * typical]


def _named(labels: TargetLabels, which: Sequence[int]) -> str:
    return ", ".join(labels.names[k] for k in which[:NAMED]) + (", ..." if len(which) > NAMED else "")


def refuse_other_units(labels: TargetLabels, errors: Sequence[np.ndarray], target: Target) -> None:
    """DataError for labels that agree with all others once they are read in another known unit.

    `errors` are predicted minus labelled values of structures left out.
    """
    factors, typical = UNITS.get(target.name, {}), _typical(errors)
    for unit, a in factors.items():
        for other, b in factors.items():
            if unit == other:
                continue
            wrong = [
                k for k in _far(errors)
                if np.abs(labels.values[k]).max() > FAR * typical
                and np.abs(errors[k] + labels.values[k] * (1 - b / a)).max() < 0.2 * np.abs(errors[k]).max()
            ]  # fmt: skip
            if len(wrong) > 1:
                raise DataError(
                    f"{target.name}: {len(wrong)} structures ({_named(labels, wrong)}) agree with the others only in another unit "
                    f"(a factor of {b / a:.4g}, as from {unit} to {other}); give all labels in one unit"
                )


def mended(labels: TargetLabels, errors: Sequence[np.ndarray], target: Target) -> tuple[TargetLabels | None, list[str]]:
    """Dipoles of periodic structures on the branch of all others, and a remark; None where none is on another branch.

    A dipole of a periodic cell is defined up to lattice vectors times the elementary charge. A label is moved if it is an outlier
    that such a multiple explains.
    """
    if target != DIPOLE:
        return None, []
    typical, values, moved = _typical(errors), list(labels.values), []
    for k in _far(errors):
        atoms = labels.frames[k]
        cell = atoms.cell.array[atoms.pbc]
        if not len(cell):
            continue
        steps = np.round(np.linalg.lstsq(cell.T, errors[k], rcond=None)[0])
        left = errors[k] - steps @ cell
        if np.any(steps) and np.abs(left).max() < 0.2 * np.abs(errors[k]).max() + typical:
            values[k] = values[k] + steps @ cell
            moved.append(k)
    if not moved:
        return None, []
    note = f"{len(moved)} dipoles were on another branch and were moved by lattice vectors: {_named(labels, moved)}"
    return replace(labels, values=values), [note]
