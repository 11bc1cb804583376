"""Every structure predicted by the fit to all others, without fitting again; labels that do not agree are reported.

With whitened rows A_s of a structure and R'R of all rows, the residual r_s becomes (1 - A_s (R'R)^-1 A_s')^-1 r_s when the
structure is left out. Cook and Weisberg, Residuals and Influence in Regression (1982), chapter 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..errors import FitError
from ..structures import LabelledStructure, symmetric_matrix
from ..threads import single_blas_thread
from .design_matrix import Design, Group
from .evidence import Posterior
from .factor import solve_upper
from .gather import Progress, blocks_of, map_blocks
from .report import Comparison, SuspiciousLabel

SUSPICIOUS = 10.0
"""A label is reported when it is off by so many times its noise and the median of its family."""
FAMILY = 8
"""A config_type with fewer structures is compared with all."""


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
    """

    design: Design
    upper: np.ndarray
    coefficients: np.ndarray
    isolated_atom_energies: tuple[float, ...]
    noises: Mapping[Group, float]

    @classmethod
    def of(cls, posterior: Posterior) -> LeaveOneOut:
        """From a fit."""
        n = posterior.evidence.design.n_sparse
        return cls(
            posterior.evidence.design, np.asfortranarray(posterior.triangle[:n, :n]), posterior.coefficients,
            tuple(posterior.isolated_atom_energies), posterior.noises,
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
        if not np.all(np.isfinite(error)):
            raise FitError(f"{structure.name}: its labels alone decide a part of the fit; raise the noises")
        found, begin = {}, 0
        for label, size in structure.rows_by_label.items():
            found[label] = error[begin : begin + size]
            begin += size
        root = np.sqrt(structure.n_atoms)
        stress = None
        if "virial" in found:
            stress = -symmetric_matrix(found["virial"]) * root / structure.atoms.get_volume()
        return Comparison(
            structure=structure,
            energy_per_atom=float(found["energy"][0] / root) if "energy" in found else None,
            forces=found["forces"].reshape(-1, 3) if "forces" in found else None,
            stress=stress,
            energies_std=None,
            energy_std=None,
        )


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
