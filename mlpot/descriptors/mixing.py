"""Fewer channels in the two densities of a power spectrum: species or radial functions summed up, grouped, or mixed.

The power spectrum multiplies two densities; full SOAP resolves elements and radial functions in both. Each option here
says what they still resolve, by a matrix over elements times a matrix over radial functions:

    nu_R, nu_S      how many of the two densities resolve radial functions and elements; the others sum over them
    z_map           groups of elements that count as one, in the first density or in both
    mix             K random sums over elements, over radial functions, or over both at once
    diagonal_radial a radial function meets itself only

Generalised kernels: Darby, Kermode, Csanyi, npj Comput. Mater. 8, 166 (2022), doi:10.1038/s41524-022-00847-y.
Mixing: Darby et al., Phys. Rev. Lett. 131, 028001 (2023), doi:10.1103/PhysRevLett.131.028001. With P[a, b] the full
power spectrum of one degree, a feature is v' P w; for independent normal v and w of variance 1 the mean of
(v' P w)(v' Q w) is tr(P Q), the full kernel. The same weights in both densities (v = w) give 2 tr(P Q) + tr P tr Q
instead (Isserlis), a kernel of its own however large K is; with full coupling (1 + 1/K) tr(P Q) + tr P tr Q / K.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import numpy as np
from ase.data import chemical_symbols

from ..errors import ConfigError
from .density import Reduction
from .periodic import periodic_sums

Mix = Literal["none", "species", "radial", "both"]
Coupling = Literal["element-wise", "full"]
Embedding = Literal["random", "periodic"]
Groups = tuple[tuple[int, ...], ...]

NO_ELEMENT = 0
"""Stands for an atomic number in the seed of what mixes radial functions only."""
DIGITS = 10
"""Decimals to which proportional channels agree."""


MIXING_DEFAULTS = {"n_channels": None, "coupling": "full", "symmetric": False, "embedding": "random"}
"""Options that mean nothing unless something is mixed."""


@dataclass(frozen=True)
class Mixing:
    """What the two densities of a power spectrum resolve; the default is everything, full SOAP.

    Parameters
    ----------
    mix : "none" | "species" | "radial" | "both"
        What is mixed at random into `n_channels` (GAP: Z_mix, R_mix).
    n_channels : int or None
        Number of random sums, K; needed where something is mixed, and only there.
    coupling : "element-wise" | "full"
        Whether a mixed channel meets only the one of its index in the other density (GAP: coupling=F) or all of them:
        K or K^2 features for each degree. The kernel's error goes with the number of features, so all of them need far
        fewer channels (`benchmarks/mixing.py`).
    symmetric : bool
        The same mixing in both densities (tensor decomposition, GAP: sym_mix), or an independent one in each (tensor
        sketch), whose kernel equals full SOAP's on average.
    mix_seed : int
        Of the weights. Those of an element depend on it and on the atomic number, not on the other elements.
    embedding : "random" | "periodic"
        Whether elements have independent weights, or similar ones where they are neighbours in the periodic table.
    nu_R, nu_S : 0 | 1 | 2
        How many of the two densities resolve radial functions; elements.
    diagonal_radial : bool
        Whether radial functions of unequal index do not meet.
    z_map, z_map_other : tuple of tuples of int
        Atomic numbers that count as one element in both densities, or in the second where the two differ. An element
        that is not named stays by itself.

    Raises
    ------
    ConfigError
        For options that mean nothing, or nothing together.
    """

    mix: Mix = "none"
    n_channels: int | None = None
    coupling: Coupling = "full"
    symmetric: bool = False
    mix_seed: int = 0
    embedding: Embedding = "random"
    nu_R: int = 2
    nu_S: int = 2
    diagonal_radial: bool = False
    z_map: Groups = ()
    z_map_other: Groups = ()

    def __post_init__(self) -> None:
        checks = (_impossible_values, _conflicts_of_mixing, _conflicts_of_densities)
        for problem in chain.from_iterable(check(self) for check in checks):
            raise ConfigError(problem)

    @property
    def mixes_species(self) -> bool:
        return self.mix in ("species", "both")

    @property
    def mixes_radial(self) -> bool:
        return self.mix in ("radial", "both")


def _impossible_values(m: Mixing) -> Iterator[str]:
    """What is wrong with single options."""
    for key, known in (("mix", Mix), ("coupling", Coupling), ("embedding", Embedding)):
        if getattr(m, key) not in get_args(known):
            yield f"{key} = {getattr(m, key)!r}: must be one of {', '.join(get_args(known))}"
    for key in ("nu_R", "nu_S"):
        if getattr(m, key) not in (0, 1, 2):
            yield f"{key} = {getattr(m, key)}: must be 0, 1 or 2, the number of densities that it is about"
    if m.n_channels is not None and m.n_channels < 1:
        yield f"n_channels = {m.n_channels}: must be positive"
    if m.mix_seed < 0:
        yield f"mix_seed = {m.mix_seed}: must not be negative"
    for key in ("z_map", "z_map_other"):
        named = list(chain.from_iterable(getattr(m, key)))
        twice = sorted({chemical_symbols[z] for z in named if named.count(z) > 1})
        if twice:
            yield f"{key}: {', '.join(twice)} stands in two groups; leave it in one"
        if not all(getattr(m, key)):
            yield f"{key}: a group is empty; leave it out"


def _conflicts_of_mixing(m: Mixing) -> Iterator[str]:
    """What is wrong with what is mixed and the options beside it."""
    mixed = f'mix = "{m.mix}"'
    if m.mix == "none":
        for key, default in MIXING_DEFAULTS.items():
            if getattr(m, key) != default:
                remedy = 'set mix to "species", "radial" or "both"'
                yield f"{key} = {getattr(m, key)}: says how to mix, but {mixed}; {remedy}"
    elif m.n_channels is None:
        yield f"{mixed}: needs n_channels, the number of random sums; 8 to 32 are usual"
    if m.mix == "radial" and m.embedding != "random":
        yield f'embedding = "{m.embedding}": {mixed} does not mix elements; set mix to "species" or "both"'
    if m.mixes_species and m.nu_S != 2:
        yield f'nu_S = {m.nu_S}: {mixed} leaves no elements to sum over; leave nu_S out, or mix "radial" only'
    if m.mixes_species and (m.z_map or m.z_map_other):
        yield f'z_map: {mixed} leaves no elements to group; leave z_map out, or mix "radial" only'
    if m.mixes_radial and m.nu_R != 2:
        yield f'nu_R = {m.nu_R}: {mixed} leaves no radial functions to sum over; leave nu_R out, or mix "species" only'


def _conflicts_of_densities(m: Mixing) -> Iterator[str]:
    """What is wrong with what the densities resolve and which channels meet."""
    if m.diagonal_radial and (m.mixes_radial or m.nu_R != 2):
        why = f'mix = "{m.mix}"' if m.mixes_radial else f"nu_R = {m.nu_R}"
        yield f"diagonal_radial = True: with {why} the densities have no radial functions to compare; leave one out"
    if m.nu_S != 2 and (m.z_map or m.z_map_other):
        yield f"nu_S = {m.nu_S}: sums over what z_map groups; leave nu_S out, or group more with z_map_other"
    if m.z_map_other and not m.z_map:
        yield "z_map_other: is the second of two; add z_map, the groups of the first"


def make_reduction(mixing: Mixing, species: tuple[int, ...], n_max: int) -> Reduction:
    """Channels of a density, and the pairs of them that enter the power spectrum.

    Proportional channels become one, and so do pairs that give the same feature: their scales add up in squares, so
    that the kernel stays what it was.

    Parameters
    ----------
    mixing : Mixing
        What to resolve, group, sum and mix.
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
    """What one density resolves of the elements, (n, n_species)."""
    if mixing.mixes_species:
        return _random_sums(mixing, density, species, 1)[:, :, 0]
    if mixing.nu_S <= density:
        return np.ones((1, len(species)))
    groups = mixing.z_map_other if density and mixing.z_map_other else mixing.z_map
    named = set(chain.from_iterable(groups))
    groups = groups + tuple((z,) for z in species if z not in named)
    members = np.array([[z in group for z in species] for group in groups], float)
    return members[members.any(axis=1)]


