"""What all headers of model and fit files have in common: known keys, types, finite numbers within what can be computed.

A file is read from anywhere, so everything that sizes an array or a table is bounded here, before anything is made of it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import quoted
from ..keys.explain import plainly

MOST_REACH = 100.0
"""Longest cutoff, A: a thousand times the neighbours of a long one."""
SHARPEST = 500.0
"""A cutoff over the lengths on which functions within it vary, at most: tables need some 20 knots for each."""
LONGEST_COORDINATE = 1e3
"""A: of a sparse radius."""
HIGHEST_POWER = 100.0
"""Of zeta."""
ROUNDING = 1e-6
"""Of features, which are of norm 1."""
LARGEST_ENERGY = 1e12
"""eV."""


def _sorted(species: tuple[int, ...]) -> tuple[int, ...]:
    if list(species) != sorted(set(species)):
        raise ValueError("must be sorted atomic numbers, each once")
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
    """Base: unknown keys, texts in place of numbers, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TermHeader(Header):
    """Base of the headers of terms, which `type` chooses from."""

    type: str
    n_arrays: Count

    @property
    def own_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        raise NotImplementedError


class Shaped(Header):
    """A cutoff and the width of the step at it, A."""

    cutoff: Reach
    cutoff_width: Length

    @model_validator(mode="after")
    def _step_fits(self) -> Shaped:
        check_lengths(self.cutoff, cutoff_width=self.cutoff_width)
        if self.cutoff_width > self.cutoff:
            raise ValueError(f"cutoff_width = {self.cutoff_width} A: exceeds cutoff = {self.cutoff} A")
        return self


def check_lengths(cutoff: float, **lengths: float) -> None:
    """ValueError for lengths (A) that are too short to tabulate functions within a cutoff."""
    for name, length in lengths.items():
        if not cutoff <= SHARPEST * length:
            raise ValueError(f"{name} = {length} A: is too short for cutoff = {cutoff} A")


def check_scales(several: Any, one: Any) -> None:
    """ValueError unless energy scales are given in one of the two ways: one for every block, or one for all."""
    if (several is None) == (one is None):
        raise ValueError("energy_scales: must be given, once")


Said = TypeVar("Said", bound=BaseModel)


def parsed(schema: type[Said], text: str, place: str = "header") -> Said:
    """A header out of its JSON text; ValueError, in one line, with the key and its value for the first thing that is wrong."""
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{place}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """Key, value and what is wrong with it."""
    problem = error.errors(include_url=False)[0]
    key = quoted(".".join(str(part) for part in problem["loc"]), 80).strip("'")
    said = plainly(problem)
    if problem["type"] in ("missing", "value_error"):
        return f"{key}: {said}" if key else said
    return f"{key} = {quoted(problem['input'])}: {said}"
