"""Layout of a density descriptor for the compiled core: blocks of channels, and features computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .._ext.core import CHANNELS, ContractionTables, Density
from .contractions import Contractions
from .radial_basis import RadialBasis
from .radial_table import RadialTable

Y_00 = 1 / np.sqrt(4 * np.pi)


class DensityParameters(Protocol):
    """Parameters of a density descriptor needed by the core; see `SoapDescriptor`."""

    @property
    def species(self) -> tuple[int, ...]: ...
    @property
    def basis(self) -> RadialBasis: ...
    @property
    def cutoff(self) -> float: ...
    @property
    def central_weight(self) -> float: ...
    @property
    def central_reference_all_species(self) -> bool: ...
    @property
    def constant(self) -> float: ...
    @property
    def table(self) -> RadialTable: ...


@dataclass(frozen=True)
class Blocks:
    """Channels of the expansion, in blocks padded to whole vectors.

    Parameters
    ----------
    group : (n_species,) int array
        Block to which neighbours of each species contribute.
    width : int
        Number of channels of a block, padded.
    knots : (n_knots, 3, l_max + 1, n_radial) array
        Table of radial functions, padded.
    mixing : (n_species, n_radial, width) array or None
        Weights of radial functions in the channels of a single block; None: the radial functions are the channels of every block.
    own : (n_species, n_padded) array
        Expansion of the centre's own density.
    channels : (n_channels,) int array
        Padded index of every channel.
    """

    group: np.ndarray
    width: int
    knots: np.ndarray
    mixing: np.ndarray | None
    own: np.ndarray
    channels: np.ndarray

    @property
    def n_padded(self) -> int:
        return self.own.shape[1]


@dataclass(frozen=True)
class Spectrum:
    """Entries of the power spectrum: degree, the two channels and the factor of each, all (n_entries,)."""

    degree: np.ndarray
    a: np.ndarray
    b: np.ndarray
    coupling: np.ndarray

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, scale: np.ndarray, l_max: int) -> Spectrum:
        """Entries for all degrees of channel pairs (n_pairs,), ordered by pair, then degree."""
        n_l = l_max + 1
        degree = np.tile(np.arange(n_l), len(a))
        return cls(degree, np.repeat(a, n_l), np.repeat(b, n_l), np.repeat(scale, n_l) / np.sqrt(2 * degree + 1))


def element_blocks(descriptor: DensityParameters, knots: np.ndarray, own: np.ndarray) -> Blocks:
    """Make one block per element, all with the same radial functions.

    Parameters
    ----------
    knots : (n_knots, 3, l_max + 1, n_functions) array
        As in `RadialTable`.
    own : (n_functions,) array
        Expansion of the centre's own density before Y_00.
    """
    n_species, n_functions = len(descriptor.species), knots.shape[-1]
    width = _whole(n_functions)
    centres = np.zeros((n_species, n_species, width))
    centres[..., :n_functions] = _own_elements(descriptor)[..., None] * own
    index = (np.arange(n_species)[:, None] * width + np.arange(n_functions)).ravel()
    return Blocks(np.arange(n_species), width, _padded(knots, width), None, centres.reshape(n_species, -1), index)


def mixed_block(descriptor: DensityParameters, knots: np.ndarray, own: np.ndarray, weights: np.ndarray) -> Blocks:
    """Make a single block for all elements, with weights (n_channels, n_species, n_functions) of the radial functions."""
    n_channels, n_species, n_functions = weights.shape
    width = _whole(n_channels)
    n_radial = _whole(n_functions)
    mixing = np.zeros((n_species, n_radial, width))
    mixing[:, :n_functions, :n_channels] = weights.transpose(1, 2, 0)
    centres = np.einsum("cz,qzn,n->cq", _own_elements(descriptor), weights, own)
    return Blocks(
        np.zeros(n_species, int),
        width,
        _padded(knots, n_radial),
        mixing,
        _padded(centres, width),
        np.arange(n_channels),
    )


def make_core(
    descriptor: DensityParameters, blocks: Blocks, spectrum: Spectrum, contractions: Contractions | None
) -> Density:
    """Create the compiled density that computes contractions, followed by entries of the power spectrum."""
    n_groups = blocks.n_padded // blocks.width
    integers = [np.ascontiguousarray(blocks.channels[q], np.int32) for q in (spectrum.a, spectrum.b)]
    return Density(
        group=blocks.group.astype(np.int32), first=np.arange(n_groups, dtype=np.int32) * blocks.width,
        width=np.full(n_groups, blocks.width, np.int32), n_channels=blocks.n_padded, cutoff=descriptor.cutoff,
        grid=descriptor.table.grid, table=np.ascontiguousarray(blocks.knots), mixing=blocks.mixing,
        self_coefficients=blocks.own,
        l_max=descriptor.basis.l_max, degree=spectrum.degree.astype(np.int32), channel_a=integers[0],
        channel_b=integers[1], coupling=spectrum.coupling, constant=descriptor.constant,
        contractions=None if contractions is None else _tables(blocks, contractions),
    )  # fmt: skip


def _tables(blocks: Blocks, contractions: Contractions) -> ContractionTables:
    shares = np.zeros((*contractions.shares.shape[:2], blocks.n_padded))
    shares[..., blocks.channels] = contractions.shares
    return ContractionTables(shares=shares, **contractions.core_arrays())


def _own_elements(descriptor: DensityParameters) -> np.ndarray:
    """Weights (n_species, n_species) of the own density of a centre (first index) in the channels of an element."""
    n_species = len(descriptor.species)
    where = np.ones((n_species, n_species)) if descriptor.central_reference_all_species else np.eye(n_species)
    return where * descriptor.central_weight * Y_00


def _whole(n_channels: int) -> int:
    return -(-n_channels // CHANNELS) * CHANNELS


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    """Pad the last axis with zeros to `width`."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])])
