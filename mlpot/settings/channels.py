"""What a user may say of the channels of a density: which elements and radial functions it resolves."""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, PositiveInt, field_validator, model_validator

from ..descriptors.mixing import Coupling, Embedding, Groups, Mix, Mixing
from .base import Settings

SymbolGroups = tuple[tuple[str, ...], ...]


class ReductionSettings(Settings):
    """Keys of a density term that make its power spectrum smaller; by default it is whole."""

    mix: Mix = Field("none", description="none | species | radial | both: what random sums replace (GAP: Z_mix, R_mix)")
    n_channels: PositiveInt | None = Field(None, description="number of random sums, with mix (GAP: K)")
    coupling: Coupling = Field(
        "full", description="full | element-wise: random sums all meet, or only those of equal index (GAP: coupling)"
    )
    symmetric: bool = Field(
        False, description="the same random sums in both densities, instead of independent ones (GAP: sym_mix)"
    )
    mix_seed: int = Field(0, ge=0, description="of all random sums; adding elements leaves those of others as they are")
    embedding: Embedding | Literal["learned"] = Field(
        "random",
        description="random | periodic | learned: elements in the sums are independent of each other, similar where they are "
        "neighbours in the periodic table, or as the training data asks",
    )
    embedding_start: Embedding | None = Field(
        None, description="random | periodic: what a learned embedding starts from; periodic by default"
    )
    nu_R: int = Field(2, ge=0, le=2, description="how many of the two densities resolve radial functions")
    nu_S: int = Field(2, ge=0, le=2, description="how many of the two densities resolve elements")
    diagonal_radial: bool = Field(False, description="radial functions meet themselves only")
    z_map: SymbolGroups = Field(
        (), description='elements that count as one, such as [["Nb", "Ta"], ["Mo", "W"]]; others stay by themselves'
    )
    z_map_other: SymbolGroups = Field((), description="the same for the second density, where it is to differ")

    @field_validator("z_map", "z_map_other", mode="before")
    @classmethod
    def _are_groups(cls, groups: Any) -> Any:
        lists = (list, tuple)
        if not isinstance(groups, lists) or not all(isinstance(group, lists) for group in groups):
            raise ValueError('must be groups of chemical symbols, such as [["Nb", "Ta"], ["Mo", "W"]]')
        unknown = sorted({str(symbol) for symbol in chain.from_iterable(groups) if symbol not in atomic_numbers})
        if unknown:
            raise ValueError(f"{unknown} are not chemical symbols; use symbols such as Si")
        return groups

    @property
    def mixes_species(self) -> bool:
        """Whether random sums replace elements."""
        return self.mix in ("species", "both")

    @model_validator(mode="after")
    def _can_learn(self) -> ReductionSettings:
        if self.embedding_start is not None and self.embedding != "learned":
            raise ValueError(
                f'embedding_start = "{self.embedding_start}": is for embedding = "learned", but embedding = '
                f'"{self.embedding}"; leave it out'
            )
        if self.embedding == "learned" and not self.mixes_species:
            raise ValueError(
                f'embedding = "learned": mix = "{self.mix}" does not mix elements; set mix to "species" or "both"'
            )
        return self

    @model_validator(mode="after")
    def _agree(self) -> ReductionSettings:
        self.mixing()
        return self

    def mixing(self) -> Mixing | None:
        """What these keys say, or None where they leave the power spectrum whole; the start where it is to be learned."""
        options = {field.name: getattr(self, field.name) for field in fields(Mixing)}
        options["embedding"] = (self.embedding_start or "periodic") if self.embedding == "learned" else self.embedding
        options |= {key: _numbers(options[key]) for key in ("z_map", "z_map_other")}
        mixing = Mixing(**options)
        return None if mixing == Mixing(mix_seed=self.mix_seed) else mixing


def _numbers(groups: SymbolGroups) -> Groups:
    return tuple(tuple(atomic_numbers[symbol] for symbol in group) for group in groups)
