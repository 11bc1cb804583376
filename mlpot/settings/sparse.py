"""Sparse points and kernel of any many-body term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field, field_validator, model_validator

from ..errors import ConfigError
from ..keys.quantities import PURE, Count
from .terms import TermSettingsBase

SparseCount = Count | Literal["auto"]


class SparseSettings(TermSettingsBase):
    """Keys that all many-body terms share."""

    zeta: Annotated[float, Field(ge=1), PURE] = Field(4.0, description="Exponent of the kernel.")
    n_sparse: SparseCount | dict[str, SparseCount] = Field(
        1000, description='Number of sparse points for every element, "auto", or a table of these by chemical symbol.'
    )
    sparse_method: Literal["cur", "farthest", "random", "variance"] = Field(
        "cur", description="How sparse points are chosen."
    )
    sparse_tolerance: Annotated[float, Field(ge=1e-9, lt=1), PURE] = Field(
        1e-4,
        description='With n_sparse = "auto", largest fraction of the prior variance that may stay unexplained at any environment.',
    )
    max_sparse: Count = Field(2000, description='With n_sparse = "auto", largest number of sparse points for every element.')
    config_type_n_sparse: dict[str, Count] = Field(
        {},
        description="Number of every element's sparse points that must come from structures of these config_types.",
        examples=[{"surface": 200}],
    )

    @field_validator("n_sparse", mode="before")
    @classmethod
    def _is_count(cls, value: Any) -> Any:
        table = value if isinstance(value, dict) else {}
        unknown = sorted(set(table) - set(atomic_numbers))
        if unknown:
            raise ValueError(f"{unknown} are not chemical symbols; use symbols such as Si")
        for count in table.values() if table else [value]:
            if count != "auto" and (isinstance(count, bool) or not (isinstance(count, int) and count > 0)):
                raise ValueError('must be a positive integer, "auto", or a table of these by chemical symbol')
        return value

    @model_validator(mode="after")
    def _quotas_fit(self) -> Self:
        quotas = sum(self.config_type_n_sparse.values())
        table = self.n_sparse if isinstance(self.n_sparse, dict) else {"every element": self.n_sparse}
        for name, count in table.items():
            if quotas > (self.max_sparse if count == "auto" else count):
                raise ValueError(
                    f"config_type_n_sparse: {quotas} points in total exceed n_sparse = {count} of {name}"
                    + (f" (max_sparse = {self.max_sparse})" if count == "auto" else "")
                    + "; reduce the quotas or increase it"
                )
        return self

    def __hash__(self) -> int:
        """Hash of the scalars: tables cannot be hashed."""
        return hash(tuple(value for _, value in self if not isinstance(value, dict | tuple)))

    def n_sparse_of(self, number: int) -> int | Literal["auto"]:
        """Sparse points of an element; ConfigError if the table has none for it."""
        if not isinstance(self.n_sparse, dict):
            return self.n_sparse
        symbol = chemical_symbols[number]
        if symbol not in self.n_sparse:
            raise ConfigError(f"n_sparse = {self.n_sparse} has no entry for {symbol}, which occurs in the data; add one")
        return self.n_sparse[symbol]

    def most_sparse(self, number: int) -> int:
        """Largest number of sparse points of an element."""
        count = self.n_sparse_of(number)
        return self.max_sparse if count == "auto" else count

    def check_elements(self, species: Sequence[int]) -> None:
        """ConfigError if a table of n_sparse lacks one of the elements."""
        for number in species:
            self.n_sparse_of(number)
