"""Common base of the headers of model and fit files: known keys, types, and finite numbers within computable bounds.

Files may come from untrusted sources, so every number that determines the size of an array or a table is bounded before it is used.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import quoted
from ..keys.explain import plainly

MOST_REACH = 100.0
"""Largest cutoff, A: its sphere has a thousand times the neighbours of a usual long cutoff."""
SHARPEST = 500.0
"""Largest ratio of a cutoff to the length on which functions vary: tables need about 20 knots per length."""
LONGEST_COORDINATE = 1e3
"""Bounds of a sparse radius, A."""
HIGHEST_POWER = 100.0
"""Largest zeta."""
ROUNDING = 1e-6
"""Tolerance for features, which have norm 1."""
LARGEST_ENERGY = 1e12
"""Largest energy, eV."""


def _sorted(species: tuple[int, ...]) -> tuple[int, ...]:
    if list(species) != sorted(set(species)):
        raise ValueError("must be sorted atomic numbers without duplicates")
    return species


Number = Annotated[float, Field(ge=-LARGEST_ENERGY, le=LARGEST_ENERGY)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST_ENERGY)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_ENERGY)]
Reach = Annotated[float, Field(gt=0, le=MOST_REACH)]
Length = Annotated[float, Field(gt=0, le=1e4)]
Element = Annotated[int, Field(ge=1, le=118)]
Species = Annotated[tuple[Element, ...], Field(min_length=1, max_length=118), AfterValidator(_sorted)]
Scales = Positive | Annotated[tuple[Positive, ...], Field(min_length=1, max_length=10_000)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class Header(BaseModel):
    """Base class of headers: unknown keys, strings in place of numbers, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TermHeader(Header):
    """Base class of the headers of terms, selected by `type`."""

    type: str
    n_arrays: Count

    @property
    def own_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        raise NotImplementedError


class Shaped(Header):
    """Header with a cutoff and the width of its step, A."""

    cutoff: Reach
    cutoff_width: Length

    @model_validator(mode="after")
    def _step_fits(self) -> Shaped:
        check_lengths(self.cutoff, cutoff_width=self.cutoff_width)
        if self.cutoff_width > self.cutoff:
            raise ValueError(f"cutoff_width = {self.cutoff_width} A: exceeds cutoff = {self.cutoff} A")
        return self


def check_lengths(cutoff: float, **lengths: float) -> None:
    """Raise ValueError for lengths (A) that are too short to tabulate functions within a cutoff."""
    for name, length in lengths.items():
        if not cutoff <= SHARPEST * length:
            raise ValueError(f"{name} = {length} A: is too short for cutoff = {cutoff} A")


def check_scales(several: Any, one: Any) -> None:
    """Raise ValueError unless energy scales are given in exactly one form: one for every block, or one for all."""
    if (several is None) == (one is None):
        raise ValueError("energy_scales: must be given exactly once")


Said = TypeVar("Said", bound=BaseModel)


def parsed(schema: type[Said], text: str, place: str = "header") -> Said:
    """Parse a header from JSON; the one-line ValueError names the key and value of the first problem."""
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{place}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """Key, value and description of the first problem."""
    problem = error.errors(include_url=False)[0]
    key = quoted(".".join(str(part) for part in problem["loc"]), 80).strip("'")
    said = plainly(problem)
    if problem["type"] in ("missing", "value_error"):
        return f"{key}: {said}" if key else said
    return f"{key} = {quoted(problem['input'])}: {said}"
