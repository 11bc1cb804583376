"""What the headers of model and fit files may say: known keys, types, finite numbers within what can be computed.

A file is read from anywhere, so everything that sizes an array or a table is bounded here, before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..descriptors.density import MAX_L
from ..errors import ConfigError, quoted
from ..keys.explain import plainly
from ..settings.fit import FitConfig, PairTermSettings, SoapTermSettings
from ..settings.higher_order import HIGHEST_DEGREE

MOST_REACH = 100.0
"""Longest cutoff, A: a thousand times the neighbours of a long one."""
SHARPEST = 500.0
"""A cutoff over the lengths on which functions within it vary, at most: tables need some 20 knots for each."""
LONGEST_COORDINATE = 1e3
"""A: of a sparse radius."""
MOST_FUNCTIONS, MOST_CHANNELS = 128, 4096
HIGHEST_POWER = 100.0
"""Of zeta."""
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


class PairHeader(Shaped):
    """Of a `PairTerm`; files of format 3 and older have one `energy_scale`."""

    type: Literal["pair"]
    n_arrays: Count
    species: Species
    length_scale: Length
    energy_scales: Scales | None = None
    energy_scale: Positive | None = None
    contacts: tuple[Annotated[float, Field(ge=0.1, le=20)], ...] = ()
    repulsion_length: Annotated[float, Field(ge=0, le=100)] = 0.0

    @model_validator(mode="after")
    def _can_be_tabulated(self) -> PairHeader:
        check_lengths(self.cutoff, length_scale=self.length_scale)
        _check_scales(self.energy_scales, self.energy_scale)
        n_kinds = len(self.species) * (len(self.species) + 1) // 2
        if self.n_arrays != n_kinds or len(self.contacts) not in (0, n_kinds):
            raise ValueError(
                f"n_arrays = {self.n_arrays}, {len(self.contacts)} contacts: there are {n_kinds} pairs of elements"
            )
        if self.repulsion_length and self.repulsion_length < 0.01:
            raise ValueError(f"repulsion_length = {self.repulsion_length} A: must be 0 or at least 0.01 A")
        return self


class ThreeBodyHeader(Shaped):
    """Of a `ThreeBodyTerm`."""

    type: Literal["three_body"]
    n_arrays: Literal[3]
    species: Species
    centre: Element
    neighbours: tuple[Element, Element]
    energy_scale: Positive

    @model_validator(mode="after")
    def _knows_its_elements(self) -> ThreeBodyHeader:
        unknown = {self.centre, *self.neighbours} - set(self.species)
        if unknown:
            raise ValueError(f"centre, neighbours: {sorted(unknown)} are not among species {list(self.species)}")
        return self


class BasisHeader(Shaped):
    """Of a `GapRadialBasis`."""

    type: Literal["gap"]
    n_max: Annotated[int, Field(ge=1, le=MOST_FUNCTIONS)]
    l_max: Annotated[int, Field(ge=0, le=MAX_L)]
    atom_sigma: Length
    basis_error_exponent: Annotated[float, Field(gt=0, le=100)] = 10.0

    @model_validator(mode="after")
    def _can_be_tabulated(self) -> BasisHeader:
        check_lengths(self.cutoff, atom_sigma=self.atom_sigma)
        return self


class DescriptorHeader(Header):
    """Of a `SoapDescriptor`."""

    species: Species
    basis: BasisHeader
    central_weight: Number = 1.0
    central_reference_all_species: bool = False
    constant: NotNegative = 0.0


class SoapHeader(Header):
    """Of a `SoapTerm`; files of format 3 and older have one `energy_scale`."""

    type: Literal["soap"]
    n_arrays: Count
    descriptor: DescriptorHeader
    zeta: Annotated[float, Field(gt=0, le=HIGHEST_POWER)]
    energy_scales: Scales | None = None
    energy_scale: Positive | None = None

    @model_validator(mode="after")
    def _one_for_every_element(self) -> SoapHeader:
        _check_scales(self.energy_scales, self.energy_scale)
        if self.n_arrays != len(self.descriptor.species):
            raise ValueError(f"n_arrays = {self.n_arrays}: there are {len(self.descriptor.species)} elements")
        return self


def _check_scales(several: Any, one: Any) -> None:
    if (several is None) == (one is None):
        raise ValueError("energy_scales: must be given, once")


TermHeader = Annotated[PairHeader | ThreeBodyHeader | SoapHeader, Field(discriminator="type")]


class BaselineHeader(Header):
    isolated_atom_energies: dict[Element, Number]
    repulsion: bool
    lone_atoms: dict[Element, Number] = {}

    @model_validator(mode="after")
    def _are_differences_from_something(self) -> BaselineHeader:
        if strangers := sorted(set(self.lone_atoms) - set(self.isolated_atom_energies)):
            raise ValueError(f"lone_atoms: atomic number {strangers[0]} has no isolated_atom_energies")
        return self


class CalibrationHeader(Header):
    """Of a `Calibration`; files of format 3 and older have a `force_floor`."""

    force_scale: NotNegative = 1.0
    energy_scale: NotNegative = 1.0
    stress_scale: NotNegative = 1.0
    of_elements: dict[Element, NotNegative] = {}
    floors: dict[Element, NotNegative] = {}
    growths: dict[Element, NotNegative] = {}
    n_forces: Count = 0
    n_energies: Count = 0
    # files from before it: all of the discrepancy counted, and nothing was calibrated beyond what is there
    discrepancy_share: NotNegative = 1.0
    force_floor: NotNegative = 0.0


class NoisesHeader(Header):
    energy: NotNegative
    virial: NotNegative
    forces: dict[Element, NotNegative]
    sizes: dict[Element, NotNegative]


class ModelHeader(Header):
    """Of a model file; what has a default is not in files of older formats."""

    species: Species
    terms: Annotated[tuple[TermHeader, ...], Field(min_length=1, max_length=1000)]
    baseline: BaselineHeader
    has_factor: bool = True
    jitter: NotNegative
    regularisation: NotNegative = 0.0
    calibration: CalibrationHeader = CalibrationHeader()
    noises: NoisesHeader | None = None
    config: dict[str, Any] | None
    report: dict[str, Any] | None
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _agrees_about_elements(self) -> ModelHeader:
        for k, term in enumerate(self.terms):
            own = term.descriptor.species if isinstance(term, SoapHeader) else term.species
            if own != self.species:
                raise ValueError(f"terms.{k}: species {list(own)} are not those of the model, {list(self.species)}")
        lacking = sorted(set(self.species) - set(self.baseline.isolated_atom_energies))
        if lacking:
            raise ValueError(f"baseline.isolated_atom_energies: none for atomic number {lacking[0]}")
        return self


GroupName = tuple[Literal["energy", "forces", "virial"], str, Annotated[int, Field(ge=0, le=118)]]
GroupNoise = tuple[Literal["energy", "forces", "virial"], str, Annotated[int, Field(ge=0, le=118)], Positive]


class FitHeader(Header):
    """Of a fit file."""

    species: Species
    config: dict[str, Any]
    scales: tuple[Positive, ...]
    noises: tuple[GroupNoise, ...]
    groups: tuple[GroupName, ...]
    names: tuple[str, ...]
    config_types: tuple[str, ...]


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


def checked_config(values: Mapping[str, Any]) -> FitConfig:
    """The configuration in a file; ValueError for one that is none, or whose sizes cannot be computed."""
    try:
        config = FitConfig.checked(values, "config")
    except ConfigError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    for k, term in enumerate(config.terms):
        try:
            _check_settings(term)
        except ValueError as error:
            raise ValueError(f"config.terms.{k}: {error}") from error
    return config


def _check_settings(term: PairTermSettings | SoapTermSettings) -> None:
    """ValueError for a term whose arrays would have no bounds."""
    common: dict[str, Any] = {"cutoff": term.cutoff, "cutoff_width": term.cutoff_width}
    if isinstance(term, PairTermSettings):
        check_lengths(term.cutoff, length_scale=term.length_scale)
        schema: type[Shaped] = Shaped
    else:
        common |= {"type": term.radial_basis, "n_max": term.n_max, "l_max": term.l_max, "atom_sigma": term.atom_sigma}
        schema = BasisHeader
        for name in ("n_channels", "order_channels"):
            if (getattr(term, name) or 0) > MOST_CHANNELS:
                raise ValueError(f"{name} = {getattr(term, name)}: must be at most {MOST_CHANNELS}")
        if term.order > 2 and min(term.order_l_max, term.l_max) > HIGHEST_DEGREE[term.order]:
            raise ValueError(f"order_l_max = {term.order_l_max}: takes hours with order = {term.order}")
        if term.zeta > HIGHEST_POWER:
            raise ValueError(f"zeta = {term.zeta}: must be at most {HIGHEST_POWER:g}")
    try:
        schema.model_validate(common)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
