"""Every structure predicted by the fit to all others, without fitting again; labels that do not agree are reported.

With whitened rows A_s of a structure and R'R of all rows, the residual r_s becomes (1 - A_s (R'R)^-1 A_s')^-1 r_s when the
structure is left out. Cook and Weisberg, Residuals and Influence in Regression (1982), chapter 2.2. Its posterior covariance
H = U'U, with U = R^-T A_s' over the representatives, becomes H (1 - H)^-1 = U' (1 - UU')^-1 U: what the ensemble would have said
of a structure that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy.linalg import lapack, solve_triangular

from ..errors import FitError
from ..structures import LabelledStructure, symmetric_matrix
from ..threads import single_blas_thread
from .calibration import SYMMETRIC, Calibration, coverage, fit_calibration
from .design_matrix import Design, Group
from .evidence import Posterior
from .factor import solve_upper
from .gather import Progress, blocks_of, map_blocks
from .report import Comparison, SuspiciousLabel, energy_errors, force_errors
from .representatives import choose, draws
from .variances import force_variances

SUSPICIOUS = 10.0
"""A label is reported when it is off by so many times its noise and the median of its family."""
FAMILY = 8
"""A config_type with fewer structures is compared with all."""
ENOUGH = 1000
"""Environments that calibrate the uncertainty where labels are not checked."""


@dataclass(frozen=True)
class LeaveOneOut:
    """What predicts structures without themselves.

    Parameters
    ----------
    design : Design
    upper : (M, M) array
        R.
    coefficients : (M,) array
        For energy scales of 1 eV.
    isolated_atom_energies : tuple of float
        eV, in the order of species.
    noises : dict of Group to float
    representatives : (n,) int array
        Their columns.
    part : (n, n) array
        R_s of these.
    share : float
        M / M_s.
    """

    design: Design
    upper: np.ndarray
    coefficients: np.ndarray
    isolated_atom_energies: tuple[float, ...]
    noises: Mapping[Group, float]
    representatives: np.ndarray
    part: np.ndarray
    share: float

    @classmethod
    def of(cls, posterior: Posterior) -> LeaveOneOut:
        """From a fit."""
        design = posterior.evidence.design
        upper = np.asfortranarray(np.triu(posterior.triangle[: design.n_sparse, : design.n_sparse]))
        choice = choose(design.terms, design.species)
        return cls(
            design, upper, posterior.coefficients, tuple(posterior.isolated_atom_energies), posterior.noises,
            choice.columns, choice.factor(upper), choice.share,
        )  # fmt: skip

    def compare(self, structures: Sequence[LabelledStructure]) -> list[Comparison]:
        """Errors of structures when each is left out of the fit."""
        with single_blas_thread():
            return [self._left_out(structure) for structure in structures]

    def _left_out(self, structure: LabelledStructure) -> Comparison:
        n, rows = len(self.coefficients), self.design.rows(structure)
        noise = np.concatenate([np.full(len(part), self.noises[group]) for group, part in rows.items()])
        whole = np.concatenate(list(rows.values())) / noise[:, None]
        residual = whole[:, n] - whole[:, n + 1 :] @ self.isolated_atom_energies - whole[:, :n] @ self.coefficients
        known = solve_upper(self.upper, whole[:, :n].T, transposed=True)
        error = -noise * np.linalg.solve(np.eye(len(whole)) - known.T @ known, residual)
        exact, members = self._spread(whole[:, self.representatives])
        if not np.all(np.isfinite(error)) or not np.all(np.isfinite(exact)):
            raise FitError(f"{structure.name}: its labels alone decide a part of the fit; raise the noises")
        return _compared(structure, error, noise * exact, noise[:, None] * members)

    def _spread(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Deviations (n,) of whitened rows (n, n_representatives) when these are left out, and values (n, N_MEMBERS) of the
        ensemble."""
        known = solve_upper(self.part, rows.T, transposed=True)
        factor, failed = lapack.dpotrf(np.eye(len(known)) - known @ known.T, lower=1, clean=1)
        if failed:
            factor = np.full_like(factor, np.nan)
        half = np.sqrt(self.share) * solve_triangular(factor, known, lower=True, check_finite=False)
        return np.linalg.norm(half, axis=0), half.T @ draws(len(half))


