"""Equivalent features with fewer entries, for rows of a fit and for simulations.

The radial functions of one degree are nearly linearly dependent (GAP's first shell does not contribute for l > 0, the outermost
shells have hardly any overlap with the density), so in their principal axes c~ = U'c some entries of the power spectrum are zero or
negligible. A rotation of channels rotates the power spectrum and leaves overlaps p.p' unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .._ext.core import Density
from .density import SoapDescriptor
from .density_core import Spectrum, element_blocks, make_core

NEGLIGIBLE = 1e-13
"""Relative singular value below which a direction of radial functions is round-off."""
GRID = 400
LARGEST = 100.0
"""Upper bound of an entry relative to the amplitudes of its radial functions; the largest in 1000 silicon environments is 47."""


class CompactFeatures(Protocol):
    """Features of which some may be omitted: contractions of more than two densities come first, the constant is not included."""

    @property
    def descriptor(self) -> SoapDescriptor:
        """The descriptor whose features are reduced."""

    @property
    def largest(self) -> np.ndarray:
        """Upper bounds (n,) of each feature in any environment, for feature vectors of norm 1."""

    @property
    def is_open(self) -> bool:
        """Whether environments in simulations may have features that are zero in all sparse points: pairs of elements."""

    def rotate(self, features: np.ndarray) -> np.ndarray:
        """Transform features (n, n_features) of the descriptor to these features."""

    def core(self, kept: np.ndarray) -> Density:
        """Compiled density that computes the features with these indices, contractions first."""


def reduced(compact: CompactFeatures, rotated: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The features (n, n_kept) that `core` computes, selected from (n, n_rotated), with the constant appended if there is one."""
    constant = np.full((len(rotated), 1 if compact.descriptor.constant else 0), compact.descriptor.constant)
    return np.ascontiguousarray(np.concatenate([rotated[:, kept], constant], axis=1))


@dataclass(frozen=True)
class PlainFeatures:
    """Unmodified features of a descriptor with mixed channels, of which none is negligible beforehand."""

    descriptor: SoapDescriptor

    @property
    def is_open(self) -> bool:
        return False

    @property
    def largest(self) -> np.ndarray:
        return np.ones(self.descriptor.n_features - (self.descriptor.constant > 0))

    def rotate(self, features: np.ndarray) -> np.ndarray:
        return features[:, : len(self.largest)]

    def core(self, kept: np.ndarray) -> Density:
        first, n_contracted = _split(self.descriptor, kept)
        own = self.descriptor.spectrum
        spectrum = Spectrum(
            *(array[kept[len(first) :] - n_contracted] for array in (own.degree, own.a, own.b, own.coupling))
        )
        contractions = self.descriptor.contractions and self.descriptor.contractions.only(first)
        return make_core(self.descriptor, self.descriptor.blocks, spectrum, contractions)


def compact_features(descriptor: SoapDescriptor) -> CompactFeatures:
    """The features of a descriptor in the form in which most of them can be omitted."""
    return rotated_power_spectrum(descriptor) if descriptor.reduction is None else PlainFeatures(descriptor)


def largest_first(descriptor: SoapDescriptor, kept: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The kept features in an order accepted by `core`: contractions, then entries of the power spectrum by size."""
    first, _ = _split(descriptor, np.sort(kept))
    rest = kept[kept >= descriptor.n_contracted]
    return np.concatenate([first, rest[np.argsort(-sizes[rest], kind="stable")]])


def _split(descriptor: SoapDescriptor, kept: np.ndarray) -> tuple[np.ndarray, int]:
    """The contractions among the kept features, which come first, and the total number of contractions."""
    n_contracted = descriptor.n_contracted
    return kept[kept < n_contracted], n_contracted


@dataclass(frozen=True)
class RotatedPowerSpectrum:
    """All entries of a descriptor's power spectrum in the principal axes of its radial functions, after its contractions.

    Parameters
    ----------
    descriptor : SoapDescriptor
    rotations : tuple of (n_max, n_l) arrays
        Orthonormal columns, for each degree.
    degree, a, b : (n_rotated,) int arrays
        Degree l and the two rotated channels (species, function < n_functions) of each entry.
    amplitudes : (n_rotated,) array
        Product of the root mean squares of both channels' radial functions, relative to the largest function.
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
        """Upper bounds of each feature in any environment, for feature vectors of norm 1."""
        return np.concatenate([np.ones(self.descriptor.n_contracted), np.minimum(LARGEST * self.amplitudes, 1.0)])

    @property
    def is_open(self) -> bool:
        return len(self.descriptor.species) > 1

    def rotate(self, features: np.ndarray) -> np.ndarray:
        """Transform features (n, n_features) of the descriptor to contractions and rotated entries, without the constant."""
        n_contracted = self.descriptor.n_contracted
        return np.concatenate([features[:, :n_contracted], self._turned(features[:, n_contracted:])], axis=1)

    def _turned(self, features: np.ndarray) -> np.ndarray:
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

    def core(self, kept: np.ndarray) -> Density:
        """Compiled density that computes only these features."""
        first, n_contracted = _split(self.descriptor, kept)
        entries = kept[len(first) :] - n_contracted
        function = np.array([self.a[entries], self.b[entries]]) % self.n_functions
        contractions = self.descriptor.contractions and self.descriptor.contractions.only(first)
        n_functions = self.n_functions if contractions else int(function.max()) + 1
        a, b = np.array([self.a[entries], self.b[entries]]) // self.n_functions * n_functions + function
        rotations = np.array([self._padded(rotation) for rotation in self.rotations])[:, :, :n_functions]
        knots = np.einsum("kdln,lnm->kdlm", self.descriptor.table.knots, rotations)
        blocks = element_blocks(self.descriptor, knots, self.descriptor.basis.self_coefficients() @ rotations[0])
        degree, scale = self.degree[entries], np.where(a == b, 1.0, np.sqrt(2))
        spectrum = Spectrum(degree, a, b, scale / np.sqrt(2 * degree + 1))
        if contractions:
            both = [np.kron(np.eye(len(self.descriptor.species)), rotation) for rotation in rotations]
            contractions = contractions.rotated(both)
        return make_core(self.descriptor, blocks, spectrum, contractions)

    def _padded(self, rotation: np.ndarray) -> np.ndarray:
        return np.pad(rotation, ((0, 0), (0, self.n_functions - rotation.shape[1])))


def all_but_least(parts: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices, in ascending order of the parts (n,), without the smallest ones that add up to less than a tolerance; at least one."""
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
