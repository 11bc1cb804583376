"""What a user may say of a model and its fit: one schema for Python (`FitConfig`) and for configuration files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ase.data import atomic_numbers
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from ..descriptors.named import is_named
from .base import Settings, TermSettingsBase
from .channels import ReductionSettings
from .features import FeatureTermSettings
from .higher_order import OrderSettings
from .sparse import SparseSettings

PresetName = Literal["fast", "balanced", "accurate"]
NoiseName = Literal["energy_noise", "force_noise", "virial_noise"]

NOISE_OF_LABEL = {"energy": "energy_noise", "forces": "force_noise", "virial": "virial_noise"}
"""Key of the noise of every kind of label."""


class PairTermSettings(TermSettingsBase):
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


class SoapTermSettings(OrderSettings, ReductionSettings, SparseSettings):
    """Many-body term: SOAP, whole or reduced, with a dot-product kernel."""

    type: Literal["soap"] = "soap"
    n_max: PositiveInt = Field(8, description="number of radial functions")
    l_max: int = Field(6, ge=0, le=20, description="highest angular degree, inclusive")
    cutoff: PositiveFloat = Field(5.0, description="A")
    cutoff_width: PositiveFloat = Field(0.5, description="width of the smooth step at the cutoff, A")
    atom_sigma: PositiveFloat = Field(0.5, description="std of the atomic Gaussian, A")
    central_weight: float = Field(1.0, ge=0, description="weight of the centre's own density")
    radial_basis: Literal["gap"] = Field("gap", description="radial functions")

    @model_validator(mode="before")
    @classmethod
    def _has_the_kernel(cls, values: Any) -> Any:
        """The key that other many-body terms have: compiled products know one kernel."""
        if not isinstance(values, dict) or "kernel" not in values:
            return values
        if values["kernel"] != "polynomial":
            raise ValueError(f'kernel = {values["kernel"]!r}: a soap term has the "polynomial" one (zeta); leave kernel out')
        return {key: value for key, value in values.items() if key != "kernel"}

    @model_validator(mode="after")
    def _step_fits(self) -> SoapTermSettings:
        return _checked_step(self)

    __hash__ = SparseSettings.__hash__

    @property
    def is_learned(self) -> bool:
        """Whether the channels are learned from data."""
        return self.embedding == "learned"

    def extrapolates(self) -> bool:
        """See `TermSettingsBase`."""
        if not self.mixes_species or self.embedding == "random":
            raise ValueError(
                f'extrapolate = true: a soap term with mix = "{self.mix}", embedding = "{self.embedding}" does not know '
                'which elements are alike; set mix = "both" (with n_channels) and embedding = "periodic"'
            )
        return True


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


def _tag(term: Any) -> Any:
    """Which settings a term's `type` chooses."""
    kind = term.get("type") if isinstance(term, dict) else getattr(term, "type", None)
    return "features" if is_named(kind) or isinstance(kind, type) else kind


TermSettings = Annotated[
    Annotated[PairTermSettings, Tag("pair")]
    | Annotated[SoapTermSettings, Tag("soap")]
    | Annotated[FeatureTermSettings, Tag("features")],
    Discriminator(_tag),
]


def is_learned(term: TermSettingsBase) -> bool:
    """Whether the channels of a term are learned from data."""
    return term.is_learned


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
        if not any([term.extrapolates() for term in self.terms]):
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
