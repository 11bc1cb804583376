"""Headers of a many-body term in model files, and reading of its arrays."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from ..data.stored import Stored
from ..descriptors.density import MAX_L, SoapDescriptor
from ..descriptors.radial_basis import RADIAL_BASES
from ..settings.fit import SoapTermSettings
from ..settings.higher_order import HIGHEST_DEGREE
from .channel_tables import read_tables
from .headers import (
    HIGHEST_POWER,
    ROUNDING,
    Header,
    Length,
    NotNegative,
    Number,
    Positive,
    Scales,
    Shaped,
    Species,
    TermHeader,
    check_lengths,
    check_scales,
    first_problem,
)

MOST_FUNCTIONS, MOST_CHANNELS = 128, 4096
BASIS_NAMES: dict[type, str] = {kind: name for name, kind in RADIAL_BASES.items()}
DESCRIPTOR_SCALARS = ("species", "central_weight", "central_reference_all_species", "constant")


class BasisHeader(Shaped):
    """Header of a `GapRadialBasis`."""

    type: Literal["gap"]
    n_max: Annotated[int, Field(ge=1, le=MOST_FUNCTIONS)]
    l_max: Annotated[int, Field(ge=0, le=MAX_L)]
    atom_sigma: Length
    basis_error_exponent: Annotated[float, Field(gt=0, le=100)] = 10.0

    @model_validator(mode="after")
    def _can_be_tabulated(self) -> BasisHeader:
        check_lengths(self.cutoff, atom_sigma=self.atom_sigma)
        return self


class DescriptorHeader(Header):
    """Header of a `SoapDescriptor`."""

    species: Species
    basis: BasisHeader
    central_weight: Number = 1.0
    central_reference_all_species: bool = False
    constant: NotNegative = 0.0


class SoapHeader(TermHeader):
    """Header of a `SoapTerm`; files of format 3 and older have a single `energy_scale`."""

    type: Literal["soap"]
    descriptor: DescriptorHeader
    zeta: Annotated[float, Field(gt=0, le=HIGHEST_POWER)]
    energy_scales: Scales | None = None
    energy_scale: Positive | None = None

    @model_validator(mode="after")
    def _one_for_every_element(self) -> SoapHeader:
        check_scales(self.energy_scales, self.energy_scale)
        if self.n_arrays != len(self.descriptor.species):
            raise ValueError(f"n_arrays = {self.n_arrays}: there are {len(self.descriptor.species)} elements")
        return self

    @property
    def own_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        return self.descriptor.species


def check_soap_settings(term: SoapTermSettings) -> None:
    """Raise ValueError for settings in a file that would lead to arrays of unbounded size."""
    for name in ("n_channels", "order_channels"):
        if (getattr(term, name) or 0) > MOST_CHANNELS:
            raise ValueError(f"{name} = {getattr(term, name)}: must be at most {MOST_CHANNELS}")
    if term.order > 2 and min(term.order_l_max, term.l_max) > HIGHEST_DEGREE[term.order]:
        raise ValueError(f"order_l_max = {term.order_l_max}: takes hours with order = {term.order}")
    if term.zeta > HIGHEST_POWER:
        raise ValueError(f"zeta = {term.zeta}: must be at most {HIGHEST_POWER:g}")
    names = ("cutoff", "cutoff_width", "n_max", "l_max", "atom_sigma")
    try:
        BasisHeader.model_validate({"type": term.radial_basis, **{name: getattr(term, name) for name in names}})
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def describe_descriptor(descriptor: SoapDescriptor) -> dict[str, Any]:
    """Content of a `DescriptorHeader`."""
    basis: Any = descriptor.basis
    scalars = {field.name: getattr(basis, field.name) for field in fields(basis)}
    own = {name: getattr(descriptor, name) for name in DESCRIPTOR_SCALARS}
    return {**own, "basis": {"type": BASIS_NAMES[type(basis)], **scalars}}


def read_descriptor(header: DescriptorHeader, stored: Stored, place: str) -> SoapDescriptor:
    """Create the descriptor of a header, with tables read from below a path in a file."""
    options = header.basis.model_dump()
    basis = RADIAL_BASES[options.pop("type")](**options)
    tables = read_tables(stored, place, header.species, basis.n_max, basis.l_max)
    return SoapDescriptor(**header.model_dump(exclude={"basis"}), basis=basis, **tables)


def read_points(header: SoapHeader, descriptor: SoapDescriptor, stored: Stored, place: str) -> tuple[np.ndarray, ...]:
    """Read the sparse features of every element from below a path in a file."""
    most = max(1.0, descriptor.constant) + ROUNDING  # features have norm 1, except for the constant
    shape = (None, descriptor.n_features)
    points = tuple(stored.floats(f"{place}/sparse/{n}", shape, -most, most) for n in range(header.n_arrays))
    if descriptor.table.knots.size and not np.all(np.isfinite(descriptor.table.knots)):
        raise ValueError(f"{place}: radial functions of these parameters are not finite")
    return points
