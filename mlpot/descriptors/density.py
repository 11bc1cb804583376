"""SOAP and its relatives: one compiled expansion, in which bases and mixings of elements are only tables.

Formulas: Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115; DESIGN of the tables
in `radial_table`. The order of features is GAP's: channel pairs a >= b, then l.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from ase.data import chemical_symbols

from .._ext.density import CHANNELS, MAX_L, Density, PairView
from ..errors import ConfigError, UnknownSpeciesError
from ..neighbours import Pairs
from ..threads import n_threads
from .radial_basis import RadialBasis
from .radial_table import RadialTable, tabulate

Y_00 = 1 / np.sqrt(4 * np.pi)


def species_indices(numbers: np.ndarray, species: tuple[int, ...]) -> np.ndarray:
    """Index (n_atoms,) into `species` of every atomic number; UnknownSpeciesError for any other."""
    indices = _index_by_number(species)[numbers]
    if len(indices) and indices.min() < 0:
        unknown = sorted({chemical_symbols[z] for z in np.asarray(numbers)[indices < 0]})
        raise UnknownSpeciesError(
            f"the model knows {[chemical_symbols[z] for z in species]} but the structure holds {unknown}; "
            "fit a model on data with these elements"
        )
    return indices


@lru_cache(maxsize=32)
def _index_by_number(species: tuple[int, ...]) -> np.ndarray:
    """Place of each element of the periodic table in `species`, -1 for those that are not."""
    table = np.full(len(chemical_symbols), -1, np.int32)
    table[list(species)] = np.arange(len(species))
    return table


@dataclass(frozen=True)
class SoapDescriptor:
    """Normalised power spectrum of the smooth density, one block of channels per element.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    basis : RadialBasis
        Radial functions, the same for every element.
    central_weight : float
        Weight of the centre's own density.
    central_reference_all_species : bool
        Whether the centre's own density enters the channels of all elements (GAP's key of the same name).
    constant : float
        Appended to the normalised features (GAP's covariance_sigma0).

    Raises
    ------
    ConfigError
        For an l_max the core has no room for, or unsorted species.
    """

    species: tuple[int, ...]
    basis: RadialBasis
    central_weight: float = 1.0
    central_reference_all_species: bool = False
    constant: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.basis.l_max <= MAX_L:
            raise ConfigError(f"l_max = {self.basis.l_max}: must lie between 0 and {MAX_L}")
        if not self.species or list(self.species) != sorted(set(self.species)):
            raise ConfigError(f"species = {self.species}: must be sorted atomic numbers, each once")

    @property
    def cutoff(self) -> float:
        return self.basis.cutoff

    @property
    def n_features(self) -> int:
        n_channels = len(self.species) * self.basis.n_max
        return n_channels * (n_channels + 1) // 2 * (self.basis.l_max + 1) + (self.constant > 0)

    @cached_property
    def table(self) -> RadialTable:
        """The radial functions as the core reads them."""
        return tabulate(self.basis)

    @cached_property
    def _channels(self) -> np.ndarray:
        """Padded index of each true channel."""
        return padded_channels(len(self.species), self.basis.n_max)

    @cached_property
    def core(self) -> Density:
        """The compiled tables, for the models that run on them."""
        n_l = self.basis.l_max + 1
        a, b = (np.repeat(index, n_l) for index in np.tril_indices(len(self.species) * self.basis.n_max))
        degree = np.tile(np.arange(n_l), len(a) // n_l)
        return make_core(self, self.table.knots, self.basis.self_coefficients(), degree, a, b)

    def view(self, pairs: Pairs) -> PairView:
        """The pairs as the core reads them; UnknownSpeciesError for an element that is not in `species`."""
        species = species_indices(pairs.numbers, self.species)
        return PairView(species, pairs.j, pairs.offsets, pairs.vectors, pairs.distances)

    def expand(self, pairs: Pairs) -> np.ndarray:
        """Expansion coefficients (n_atoms, n_channels, n_harmonics), lm = l^2 + l + m."""
        coefficients = self.core.expand(self.view(pairs), np.arange(pairs.n_atoms, dtype=np.int32))
        return coefficients[:, :, self._channels].transpose(0, 2, 1)

    def compute(self, pairs: Pairs, centres: np.ndarray | None = None) -> np.ndarray:
        """Features (n_centres, n_features), of norm 1 before the constant; `centres` are indices of atoms, all by default."""
        return self.core.features(self.view(pairs), _centres(pairs, centres), n_threads())

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""
        gradients = np.zeros((pairs.n_pairs, 3))
        self.core.features_vjp(self.view(pairs), _centres(pairs, None), np.ascontiguousarray(cotangent), gradients)
        return gradients

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "core"}


def padded_channels(n_species: int, n_functions: int) -> np.ndarray:
    """Index of every channel (species, function) when each species' block is padded to whole vectors."""
    width = -(-n_functions // CHANNELS) * CHANNELS
    return (np.arange(n_species)[:, None] * width + np.arange(n_functions)).ravel()


def make_core(
    descriptor: SoapDescriptor, knots: np.ndarray, self_coefficients: np.ndarray, degree: np.ndarray, a: np.ndarray,
    b: np.ndarray,
) -> Density:  # fmt: skip
    """The compiled density of a descriptor for given radial functions and entries of the power spectrum.

    Parameters
    ----------
    knots : (n_knots, 3, l_max + 1, n_functions) array
        As in `RadialTable`.
    self_coefficients : (n_functions,) array
        Expansion of the centre's own density before Y_00.
    degree, a, b : (n_invariants,) int arrays
        l and the two channels (species, function) of each entry.
    """
    n_species, n_functions = len(descriptor.species), knots.shape[-1]
    width = -(-n_functions // CHANNELS) * CHANNELS
    padded = np.zeros((*knots.shape[:3], width))
    padded[..., :n_functions] = knots
    own = np.zeros((n_species, n_species, width))
    where = np.ones((n_species, n_species)) if descriptor.central_reference_all_species else np.eye(n_species)
    own[..., :n_functions] = where[..., None] * descriptor.central_weight * Y_00 * self_coefficients
    channels = padded_channels(n_species, n_functions).astype(np.int32)
    blocks = np.arange(n_species, dtype=np.int32)
    return Density(
        group=blocks, first=blocks * width, width=np.full(n_species, width, np.int32), n_channels=n_species * width,
        cutoff=descriptor.cutoff, grid=descriptor.table.grid, n_knots=len(knots), tables=padded.ravel(),
        table_of=np.zeros(n_species, np.int64), self_coefficients=own.reshape(n_species, -1),
        l_max=descriptor.basis.l_max, degree=degree.astype(np.int32), channel_a=channels[a], channel_b=channels[b],
        coupling=np.where(a == b, 1.0, np.sqrt(2)) / np.sqrt(2 * degree + 1), constant=descriptor.constant,
    )  # fmt: skip


def _centres(pairs: Pairs, centres: np.ndarray | None) -> np.ndarray:
    return np.arange(pairs.n_atoms, dtype=np.int32) if centres is None else np.ascontiguousarray(centres, np.int32)
