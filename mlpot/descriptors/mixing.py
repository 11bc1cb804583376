"""Reduction of the channels in the two densities of a power spectrum: summing, grouping or mixing of elements and radial functions.

The power spectrum is a product of two densities; full SOAP resolves elements and radial functions in both. Each option here reduces
the resolution of a density by a matrix over elements times a matrix over radial functions:

    nu_R, nu_S      how many of the two densities resolve radial functions and elements; the others sum over them
    z_map           groups of elements that are treated as one, in the first density or in both
    mix             K random sums over elements, over radial functions, or over both at once
    diagonal_radial products of a radial function with itself only

Generalised kernels: Darby, Kermode, Csanyi, npj Comput. Mater. 8, 166 (2022), doi:10.1038/s41524-022-00847-y.
Mixing: Darby et al., Phys. Rev. Lett. 131, 028001 (2023), doi:10.1103/PhysRevLett.131.028001. With P[a, b] the full
power spectrum of one degree, a feature is v' P w; for independent normal v and w of variance 1 the mean of
(v' P w)(v' Q w) is tr(P Q), the full kernel. The same weights in both densities (v = w) give 2 tr(P Q) + tr P tr Q
instead (Isserlis), a different kernel even for large K; with full coupling (1 + 1/K) tr(P Q) + tr P tr Q / K.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from ..keys.base import Settings
from ..keys.quantities import PURE, Count, Seed
from ..keys.toml_text import toml_value
from .density import Reduction
from .periodic import periodic_sums

NO_ELEMENT = 0
"""Replaces the atomic number in the seed when only radial functions are mixed."""
DIGITS = 10
"""Decimals used to detect proportional channels."""
NEEDS_MIX = ("n_channels", "coupling", "symmetric", "embedding")
"""Keys that have no effect without mixing."""


class Mixing(Settings):
    """Resolution of elements and radial functions in the two densities of a power spectrum; the default is full SOAP."""

    mix: Literal["none", "species", "radial", "both"] = Field(
        "none", description="What random sums replace: nothing, elements, radial functions, or both (GAP: Z_mix, R_mix)."
    )
    n_channels: Count | None = Field(
        None, description="Number K of random sums, with mix; 8 to 32 are usual (GAP: K).", examples=[12]
    )
    coupling: Literal["full", "element-wise"] = Field(
        "full",
        description="Whether every random sum is multiplied with every other, K^2 products per degree, or only with the one of its "
        "own index, K products, which need hundreds of sums (GAP: coupling).",
    )
    symmetric: bool = Field(
        False,
        description="Use the same random sums in both densities (tensor decomposition; GAP: sym_mix) instead of independent ones "
        "(tensor sketch, whose mean kernel is full SOAP).",
    )
    mix_seed: Seed = Field(
        0, description="Seed of the random sums; the sums of an element do not depend on which other elements there are."
    )
    embedding: Literal["random", "periodic", "learned"] = Field(
        "random",
        description="Weights of the elements in the sums: independent, similar for neighbours in the periodic table, or learned from "
        "the training data.",
    )
    embedding_start: Literal["random", "periodic"] | None = Field(
        None, description='Where a learned embedding starts; "periodic" when left out.', examples=["periodic"]
    )
    nu_R: Annotated[int, Field(ge=0, le=2), PURE] = Field(
        2, description="Number of densities that resolve radial functions; the others sum over them."
    )
    nu_S: Annotated[int, Field(ge=0, le=2), PURE] = Field(
        2, description="Number of densities that resolve elements; the others sum over them."
    )
    diagonal_radial: bool = Field(False, description="Multiply a radial function with itself only.")
    z_map: tuple[tuple[str, ...], ...] = Field(
        (),
        description="Groups of elements that count as one; elements in no group count by themselves.",
        examples=[[["Nb", "Ta"], ["Mo", "W"]]],
    )
    z_map_other: tuple[tuple[str, ...], ...] = Field(
        (), description="Groups of the second density, where they differ from z_map.", examples=[[["Nb", "Ta", "Mo", "W"]]]
    )

    @field_validator("z_map", "z_map_other", mode="before")
    @classmethod
    def _are_groups(cls, groups: Any) -> Any:
        lists = (list, tuple)
        if not isinstance(groups, lists) or not all(isinstance(group, lists) for group in groups):
            raise ValueError('must be groups of chemical symbols, such as [["Nb", "Ta"], ["Mo", "W"]]')
        symbols = list(chain.from_iterable(groups))
        unknown = sorted({str(symbol) for symbol in symbols if symbol not in atomic_numbers})
        if unknown:
            raise ValueError(f"{unknown} are not chemical symbols; use symbols such as Si")
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is in two groups; keep it in one")
        if not all(groups):
            raise ValueError("a group is empty; remove it")
        return groups

    @model_validator(mode="after")
    def _agree(self) -> Self:
        checks = (_conflicts_of_embedding, _conflicts_of_mixing, _conflicts_of_densities)
        for problem in chain.from_iterable(check(self) for check in checks):
            raise ValueError(problem)
        return self

    @property
    def mixes_species(self) -> bool:
        """Whether random sums replace elements."""
        return self.mix in ("species", "both")

    @property
    def mixes_radial(self) -> bool:
        """Whether random sums replace radial functions."""
        return self.mix in ("radial", "both")

    @property
    def is_whole(self) -> bool:
        """Whether the power spectrum equals full SOAP: nothing is mixed, summed or grouped."""
        untouched = Mixing.model_fields.keys() - {"mix_seed"}
        return all(getattr(self, key) == Mixing.model_fields[key].default for key in untouched)

    @property
    def starts_periodic(self) -> bool:
        """Whether the weights of elements follow the periodic table, at least before they are learned."""
        start = (self.embedding_start or "periodic") if self.embedding == "learned" else self.embedding
        return start == "periodic" and self.mixes_species


def _conflicts_of_embedding(m: Mixing) -> Iterator[str]:
    """Contradictions between the keys of embeddings."""
    if m.embedding_start is not None and m.embedding != "learned":
        yield (
            f'embedding_start = "{m.embedding_start}" is for embedding = "learned", but embedding = "{m.embedding}"; '
            "remove embedding_start"
        )
    if m.embedding == "learned" and not m.mixes_species:
        yield f'embedding = "learned" needs mixed elements, but mix = "{m.mix}"; set mix to "species" or "both"'


def _conflicts_of_mixing(m: Mixing) -> Iterator[str]:
    """Contradictions between `mix` and the keys that belong to it."""
    mixed = f'mix = "{m.mix}"'
    if m.mix == "none":
        for key in NEEDS_MIX:
            if (value := getattr(m, key)) != Mixing.model_fields[key].default:
                given = toml_value(value)
                yield f'{key} = {given} has no effect with {mixed}; set mix to "species", "radial" or "both"'
    elif m.n_channels is None:
        yield f"{mixed} needs n_channels, the number of random sums; 8 to 32 are usual"
    if m.mix == "radial" and m.embedding != "random":
        yield f'embedding = "{m.embedding}" needs mixed elements, but {mixed}; set mix to "species" or "both"'
    if m.mixes_species and m.nu_S != 2:
        yield f'nu_S = {m.nu_S}: {mixed} leaves no elements to sum over; remove nu_S, or set mix = "radial"'
    if m.mixes_species and (m.z_map or m.z_map_other):
        yield f'z_map: {mixed} leaves no elements to group; remove z_map, or set mix = "radial"'
    if m.mixes_radial and m.nu_R != 2:
        yield f'nu_R = {m.nu_R}: {mixed} leaves no radial functions to sum over; remove nu_R, or set mix = "species"'


def _conflicts_of_densities(m: Mixing) -> Iterator[str]:
    """Contradictions between sums, groups and products of channels."""
    if m.diagonal_radial and (m.mixes_radial or m.nu_R != 2):
        why = f'mix = "{m.mix}"' if m.mixes_radial else f"nu_R = {m.nu_R}"
        yield f"diagonal_radial = true: with {why} the densities have no radial functions to compare; remove one of the two"
    if m.nu_S != 2 and (m.z_map or m.z_map_other):
        yield f"nu_S = {m.nu_S} sums over the groups of z_map; remove nu_S, or use larger groups in z_map_other"
    if m.z_map_other and not m.z_map:
        yield "z_map_other is for the second density; add z_map, the groups of the first"


def make_reduction(mixing: Mixing, species: tuple[int, ...], n_max: int) -> Reduction:
    """Make the channels of a density, and the pairs of channels in the power spectrum.

    Proportional channels are merged, as are pairs that give the same feature; their scales are added in quadrature, so the kernel is
    unchanged.

    Parameters
    ----------
    mixing : Mixing
        Options for grouping, summing and mixing.
    species : tuple of int
        Sorted atomic numbers.
    n_max : int
        Number of radial functions.
    """
    (first, species_1, radial_1), (second, species_2, radial_2) = (
        _channels(mixing, species, n_max, density) for density in (0, 1)
    )
    meet = np.ones((len(first), len(second)), bool)
    if mixing.mix != "none" and mixing.coupling == "element-wise":
        meet &= radial_1[:, None] == radial_2 if mixing.mix == "radial" else species_1[:, None] == species_2
    if mixing.diagonal_radial:
        meet &= radial_1[:, None] == radial_2
    a, b = np.nonzero(meet)
    # the second density's channels come first: sorted by the larger index, pairs are then in GAP's order
    return _merged(np.concatenate([second, first]), len(second) + a, b)


def _channels(
    mixing: Mixing, species: tuple[int, ...], n_max: int, density: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (n, n_species, n_max) of one density; each channel's index among elements and among radial functions."""
    if mixing.mix == "both":
        weights = _random_sums(mixing, density, species, n_max)
        return weights, np.arange(len(weights)), np.zeros(len(weights), int)
    over_species = _over_species(mixing, species, density)
    over_radial = _over_radial(mixing, n_max, density)
    weights = np.einsum("sz,rn->srzn", over_species, over_radial).reshape(-1, len(species), n_max)
    return weights, *np.divmod(np.arange(len(weights)), len(over_radial))


