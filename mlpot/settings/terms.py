"""Common interface of the settings of terms, besides their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from ..keys.base import Settings
from ..keys.quantities import Angstrom, ElectronVolt

CutoffWidth = Annotated[
    Angstrom, Field(description="Width of the smooth step to zero that ends at the cutoff; at most the cutoff itself.")
]
EnergyScale = Annotated[
    ElectronVolt | None,
    Field(
        description="Prior standard deviation of the energies of the term (GAP: delta); found from the data, for every element or "
        "pair of elements, when left out.",
        examples=[1.0],
    ),
]


class TermSettingsBase(Settings):
    """Base of the settings of all terms, with the answers of most."""

    energy_scale: EnergyScale = None

    @property
    def is_learned(self) -> bool:
        """Whether the term's channels are learned from data, so that there must be data before there is a term."""
        return False

    @property
    def is_exported(self) -> bool:
        """Whether programs without Python, such as LAMMPS, can evaluate the term."""
        return True

    def check_elements(self, species: Sequence[int]) -> None:
        """ConfigError where a key has no entry for one of the elements (atomic numbers) of the data."""

    def extrapolates(self) -> bool:
        """Whether the term knows which elements are alike; ValueError for one that knows nothing about unseen elements."""
        return False


class LocalTermSettings(TermSettingsBase):
    """Keys of every term that is a sum over neighbours within a cutoff of its own."""

    cutoff: Angstrom = Field(5.0, description="Radius beyond which neighbours are ignored.")
    cutoff_width: CutoffWidth = 1.0

    @model_validator(mode="after")
    def _step_fits(self) -> Self:
        if self.cutoff_width > self.cutoff:
            raise ValueError(f"cutoff_width = {self.cutoff_width} A exceeds cutoff = {self.cutoff} A; reduce cutoff_width")
        return self
