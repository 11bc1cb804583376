"""Sections [model] and [fit], which together are `FitConfig` in Python: terms, noises, and how the fit is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeGuard

from ase.data import atomic_numbers, chemical_symbols
from pydantic import BeforeValidator, Field, NonNegativeFloat, field_validator, model_validator

from ..descriptors.mixing import Mixing
from ..errors import ConfigError
from ..keys.base import Settings
from ..keys.quantities import (
    PURE,
    Angstrom,
    Count,
    ElectronVolt,
    EnergyPerAtom,
    Force,
    Ratio,
    Seed,
    Unit,
)
from .data import IsolatedAtomSettings, check_symbols
from .higher_order import OrderSettings

PresetName = Literal["fast", "balanced", "accurate"]
SparseCount = Count | Literal["auto"]
NoiseName = Literal["energy_noise", "force_noise", "virial_noise"]

NOISE_OF_LABEL = {"energy": "energy_noise", "forces": "force_noise", "virial": "virial_noise"}
"""Key of the noise of every kind of label."""
CutoffWidth = Annotated[
    Angstrom, Field(description="Width of the smooth step to zero that ends at the cutoff; at most the cutoff itself.")
]


class LocalTermSettings(Settings):
    """Keys of every term that is a sum over neighbours within a cutoff."""

    cutoff: Angstrom = Field(5.0, description="Radius beyond which neighbours are ignored.")
    cutoff_width: CutoffWidth = 1.0
    energy_scale: ElectronVolt | None = Field(
        None,
        description="Prior standard deviation of the energies of the term (GAP: delta); found from the data, for every element or "
        "pair of elements, when left out.",
        examples=[1.0],
    )

    @model_validator(mode="after")
    def _step_fits(self) -> Self:
        if self.cutoff_width > self.cutoff:
            raise ValueError(f"cutoff_width = {self.cutoff_width} A exceeds cutoff = {self.cutoff} A; reduce cutoff_width")
        return self


class PairTermSettings(LocalTermSettings):
    """Two-body term (GAP's distance_2b)."""

    type: Literal["pair"] = Field("pair", description="Kind of term.")
    n_sparse: Count = Field(
        24, description="Number of sparse distances for every pair of elements; their spacing must be below length_scale."
    )
    length_scale: Angstrom = Field(0.25, description="Distance over which the pair potential varies.")
    bent: bool = Field(
        True,
        description="Let length_scale apply at contact and grow with the distance, instead of one value at all distances as in GAP.",
    )
    repulsion_length: Annotated[NonNegativeFloat, Unit("A")] = Field(
        0.33,
        description="With bent, distance over which the prior standard deviation grows by a factor e towards contact; 0: no growth.",
    )


class SoapTermSettings(LocalTermSettings, OrderSettings, Mixing):
    """Many-body term: SOAP, whole or reduced, with a polynomial kernel."""

    type: Literal["soap"] = Field("soap", description="Kind of term.")
    n_max: Count = Field(8, description="Number of radial functions.")
    l_max: Annotated[int, Field(ge=0, le=20), PURE] = Field(6, description="Highest angular degree, inclusive.")
    cutoff_width: CutoffWidth = 0.5
    atom_sigma: Angstrom = Field(0.5, description="Standard deviation of the Gaussian that stands for an atom.")
    central_weight: Annotated[float, Field(ge=0), PURE] = Field(1.0, description="Weight of the central atom's own density.")
    radial_basis: Literal["gap"] = Field("gap", description="Kind of radial functions.")
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
        return hash(tuple(value for _, value in self if not isinstance(value, dict)))

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


def _checked_force_noise(value: Any) -> Any:
    """One message for a number and for a table."""
    if value is None:
        return None
    if isinstance(value, dict):
        check_symbols("force_noise", value)
    for noise in value.values() if isinstance(value, dict) and value else [value]:
        if isinstance(noise, bool) or not (isinstance(noise, int | float) and noise > 0):
            raise ValueError("must be a positive number (eV/A), or a table of these by chemical symbol")
    return value


ForceNoise = Annotated[Force | dict[str, Force] | None, BeforeValidator(_checked_force_noise)]
TermSettings = Annotated[PairTermSettings | SoapTermSettings, Field(discriminator="type")]


def is_learned(term: TermSettings) -> TypeGuard[SoapTermSettings]:
    """Whether the channels of a term are learned from data."""
    return isinstance(term, SoapTermSettings) and term.embedding == "learned"


class ModelSettings(Settings):
    """A preset, with or without a cutoff, or a list of terms."""

    preset: PresetName | None = Field(
        None, description='Ready-made terms from cheap to accurate; "balanced" when terms are left out too.', examples=["balanced"]
    )
    cutoff: Angstrom | None = Field(
        None,
        description="Cutoff of the preset, from the elements when left out; the accurate preset reaches up to 1.6 times as far.",
        examples=[5.0],
    )
    terms: tuple[TermSettings, ...] = Field((), description="Terms of the model, instead of a preset.")
    repulsion: bool = Field(True, description="Add a short-range ZBL repulsion to the fit.")
    extrapolate: bool = Field(
        False, description="Extrapolate to elements absent from the training data, instead of raising an error."
    )

    @model_validator(mode="after")
    def _can_extrapolate(self) -> Self:
        if not self.extrapolate or not self.terms:
            return self
        many_body = [term for term in self.terms if isinstance(term, SoapTermSettings)]
        for term in many_body:
            if not term.mixes_species or term.embedding == "random":
                raise ValueError(
                    f'extrapolate = true needs elements whose similarity is known, but a soap term has mix = "{term.mix}", '
                    f'embedding = "{term.embedding}"; set mix = "both" (with n_channels) and embedding = "periodic"'
                )
        if not many_body:
            raise ValueError(
                "extrapolate = true needs a many-body term: pair terms do not know which elements are similar; add a soap term, or "
                "remove extrapolate"
            )
        return self

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.terms and (self.preset or self.cutoff):
            raise ValueError("give either preset (and cutoff) or terms, not both")
        return self


class NoiseSettings(Settings):
    """Standard deviations of labels."""

    energy_noise: EnergyPerAtom | None = Field(None, description="Noise of energies.", examples=[0.002])
    force_noise: ForceNoise = Field(None, description="Noise of forces, or a table by chemical symbol.", examples=[0.05])
    virial_noise: EnergyPerAtom | None = Field(None, description="Noise of virials.", examples=[0.02])


class FitSettings(NoiseSettings):
    """How labels are weighted and the fit is made; noises that are left out are found from the data."""

    adapt: tuple[NoiseName, ...] | None = Field(
        None,
        description="Noises that are adapted to the data; those without a value when left out.",
        examples=[["force_noise"]],
    )
    config_type_noise: dict[str, NoiseSettings] = Field(
        {},
        description="Noises of single config_types; noises left out there have the general value.",
        examples=[{"surface": {"energy_noise": 0.01}}],
    )
    jitter: Ratio = Field(1e-8, description="Addition to the diagonal of K_mm, relative to energy_scale^2.")
    seed: Seed = Field(0, description="Seed of the choice of sparse points.")
    tune: bool = Field(False, description="Find noises, energy scales and zeta by likelihood and cross-validation.")
    check_labels: bool = Field(
        True, description="Predict every structure from all others, and report suspicious labels; this doubles the time of a fit."
    )


class FitConfig(IsolatedAtomSettings, FitSettings, ModelSettings):
    """Everything a fit needs besides the data: the keys of [model] and [fit], and the isolated-atom energies.

    `FitConfig()` is the balanced preset; `FitConfig(preset="fast", cutoff=4.5)`, or
    `FitConfig(terms=[{"type": "soap", "cutoff": 5.4, "n_sparse": 1000}], force_noise=0.05)`.
    """

    @property
    def given_energies(self) -> dict[int, float]:
        """`isolated_atom_energies` by atomic number, eV."""
        return {atomic_numbers[symbol]: energy for symbol, energy in (self.isolated_atom_energies or {}).items()}