def _over_species(mixing: Mixing, species: tuple[int, ...], density: int) -> np.ndarray:
    """Matrix over elements (n, n_species) for one density."""
    if mixing.mixes_species:
        return _random_sums(mixing, density, species, 1)[:, :, 0]
    if mixing.nu_S <= density:
        return np.ones((1, len(species)))
    symbols = mixing.z_map_other if density and mixing.z_map_other else mixing.z_map
    groups = tuple(tuple(atomic_numbers[symbol] for symbol in group) for group in symbols)
    named = set(chain.from_iterable(groups))
    groups = groups + tuple((z,) for z in species if z not in named)
    members = np.array([[z in group for z in species] for group in groups], float)
    return members[members.any(axis=1)]


def _over_radial(mixing: Mixing, n_max: int, density: int) -> np.ndarray:
    """Matrix over radial functions (n, n_max) for one density."""
    if mixing.mixes_radial:
        return _random_sums(mixing, density, (NO_ELEMENT,), n_max)[:, 0]
    return np.ones((1, n_max)) if mixing.nu_R <= density else np.eye(n_max)


def _random_sums(mixing: Mixing, density: int, numbers: tuple[int, ...], width: int) -> np.ndarray:
    """Weights (n, len(numbers), width) of the random sums: normal, with one random stream per number, or periodic.

    The variance is chosen such that the average kernel of independent mixings equals full SOAP. With full coupling, the kernel
    depends on the weights only through the product W'W of each density: if there are more channels than quantities to mix, W is
    replaced by its triangular factor.
    """
    stream, n_channels = 0 if mixing.symmetric else density, mixing.n_channels
    if n_channels is None:
        raise ValueError("a mixing needs n_channels")
    if mixing.starts_periodic:
        sums = periodic_sums(numbers, n_channels, width, [mixing.mix_seed, stream])
    else:
        shape = (n_channels, width)
        rows = [np.random.default_rng([mixing.mix_seed, number, stream]).standard_normal(shape) for number in numbers]
        sums = np.stack(rows, axis=1)
    size = n_channels ** (-0.25 if mixing.coupling == "element-wise" else -0.5)
    weights = size * sums.reshape(n_channels, -1)
    if mixing.coupling == "full" and len(weights) > weights.shape[1]:
        weights = np.asarray(np.linalg.qr(weights, mode="r"))
    return weights.reshape(-1, len(numbers), width)


def _merged(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> Reduction:
    """The smallest set of channels and pairs with the same kernel as channels (n, n_species, n_max) in the pairs (a, b)."""
    kept, place, ratio = _distinct(weights.reshape(len(weights), -1))
    high, low = np.maximum(place[a], place[b]), np.minimum(place[a], place[b])
    codes, pair = np.unique(high * len(kept) + low, return_inverse=True)
    squares = np.bincount(pair, (ratio[a] * ratio[b]) ** 2)
    return Reduction(weights=weights[kept], a=codes // len(kept), b=codes % len(kept), scale=np.sqrt(squares))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that are not proportional to an earlier one; for every row, its index among these and the ratio to it."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    directions = np.round(rows / largest, DIGITS)
    _, first, inverse = np.unique(directions, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    kept, place = first[order], np.argsort(order)[inverse.ravel()]
    return kept, place, (largest / largest[kept[place]]).ravel()
