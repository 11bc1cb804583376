"""Leave-out predictions without refitting: calibration of uncertainties and detection of suspicious labels.

With whitened rows A of a group of structures, divided by their noises, and B of all rows (see `posterior`), the residuals r become
(1 - A B^-1 A')^-1 r when the group is left out. Cook and Weisberg, Residuals and Influence in Regression (1982), chapter 2.2. The
posterior covariance H = U'U, with U = R^-T A' over the representatives, becomes H (1 - H)^-1 = U' (1 - UU')^-1 U: the covariance of
an ensemble that was not fitted to these structures.

Labels are checked by leaving out single structures. For the calibration of uncertainties this would be too optimistic, since
consecutive frames of a trajectory are correlated: consecutive structures with the same atoms and config_type are left out together,
as long as their rows fit into `MOST_ROWS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.linalg import lapack, solve_triangular

from ..errors import FitError
from ..models.evaluate import (
    Comparison,
    energy_errors,
    force_discrepancies,
    force_errors,
    force_numbers,
    stress_errors,
)
from ..models.report import SuspiciousLabel
from ..structures import LabelledStructure, is_isolated_atom, symmetric_matrix
from ..terms.linear_algebra import solve_upper
from ..threads import single_blas_thread
from ..uncertainty.calibration import SYMMETRIC, Calibration, ErrorsAndDeviations, coverage, fit_calibration
from ..uncertainty.representatives import choose, draws
from ..uncertainty.variances import force_variances
from .accumulate import Progress, map_blocks
from .design_matrix import Design, Group, parts_of
from .posterior import Posterior
from .task import with_scales

SUSPICIOUS = 10.0
"""A label is reported if its error exceeds this multiple of both its noise and the median error of its config_type."""
FAMILY = 8
"""A config_type with fewer structures is compared with all structures."""
ENOUGH = 1000
"""Number of environments used to calibrate the uncertainty if labels are not checked."""
MOST_ROWS, MOST_TOGETHER, FEWEST_GROUPS = 1200, 10, 8
"""Largest numbers of rows and of structures left out together, and smallest number of groups (if there are enough structures)."""


@dataclass(frozen=True)
class LeftOut:
    """Prediction errors of a structure by fits that do not include it.

    Parameters
    ----------
    alone : Comparison
        With the fit to all other structures.
    grouped : Comparison
        With the fit to all structures outside its group.
    """

    alone: Comparison
    grouped: Comparison


@dataclass(frozen=True)
class LeaveOut:
    """Factors of a fit from which leave-out predictions are computed.

    Parameters
    ----------
    design : Design
    lower : (M, M) array
        C.
    whitened : (M,) array
        u.
    column_scales : (M,) array
        eV.
    noises : dict of Group to float
    representatives : (n,) int array
        Columns of the representatives.
    part : (n, n) array
        R_s of the representatives.
    share : float
        M / M_s.
    """

    design: Design
    lower: np.ndarray
    whitened: np.ndarray
    column_scales: np.ndarray
    noises: Mapping[Group, float]
    representatives: np.ndarray
    part: np.ndarray
    share: float

    @classmethod
    def of(cls, design: Design, posterior: Posterior) -> LeaveOut:
        """Take the factors from a fit."""
        choice = choose(with_scales(design.terms, posterior.scales), design.species)
        variances = posterior.column_scales[choice.columns] ** 2
        return cls(
            design, posterior.lower, posterior.whitened, posterior.column_scales, dict(posterior.noises),
            choice.columns, choice.factor(posterior.factor) / variances, choice.share,
        )  # fmt: skip

    def compare(self, group: Sequence[LabelledStructure]) -> list[LeftOut]:
        """Errors of the structures of a group, each left out alone and all left out together."""
        with single_blas_thread():
            found = [self._rows(structure) for structure in group]
            raw, whitened, residual, noise = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
            scaled = (whitened * self.column_scales).T
            known = solve_triangular(self.lower, scaled, lower=True, check_finite=False)
            hat = known.T @ known
            together = self._errors(raw, hat, residual, noise)
        results, begin = [], 0
        for structure, arrays in zip(group, found, strict=True):
            own = slice(begin, begin := begin + len(arrays[3]))
            with single_blas_thread():
                alone = self._errors(raw[own], hat[own, own], residual[own], noise[own])
            error, deviation, members = (values[own] for values in together)
            grouped = self._compared(structure, error, deviation, members, noise[own])
            results.append(LeftOut(self._compared(structure, *alone, noise[own]), grouped))
        return results

    def _errors(
        self, raw: np.ndarray, hat: np.ndarray, residual: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Errors (n,), standard deviations (n,) and values of members (n, N_MEMBERS) of rows left out together."""
        error = -noise * np.linalg.solve(np.eye(len(noise)) - hat, residual)
        exact, members = self._spread(raw)
        if not np.all(np.isfinite(error)) or not np.all(np.isfinite(exact)):
            raise FitError("the fit is not determined if one of its structures is left out; increase energy_noise or force_noise")
        return error, noise * exact, noise[:, None] * members

    def _rows(self, structure: LabelledStructure) -> tuple[np.ndarray, ...]:
        """Rows over the representatives, whitened rows (n, M), and residuals (n,), all divided by the noises (n,)."""
        rows = self.design.rows(structure)
        found = []
        for group, z, labels in self.design.whitened_rows(rows):
            noise = self.noises[group]
            raw = rows[group][:, self.representatives]
            found.append((raw / noise, z / noise, (labels - z @ self.whitened) / noise, np.full(len(z), noise)))
        return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))

    def _spread(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Leave-out standard deviations (n,) of whitened rows (n, n_representatives), and values of members (n, N_MEMBERS)."""
        known = solve_upper(self.part, rows.T, transposed=True)
        factor, failed = lapack.dpotrf(np.eye(len(known)) - known @ known.T, lower=1, clean=1)
        if failed:
            factor = np.full_like(factor, np.nan)
        half = np.sqrt(self.share) * solve_triangular(factor, known, lower=True, check_finite=False)
        return np.linalg.norm(half, axis=0), half.T @ draws(len(half))

    def _compared(
        self,
        structure: LabelledStructure,
        error: np.ndarray,
        deviation: np.ndarray,
        members: np.ndarray,
        noise: np.ndarray,
    ) -> Comparison:
        """Make a comparison from errors, standard deviations and noises (n_rows,) and values of members (n_rows, N_MEMBERS)."""
        found = Comparison(structure, None, None, None, None, None)
        root, begin = float(np.sqrt(structure.n_atoms)), 0
        forces, left_open, own_noise = np.empty((3, structure.n_atoms, 3))
        for part in parts_of(structure, self.design.config_types):
            rows = slice(begin, begin := begin + len(part.rows))
            if part.group.label == "energy":
                std = np.hypot(deviation[rows], noise[rows])[0] * root
                found = replace(found, energy_per_atom=float(error[rows][0]) / root, energy_std=float(std))
            elif part.group.label == "forces":
                atoms = np.unique((part.rows - 1) // 3)
                forces[atoms] = error[rows].reshape(-1, 3)
                left_open[atoms] = np.sqrt(force_variances(members[rows].reshape(-1, 3, members.shape[1])))
                own_noise[atoms] = noise[rows].reshape(-1, 3)
                found = replace(found, forces=forces, forces_std=left_open, forces_discrepancy=own_noise)
            else:
                own = np.sqrt(np.mean(members[rows] ** 2, axis=1) + noise[rows] ** 2)
                stress, std = (symmetric_matrix(v) * root / structure.atoms.get_volume() for v in (error[rows], own))
                found = replace(found, stress=-stress, stress_std=std)
        return found


def groups_of(structures: Sequence[LabelledStructure]) -> list[list[LabelledStructure]]:
    """Groups left out together: consecutive structures with the same atoms and config_type."""
    most = min(MOST_TOGETHER, max(len(structures) // FEWEST_GROUPS, 1))
    groups: list[list[LabelledStructure]] = []
    for structure in structures:
        last = groups[-1] if groups else []
        if last and len(last) < most and _follows(structure, last[-1]):
            if sum(s.n_rows for s in last) + structure.n_rows <= MOST_ROWS:
                last.append(structure)
                continue
        groups.append([structure])
    return groups


def _follows(structure: LabelledStructure, other: LabelledStructure) -> bool:
    return structure.config_type == other.config_type and np.array_equal(structure.atoms.numbers, other.atoms.numbers)


def leave_out(
    design: Design,
    posterior: Posterior,
    structures: Sequence[LabelledStructure],
    progress: Progress,
    executor: Executor | None,
) -> list[LeftOut]:
    """Leave-out errors of every structure, alone and with its group; the cost is the same as for computing all rows."""
    check = LeaveOut.of(design, posterior)
    groups = groups_of(structures)
    comparisons: list[LeftOut] = []
    for found in map_blocks(executor, partial(LeaveOut.compare, check), groups):
        comparisons += found
        progress("leaving structures out", len(comparisons), len(structures))
    return comparisons


def some_structures(structures: Sequence[LabelledStructure], seed: int) -> list[LabelledStructure]:
    """Random structures with `ENOUGH` environments in total."""
    order = np.random.default_rng(seed).permutation(len(structures))
    n_before = np.cumsum([0, *(structures[k].n_atoms for k in order)])[:-1]
    return [structures[k] for k in np.sort(order[n_before < ENOUGH])]


def calibration_of(comparisons: Sequence[Comparison]) -> Calibration:
    """Calibration from leave-out errors and standard deviations; the discrepancy of forces is passed separately."""
    forces, left_open = force_errors(comparisons)
    numbers, stresses = np.repeat(force_numbers(comparisons), 3), stress_errors(comparisons)
    n, n_energies = len(comparisons), len(energy_errors(comparisons)[0])
    discrepancies = force_discrepancies(comparisons).ravel()
    return fit_calibration(
        ErrorsAndDeviations(forces.ravel(), left_open.ravel(), numbers, n, discrepancies),
        ErrorsAndDeviations(*energy_errors(comparisons), None, n_energies),
        ErrorsAndDeviations(stresses[0].ravel(), stresses[1].ravel(), None, len(stresses[0])),
    )


def covered(comparisons: Sequence[Comparison], calibration: Calibration) -> dict[str, float]:
    """Fractions of the errors within one and two calibrated standard deviations, for `FitReport.coverage`."""
    forces, left_open = force_errors(comparisons)
    energies, energy_std = energy_errors(comparisons)
    told = left_open > SYMMETRIC
    forces_std = calibration.forces_std(left_open, force_discrepancies(comparisons), force_numbers(comparisons))
    kinds = {
        "force": (forces[told], forces_std[told]),
        "energy": (energies, calibration.energy_scale * energy_std),
    }
    return {
        f"{kind}_coverage_{n}_sigma": coverage(error, std, n)
        for kind, (error, std) in kinds.items() if len(error) for n in (1, 2)
    }  # fmt: skip


def suspicious_labels(comparisons: Sequence[Comparison], noises: Mapping[str, float]) -> list[SuspiciousLabel]:
    """Labels whose errors far exceed both their noise ("energy" eV/atom, "forces" eV/A) and typical errors of their config_type.

    The worst labels come first.
    """
    found = []
    for label in ("energy", "forces", "stress"):
        found_sizes = [_size(label, c) for c in comparisons]
        sizes, atoms = np.array([size for size, _ in found_sizes]), [atom for _, atom in found_sizes]
        families = np.array([c.structure.config_type for c in comparisons])
        for k in np.flatnonzero(np.isfinite(sizes)).tolist():
            if is_isolated_atom(comparisons[k].structure.atoms):  # no other structure could confirm it
                continue
            typical = _typical(sizes, families == families[k])
            if sizes[k] > SUSPICIOUS * max(typical, noises.get(label, 0.0)):
                own = comparisons[k].structure
                name, config_type = str(own.atoms.info.get("frame", own.name)), own.config_type
                found.append(SuspiciousLabel(k, name, config_type, label, float(sizes[k]), typical, atoms[k]))
    return sorted(found, key=lambda s: -s.error / max(s.typical, 1e-300))


def _typical(sizes: np.ndarray, family: np.ndarray) -> float:
    """Median error of a config_type, or of all structures if the config_type is small."""
    known = np.isfinite(sizes)
    return float(np.median(sizes[known & family] if np.sum(known & family) >= FAMILY else sizes[known]))


def _size(label: str, comparison: Comparison) -> tuple[float, int | None]:
    """Size of an error, and the index of the worst atom; NaN without a label."""
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
