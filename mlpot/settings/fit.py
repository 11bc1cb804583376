"""What a user may say of a model and its fit: one schema for Python (`FitConfig`) and for configuration files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from ase.data import atomic_numbers, chemical_symbols
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from ..errors import ConfigError
from .base import Settings
from .channels import ReductionSettings
from .higher_order import OrderSettings

PresetName = Literal["fast", "balanced", "accurate"]
SparseCount = PositiveInt | Literal["auto"]
NoiseName = Literal["energy_noise", "force_noise", "virial_noise"]

NOISE_OF_LABEL = {"energy": "energy_noise", "forces": "force_noise", "virial": "virial_noise"}
"""Key of the noise of every kind of label."""


class PairTermSettings(Settings):
    """Two-body term (GAP's distance_2b)."""

    type: Literal["pair"] = "pair"
    cutoff: PositiveFloat = Field(5.0, description="A")
    cutoff_width: PositiveFloat = Field(1.0, description="width of the smooth step at the cutoff, A")
    n_sparse: PositiveInt = Field(24, description="sparse radii per pair of elements; apart by less than length_scale")
    length_scale: PositiveFloat = Field(0.25, description="distance over which the pair potential varies, A")
    bent: bool = Field(True, description="length_scale holds where atoms touch and grows with the distance; false: as in GAP")
    repulsion_length: NonNegativeFloat = Field(
        0.33, description="where bent, the prior std grows by e over this distance as atoms touch, A; 0: it does not"
    )
    energy_scale: PositiveFloat | None = Field(
        None, description="prior std of the pair potential, eV (GAP: delta); from the data, for every pair, when left out"
    )

    @model_validator(mode="after")
    def _step_fits(self) -> PairTermSettings:
        return _checked_step(self)


class SoapTermSettings(OrderSettings, ReductionSettings):
    """Many-body term: SOAP, whole or reduced, with a dot-product kernel."""

    type: Literal["soap"] = "soap"
    n_max: PositiveInt = Field(8, description="number of radial functions")
    l_max: int = Field(6, ge=0, le=20, description="highest angular degree, inclusive")
    cutoff: PositiveFloat = Field(5.0, description="A")
    cutoff_width: PositiveFloat = Field(0.5, description="width of the smooth step at the cutoff, A")
    atom_sigma: PositiveFloat = Field(0.5, description="std of the atomic Gaussian, A")
    central_weight: float = Field(1.0, ge=0, description="weight of the centre's own density")
    radial_basis: Literal["gap"] = Field("gap", description="radial functions")
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
    def _step_fits(self) -> SoapTermSettings:
        return _checked_step(self)

    @model_validator(mode="after")
    def _quotas_fit(self) -> SoapTermSettings:
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


def _checked_force_noise(value: Any) -> Any:
    """One message in place of those of a number and of a table."""
    if value is None:
        return None
    for noise in value.values() if isinstance(value, dict) and value else [value]:
        if not (isinstance(noise, int | float) and noise > 0):
            raise ValueError("must be a positive number of eV/A, or a table of these by chemical symbol")
    return value


def _checked_step(term):
    if term.cutoff_width > term.cutoff:
        raise ValueError(f"cutoff_width = {term.cutoff_width} A exceeds cutoff = {term.cutoff} A; lower cutoff_width")
    return term


ForceNoise = Annotated[PositiveFloat | dict[str, PositiveFloat] | None, BeforeValidator(_checked_force_noise)]
TermSettings = Annotated[PairTermSettings | SoapTermSettings, Field(discriminator="type")]


def is_learned(term: TermSettings) -> TypeGuard[SoapTermSettings]:
    """Whether the channels of a term are learned from data."""
    return isinstance(term, SoapTermSettings) and term.embedding == "learned"


class ModelSettings(Settings):
    """A preset, with or without a cutoff, or a list of terms."""

    preset: PresetName | None = Field(None, description="fast | balanced | accurate, instead of terms")
    cutoff: PositiveFloat | None = Field(
        None,
        description="A, for the preset; from the elements when left out (the accurate preset reaches up to 1.6 times as far)",
    )
    terms: tuple[TermSettings, ...] = Field((), description="explicit terms, instead of a preset")
    repulsion: bool = Field(True, description="short-range ZBL repulsion under the fit")
    extrapolate: bool = Field(
        False,
        description="guess, from similar elements, where a structure holds elements that the data had not; or an error",
    )

    @model_validator(mode="after")
    def _can_extrapolate(self) -> ModelSettings:
        if not self.extrapolate or not self.terms:
            return self
        many_body = [term for term in self.terms if isinstance(term, SoapTermSettings)]
        for term in many_body:
            if not term.mixes_species or term.embedding == "random":
                raise ValueError(
                    f'extrapolate = true: a soap term with mix = "{term.mix}", embedding = "{term.embedding}" does not know '
                    'which elements are alike; set mix = "both" (with n_channels) and embedding = "periodic"'
                )
        if not many_body:
            raise ValueError(
                "extrapolate = true: pair terms alone do not know which elements are alike; add a soap term, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _one_way(self) -> ModelSettings:
        if self.terms and (self.preset or self.cutoff):
            raise ValueError("give either preset (and cutoff) or terms, not both")
        return self


class NoiseSettings(Settings):
    """Standard deviations of the labels of one config_type; a missing one falls back to the general noise."""

    energy_noise: PositiveFloat | None = Field(None, description="eV/atom")
    force_noise: ForceNoise = Field(None, description="eV/A, or a table of these by symbol")
    virial_noise: PositiveFloat | None = Field(None, description="eV/atom")


class FitSettings(Settings):
    """How the data is weighed."""

    energy_noise: PositiveFloat | None = Field(
        None, description="eV/atom; from the data when left out, at most the preset's"
    )
    force_noise: ForceNoise = Field(
        None, description="eV/A, or a table by symbol; from the data, for every element, when left out"
    )
    virial_noise: PositiveFloat | None = Field(
        None, description="eV/atom; from the data when left out, at most the preset's"
    )
    adapt: tuple[NoiseName, ...] | None = Field(
        None, description="noises that follow the data from where they are; those that are left out by default"
    )
    config_type_noise: dict[str, NoiseSettings] = Field({}, description="noises of single config_types")
    jitter: PositiveFloat = Field(1e-8, description="addition to the diagonal of K_mm, in units of energy_scale^2")
    seed: int = Field(0, ge=0, description="of the choice of sparse points")
    tune: bool = Field(False, description="find noises, energy scales and zeta by likelihood and cross-validation")
    check_labels: bool = Field(True, description="predict every structure without itself; report suspicious labels")


class FitConfig(ModelSettings, FitSettings):
    """Everything a fit needs besides the data: the keys of [model] and [fit], and the isolated-atom energies.

    `FitConfig()` is the balanced preset; `FitConfig(preset="fast", cutoff=4.5)`, or
    `FitConfig(terms=[{"type": "soap", "cutoff": 5.4, "n_sparse": 1000}], force_noise=0.05)`.
    """

    isolated_atom_energies: dict[str, float] | None = Field(
        None, description="energy of each free atom, eV, by symbol: what an atom alone gets; fitted when left out"
    )

    @property
    def given_energies(self) -> dict[int, float]:
        """`isolated_atom_energies` by atomic number, eV."""
        return {atomic_numbers[symbol]: energy for symbol, energy in (self.isolated_atom_energies or {}).items()}

    @model_validator(mode="after")
    def _real_elements(self) -> FitConfig:
        tables = {"isolated_atom_energies": self.isolated_atom_energies, "force_noise": self.force_noise}
        for key, table in tables.items():
            unknown = sorted(set(table) - set(atomic_numbers)) if isinstance(table, dict) else []
            if unknown:
                raise ValueError(f"{key}: {unknown} are not chemical symbols; use symbols such as Si")
        return self
