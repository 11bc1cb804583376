"""Normalised features of any descriptor for use in kernels: optionally standardised, with an appended constant.

    x = (f - mean) / (deviation n_features^(1/2))     or x = f           mean and deviation over environments of the centre's element
    x M                                               for a few features chosen out of many
    p = (x, offset) / |(x, offset)|

M gives the chosen features the scalar products of all: with X of all features and C of the chosen ones, X = C B in least squares over
the environments, and M M' = B B'. Without it a choice that avoids repetition weighs what varies little like what varies much. This
is the third matrix of a CUR decomposition (Mahoney and Drineas, PNAS 106, 697 (2009), doi:10.1073/pnas.0803205106).

The constant makes the features of lone atoms well defined: without it p is undefined at f = 0 and jumps when the last neighbour
leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, diags_array

from ..descriptors.acsf_pool import evenly
from ..descriptors.array_record import ArrayRecord
from ..descriptors.density import species_indices
from ..descriptors.mapped_sums import MappedSums
from ..descriptors.named import name_of
from ..descriptors.protocol import Descriptor
from ..errors import DescriptorError, FitError
from ..neighbours import Pairs

LEAST_DEVIATION = 0.05
"""Smallest standard deviation of a feature relative to its root mean square: nearly constant features are not amplified."""

RESOLVED = 1e-6
"""Smallest singular value of chosen features relative to the largest that counts in the metric."""


@dataclass(frozen=True, eq=False)
class Standardiser(ArrayRecord):
    """Means and standard deviations (n_species, n_features) of features over environments of each element; M (n_species, n_features,
    n_features) for features that were chosen out of many, else None."""

    mean: np.ndarray
    deviation: np.ndarray
    metric: np.ndarray | None = None

    @classmethod
    def of(cls, descriptor: Descriptor, structures: Sequence[Pairs]) -> Standardiser:
        """Compute from structures; an element that does not occur gets the values of all elements combined."""
        own = _by_element(descriptor, structures)
        mean = np.array([f.mean(axis=0) for f in own])
        sizes = np.array([np.sqrt(np.mean(f**2, axis=0)) for f in own])
        typical = float(np.sqrt(np.mean(sizes**2))) or 1.0
        least = LEAST_DEVIATION * np.where(sizes > 0, sizes, typical)
        return cls(mean, np.maximum(np.array([f.std(axis=0) for f in own]), least))

    @classmethod
    def of_chosen(cls, descriptor: Descriptor, every: Descriptor, structures: Sequence[Pairs]) -> Standardiser:
        """The same for a descriptor with a few of the features of another, with a metric."""
        found, some = cls.of(descriptor, structures), evenly(structures)
        whole, few, many = cls.of(every, some), _by_element(descriptor, some), _by_element(every, some)
        metric = [
            _metric((c - found.mean[k]) / found.deviation[k], (x - whole.mean[k]) / whole.deviation[k])
            for k, (c, x) in enumerate(zip(few, many, strict=True))
        ]
        return cls(found.mean, found.deviation, np.array(metric))


@dataclass(frozen=True)
class UnitFeatures:
    """Normalised features of a descriptor; see above.

    Parameters
    ----------
    descriptor : Descriptor
    offset : float
    standardise : bool
    standardiser : Standardiser or None
        None before it has been computed from data.
    """

    descriptor: Descriptor
    offset: float
    standardise: bool
    standardiser: Standardiser | None = None

    @property
    def species(self) -> tuple[int, ...]:
        return self.descriptor.species

    @property
    def cutoff(self) -> float:
        return self.descriptor.cutoff

    @property
    def n_features(self) -> int:
        return self.descriptor.n_features + (self.offset > 0)

    @property
    def square(self) -> float:
        """See `Features`."""
        return 1.0

    @property
    def is_settled(self) -> bool:
        """Whether everything that depends on data has been computed."""
        return self.descriptor.is_settled and (self.standardiser is not None or not self.standardise)

    def map_of(self, sums: MappedSums, kind: int) -> tuple[csr_array, np.ndarray]:
        """Matrix (n_raw, n_values) and shift (n_raw,) from the descriptor's sums to features before the offset and normalisation, of
        centres of one element, as an index of the species."""
        matrix, shift = sums.map_of(kind)
        own = self.standardiser
        if own is None:
            return matrix, shift
        scale = own.deviation[kind] * np.sqrt(self.descriptor.n_features)
        matrix, shift = csr_array(diags_array(1 / scale) @ matrix), (shift - own.mean[kind]) / scale
        return (matrix, shift) if own.metric is None else (csr_array(own.metric[kind].T @ matrix), shift @ own.metric[kind])

    def at(self, pairs: Pairs) -> FeaturesAt:
        """Features of a structure, prepared for `vjp` and `jacobian`."""
        return FeaturesAt.of(self, pairs)

    def compute(self, pairs: Pairs, centres: np.ndarray | None = None) -> np.ndarray:
        """See `Features`."""
        features = self.at(pairs).features
        return features if centres is None else features[centres]

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """See `Features`."""
        return self.at(pairs).vjp(cotangent)

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """See `Features`."""
        return self.at(pairs).jacobian()


@dataclass(frozen=True)
class FeaturesAt:
    """Features of one structure.

    Parameters
    ----------
    descriptor : Descriptor
    pairs : Pairs
        Pairs within the descriptor's cutoff.
    kept : (n_all_pairs,) bool array
        Mask of these among all pairs of the structure.
    features : (n_atoms, n_features) array
        Normalised features.
    lengths : (n_atoms, 1) array
        Norms before normalisation.
    scale : (n_atoms, n_raw) array or float
        Divisors of the descriptor's features.
    metric : (n_atoms, n_raw, n_raw) array or None
    """

    descriptor: Descriptor
    pairs: Pairs
    kept: np.ndarray
    features: np.ndarray
    lengths: np.ndarray
    scale: np.ndarray | float
    metric: np.ndarray | None = None

    @classmethod
    def of(cls, unit: UnitFeatures, pairs: Pairs) -> FeaturesAt:
        """See `UnitFeatures.at`."""
        own = species_indices(pairs.numbers, unit.species)
        if not unit.is_settled:
            what = "to take means from" if unit.descriptor.is_settled else "to choose features on"
            raise FitError(f"{name_of(type(unit.descriptor))}: there is no data yet {what}")
        within, x, scale, metric = pairs.within(unit.cutoff), _raw(unit.descriptor, pairs), 1.0, None
        if unit.standardiser is not None:
            scale = unit.standardiser.deviation[own] * np.sqrt(unit.descriptor.n_features)
            x = (x - unit.standardiser.mean[own]) / scale
            if unit.standardiser.metric is not None:
                metric = unit.standardiser.metric[own]
                x = np.einsum("af,afg->ag", x, metric, optimize=True)
        if unit.offset:
            x = np.concatenate([x, np.full((len(x), 1), unit.offset)], axis=1)
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        if not np.all(lengths):
            name, atom = name_of(type(unit.descriptor)), int(np.argmin(lengths))
            raise DescriptorError(f"{name}: all features of atom {atom} are zero; set an offset, for example 3.0")
        return cls(unit.descriptor, within, pairs.distances < unit.cutoff, x / lengths, lengths, scale, metric)

    def vjp(self, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_all_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""
        return self.vjps([cotangent])[0]

    def vjps(self, cotangents: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `vjp`, for several cotangents."""
        raw = [self._raw_cotangent(cotangent) for cotangent in cotangents]
        found = self.descriptor.vjps(self.pairs, raw)
        return [self._among_all(_checked(self.descriptor, "vjp", each, (self.pairs.n_pairs, 3))) for each in found]

    def _raw_cotangent(self, cotangent: np.ndarray) -> np.ndarray:
        """Derivatives by the descriptor's own features."""
        along = np.einsum("af,af->a", cotangent, self.features)[:, None]
        own = ((cotangent - along * self.features) / self.lengths)[:, : self.descriptor.n_features]
        if self.metric is not None:
            own = np.einsum("ag,afg->af", own, self.metric, optimize=True)
        return own / self.scale

    def jacobian(self) -> np.ndarray:
        """Derivatives (n_all_pairs, 3, n_features) of the features of each pair's centre, 1/A."""
        raw = self.descriptor.jacobian(self.pairs)
        raw = _checked(self.descriptor, "jacobian", raw, (self.pairs.n_pairs, 3, self.descriptor.n_features))
        i = self.pairs.i
        out = np.zeros((self.pairs.n_pairs, 3, self.features.shape[1]))
        raw = raw / (self.scale[i][:, None, :] if isinstance(self.scale, np.ndarray) else self.scale)
        out[:, :, : raw.shape[2]] = raw if self.metric is None else raw @ self.metric[i]
        p = self.features[i][:, None, :]
        out -= np.sum(out * p, axis=2, keepdims=True) * p
        return self._among_all(out / self.lengths[i][:, :, None])

    def _among_all(self, values: np.ndarray) -> np.ndarray:
        """Expand values of the pairs within the cutoff to all pairs, with zeros for the others."""
        out = np.zeros((len(self.kept), *values.shape[1:]))
        out[self.kept] = values
        return out


