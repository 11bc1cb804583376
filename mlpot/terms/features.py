"""Many-body term on any descriptor, with any kernel; pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from ..data.stored import Stored
from ..descriptors.named import checked, descriptor_class
from ..descriptors.protocol import Descriptor
from ..errors import ConfigError, DescriptorError
from ..neighbours import Pairs
from ..settings.kernel import DescriptorTermSettings
from .core_parts import PartsObserver
from .environments import EnvironmentTerm
from .feature_compiled import CompiledFeatureTerm, FeatureObserver
from .headers import HIGHEST_POWER, MOST_REACH, ROUNDING, NotNegative, Positive, Scales, TermHeader
from .kernels import Kernel, make_kernel, parameter_names
from .mapped_compiled import MappedElement, compile_mapped
from .protocol import CompiledTerm, Features, Observer, Tables, Whole
from .stored_descriptor import DescriptorHeader, arrays_of, description_of, read_descriptor
from .unit_features import Standardiser, UnitFeatures


class FeatureHeader(DescriptorHeader):
    """Header of a `FeatureTerm`."""

    type: Literal["features"]
    kernel: Literal["polynomial", "gaussian"]
    parameters: dict[str, Positive]
    offset: NotNegative
    standardise: bool
    energy_scales: Scales


@dataclass(frozen=True)
class FeatureTerm(EnvironmentTerm):
    """sum_s w_s d^2 k(p_i . p_s) over sparse points of the centre's element, whose energy scale is d.

    Parameters
    ----------
    unit : UnitFeatures
        Features of a descriptor.
    own_kernel : Kernel
    energy_scales : tuple of float
        Prior standard deviation of the local energy of every element, eV; a single number applies to all.
    sparse_features : tuple of (n_sparse, n_features) arrays
        Features of the sparse points of every element, possibly empty.
    """

    header_type: ClassVar[type[TermHeader]] = FeatureHeader

    unit: UnitFeatures
    own_kernel: Kernel
    energy_scales: tuple[float, ...]
    sparse_features: tuple[np.ndarray, ...]

    @property
    def features(self) -> Features:
        """See `ManyBodyTerm`."""
        return self.unit

    @property
    def kernel(self) -> Kernel:
        """See `ManyBodyTerm`."""
        return self.own_kernel

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor whose features are compared."""
        return self.unit.descriptor

    @property
    def label(self) -> str:
        """See `Term`."""
        return type(self.descriptor).__name__

    @property
    def mixes_elements(self) -> bool | None:
        """See `Term`."""
        return False

    def extended(self, stand_ins: Mapping[int, int]) -> FeatureTerm:
        """See `Term`: settings and files with `extrapolate = true` reject such a term."""
        raise ConfigError(f"{self.label}: has no measure of the similarity of elements; fit with extrapolate = false")

    @property
    def exponent(self) -> float | None:
        """See `FittedTerm`."""
        return self.kernel.parameters.get("zeta")

    def with_exponent(self, zeta: float) -> FeatureTerm:
        """See `FittedTerm`."""
        return self if self.exponent is None else replace(self, own_kernel=make_kernel(self.kernel.name, zeta=zeta))

    @classmethod
    def check_settings(cls, settings: DescriptorTermSettings) -> None:
        """See `FittedTerm`; sizes are checked when the descriptor is created."""
        if settings.zeta > HIGHEST_POWER:
            raise ValueError(f"zeta = {settings.zeta}: must be at most {HIGHEST_POWER:g}")

    @classmethod
    def empty(
        cls, settings: DescriptorTermSettings, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None
    ) -> FeatureTerm:
        """See `FittedTerm`; `tables` are choices of the descriptor, and means and standard deviations of the features."""
        found = tables or {}
        own = make_own(settings, species, found.get("choices", {}))
        unit = UnitFeatures(own, settings.offset, settings.standardise, found.get("standardiser"))
        kernel = make_kernel(settings.kernel, zeta=settings.zeta, length_scale=settings.length_scale)
        return cls(unit, kernel, (energy_scale,) * len(species), _no_points(unit))

    @property
    def is_settled(self) -> bool:
        """See `FittedTerm`."""
        return self.unit.is_settled

    def settled(self, pairs: Sequence[Pairs]) -> FeatureTerm:
        """See `FittedTerm`: with features chosen on these environments, and their means and standard deviations."""
        if self.is_settled:
            return self
        own, standardiser = self.descriptor.settled(pairs), None
        if self.unit.standardise:
            is_chosen = not self.descriptor.is_settled
            standardiser = Standardiser.of_chosen(own, self.descriptor, pairs) if is_chosen else Standardiser.of(own, pairs)
        unit = replace(self.unit, descriptor=own, standardiser=standardiser)
        return replace(self, unit=unit, sparse_features=_no_points(unit))

    @property
    def tables(self) -> Tables:
        """See `FittedTerm`."""
        own = self.descriptor
        choices = {name: value for name in own.choices if (value := getattr(own, name)) is not None}
        found = {"choices": choices, "standardiser": self.unit.standardiser}
        return {name: value for name, value in found.items() if value}

    def table_arrays(self) -> dict[str, np.ndarray]:
        """See `FittedTerm`."""
        return {f"choices/{name}": np.array(value) for name, value in self.tables.get("choices", {}).items()} | self._means()

    def _means(self) -> dict[str, np.ndarray]:
        own = self.unit.standardiser
        if own is None:
            return {}
        return {"mean": own.mean, "deviation": own.deviation, **({} if own.metric is None else {"metric": own.metric})}

    @classmethod
    def read_tables(
        cls, settings: DescriptorTermSettings, species: tuple[int, ...], stored: Stored, place: str
    ) -> Tables:
        """See `FittedTerm`."""
        names = [name for name in make_own(settings, species).choices if f"{place}/choices/{name}" in stored]
        tables: dict[str, Any] = {"choices": {n: _chosen(stored.array(f"{place}/choices/{n}")) for n in names}} if names else {}
        if settings.standardise and f"{place}/mean" in stored:
            own = make_own(settings, species, tables.get("choices", {}))
            tables["standardiser"] = _read_standardiser(own, stored, place)
        return tables

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """See `FittedTerm`; without a Jacobian, one pullback for each sparse point."""
        wanted = [(rows, pull) for rows, pull in ((forces, pairs.forces), (virial, pairs.virial)) if rows is not None]
        if self.descriptor.is_local or not wanted:
            return super().add_rows(pairs, energy, forces, virial)
        at = self.unit.at(pairs)
        energy += self.covariances_of(pairs, at.features).sum(axis=0)
        cotangents = [self.energies_of(pairs, at.features, unit)[1] for unit in np.eye(self.n_sparse)]
        for column, gradients in enumerate(at.vjps(cotangents)):
            for rows, pull in wanted:
                rows[:, column] += pull(gradients).ravel()

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledTerm:
        """See `Term`; no approximation is made."""
        sums, weights = self.descriptor.in_core, np.asarray(weights, float)
        if sums is None:
            return CompiledFeatureTerm(self, self.unit, weights, regularisation)
        known = [np.arange(len(points)) for points in self.points] if known is None else known
        instances = None if regularisation is None else (self.prior, regularisation**2)
        return compile_mapped(
            self.unit, sums, self.kernel, self.energy_scales, self.sparse_features, weights, known, instances
        )  # fmt: skip

    def observer(self, compiled: Any, members: np.ndarray, whole: Whole | None) -> Observer:
        """See `FittedTerm`."""
        if compiled.in_core:
            return PartsObserver.of(compiled, members, whole, MappedElement.member_tables)
        return FeatureObserver(compiled, self, members, whole)

    def description(self) -> dict[str, Any]:
        """See `Term`."""
        return {
            "type": "features",
            "n_arrays": len(self.sparse_features),
            **description_of(self.descriptor),
            "kernel": self.kernel.name,
            "parameters": self.kernel.parameters,
            "offset": self.unit.offset,
            "standardise": self.unit.standardise,
            "energy_scales": self.energy_scales,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Term`."""
        points = {f"sparse/{n}": a for n, a in enumerate(self.sparse_features)}
        return points | arrays_of(self.descriptor) | self._means()

    @classmethod
    def read(cls, header: FeatureHeader, stored: Stored, place: str) -> FeatureTerm:
        """See `Term`.

        Raises
        ------
        DescriptorError
            If the class of the descriptor cannot be imported, or rejects its state.
        """
        names = set(parameter_names(header.kernel))
        if set(header.parameters) != names or header.parameters.get("zeta", 1) > HIGHEST_POWER:
            raise ValueError(f"{place}: parameters = {header.parameters} do not belong to kernel = {header.kernel!r}")
        if header.n_arrays != len(header.species):
            raise ValueError(f"{place}: n_arrays = {header.n_arrays}: there are {len(header.species)} elements")
        made = read_descriptor(header, stored, place)
        standardiser = _read_standardiser(made, stored, place) if header.standardise else None
        unit = UnitFeatures(made, header.offset, header.standardise, standardiser)
        bounds = (None, unit.n_features), -1 - ROUNDING, 1 + ROUNDING
        points = tuple(stored.floats(f"{place}/sparse/{n}", *bounds) for n in range(header.n_arrays))
        scales: Any = header.energy_scales
        return cls(unit, make_kernel(header.kernel, **header.parameters), scales, points)


def make_own(
    settings: DescriptorTermSettings, species: tuple[int, ...], choices: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> Descriptor:
    """Create the descriptor named in settings, with the choices it made on data; ConfigError if its class rejects the arguments."""
    kind, arguments = descriptor_class(settings.type), settings.arguments(species)
    made = checked(lambda: kind(species, **arguments, **choices), settings.type)  # type: ignore[call-arg]
    if made.cutoff > MOST_REACH:
        raise DescriptorError(f"{settings.type}: cutoff = {made.cutoff} A: must be at most {MOST_REACH} A")
    return made


def _no_points(unit: UnitFeatures) -> tuple[np.ndarray, ...]:
    return tuple(np.empty((0, unit.n_features)) for _ in unit.species)


def _chosen(array: np.ndarray) -> tuple[int, ...]:
    """Choice stored in a file; ValueError unless it is a row of integers."""
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"a choice of features has shape {array.shape}, type {array.dtype}: must be a row of integers")
    return tuple(array.tolist())


def _read_standardiser(descriptor: Descriptor, stored: Stored, place: str) -> Standardiser:
    shape = (len(descriptor.species), descriptor.n_features)
    mean, deviation = stored.floats(f"{place}/mean", shape), stored.positive(f"{place}/deviation", shape)
    chosen = f"{place}/metric" in stored
    return Standardiser(mean, deviation, stored.floats(f"{place}/metric", (*shape, shape[1])) if chosen else None)
