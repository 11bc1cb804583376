"""The same power spectrum in fewer numbers.

The radial functions of one degree span fewer dimensions than there are (GAP's first shell has no part in l > 0, the
outermost shells overlap with nothing), so in their principal axes c~ = U'c a part of the power spectrum vanishes or all but
vanishes. A rotation of channels rotates the power spectrum: overlaps p.p' stay what they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._ext.density import Density
from .density import SoapDescriptor, make_core

NEGLIGIBLE = 1e-13
"""Relative singular value below which a direction of radial functions is rounding."""
GRID = 400
LARGEST = 100.0
"""An entry of an environment over the amplitudes of its radial functions at most; 47 in a thousand environments of silicon."""


@dataclass(frozen=True)
class RotatedPowerSpectrum:
    """All entries of a descriptor's power spectrum in the principal axes of its radial functions.

    Parameters
    ----------
    descriptor : SoapDescriptor
    rotations : tuple of (n_max, n_l) arrays
        Orthonormal columns, for each degree.
    degree, a, b : (n_rotated,) int arrays
        l and the two rotated channels (species, function < n_functions) of each entry.
    amplitudes : (n_rotated,) array
        Root mean squares of both channels' radial functions, multiplied; 1 for the largest of all functions.
    """

    descriptor: SoapDescriptor
    rotations: tuple[np.ndarray, ...]
    degree: np.ndarray
    a: np.ndarray
    b: np.ndarray
    amplitudes: np.ndarray

    @property
    def n_functions(self) -> int:
        """Largest number of rotated functions of any degree."""
        return max(rotation.shape[1] for rotation in self.rotations)

    @property
    def largest(self) -> np.ndarray:
        """Bounds (n_rotated,) on the size of each entry in any environment, the whole being of norm 1."""
        return np.minimum(LARGEST * self.amplitudes, 1.0)

    def rotate(self, features: np.ndarray) -> np.ndarray:
        """Features (n, n_features) of the descriptor -> (n, n_rotated), the constant left out."""
        n_species, basis = len(self.descriptor.species), self.descriptor.basis
        n_channels, n_l = n_species * basis.n_max, basis.l_max + 1
        rows, cols = np.tril_indices(n_channels)
        scale = np.where(rows == cols, 1.0, np.sqrt(0.5))
        out = np.empty((len(features), len(self.degree)))
        for l, rotation in enumerate(self.rotations):
            square = np.zeros((len(features), n_channels, n_channels))
            square[:, rows, cols] = features[:, l : len(rows) * n_l : n_l] * scale
            square[:, cols, rows] = square[:, rows, cols]
            both = np.kron(np.eye(n_species), self._padded(rotation))
            turned = both.T @ square @ both
            mine = self.degree == l
            a, b = self.a[mine], self.b[mine]
            out[:, mine] = turned[:, a, b] * np.where(a == b, 1.0, np.sqrt(2))
        return out

    def reduced(self, rotated: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """What `core` computes (n, n_kept), of rotated features (n, n_rotated): the constant appended if there is one."""
        n = len(rotated)
        constant = np.full((n, 1 if self.descriptor.constant else 0), self.descriptor.constant)
        return np.ascontiguousarray(np.concatenate([rotated[:, kept], constant], axis=1))

    def core(self, kept: np.ndarray) -> Density:
        """The compiled density that computes these entries only."""
        function = np.array([self.a[kept], self.b[kept]]) % self.n_functions
        n_functions = int(function.max()) + 1
        a, b = np.array([self.a[kept], self.b[kept]]) // self.n_functions * n_functions + function
        rotations = np.array([self._padded(rotation) for rotation in self.rotations])[:, :, :n_functions]
        knots = np.einsum("kdln,lnm->kdlm", self.descriptor.table.knots, rotations)
        own = self.descriptor.basis.self_coefficients() @ rotations[0]
        return make_core(self.descriptor, knots, own, self.degree[kept], a, b)

    def _padded(self, rotation: np.ndarray) -> np.ndarray:
        return np.pad(rotation, ((0, 0), (0, self.n_functions - rotation.shape[1])))


def all_but_least(parts: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices, smallest part first, of all (n,) parts but the least, which add up to less than a tolerance; one at least."""
    order = np.argsort(parts, kind="stable")
    kept = order[np.cumsum(parts[order]) >= tolerance]
    return kept if len(kept) else order[-1:]


def rotated_power_spectrum(descriptor: SoapDescriptor) -> RotatedPowerSpectrum:
    """Principal axes of the radial functions within the cutoff, and the entries of the power spectrum in them."""
    basis = descriptor.basis
    radii = np.linspace(0, basis.cutoff, GRID + 1)[1:]
    values = basis.evaluate(radii)[0] / np.sqrt(GRID)
    own = basis.self_coefficients()[None] / np.sqrt(GRID)
    spans = [
        np.linalg.svd(np.concatenate([values[:, :, l], own] if l == 0 else [values[:, :, l]]), full_matrices=False)[1:]
        for l in range(basis.l_max + 1)
    ]
    largest = max(sizes[0] for sizes, _ in spans)
    sizes_of = [sizes[sizes > NEGLIGIBLE * largest] / largest for sizes, _ in spans]
    rotations = tuple(axes[: len(sizes)].T for sizes, (_, axes) in zip(sizes_of, spans, strict=True))
    n_functions = max(rotation.shape[1] for rotation in rotations)
    entries = []
    for l, rotation in enumerate(rotations):
        channels = (np.arange(len(descriptor.species))[:, None] * n_functions + np.arange(rotation.shape[1])).ravel()
        rows, cols = np.tril_indices(len(channels))
        entries.append(np.array([np.full(len(rows), l), channels[rows], channels[cols]]))
    degree, a, b = np.concatenate(entries, axis=1)
    sizes = np.array([np.pad(own, (0, n_functions - len(own))) for own in sizes_of])
    amplitudes = sizes[degree, a % n_functions] * sizes[degree, b % n_functions]
    return RotatedPowerSpectrum(descriptor, rotations, degree, a, b, amplitudes)