def _over_radial(mixing: Mixing, n_max: int, density: int) -> np.ndarray:
    """What one density resolves of the radial functions, (n, n_max)."""
    if mixing.mixes_radial:
        return _random_sums(mixing, density, (NO_ELEMENT,), n_max)[:, 0]
    return np.ones((1, n_max)) if mixing.nu_R <= density else np.eye(n_max)


def _random_sums(mixing: Mixing, density: int, numbers: tuple[int, ...], width: int) -> np.ndarray:
    """Weights (n, len(numbers), width) of the random sums: normal, each number's from a stream of its own, or periodic ones.

    Their variance makes the kernel of independent mixings equal to full SOAP's on average. Where every channel meets
    every other, the kernel knows the weights only through the product W'W of each density: when there are more channels
    than there is to mix, the triangular factor of W stands for W.
    """
    stream, n_channels = 0 if mixing.symmetric else density, mixing.n_channels
    if n_channels is None:
        raise ValueError("a mixing needs n_channels")
    if mixing.embedding == "periodic" and mixing.mixes_species:
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
    """The fewest channels and pairs with the kernel of channels (n, n_species, n_max) that meet as (a, b) say."""
    kept, place, ratio = _distinct(weights.reshape(len(weights), -1))
    high, low = np.maximum(place[a], place[b]), np.minimum(place[a], place[b])
    codes, pair = np.unique(high * len(kept) + low, return_inverse=True)
    squares = np.bincount(pair, (ratio[a] * ratio[b]) ** 2)
    return Reduction(weights=weights[kept], a=codes // len(kept), b=codes % len(kept), scale=np.sqrt(squares))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that are not proportional to an earlier one; the place among these and the ratio of every row."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    directions = np.round(rows / largest, DIGITS)
    _, first, inverse = np.unique(directions, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    kept, place = first[order], np.argsort(order)[inverse.ravel()]
    return kept, place, (largest / largest[kept[place]]).ravel()
