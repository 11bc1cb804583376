"""Loss of a channel mixing and its gradient with respect to the weights: variable projection of a small fit.

For channel weights W, a sparse fit to a sample of the data is solved exactly, and its residuals on left-out structures define the
loss. With the rows K divided by their noises, the prior matrix Q and H = K_T' K_T + Q,

    w = H^-1 K_T' y_T,    r_T = y_T - K_T w,    r_V = y_V - K_V w,    loss = sum over kinds of labels of log(mean size of r_V)

is a function of W through K and Q alone. With g = dloss/dr_V and the adjoint solution a = -H^-1 K_V' g,

    dloss/dK_V = -g w',    dloss/dK_T = r_T a' - (K_T a) w',    dloss/dQ = -a w'

(Golub and Pereyra, Inverse Probl. 19, R1 (2003), doi:10.1088/0266-5611/19/2/201). The chain rule continues through the kernel, the
normalised power spectrum and the expansion to W.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve, solve_triangular

from ..descriptors.density import Reduction
from .mixed_features import MixedFeatures
from .mixing_sample import JITTER, ElementSample, MixingSample

N_FOLDS = 4


@dataclass(frozen=True)
class MixingLoss:
    """Errors of fits to a sample on left-out structures, as a function of the channels.

    Parameters
    ----------
    sample : MixingSample
        Its structures are in random order.
    l_max : int
    zeta, energy_scale : float
        Exponent and energy scale (eV) of the kernel.
    """

    sample: MixingSample
    l_max: int
    zeta: float
    energy_scale: float

    def evaluate(self, reduction: Reduction) -> tuple[float, np.ndarray]:
        """The loss and its derivatives (n_channels, n_species, n_max) with respect to `reduction.weights`."""
        mixed = MixedFeatures(reduction, self.l_max)
        kernels = [
            ElementKernel(
                own,
                np.concatenate([mixed.compute(chunk) for chunk in own.chunks]).astype(float),
                self.zeta,
                self.energy_scale,
            )
            for own in self.sample.elements
        ]
        loads = self.sample.loads[:, :, None]
        columns = [self.sample.others, *(kernel.rows(len(loads)) * loads for kernel in kernels)]
        ends = np.cumsum([0, *(part.shape[2] for part in columns)])
        rows = np.concatenate(columns, axis=2)
        prior = block_diag(np.eye(ends[1]), *(kernel.prior for kernel in kernels))
        loss, by_rows, by_prior = cross_validated(rows, self.sample.labels, prior, self.sample.loads > 0)
        gradient = np.zeros_like(reduction.weights)
        for kernel, (begin, end) in zip(kernels, pairwise(ends[1:]), strict=True):
            part = slice(begin, end)
            cotangent = kernel.vjp(by_rows[:, :, part] * loads, by_prior[part, part])
            starts = np.cumsum([0, *(chunk.shape[1] for chunk in kernel.element.chunks)])
            for chunk, (first, last) in zip(kernel.element.chunks, pairwise(starts), strict=True):
                gradient += mixed.vjp(chunk, cotangent[first:last])
        return loss, gradient


@dataclass(frozen=True)
class ElementKernel:
    """Covariances of the structures of a sample with the sparse points of one element.

    Parameters
    ----------
    element : ElementSample
    features : (n_environments, 1 + n_directions, n_features) array
        Normalised features and their derivatives.
    zeta, energy_scale : float
    """

    element: ElementSample
    features: np.ndarray
    zeta: float
    energy_scale: float

    @property
    def _points(self) -> np.ndarray:
        return self.features[self.element.points, 0]

    def _overlaps(self) -> np.ndarray:
        """Overlaps p.p_s and their derivatives (n_environments, 1 + n_directions, n_sparse)."""
        return self.features @ self._points.T

    @property
    def prior(self) -> np.ndarray:
        """K_mm (n_sparse, n_sparse), eV^2."""
        overlaps = self._points @ self._points.T
        return self.energy_scale**2 * (overlaps**self.zeta + JITTER * np.eye(len(overlaps)))

    def rows(self, n_structures: int) -> np.ndarray:
        """Covariances (n_structures, 1 + n_directions, n_sparse) of energies and of their slopes, eV^2 and eV^2/A."""
        values = self._overlaps()
        overlaps = values[:, 0].copy()
        values[:, 1:] *= self.zeta * overlaps[:, None] ** (self.zeta - 1)
        values[:, 0] = overlaps**self.zeta
        out = np.zeros((n_structures, *values.shape[1:]))
        present, begins = np.unique(self.element.structure, return_index=True)
        out[present] = self.energy_scale**2 * np.add.reduceat(values, begins, axis=0)
        return out

    def vjp(self, by_rows: np.ndarray, by_prior: np.ndarray) -> np.ndarray:
        """dloss/dfeatures, in the shape of the features, from derivatives with respect to `rows` and `prior`."""
        zeta, overlaps = self.zeta, self._overlaps()
        value = overlaps[:, :1].copy()
        slope = zeta * value ** (zeta - 1)
        curvature = zeta * (zeta - 1) * value[:, 0] ** (zeta - 2)
        by_overlaps = by_rows[self.element.structure] * slope
        by_overlaps[:, 0] += curvature * np.einsum(
            "nds,nds->ns", by_rows[self.element.structure][:, 1:], overlaps[:, 1:]
        )
        points = self._points
        among = (by_prior + by_prior.T) * zeta * (points @ points.T) ** (zeta - 1)
        out = by_overlaps @ points
        n_sparse = len(points)
        out[self.element.points, 0] += by_overlaps.reshape(-1, n_sparse).T @ self.features.reshape(-1, points.shape[1])
        out[self.element.points, 0] += among @ points
        return self.energy_scale**2 * out


def cross_validated(
    rows: np.ndarray, labels: np.ndarray, prior: np.ndarray, present: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss, and its derivatives with respect to rows and prior.

    Parameters
    ----------
    rows : (n_structures, n_kinds, n_columns) array
        Rows divided by the noises; a fold consists of every `N_FOLDS`-th structure. The first kind is the energy.
    labels : (n_structures, n_kinds) array
    prior : (n_columns, n_columns) array
    present : (n_structures, n_kinds) bool array
        Mask of the labels that are available.
    """
    factor = np.linalg.cholesky(prior)
    white = solve_triangular(factor, rows.reshape(-1, len(prior)).T, lower=True).T.reshape(rows.shape)
    fold = np.arange(len(rows)) % N_FOLDS
    flat = [white[fold == k].reshape(-1, len(prior)) for k in range(N_FOLDS)]
    grams = [part.T @ part for part in flat]
    sides = [part.T @ labels[fold == k].ravel() for k, part in enumerate(flat)]
    solvers = [cho_factor(sum(grams) - gram + np.eye(len(prior))) for gram in grams]
    weights = [cho_solve(solver, sum(sides) - side) for solver, side in zip(solvers, sides, strict=True)]
    residuals = np.empty_like(labels)
    for k in range(N_FOLDS):
        residuals[fold == k] = labels[fold == k] - white[fold == k] @ weights[k]
    loss, by_residuals = _log_errors(residuals, present)
    by_rows, by_prior = np.zeros_like(rows), np.zeros_like(prior)
    for k, (solver, weight) in enumerate(zip(solvers, weights, strict=True)):
        g, mine = by_residuals[fold == k], fold != k
        adjoint = -cho_solve(solver, flat[k].T @ g.ravel())
        left, pulled = labels[mine] - white[mine] @ weight, white[mine] @ adjoint
        w, a = solve_triangular(factor, np.stack([weight, adjoint], axis=1), lower=True, trans=1).T
        by_rows[fold == k] -= g[:, :, None] * w
        by_rows[mine] += left[:, :, None] * a - pulled[:, :, None] * w
        by_prior -= np.outer(a, w)
    return loss, by_rows, by_prior


def _log_errors(residuals: np.ndarray, present: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum over energies and slopes of the logarithms of mean sizes, and its derivatives (n_structures, n_kinds).

    The size of a residual is sqrt(r^2 + 1), in units of the noise: squares would be dominated by a few outliers.
    """
    loss, slopes = 0.0, np.zeros_like(residuals)
    for kinds in (slice(0, 1), slice(1, None)):
        if n := np.count_nonzero(present[:, kinds]):
            sizes = np.sqrt(residuals[:, kinds] ** 2 + 1) * present[:, kinds]
            loss += float(np.log(sizes.sum() / n))
            slopes[:, kinds] = residuals[:, kinds] / np.sqrt(residuals[:, kinds] ** 2 + 1) / sizes.sum()
    return loss, slopes
