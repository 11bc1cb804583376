"""Settings of many-body terms on the descriptors of other potentials: symmetry functions, Chebyshev, Zernike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ase.data import atomic_numbers, chemical_symbols
from ase.units import Bohr
from pydantic import Field, model_validator

from ..descriptors.acsf_records import record_of
from ..descriptors.n2p2_input import read_functions
from ..descriptors.named import checked, descriptor_class
from ..errors import ConfigError, quoted
from ..keys.base import Settings
from ..keys.quantities import PURE, Angstrom, Count, Seed
from .data import check_symbols
from .kernel import DescriptorTermSettings

CutoffKind = Literal["cosine", "tanhu", "tanh", "exponential", "poly1", "poly2", "poly3", "poly4", "polynomial"]
Weight = Annotated[float, PURE]
LENGTH_UNITS = {"angstrom": 1.0, "bohr": Bohr}


class NamedTermSettings(DescriptorTermSettings):
    """Base: every key of the descriptor is declared here, and what it refuses is an error at once."""

    cutoff: Annotated[Angstrom, Field(le=100)] = Field(5.0, description="Radius beyond which neighbours are ignored.")

    def elements(self) -> tuple[int, ...]:
        """Atomic numbers named by keys; the data must contain all of them."""
        return ()

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        kind, species = descriptor_class(self.type), tuple(sorted(self.elements())) or (1,)
        checked(lambda: kind(species, **self.arguments(species)), self.type)  # type: ignore[call-arg]
        return self


class StepSettings(Settings):
    """Keys of descriptors that leave the choice of the cutoff function."""

    cutoff_function: CutoffKind = Field(
        "cosine", description="Function that takes features to zero at the cutoff: n2p2's functions, and AMP's polynomial."
    )
    cutoff_gamma: Annotated[int, Field(ge=2, le=100), PURE] = Field(4, description='Exponent of cutoff_function = "polynomial".')

    @model_validator(mode="after")
    def _has_an_exponent(self) -> Self:
        if self.cutoff_gamma != 4 and self.cutoff_function != "polynomial":
            raise ValueError(f'cutoff_gamma = {self.cutoff_gamma}: is for cutoff_function = "polynomial"; remove it')
        return self


class AcsfTermSettings(StepSettings, NamedTermSettings):
    """Many-body term on symmetry functions of Behler and Parrinello."""

    type: Literal["acsf"] = Field("acsf", description="Kind of term.")
    functions: Literal["auto", "amp"] | Annotated[tuple[Any, ...], Field(min_length=1)] = Field(
        "auto",
        description='Symmetry functions: "auto", chosen from a large pool on the training data; "amp", the default of AMP; or a list '
        'of ["G1"], ["G2", eta, r_s], ["G3", kappa], ["G4", eta, zeta, lambda], ["G5", eta, zeta, lambda] (1/A^2, A, 1/A), for every '
        "element and then every pair of elements.",
    )
    functions_file: str | None = Field(
        None,
        description="An input.nn of n2p2 or RuNNer, whose symmetry functions are taken in place of functions.",
        examples=["input.nn"],
    )
    functions_length_unit: Literal["angstrom", "bohr"] = Field("angstrom", description="Unit of lengths in functions_file.")
    n_functions: Count = Field(64, description='With functions = "auto", number of features that are chosen from the pool.')
    select: Literal["cur", "farthest", "none"] = Field(
        "cur", description='With functions = "auto", how features are chosen from the pool; "none" keeps all of it.'
    )
    weighted: bool = Field(
        False, description="Sum over all elements with atomic numbers as weights, instead of for each element and pair of elements."
    )
    cutoff_alpha: Annotated[float, Field(ge=0, lt=1), PURE] = Field(
        0.0, description="Part of the cutoff up to which the cutoff function is 1."
    )

    @model_validator(mode="before")
    @classmethod
    def _file_is_read(cls, values: Any) -> Any:
        """The functions of `functions_file` in its place: what is fitted does not change when the file does."""
        if not isinstance(values, Mapping) or not isinstance(values.get("functions_file"), str):
            return values
        if "functions" in values:
            raise ValueError("functions_file and functions: give one of them")
        own = {"cutoff_function", "cutoff_alpha", "cutoff_gamma", "weighted"} & set(values)
        if own:
            raise ValueError(f"{min(own)}: every function of functions_file has its own; remove it")
        unit = LENGTH_UNITS.get(values.get("functions_length_unit", "angstrom"), 1.0)
        functions = read_functions(_text_of(values["functions_file"]), values["functions_file"], unit)
        if any(getattr(f.factor.cutoff, "kind", None) == "hard" for f in functions):
            raise ValueError(f"{values['functions_file']}: cutoff_type 0 (hard) makes energies jump; give another")
        taken = {"functions_file", "functions_length_unit"}
        return {k: v for k, v in values.items() if k not in taken} | {"functions": [record_of(f) for f in functions]}

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        """Lists as tuples, so that settings out of a file are those that were written to it."""
        if not isinstance(self.functions, str):
            self.__dict__["functions"] = _frozen(self.functions)
        return self

    @model_validator(mode="after")
    def _only_with_the_pool(self) -> Self:
        for key in ("n_functions", "select"):
            if self.is_changed(key) and self.functions != "auto":
                raise ValueError(f'{key} = {getattr(self, key)}: is for functions = "auto"; remove it')
        if self.is_changed("n_functions") and self.select == "none":
            raise ValueError(f'n_functions = {self.n_functions}: select = "none" keeps all functions; remove one of them')
        if self.is_changed("functions_length_unit"):
            raise ValueError(f'functions_length_unit = "{self.functions_length_unit}": is for functions_file; remove it')
        return self

    __hash__ = NamedTermSettings.__hash__

    def elements(self) -> tuple[int, ...]:
        """See `NamedTermSettings`: those that functions out of a file are for."""
        records = [f for f in self.functions if isinstance(f, Mapping)]
        try:
            named = {z for f in records for z in (*f["neighbours"], f["centre"])} - {0}
            return tuple(z for z in named if 0 < z < len(chemical_symbols))
        except (KeyError, TypeError) as error:
            raise ConfigError(f"functions: is no table of functions ({quoted(error, 80)})") from error

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        names = ("cutoff", "functions", "n_functions", "weighted", "cutoff_function", "cutoff_alpha", "cutoff_gamma")
        return {name: getattr(self, name) for name in names} | {"select": self.select if self.functions == "auto" else "none"}


class ChebyshevTermSettings(NamedTermSettings):
    """Many-body term on the Chebyshev descriptor of aenet, whose size does not depend on the number of elements."""

    type: Literal["chebyshev"] = Field("chebyshev", description="Kind of term.")
    radial_order: Annotated[int, Field(ge=0, le=200), PURE] = Field(
        16, description="Highest order of the polynomials of distances, inclusive."
    )
    angular_order: Annotated[int, Field(ge=0, le=20), PURE] = Field(
        4, description="Highest order of the polynomials of angles, inclusive."
    )
    angular_cutoff: Angstrom | None = Field(
        None, description="Cutoff of the angular part, at most cutoff; cutoff when left out.", examples=[4.0]
    )
    species_weights: Literal["spin", "periodic", "random"] | dict[str, Weight | list[Weight]] = Field(
        "spin",
        description='Weights by which elements differ: "spin", integers by atomic number as in aenet; "periodic", from properties of '
        'the elements; "random"; or a table of one or more numbers by chemical symbol.',
    )
    n_weights: Annotated[int, Field(ge=1, le=64), PURE] = Field(
        1, description='Sets of weights with species_weights = "periodic" (at most 4) or "random".'
    )
    weights_seed: Seed = Field(0, description='Seed of species_weights = "random".')

    @model_validator(mode="before")
    @classmethod
    def _are_not_learned(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("species_weights") == "learned":
            raise ValueError(
                'species_weights = "learned": weights of a chebyshev term are not learned; set "periodic", or use a soap term with '
                'embedding = "learned"'
            )
        return values

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        table, named = self.species_weights, isinstance(self.species_weights, str)
        if self.is_changed("n_weights") and (not named or table == "spin"):
            raise ValueError(f'n_weights = {self.n_weights}: is for species_weights = "periodic" or "random"; remove it')
        if self.is_changed("weights_seed") and table != "random":
            raise ValueError(f'weights_seed = {self.weights_seed}: is for species_weights = "random"; remove it')
        return self

    def check_elements(self, species: Sequence[int]) -> None:
        """ConfigError if a table of weights, or of n_sparse, lacks one of the elements."""
        super().check_elements(species)
        for number in species if isinstance(self.species_weights, dict) else ():
            if chemical_symbols[number] not in self.species_weights:
                symbol = chemical_symbols[number]
                raise ConfigError(f"species_weights = {self.species_weights} has no entry for {symbol}, which occurs in the data")

    def elements(self) -> tuple[int, ...]:
        """See `NamedTermSettings`: those in the table of weights."""
        table = self.species_weights
        if not isinstance(table, dict):
            return ()
        check_symbols("species_weights", table)
        lengths = {len(w) if isinstance(w, list) else -1 for w in table.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"species_weights = {table}: needs as many numbers for each element, at least one")
        return tuple(atomic_numbers[symbol] for symbol in table)

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        names = ("cutoff", "radial_order", "angular_order", "angular_cutoff", "n_weights")
        weights: Any = self.species_weights
        if isinstance(weights, dict):
            self.check_elements(species)
            rows = [weights[chemical_symbols[z]] for z in species]
            weights = list(zip(*rows, strict=True)) if isinstance(rows[0], list) else rows
        return {name: getattr(self, name) for name in names} | {"species_weights": weights, "seed": self.weights_seed}


class ZernikeTermSettings(StepSettings, NamedTermSettings):
    """Many-body term on squared Zernike moments of the neighbours, AMP's second descriptor."""

    type: Literal["zernike"] = Field("zernike", description="Kind of term.")
    n_max: Annotated[int, Field(ge=0, le=20), PURE] = Field(5, description="Highest degree, inclusive.")

    __hash__ = NamedTermSettings.__hash__

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        return {name: getattr(self, name) for name in ("cutoff", "n_max", "cutoff_function", "cutoff_gamma")}


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"functions_file = {quoted(file)}: cannot be read ({type(error).__name__}); give an input.nn") from error


def _frozen(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    if isinstance(value, Mapping):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list | tuple) else value
