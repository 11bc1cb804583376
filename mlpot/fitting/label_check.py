"""Structures predicted by the fit to all others, without fitting again; labels that do not agree are reported.

With whitened rows A of a group of structures, divided by their noises, and B of all rows (see `posterior`), the residuals r become
(1 - A B^-1 A')^-1 r when the group is left out. Cook and Weisberg, Residuals and Influence in Regression (1982), chapter 2.2. The
posterior covariance H = U'U, with U = R^-T A' over the representatives, becomes H (1 - H)^-1 = U' (1 - UU')^-1 U: what the
ensemble would have said of structures that it does not know.

Labels are checked by leaving out single structures. Uncertainties are calibrated otherwise: consecutive frames of a trajectory know
each other, and leaving out one of them flatters, so structures that follow each other with the same atoms and config_type are left
out together, as far as there is room for their rows.
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
"""A label is reported when it is off by so many times its noise and the median of its family."""
FAMILY = 8
"""A config_type with fewer structures is compared with all."""
ENOUGH = 1000
"""Environments that calibrate the uncertainty where labels are not checked."""
MOST_ROWS, MOST_TOGETHER, FEWEST_GROUPS = 1200, 10, 8
"""Rows and structures that are left out together at most, and groups that there are at least where there are so many structures."""


@dataclass(frozen=True)
class LeftOut:
    """What the fit to other structures makes of one.

    Parameters
    ----------
    alone : Comparison
        By the fit to all others.
    grouped : Comparison
        By the fit to all but its group.
    """

    alone: Comparison
    grouped: Comparison


@dataclass(frozen=True)
class LeaveOut:
    """What predicts structures without themselves.

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
        Their columns.
    part : (n, n) array
        R_s of these.
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
        """From a fit."""
        choice = choose(with_scales(design.terms, posterior.scales), design.species)
        variances = posterior.column_scales[choice.columns] ** 2
        return cls(
            design, posterior.lower, posterior.whitened, posterior.column_scales, dict(posterior.noises),
            choice.columns, choice.factor(posterior.factor) / variances, choice.share,
        )  # fmt: skip

    def compare(self, group: Sequence[LabelledStructure]) -> list[LeftOut]:
        """Errors of structures when each of them, and when all of them are left out of the fit."""
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
        """Errors (n,), deviations (n,) and values of members (n, N_MEMBERS) of rows that are left out together."""
        error = -noise * np.linalg.solve(np.eye(len(noise)) - hat, residual)
        exact, members = self._spread(raw)
        if not np.all(np.isfinite(error)) or not np.all(np.isfinite(exact)):
            raise FitError("the fit is not determined without one of its structures; increase energy_noise or force_noise")
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
        """Deviations (n,) of whitened rows (n, n_representatives) when these are left out, and values (n, N_MEMBERS) of the
        ensemble."""
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
        """From errors, deviations and noises (n_rows,) and values of members (n_rows, N_MEMBERS) of all rows of a structure."""
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
    """Structures that are left out together: those that follow each other and have the same atoms and config_type."""
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
    """Errors of every structure when it, and when its group is left out of the fit; costs as much as making all rows again."""
    check = LeaveOut.of(design, posterior)
    groups = groups_of(structures)
    comparisons: list[LeftOut] = []
    for found in map_blocks(executor, partial(LeaveOut.compare, check), groups):
        comparisons += found
        progress("leaving structures out", len(comparisons), len(structures))
    return comparisons


def some_structures(structures: Sequence[LabelledStructure], seed: int) -> list[LabelledStructure]:
    """Structures drawn at random that have `ENOUGH` environments together."""
    order = np.random.default_rng(seed).permutation(len(structures))
    n_before = np.cumsum([0, *(structures[k].n_atoms for k in order)])[:-1]
    return [structures[k] for k in np.sort(order[n_before < ENOUGH])]


def calibration_of(comparisons: Sequence[Comparison]) -> Calibration:
    """From errors and deviations of structures that the model did not know; those of forces without its discrepancy."""
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
    """Parts of the errors within one and two calibrated standard deviations, for `FitReport.coverage`."""
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
    """Labels far off both their noise ("energy" eV/atom, "forces" eV/A) and what is typical of their config_type.

    The worst come first.
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
