"""Settings of a many-body term on the bispectrum of SNAP or AMP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field

from ..descriptors.bispectrum import MOST_DEGREES
from ..errors import ConfigError
from ..keys.quantities import PURE, Ratio, Unit
from .data import check_symbols
from .named_features import NamedTermSettings, Weight

TABLES = ("radii", "weights")


class BispectrumTermSettings(NamedTermSettings):
    """Many-body term on the bispectrum of the neighbour density on a three-sphere, as in SNAP and AMP."""

    type: Literal["bispectrum"] = Field("bispectrum", description="Kind of term.")
    two_j_max: Annotated[int, Field(ge=0, le=MOST_DEGREES), PURE] = Field(
        8, description="Twice the highest degree j (SNAP: twojmax): 5, 14, 30, 55 features for 2, 4, 6, 8; the cost grows fast."
    )
    angle: Literal["snap", "amp"] = Field(
        "snap",
        description='Definition: "snap"; or "amp", with the arcsine of the distance for an angle, without the centre, and only with '
        "features of two equal degrees.",
    )
    rfac0: Annotated[float, Field(gt=0, lt=1), PURE] = Field(
        0.99363, description="Part of half a turn to which the cutoff is mapped (SNAP: rfac0)."
    )
    rmin0: Annotated[float, Field(ge=0), Unit("A")] = Field(
        0.0, description="Distance that is mapped to angle 0 (SNAP: rmin0); atoms must not come closer."
    )
    radii: dict[str, Ratio] | None = Field(
        None,
        description="Relative radii R of the elements: neighbours count within cutoff (R_i + R_j) / (2 max R); equal when left out.",
        examples=[{"Si": 0.5}],
    )
    weights: dict[str, Weight] | None = Field(
        None,
        description='Weights of the elements in the density; 1 when left out, for angle = "amp" their atomic numbers.',
        examples=[{"Si": 1.0}],
    )
    self_weight: Weight = Field(1.0, description="Weight of the centre itself.")
    chem: bool = Field(
        False, description="One density for each element, and features of all three of them (SNAP: chemflag), instead of weights."
    )

    __hash__ = NamedTermSettings.__hash__

    def check_elements(self, species: Sequence[int]) -> None:
        """ConfigError if a table lacks one of the elements."""
        super().check_elements(species)
        for name in TABLES:
            table = getattr(self, name)
            for number in species if table is not None else ():
                if chemical_symbols[number] not in table:
                    raise ConfigError(f"{name} = {table} has no entry for {chemical_symbols[number]}, which occurs in the data")

    def elements(self) -> tuple[int, ...]:
        """See `NamedTermSettings`: those in tables, which must name the same elements."""
        tables: dict[str, Mapping[str, Any]] = {name: getattr(self, name) for name in TABLES if getattr(self, name) is not None}
        for name, table in tables.items():
            check_symbols(name, table)
        if len({frozenset(table) for table in tables.values()}) > 1:
            raise ValueError(f"radii = {self.radii}, weights = {self.weights}: must name the same elements")
        return tuple({atomic_numbers[symbol] for table in tables.values() for symbol in table})

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        self.check_elements(species)
        names = ("cutoff", "two_j_max", "rfac0", "rmin0", "self_weight", "angle", "chem")
        tables = {name: getattr(self, name) for name in TABLES}
        rows = {k: table and tuple(table[chemical_symbols[z]] for z in species) for k, table in tables.items()}
        return {name: getattr(self, name) for name in names} | rows
