"""User settings of a model and its fit, the same for Python (`FitConfig`) and for configuration files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from ase.data import atomic_numbers
from pydantic import BeforeValidator, Discriminator, Field, NonNegativeFloat, Tag, model_validator

from ..data.targets import FITTED
from ..descriptors.mixing import Mixing
from ..descriptors.named import is_named
from ..keys.base import Settings
from ..keys.explain import OF_A_CLASS, TAGS
from ..keys.quantities import PURE, Angstrom, Count, EnergyPerAtom, Force, Ratio, Seed, Unit
from .baseline import BaselineSection
from .bispectrum import BispectrumTermSettings
from .data import IsolatedAtomSettings, check_symbols
from .features import FeatureTermSettings
from .higher_order import OrderSettings
from .mbtr import MbtrTermSettings
from .model_features import ModelFeatureTermSettings
from .named_features import AcsfTermSettings, ChebyshevTermSettings, ZernikeTermSettings
from .sparse import SparseSettings
from .targets import TargetsSettings
from .terms import CutoffWidth, LocalTermSettings

PresetName = Literal["fast", "balanced", "accurate"]
NoiseName = Literal["energy_noise", "force_noise", "virial_noise"]

NOISE_OF_LABEL = {name: target.noise_key for name, target in FITTED.items()}
"""Key of the noise of every kind of label."""


class PairTermSettings(LocalTermSettings):
    """Two-body term (GAP's distance_2b)."""

    type: Literal["pair"] = Field("pair", description="Kind of term.")
    n_sparse: Count = Field(
        24, description="Number of sparse distances for every pair of elements; their spacing must be below length_scale."
    )
    length_scale: Angstrom = Field(0.25, description="Distance over which the pair potential varies.")
    kernel: Literal["gaussian", "matern"] = Field(
        "gaussian",
        description='Kernel of the distance: GAP\'s "gaussian", or "matern" (smoothness 5/2), which follows sharp bends and steep '
        "walls without ringing, and for which length_scale (1 A or more) hardly matters.",
    )
    bent: bool = Field(
        True,
        description="Let length_scale apply at contact and grow with the distance, instead of one value at all distances as in GAP.",
    )
    repulsion_length: Annotated[NonNegativeFloat, Unit("A")] = Field(
        0.33,
        description="With bent, distance over which the prior standard deviation grows by a factor e towards contact; 0: no growth.",
    )


class SoapTermSettings(LocalTermSettings, OrderSettings, Mixing, SparseSettings):
    """Many-body term: SOAP, whole or reduced, with a polynomial kernel."""

    type: Literal["soap"] = Field("soap", description="Kind of term.")
    n_max: Count = Field(8, description="Number of radial functions.")
    l_max: Annotated[int, Field(ge=0, le=20), PURE] = Field(6, description="Highest angular degree, inclusive.")
    cutoff_width: CutoffWidth = 0.5
    atom_sigma: Angstrom = Field(0.5, description="Standard deviation of the Gaussian that stands for an atom.")
    central_weight: Annotated[float, Field(ge=0), PURE] = Field(1.0, description="Weight of the central atom's own density.")
    constant: Annotated[float, Field(ge=0, le=1), PURE] = Field(
        0.0,
        description="A constant feature behind the normalised ones (GAP's covariance_sigma0): the kernel is (p.p' + constant^2)^zeta,"
        " a sum of kernels of all powers up to zeta.",
    )
    radial_basis: Literal["gap"] = Field("gap", description="Kind of radial functions.")

    @model_validator(mode="before")
    @classmethod
    def _has_the_kernel(cls, values: Any) -> Any:
        """Accept the key `kernel` of other many-body terms, for the one kernel that compiled products know."""
        if not isinstance(values, dict) or "kernel" not in values:
            return values
        if values["kernel"] != "polynomial":
            raise ValueError(f'kernel = {values["kernel"]!r}: a soap term has the "polynomial" one (zeta); leave kernel out')
        return {key: value for key, value in values.items() if key != "kernel"}

    __hash__ = SparseSettings.__hash__

    @property
    def is_learned(self) -> bool:
        """Whether the channels are learned from data."""
        return self.embedding == "learned"

    def extrapolates(self) -> bool:
        """See `TermSettingsBase`."""
        if not self.mixes_species or self.embedding == "random":
            raise ValueError(
                f'extrapolate = true needs elements whose similarity is known, but a soap term has mix = "{self.mix}", '
                f'embedding = "{self.embedding}"; set mix = "both" (with n_channels) and embedding = "periodic"'
            )
        return True


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


def _tag(term: Any) -> Any:
    """Settings class for the `type` of a term."""
    kind = term.get("type") if isinstance(term, dict) else getattr(term, "type", None)
    own = isinstance(kind, type) or (is_named(kind) and kind not in TAGS)
    return OF_A_CLASS if own else kind


TermSettings = Annotated[
    Annotated[PairTermSettings, Tag("pair")]
    | Annotated[SoapTermSettings, Tag("soap")]
    | Annotated[AcsfTermSettings, Tag("acsf")]
    | Annotated[ChebyshevTermSettings, Tag("chebyshev")]
    | Annotated[ZernikeTermSettings, Tag("zernike")]
    | Annotated[BispectrumTermSettings, Tag("bispectrum")]
    | Annotated[MbtrTermSettings, Tag("mbtr")]
    | Annotated[ModelFeatureTermSettings, Tag("features")]
    | Annotated[FeatureTermSettings, Tag(OF_A_CLASS)],
    Discriminator(_tag),
]


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
    force_tolerance: Annotated[NonNegativeFloat | None, Unit("eV/A")] = Field(
        None,
        description="Change of forces, root mean square on shaken environments of the data, up to which a compiled kernel is "
        "cut to a lower rank (zeta = 2); 0: not at all. Presets have 0.001, terms of your own 0.",
        examples=[0.001],
    )
    repulsion: bool = Field(True, description="Add a short-range ZBL repulsion to the fit.")
    extrapolate: bool = Field(
        False, description="Extrapolate to elements absent from the training data, instead of raising an error."
    )

    @model_validator(mode="after")
    def _can_extrapolate(self) -> Self:
        if not self.extrapolate or not self.terms:
            return self
        if not any([term.extrapolates() for term in self.terms]):
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
    """Weighting of labels and options of the fit; noises that are not given are determined from the data."""

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


class FitConfig(IsolatedAtomSettings, FitSettings, ModelSettings, BaselineSection, TargetsSettings):
    """Everything a fit needs besides the data: the keys of [model] and [fit], isolated-atom energies, [baseline], [[targets]].

    `FitConfig()` is the balanced preset; `FitConfig(preset="fast", cutoff=4.5)`, or
    `FitConfig(terms=[{"type": "soap", "cutoff": 5.4, "n_sparse": 1000}], force_noise=0.05)`.
    """

    @property
    def given_energies(self) -> dict[int, float]:
        """`isolated_atom_energies` by atomic number, eV."""
        return {atomic_numbers[symbol]: energy for symbol, energy in (self.isolated_atom_energies or {}).items()}
