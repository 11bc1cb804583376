"""Presets: terms and noises for any elements, with or without a given cutoff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ase.data import chemical_symbols, covalent_radii

from ..descriptors.periodic import is_known, longest_bond
from ..errors import ConfigError
from .fit import NOISE_OF_LABEL, FitConfig, PairTermSettings, PresetName, SoapTermSettings, TermSettings


@dataclass(frozen=True)
class Density:
    """One of the many-body terms of a preset."""

    n_max: int
    l_max: int
    n_sparse: int
    """Sparse points per element; fewer if all elements together would have more than `n_points`."""
    n_points: int
    farther: float = 1.0
    """Cutoff relative to the cutoff of the preset."""
    order: Mapping[str, float] = field(default_factory=dict)
    """Keys of `OrderSettings` that are not at their defaults."""
    zeta: float = 2.0


@dataclass(frozen=True)
class Preset:
    """A point on the way from cheap to accurate."""

    densities: tuple[Density, ...]
    reach: float
    """Cutoff in units of `longest_bond`."""
    n_channels: int
    """Random sums in place of elements and radial functions, where there are more than `MOST_WHOLE` elements."""
    energy_noise: float
    force_noise: float
    virial_noise: float
    of_molecules: tuple[Density, ...] = ()
    """Densities for organic molecules instead, if others are better for these."""
    force_tolerance: float = 0.001
    """Cut of the compiled kernel, eV/A: the change on the data themselves is a hundred times smaller."""


BISPECTRA = {"order": 3, "order_channels": 16, "order_l_max": 6, "order_weight": 0.5}

PRESETS: dict[PresetName, Preset] = {
    "fast": Preset(
        densities=(Density(n_max=6, l_max=4, n_sparse=300, n_points=1500),),
        reach=2.0, n_channels=8, energy_noise=0.002, force_noise=0.03, virial_noise=0.05,
    ),
    "balanced": Preset(
        densities=(Density(n_max=8, l_max=6, n_sparse=1000, n_points=3000),),
        reach=2.2, n_channels=12, energy_noise=0.002, force_noise=0.02, virial_noise=0.05,
    ),
    "accurate": Preset(
        densities=(
            Density(
                n_max=12, l_max=8, n_sparse=3000, n_points=6000,
                order={"order": 3, "order_channels": 16, "order_l_max": 4, "order_weight": 0.3},
            ),
            Density(n_max=8, l_max=6, n_sparse=2000, n_points=3000, order=BISPECTRA),
            Density(n_max=6, l_max=4, n_sparse=1000, n_points=1500, farther=1.3),
            Density(n_max=6, l_max=4, n_sparse=1000, n_points=1500, farther=1.6),
        ),
        of_molecules=(
            Density(n_max=8, l_max=6, n_sparse=1000, n_points=2000, order=BISPECTRA),
            Density(n_max=8, l_max=6, n_sparse=1000, n_points=2000, order=BISPECTRA, zeta=1.0),
        ),
        reach=3.3, n_channels=16, energy_noise=0.0005, force_noise=0.014, virial_noise=0.05,
    ),
}  # fmt: skip
"""Chosen by cross-validation on the training data of Si, Mo, NbMoTaW and acetylacetone, see benchmarks/README.md: sums of kernels
learn more than one kernel of all invariants, and energies, of surfaces most of all, gain by densities that reach farther. Molecules
gain by a shorter reach, wider Gaussians and a linear kernel with the quadratic one, and nothing by densities that reach farther.
Learning from nothing takes fewer labels without invariants of three densities: the more a model could be, the less it is sure of."""

MOST_WHOLE = 2
"""Largest number of elements without mixed channels: for three, the full power spectrum is slower than random sums."""


NONMETALS = frozenset({1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53})
ORGANIC_CUTOFF = 4.0
"""Cutoff in A of presets with densities for organic molecules."""
SECOND_SHELL = 1.6
"""Smallest cutoff in units of the longest bond: second neighbours in close-packed crystals are at 1.41."""
TAPER_START = 0.5
"""Start of the decay of the cutoff function, in units of the longest bond: near atoms weigh more than those far away. Against
a taper of 1 A at the end, force errors are 4-16 % lower with hundreds of structures, see benchmarks/README.md."""


def is_organic(species: Sequence[int]) -> bool:
    """Whether elements are those of organic molecules: carbon and hydrogen, and nothing but nonmetals."""
    return {1, 6} <= set(species) <= NONMETALS


def default_cutoff(preset: Preset, species: Sequence[int]) -> float:
    """Cutoff in A from the longest bond the elements can make: 4 to 5 A, or up to 6.5 A to include the second shell of long bonds.
    Larger cutoffs need more data than most users have."""
    bond = longest_bond(species)
    if preset.of_molecules and is_organic(species):
        return ORGANIC_CUTOFF
    return round(min(max(min(preset.reach * bond, 5.0), SECOND_SHELL * bond, 4.0), 6.5), 1)


def default_cutoff_width(cutoff: float, species: Sequence[int]) -> float:
    """Width in A of a cutoff function that begins to fall at half of the longest bond; see `TAPER_START`."""
    return round(cutoff - min(TAPER_START * longest_bond(species), 0.75 * cutoff), 1)


def default_atom_sigma(preset: Preset, species: Sequence[int]) -> float:
    """Width of the atomic Gaussians in A: 0.5 where bonds are long, 0.3 where hydrogen makes short ones, 0.4 where many invariants
    would resolve what the data do not determine."""
    if preset.of_molecules and is_organic(species):
        return 0.4
    return 0.3 if min(covalent_radii[z] for z in species) < 0.5 else 0.5


def resolve(config: FitConfig, species: Sequence[int]) -> FitConfig:
    """The same configuration with every choice that was left to a preset written out.

    Raises
    ------
    ConfigError
        If a table of n_sparse lacks one of the elements.
    """
    preset = PRESETS[config.preset or "balanced"]
    _check_noises(config, species)
    cutoff = config.cutoff or default_cutoff(preset, species)
    terms = config.terms or _terms(preset, cutoff, species, config.extrapolate)
    for term in terms:
        term.check_elements(species)
    tolerance = config.force_tolerance
    left_out = tuple(key for key in NOISE_OF_LABEL.values() if getattr(config, key) is None)
    return config.model_copy(
        update={
            "preset": None,
            "cutoff": None,
            "terms": tuple(terms),
            "energy_noise": config.energy_noise or preset.energy_noise,
            "force_noise": config.force_noise or preset.force_noise,
            "virial_noise": config.virial_noise or preset.virial_noise,
            "force_tolerance": (0.0 if config.terms else preset.force_tolerance) if tolerance is None else tolerance,
            "adapt": left_out if config.adapt is None else config.adapt,
        }
    )


def _check_noises(config: FitConfig, species: Sequence[int]) -> None:
    """ConfigError where a table of force noises lacks one of the elements."""
    for table in (config.force_noise, *(noises.force_noise for noises in config.config_type_noise.values())):
        missing = {chemical_symbols[z] for z in species} - set(table) if isinstance(table, dict) else set()
        if missing:
            raise ConfigError(
                f"force_noise = {table} has no entry for {sorted(missing)}, which occur in the data; add one"
            )


def _terms(preset: Preset, cutoff: float, species: Sequence[int], extrapolate: bool) -> list[TermSettings]:
    shared = {"atom_sigma": default_atom_sigma(preset, species), **_mixing(preset, species, extrapolate)}
    terms: list[TermSettings] = [PairTermSettings(cutoff=cutoff, cutoff_width=default_cutoff_width(cutoff, species))]
    densities = preset.of_molecules if preset.of_molecules and is_organic(species) else preset.densities
    for density in densities:
        reach = round(density.farther * cutoff, 1)
        keys: dict[str, Any] = {
            "n_max": density.n_max,
            "l_max": density.l_max,
            "n_sparse": min(density.n_sparse, density.n_points // len(species)),
            "cutoff": reach,
            "zeta": density.zeta,
            "cutoff_width": default_cutoff_width(reach, species),
        }
        terms.append(SoapTermSettings(**shared, **keys, **density.order))
    return terms


def _mixing(preset: Preset, species: Sequence[int], extrapolate: bool) -> dict[str, Any]:
    if len(species) <= MOST_WHOLE and not extrapolate:
        return {}
    embedding = "periodic" if extrapolate or all(map(is_known, species)) else "random"
    return {"mix": "both", "n_channels": preset.n_channels, "symmetric": True, "embedding": embedding}
