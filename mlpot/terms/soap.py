"""Many-body term with a dot-product kernel on the features of a density descriptor; rows and products are compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .._ext.core import PairView, Points
from ..data.stored import Stored
from ..descriptors.density import TABLES, SoapDescriptor
from ..descriptors.embedding import weights_of_unseen
from ..neighbours import Pairs
from ..settings.fit import SoapTermSettings
from ..threads import n_threads
from .channel_tables import read_tables, tables_of
from .core_parts import PartsObserver
from .environments import EnvironmentTerm, centres_of
from .headers import TermHeader
from .kernels import Kernel, PolynomialKernel
from .protocol import Features, Tables, Whole
from .soap_compiled import CompiledSoapTerm, compile_soap
from .soap_cut import Cut
from .soap_ensemble import member_tables
from .soap_file import SoapHeader, check_soap_settings, describe_descriptor, read_descriptor, read_points
from .soap_rows import SpeciesRows, make_soap_rows
from .soap_settings import contracted, make_descriptor


@dataclass(frozen=True)
class SoapTerm(EnvironmentTerm):
    """sum_s w_s s^2 (p_i . p_s)^zeta over sparse points of the centre's element, whose energy scale is s.

    Parameters
    ----------
    descriptor : SoapDescriptor
    zeta : float
        Kernel exponent.
    energy_scales : tuple of float
        Prior standard deviation of the local energy of every element, eV; a single number applies to all.
    sparse_features : tuple of (n_sparse, n_features) arrays
        Features of the sparse points of each element of `descriptor.species`, possibly empty.
    """

    header_type: ClassVar[type[TermHeader]] = SoapHeader
    can_be_cut: ClassVar[bool] = True

    descriptor: SoapDescriptor
    zeta: float
    energy_scales: tuple[float, ...]
    sparse_features: tuple[np.ndarray, ...]

    @property
    def features(self) -> Features:
        """See `ManyBodyTerm`."""
        return self.descriptor

    @property
    def kernel(self) -> Kernel:
        """See `ManyBodyTerm`."""
        return PolynomialKernel(self.zeta)

    @classmethod
    def check_settings(cls, settings: SoapTermSettings) -> None:
        """See `FittedTerm`."""
        check_soap_settings(settings)

    @classmethod
    def empty(
        cls, settings: SoapTermSettings, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None
    ) -> SoapTerm:
        """See `FittedTerm`; `tables` are channels and contractions."""
        descriptor = make_descriptor(settings, species)
        if tables is not None:
            descriptor = replace(descriptor, **tables)
        nothing = tuple(np.empty((0, descriptor.n_features)) for _ in species)
        return cls(descriptor, settings.zeta, (energy_scale,) * len(species), nothing)

    def with_channels(self, reduction: Any, settings: SoapTermSettings) -> SoapTerm:
        """The term, still without points, with other channels and corresponding contractions."""
        return replace(self, descriptor=contracted(replace(self.descriptor, reduction=reduction), settings))

    @property
    def exponent(self) -> float | None:
        """See `FittedTerm`."""
        return self.zeta

    def with_exponent(self, zeta: float) -> SoapTerm:
        """See `FittedTerm`."""
        return replace(self, zeta=zeta)

    @property
    def tables(self) -> Tables:
        """See `FittedTerm`."""
        return {name: getattr(self.descriptor, name) for name in TABLES}

    def table_arrays(self) -> dict[str, np.ndarray]:
        """See `FittedTerm`."""
        return tables_of(self.descriptor)

    @classmethod
    def read_tables(cls, settings: SoapTermSettings, species: tuple[int, ...], stored: Stored, place: str) -> Tables:
        """See `FittedTerm`."""
        return read_tables(stored, place, species, settings.n_max, settings.l_max)

    @property
    def mixes_elements(self) -> bool | None:
        """See `Term`."""
        return self.descriptor.reduction is not None

    def extended(self, stand_ins: Mapping[int, int]) -> SoapTerm:
        """See `Term`: new elements get channel weights, no sparse points, and the energy scales of their stand-ins."""
        own, unseen = self.descriptor, tuple(stand_ins)
        species = tuple(sorted({*own.species, *unseen}))
        scales = dict(zip(own.species, self.energy_scales, strict=True))
        points = dict(zip(own.species, self.sparse_features, strict=True))
        none = np.empty((0, own.n_features))
        weights = np.concatenate([own.weights, weights_of_unseen(own.weights, own.species, unseen)], axis=1)
        order = np.argsort([*own.species, *unseen])
        reduction = replace(own.reduction, weights=weights[:, order])  # type: ignore[type-var]
        return replace(
            self,
            descriptor=replace(own, species=species, reduction=reduction),
            energy_scales=tuple(scales[stand_ins.get(z, z)] for z in species),
            sparse_features=tuple(points.get(z, none) for z in species),
        )

    def description(self) -> dict[str, Any]:
        """See `Term`."""
        return {
            "type": "soap",
            "descriptor": describe_descriptor(self.descriptor),
            "zeta": self.zeta,
            "energy_scales": self.energy_scales,
            "n_arrays": len(self.sparse_features),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Term`."""
        return {f"sparse/{n}": array for n, array in enumerate(self.sparse_features)} | tables_of(self.descriptor)

    @classmethod
    def read(cls, header: SoapHeader, stored: Stored, place: str) -> SoapTerm:
        """See `Term`."""
        descriptor = read_descriptor(header.descriptor, stored, place)
        scales: Any = header.energy_scale if header.energy_scales is None else header.energy_scales
        return cls(descriptor, header.zeta, scales, read_points(header, descriptor, stored, place))

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """See `FittedTerm`."""
        view = self.descriptor.view(pairs)
        for own in self._rows:
            own.core.design_rows(
                view, centres_of(pairs, own.number), own.points, energy[own.columns],
                None if forces is None else forces[:, own.columns], None if virial is None else virial[:, own.columns],
            )  # fmt: skip

    @cached_property
    def _rows(self) -> tuple[SpeciesRows, ...]:
        return make_soap_rows(self.descriptor, self.sparse_features, self.energy_scales, self.zeta)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_rows"}

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """See `Term`."""
        view: PairView = self.descriptor.view(pairs)
        for columns, centres, features, scale in self._blocks(pairs):
            points = Points(features, weights[columns], scale, self.zeta)
            self.descriptor.core.local_energies(view, centres, points, energies, pair_gradients, n_threads())

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
        cut: Cut | None = None,
    ) -> CompiledSoapTerm:
        """See `Term`; instances are atoms. With a `cut`, forces may change by its tolerance."""
        known = [np.arange(len(features)) for features in self.sparse_features] if known is None else known
        compiled = compile_soap(
            self.descriptor, self.sparse_features, weights, self.energy_scales, self.zeta, tolerance, single, known, cut
        )
        return compiled if regularisation is None else replace(compiled, instances=(self.prior, regularisation**2))

    def observer(self, compiled: CompiledSoapTerm, members: np.ndarray, whole: Whole | None) -> PartsObserver:
        """See `FittedTerm`."""
        scales = dict(zip(self.species, self.energy_scales, strict=True))
        return PartsObserver.of(
            compiled, members, whole,
            lambda part, weights, residual: member_tables(part, weights, scales[part.number], self.zeta, residual),
        )  # fmt: skip
