"""Sensible terms and noises for any elements, for users who know a cutoff or not even that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase.data import covalent_radii

from ..descriptors.periodic import is_known
from .baseline import longest_bond
from .settings import FitConfig, PairTermSettings, PresetName, SoapTermSettings, TermSettings


@dataclass(frozen=True)
class Preset:
    """A point on the way from cheap to accurate."""

    n_max: int
    l_max: int
    n_sparse: int
    """Sparse points per element, as long as they are not more than `n_points` in all."""
    n_points: int
    zeta: float
    reach: float
    """Cutoff in units of `longest_bond`."""
    n_channels: int
    """Random sums in place of elements and radial functions, where there are more than `MOST_WHOLE` elements."""
    order: Mapping[str, float]
    """Keys of `OrderSettings` that are not at their defaults."""
    far: Mapping[str, int]
    """Keys of a second density, of two bodies, that reaches `FARTHER`; none without."""
    energy_noise: float
    force_noise: float
    virial_noise: float


PRESETS: dict[PresetName, Preset] = {
    "fast": Preset(
        n_max=6, l_max=4, n_sparse=300, n_points=1500, zeta=2, reach=2.0, n_channels=8, order={}, far={},
        energy_noise=0.002, force_noise=0.03, virial_noise=0.05,
    ),
    "balanced": Preset(
        n_max=8, l_max=6, n_sparse=1000, n_points=3000, zeta=2, reach=2.2, n_channels=12, order={}, far={},
        energy_noise=0.002, force_noise=0.02, virial_noise=0.05,
    ),
    "accurate": Preset(
        n_max=12, l_max=8, n_sparse=3000, n_points=6000, zeta=2, reach=3.3, n_channels=16,
        order={"order": 3, "order_channels": 16, "order_l_max": 4, "order_weight": 0.3},
        far={"n_max": 6, "l_max": 4, "n_sparse": 500},
        energy_noise=0.00025, force_noise=0.01, virial_noise=0.05,
    ),
}  # fmt: skip
"""Chosen by cross-validation on the training data of Si, Mo, NbMoTaW and acetylacetone, see benchmarks/README.md. Learning from
nothing takes fewer labels without invariants of three densities: the more a model could be, the less it is sure of."""

MOST_WHOLE = 2
"""Elements whose radial functions have channels of their own: the power spectrum of three is dearer than that of random sums."""


SECOND_SHELL = 1.6
"""A cutoff is so many longest bonds at least: second neighbours in close-packed crystals are at 1.41."""
TAPER_START = 0.5
"""Where the cutoff function begins to fall, in units of the longest bond: near atoms weigh more than those far away. Against
a taper of 1 A at the end, force errors are 4-16 % lower with hundreds of structures, see benchmarks/README.md."""
FARTHER = 1.3
"""Cutoff of the second density in units of that of the first: energies of surfaces gain most, see benchmarks/README.md."""


def default_cutoff(preset: Preset, species: Sequence[int]) -> float:
    """Cutoff in A from the longest bond the elements can make: 4 to 5 A, and where bonds are long so much that the second
    shell is within, up to 6.5 A. Further away there is more to learn than most data tells."""
    bond = longest_bond(species)
    return round(min(max(min(preset.reach * bond, 5.0), SECOND_SHELL * bond, 4.0), 6.5), 1)


def default_cutoff_width(cutoff: float, species: Sequence[int]) -> float:
    """Width in A of a cutoff function that begins to fall at half of the longest bond; see `TAPER_START`."""
    return round(cutoff - min(TAPER_START * longest_bond(species), 0.75 * cutoff), 1)


def default_atom_sigma(species: Sequence[int]) -> float:
    """Width of the atomic Gaussians in A: 0.5 where bonds are long, 0.3 where hydrogen makes short ones."""
    return 0.3 if min(covalent_radii[z] for z in species) < 0.5 else 0.5


def resolve(config: FitConfig, species: Sequence[int]) -> FitConfig:
    """The same configuration with every choice that was left to a preset written out.

    Raises
    ------
    ConfigError
        If a table of n_sparse lacks one of the elements.
    """
    preset = PRESETS[config.preset or "balanced"]
    cutoff = config.cutoff or default_cutoff(preset, species)
    terms = config.terms or _terms(preset, cutoff, species, config.extrapolate)
    for term in terms:
        if isinstance(term, SoapTermSettings):
            for number in species:
                term.n_sparse_of(number)
    return config.model_copy(
        update={
            "preset": None,
            "cutoff": None,
            "terms": tuple(terms),
            "energy_noise": config.energy_noise or preset.energy_noise,
            "force_noise": config.force_noise or preset.force_noise,
            "virial_noise": config.virial_noise or preset.virial_noise,
        }
    )


def _terms(preset: Preset, cutoff: float, species: Sequence[int], extrapolate: bool) -> list[TermSettings]:
    near: dict[str, Any] = {"n_max": preset.n_max, "l_max": preset.l_max, "n_sparse": preset.n_sparse, **preset.order}
    shared = {"atom_sigma": default_atom_sigma(species), "zeta": preset.zeta, **_mixing(preset, species, extrapolate)}
    densities = [(cutoff, near), *([(round(FARTHER * cutoff, 1), preset.far)] if preset.far else [])]
    terms: list[TermSettings] = [
        PairTermSettings(cutoff=cutoff, cutoff_width=default_cutoff_width(cutoff, species), n_sparse=20)
    ]
    for reach, keys in densities:
        n_sparse = min(keys["n_sparse"], preset.n_points // len(species))
        own = {"cutoff": reach, "cutoff_width": default_cutoff_width(reach, species), "n_sparse": n_sparse}
        terms.append(SoapTermSettings(**{**shared, **keys, **own}))
    return terms


def _mixing(preset: Preset, species: Sequence[int], extrapolate: bool) -> dict[str, Any]:
    if len(species) <= MOST_WHOLE and not extrapolate:
        return {}
    embedding = "periodic" if extrapolate or all(map(is_known, species)) else "random"
    return {"mix": "both", "n_channels": preset.n_channels, "symmetric": True, "embedding": embedding}
