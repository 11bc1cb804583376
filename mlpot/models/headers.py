"""Headers of model and fit files, except for the headers of terms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ..data.targets import FITTED
from ..errors import ConfigError
from ..settings.fit import FitConfig
from ..terms.headers import Count, Element, Header, NotNegative, Number, Positive, Species
from ..terms.registry import TERM_TYPES, term_type

if TYPE_CHECKING:
    from ..terms.headers import TermHeader as AnyTerm
else:  # of a term of any registered type
    AnyTerm = Annotated[reduce(or_, (kind.term.header_type for kind in TERM_TYPES.values())), Field(discriminator="type")]


class BaselineHeader(Header):
    isolated_atom_energies: dict[Element, Number]
    repulsion: bool
    lone_atoms: dict[Element, Number] = Field({})

    @model_validator(mode="after")
    def _are_differences_from_something(self) -> BaselineHeader:
        if strangers := sorted(set(self.lone_atoms) - set(self.isolated_atom_energies)):
            raise ValueError(f"lone_atoms: atomic number {strangers[0]} has no isolated_atom_energies")
        return self


class CalibrationHeader(Header):
    """Header of a `Calibration`; files of format 3 and older have a `force_floor`."""

    force_scale: NotNegative = 1.0
    energy_scale: NotNegative = 1.0
    stress_scale: NotNegative = 1.0
    of_elements: dict[Element, NotNegative] = Field({})
    floors: dict[Element, NotNegative] = Field({})
    growths: dict[Element, NotNegative] = Field({})
    n_forces: Count = 0
    n_energies: Count = 0
    # in older files without this key the whole discrepancy counts, and the other defaults mean no calibration
    discrepancy_share: NotNegative = 1.0
    force_floor: NotNegative = 0.0


class NoisesHeader(Header):
    energy: NotNegative
    virial: NotNegative
    forces: dict[Element, NotNegative]
    sizes: dict[Element, NotNegative]
    guess: NotNegative = 1.0


class ModelHeader(Header):
    """Header of a model file; keys with a default are missing in files of older formats."""

    species: Species
    terms: Annotated[tuple[AnyTerm, ...], Field(min_length=1, max_length=1000)]
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
            if term.own_species != self.species:
                raise ValueError(f"terms.{k}: species {list(term.own_species)} differ from the model's, {list(self.species)}")
        lacking = sorted(set(self.species) - set(self.baseline.isolated_atom_energies))
        if lacking:
            raise ValueError(f"baseline.isolated_atom_energies: none for atomic number {lacking[0]}")
        return self


def _fitted(label: str) -> str:
    if label not in FITTED:
        raise ValueError(f"{label!r}: must be one of {', '.join(FITTED)}")
    return label


Label = Annotated[str, AfterValidator(_fitted)]
ElementOrNone = Annotated[int, Field(ge=0, le=118)]
GroupName = tuple[Label, str, ElementOrNone]
GroupNoise = tuple[Label, str, ElementOrNone, Positive]


class FitHeader(Header):
    """Header of a fit file."""

    species: Species
    config: dict[str, Any]
    scales: tuple[Positive, ...]
    noises: tuple[GroupNoise, ...]
    groups: tuple[GroupName, ...]
    names: tuple[str, ...]
    config_types: tuple[str, ...]


def checked_config(values: Mapping[str, Any]) -> FitConfig:
    """Check the configuration in a file; ValueError if it is invalid or its sizes are beyond the bounds."""
    try:
        config = FitConfig.checked(values, "config")
    except ConfigError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    for k, term in enumerate(config.terms):
        try:
            term_type(term).term.check_settings(term)
        except ValueError as error:
            raise ValueError(f"config.terms.{k}: {error}") from error
    return config
