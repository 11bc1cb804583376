"""Exact errors on left-out groups of structures, in closed form, for a fit whose rows are at hand.

With the whitened rows Z of a group, divided by their noises and multiplied by the energy scales (A), the matrix B = 1 + sum A'A of
all groups and the right-hand side b = sum A'y, the fit to all other groups and its errors e on this one are

    e = (1 - A B^-1 A')^-1 (y - A B^-1 b)            if the group has fewer rows than there are columns,
    u = (B - A'A)^-1 (b - A'y),  e = y - A u         otherwise,

which is the same (Cook and Weisberg, Residuals and Influence in Regression (1982), chapter 2.2). Noises and energy scales are first
adapted to all groups by the evidence, see `fitting.adaptation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, lapack

from ..data.targets import FITTED
from ..errors import FitError
from ..fitting.adaptation import Freedom, adapted
from ..fitting.batch import open_blocks
from ..fitting.design_matrix import Design, Group
from ..fitting.noises import left_open
from ..fitting.posterior import NormalEquations, Posterior
from ..fitting.task import FitTask
from ..structures import LabelledStructure
from ..terms.protocol import FittedTerm
from ..threads import single_blas_thread

Groups = Sequence[Sequence[LabelledStructure]]
"""Groups of structures; each is left out as a whole."""


@dataclass(frozen=True)
class Errors:
    """Typical errors on left-out groups, see `typical`; None without labels of a kind.

    Parameters
    ----------
    energies : float or None
        eV/atom.
    forces : float or None
        eV/A.
    """

    energies: float | None
    forces: float | None


def errors_left_out(task: FitTask, terms: tuple[FittedTerm, ...], groups: Groups) -> tuple[Errors, Posterior]:
    """Errors of every group by the fit of `terms` to all other groups, and the fit to all of them.

    Isolated atoms among the structures of the task but in no group are part of every fit.

    Raises
    ------
    FitError
        If the least-squares problem loses all digits.
    """
    with single_blas_thread():
        design = task.design(terms)
        together = {id(s) for group in groups for s in group}
        always = [s for s in task.structures if id(s) not in together]
        rows = [_rows(design, group) for group in (*groups, always)]
        posterior = _adapted(task, terms, design, rows)
        return _errors(posterior, rows[: len(groups)]), posterior


_Rows = dict[Group, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Whitened rows (n, M), labels (n,) and sqrt(n_atoms) (n,) by which energies were divided, for every group of labels."""


def _rows(design: Design, structures: Sequence[LabelledStructure]) -> _Rows:
    found: dict[Group, list[tuple[np.ndarray, ...]]] = {}
    for structure in structures:
        root = np.sqrt(structure.n_atoms)
        for group, z, labels in design.whitened_rows(design.rows(structure)):
            found.setdefault(group, []).append((z, labels, np.full(len(labels), root)))
    return {group: tuple(map(np.concatenate, zip(*parts, strict=True))) for group, parts in found.items()}  # type: ignore[misc]


def _adapted(task: FitTask, terms: tuple[FittedTerm, ...], design: Design, rows: Sequence[_Rows]) -> Posterior:
    """The fit to all rows, with noises and energy scales as `fitting.batch.adapted_fit` finds them."""
    equations: dict[Group, NormalEquations] = {}
    for found in rows:
        for group, (z, labels, _) in found.items():
            equations.setdefault(group, NormalEquations.empty(design.n_sparse)).absorb(np.ascontiguousarray(z), labels)
    equations = dict(sorted(equations.items()))
    start = task.hyperparameters(terms, equations)
    freedom = Freedom(start, left_open(task.config, equations), open_blocks(task.config, terms))
    return adapted(start.posterior(design.prior, equations), freedom)[0]


def _errors(posterior: Posterior, rows: Sequence[_Rows]) -> Errors:
    lower, scales = posterior.lower, posterior.column_scales
    right = sum(e.right / posterior.noises[g] ** 2 for g, e in posterior.groups.items()) * scales
    matrix = lower @ lower.T
    found: dict[str, list[float]] = {name: [] for name in FITTED}
    for own in rows:
        stacked = [(group, z * (scales / posterior.noises[group]), labels / posterior.noises[group], roots)
                   for group, (z, labels, roots) in own.items()]  # fmt: skip
        if not stacked:
            continue
        a = np.concatenate([part[1] for part in stacked])
        y = np.concatenate([part[2] for part in stacked])
        errors = _left_out(lower, matrix, right, a, y)
        begin, sizes = 0, dict[str, list[np.ndarray]]()
        for group, _, labels, roots in stacked:
            part = errors[begin : begin + len(labels)] * posterior.noises[group]
            sizes.setdefault(group.label, []).append(np.abs(part / roots if group.label == "energy" else part))
            begin += len(labels)
        for label, parts in sizes.items():
            found[label].append(float(np.concatenate(parts).mean()))
    energies, forces = (typical(found[k]) if found[k] else None for k in ("energy", "forces"))
    return Errors(energies, forces)


def typical(errors: Sequence[float]) -> float:
    """Square of the mean square root of the errors of groups: a few groups far from all others, such as the shortest distance of a
    dimer, which no setting can extrapolate to, do not decide between settings."""
    return float(np.mean(np.sqrt(errors)) ** 2)


def _left_out(lower: np.ndarray, matrix: np.ndarray, right: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Errors (n,) of a group with rows (n, M) and labels (n,), in units of the noises, by the fit to all others."""
    if len(y) < len(matrix):
        known = lapack.dtrtrs(lower, a.T, lower=1)[0]
        residual = y - a @ cho_solve((lower, True), right, check_finite=False)
        errors = np.linalg.solve(np.eye(len(y)) - known.T @ known, residual)
    else:
        factor, failed = lapack.dpotrf(matrix - a.T @ a, lower=1, clean=1)
        if failed:
            raise FitError("the fit is not determined if one group of structures is left out")
        errors = y - a @ cho_solve((factor, True), right - a.T @ y, check_finite=False)
    if not np.all(np.isfinite(errors)):
        raise FitError("errors on left-out structures are not finite")
    return errors