def _compared(
    structure: LabelledStructure, error: np.ndarray, deviation: np.ndarray, members: np.ndarray
) -> Comparison:
    """From errors and deviations (n_rows,) and values of members (n_rows, N_MEMBERS) of all rows of a structure."""
    ends = np.cumsum([0, *structure.rows_by_label.values()])
    part = {label: slice(*where) for label, where in zip(structure.rows_by_label, pairwise(ends), strict=True)}
    root = np.sqrt(structure.n_atoms)
    stress = None
    if "virial" in part:
        stress = -symmetric_matrix(error[part["virial"]]) * root / structure.atoms.get_volume()
    found = Comparison(structure, None, None, stress, None, None)
    if "energy" in part:
        energy, std = (float(values[part["energy"]][0]) for values in (error, deviation))
        found = replace(found, energy_per_atom=energy / root, energy_std=std * root)
    if "forces" in part:
        spread = force_variances(members[part["forces"]].reshape(-1, 3, members.shape[1]))
        found = replace(found, forces=error[part["forces"]].reshape(-1, 3), forces_std=np.sqrt(spread))
    return found


def leave_one_out(
    posterior: Posterior, structures: Sequence[LabelledStructure], progress: Progress, executor: Executor | None
) -> list[Comparison]:
    """Errors of every structure when it is left out of the fit; costs as much as making all rows once more."""
    check = LeaveOneOut.of(posterior)
    blocks = blocks_of(structures, check.design.n_columns)
    comparisons: list[Comparison] = []
    for found in map_blocks(executor, partial(LeaveOneOut.compare, check), blocks):
        comparisons += found
        progress("leaving structures out", len(comparisons), len(structures))
    return comparisons


def some_structures(structures: Sequence[LabelledStructure], seed: int) -> list[LabelledStructure]:
    """Structures drawn at random that have `ENOUGH` environments together."""
    order = np.random.default_rng(seed).permutation(len(structures))
    n_before = np.cumsum([0, *(structures[k].n_atoms for k in order)])[:-1]
    return [structures[k] for k in np.sort(order[n_before < ENOUGH])]


def calibration_of(comparisons: Sequence[Comparison]) -> Calibration:
    """From errors and raw standard deviations of structures that the model did not know."""
    return fit_calibration(*force_errors(comparisons), *energy_errors(comparisons))


def covered(comparisons: Sequence[Comparison], calibration: Calibration) -> dict[str, float]:
    """Parts of the errors within one and two calibrated standard deviations, for `FitReport.coverage`."""
    forces, raw = force_errors(comparisons)
    energies, energy_std = energy_errors(comparisons)
    told = raw > SYMMETRIC
    kinds = {
        "force": (forces[told], calibration.forces_std(raw[told])),
        "energy": (energies, calibration.energy_scale * energy_std),
    }
    return {
        f"{kind}_coverage_{n}_sigma": coverage(error, std, n)
        for kind, (error, std) in kinds.items() if len(error) for n in (1, 2)
    }  # fmt: skip


def suspicious_labels(comparisons: Sequence[Comparison], noises: Mapping[str, float]) -> list[SuspiciousLabel]:
    """Labels far off both their noise ("energy" eV/atom, "forces" eV/A) and what is typical of their config_type.

    The worst come first.
    """
    found = []
    for label in ("energy", "forces", "stress"):
        found_sizes = [_size(label, c) for c in comparisons]
        sizes, atoms = np.array([size for size, _ in found_sizes]), [atom for _, atom in found_sizes]
        families = np.array([c.structure.config_type for c in comparisons])
        for k in np.flatnonzero(np.isfinite(sizes)).tolist():
            typical = _typical(sizes, families == families[k])
            if sizes[k] > SUSPICIOUS * max(typical, noises.get(label, 0.0)):
                own = comparisons[k].structure
                name, config_type = str(own.atoms.info.get("frame", own.name)), own.config_type
                found.append(SuspiciousLabel(k, name, config_type, label, float(sizes[k]), typical, atoms[k]))
    return sorted(found, key=lambda s: -s.error / max(s.typical, 1e-300))


def _typical(sizes: np.ndarray, family: np.ndarray) -> float:
    """Median size in a family, or among all where it is small."""
    known = np.isfinite(sizes)
    return float(np.median(sizes[known & family] if np.sum(known & family) >= FAMILY else sizes[known]))


def _size(label: str, comparison: Comparison) -> tuple[float, int | None]:
    """How large an error is, and the worst atom; NaN without a label."""
    if label == "energy":
        error = comparison.energy_per_atom
        return (np.nan if error is None else abs(error)), None
    values = comparison.forces if label == "forces" else comparison.stress
    if values is None:
        return np.nan, None
    if label == "stress":
        return float(np.abs(values).max()), None
    lengths = np.linalg.norm(values, axis=1)
    return float(lengths.max()), int(lengths.argmax())
