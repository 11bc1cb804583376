"""Header of a pair term in model files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .headers import Length, Positive, Scales, Shaped, Species, TermHeader, check_lengths, check_scales

SCALARS = ("species", "cutoff", "cutoff_width", "length_scale", "energy_scales", "contacts", "repulsion_length", "kernel")


class PairHeader(Shaped, TermHeader):
    """Header of a `PairTerm`; files of format 3 and older have a single `energy_scale`."""

    type: Literal["pair"]
    species: Species
    length_scale: Length
    energy_scales: Scales | None = None
    energy_scale: Positive | None = None
    contacts: tuple[Annotated[float, Field(ge=0.1, le=20)], ...] = ()
    repulsion_length: Annotated[float, Field(ge=0, le=100)] = 0.0
    kernel: Literal["gaussian", "matern"] = "gaussian"

    @model_validator(mode="after")
    def _can_be_tabulated(self) -> PairHeader:
        check_lengths(self.cutoff, length_scale=self.length_scale)
        check_scales(self.energy_scales, self.energy_scale)
        n_kinds = len(self.species) * (len(self.species) + 1) // 2
        if self.n_arrays != n_kinds or len(self.contacts) not in (0, n_kinds):
            raise ValueError(
                f"n_arrays = {self.n_arrays}, {len(self.contacts)} contacts: there are {n_kinds} pairs of elements"
            )
        if self.repulsion_length and self.repulsion_length < 0.01:
            raise ValueError(f"repulsion_length = {self.repulsion_length} A: must be 0 or at least 0.01 A")
        return self

    @property
    def own_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        return self.species