def _by_element(descriptor: Descriptor, structures: Sequence[Pairs]) -> list[np.ndarray]:
    """Features (n, n_raw) of the environments of every element; of all of them for an element that does not occur."""
    features = np.concatenate([_raw(descriptor, pairs) for pairs in structures])
    numbers = np.concatenate([pairs.numbers for pairs in structures])
    groups = [numbers == z for z in descriptor.species]
    return [features[mask] if mask.any() else features for mask in groups]


def _metric(few: np.ndarray, many: np.ndarray) -> np.ndarray:
    """M (n_few, n_few) with which standardised features (n, n_few) have the scalar products of many (n, n_many), per feature."""
    fit = np.linalg.lstsq(few, many, rcond=RESOLVED)[0]
    left, sizes, _ = np.linalg.svd(fit, full_matrices=False)
    found = np.zeros((few.shape[1], few.shape[1]))
    found[:, : len(sizes)] = left * sizes
    return found * np.sqrt(few.shape[1] / many.shape[1])


def _raw(descriptor: Descriptor, pairs: Pairs) -> np.ndarray:
    """Raw features (n_atoms, n_raw) of a descriptor; UnknownSpeciesError for elements that it does not know."""
    species_indices(pairs.numbers, descriptor.species)
    found = descriptor.compute(pairs.within(descriptor.cutoff))
    return _checked(descriptor, "compute", found, (pairs.n_atoms, descriptor.n_features))


def _checked(descriptor: Descriptor, method: str, found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Check an array returned by a descriptor; DescriptorError if it violates the contract."""
    name = f"{name_of(type(descriptor))}.{method}"
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise DescriptorError(f"{name}: returned {getattr(found, 'shape', type(found).__name__)}, not an array of shape {shape}")
    if not np.all(np.isfinite(found)):
        raise DescriptorError(f"{name}: returned NaN or infinity; see mlpot.validate_descriptor")
    return found
