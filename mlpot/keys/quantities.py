"""Types of settings with their units: `cutoff: Angstrom`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Unit:
    """Unit of a number, as messages and tables show it; empty for pure numbers."""

    name: str


PURE = Unit("")

Angstrom = Annotated[PositiveFloat, Unit("A")]
ElectronVolt = Annotated[PositiveFloat, Unit("eV")]
EnergyPerAtom = Annotated[PositiveFloat, Unit("eV/atom")]
Force = Annotated[PositiveFloat, Unit("eV/A")]
Kelvin = Annotated[PositiveFloat, Unit("K")]
Femtoseconds = Annotated[PositiveFloat, Unit("fs")]
Stress = Annotated[PositiveFloat, Unit("GPa")]
Seconds = Annotated[PositiveFloat, Unit("s")]
SecondsOrNone = Annotated[NonNegativeFloat, Unit("s")]
"""Seconds that may be zero."""
Hours = Annotated[PositiveFloat, Unit("h")]
Steps = Annotated[PositiveInt, Unit("steps")]
Count = Annotated[PositiveInt, PURE]
Ratio = Annotated[PositiveFloat, PURE]
Seed = Annotated[int, Field(ge=0), PURE]
Energy = Annotated[float, Unit("eV")]
"""An energy of any sign; `ElectronVolt` is positive."""
