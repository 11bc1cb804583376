"""What a user may say of the sparse points and the kernel of any many-body term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ..errors import ConfigError
from .base import TermSettingsBase

SparseCount = PositiveInt | Literal["auto"]


class SparseSettings(TermSettingsBase):
    """Keys that all many-body terms share."""

    zeta: float = Field(4.0, ge=1, description="kernel exponent")
    n_sparse: SparseCount | dict[str, SparseCount] = Field(
        1000, description='sparse points per element, "auto", or a table of these by symbol'
    )
    sparse_method: Literal["cur", "farthest", "random", "variance"] = Field("cur", description="how they are chosen")
    sparse_tolerance: float = Field(
        1e-4, ge=1e-9, lt=1, description='"auto": part of the prior variance that may stay unexplained in the data'
    )
    max_sparse: PositiveInt = Field(2000, description='"auto": no more sparse points per element than these')
    config_type_n_sparse: dict[str, PositiveInt] = Field(
        {}, description="so many of every element's sparse points are of structures of these config_types"
    )
    energy_scale: PositiveFloat | None = Field(
        None, description="prior std of the local energy, eV (GAP: delta); from the data, for every element, when left out"
    )

    @field_validator("n_sparse", mode="before")
    @classmethod
    def _is_count(cls, value: Any) -> Any:
        table = value if isinstance(value, dict) else {}
        unknown = sorted(set(table) - set(atomic_numbers))
        if unknown:
            raise ValueError(f"{unknown} are not chemical symbols; use symbols such as Si")
        for count in table.values() if table else [value]:
            if count != "auto" and not (isinstance(count, int) and count > 0):
                raise ValueError('must be a positive number, "auto", or a table of these by chemical symbol')
        return value

    @model_validator(mode="after")
    def _quotas_fit(self) -> SparseSettings:
        quotas = sum(self.config_type_n_sparse.values())
        table = self.n_sparse if isinstance(self.n_sparse, dict) else {"every element": self.n_sparse}
        for name, count in table.items():
            if quotas > (self.max_sparse if count == "auto" else count):
                raise ValueError(
                    f"config_type_n_sparse: {quotas} points in all exceed n_sparse = {count} of {name}"
                    + (f" (max_sparse = {self.max_sparse})" if count == "auto" else "")
                    + "; lower the quotas or raise it"
                )
        return self

    def __hash__(self) -> int:
        """Of the scalars: tables cannot be hashed."""
        return hash(tuple(value for _, value in self if not isinstance(value, dict)))

    def n_sparse_of(self, number: int) -> int | Literal["auto"]:
        """Sparse points of an element; ConfigError if the table has none for it."""
        if not isinstance(self.n_sparse, dict):
            return self.n_sparse
        symbol = chemical_symbols[number]
        if symbol not in self.n_sparse:
            raise ConfigError(f"n_sparse = {self.n_sparse}: says nothing of {symbol}, which is in the data; add it")
        return self.n_sparse[symbol]

    def most_sparse(self, number: int) -> int:
        """Sparse points that an element has at most."""
        count = self.n_sparse_of(number)
        return self.max_sparse if count == "auto" else count

    def check_elements(self, species: Sequence[int]) -> None:
        """ConfigError if a table of n_sparse lacks one of the elements."""
        for number in species:
            self.n_sparse_of(number)
