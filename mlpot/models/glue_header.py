"""Header of tabulated potentials in model files."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from ..terms.glue import Glue
from ..terms.headers import Element, Header, Number, Reach, Species

Column = Annotated[tuple[Number, ...], Field(min_length=2, max_length=1_000_000)]
TableOfNumbers = tuple[Column, Column]


class GlueHeader(Header):
    """Header of a `Glue`."""

    species: Species
    density_scales: tuple[Number, ...]
    density_reaches: tuple[Reach, ...]
    embeddings: tuple[TableOfNumbers, ...]
    pair_potentials: tuple[tuple[Element, Element, TableOfNumbers], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> GlueHeader:
        for name in ("density_scales", "density_reaches", "embeddings"):
            if len(getattr(self, name)) != len(self.species):
                raise ValueError(f"{name}: {len(getattr(self, name))} for {len(self.species)} elements")
        for a, b, _ in self.pair_potentials:
            if a > b or not {a, b} <= set(self.species):
                raise ValueError(f"pair_potentials: elements {a}, {b}: must be of species, the lower first")
        for x, y in [*self.embeddings, *(table for _, _, table in self.pair_potentials)]:
            if len(x) != len(y) or any(low >= high for low, high in pairwise(x)):
                raise ValueError("a table: must have as many values as abscissae, and these must increase")
        return self

    def glue(self) -> Glue:
        """The potential."""
        return Glue(**{name: getattr(self, name) for name in type(self).model_fields})
