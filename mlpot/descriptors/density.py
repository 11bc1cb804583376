"""SOAP and related descriptors: a single compiled expansion, in which radial bases and mixings of elements are tables.

Formulas: Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115; DESIGN of the tables
in `radial_table`. Features are ordered as in GAP, channel pairs a >= b, then l; contractions of more densities come before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from .._ext.core import MAX_L, Density, PairView
from ..errors import ConfigError, UnknownSpeciesError
from ..neighbours import Pairs
from ..threads import n_threads
from .array_record import ArrayRecord
from .contractions import Contractions
from .density_core import Blocks, Spectrum, element_blocks, make_core, mixed_block
from .protocol import Descriptor
from .radial_basis import RADIAL_BASES, RadialBasis
from .radial_table import RadialTable, tabulate


def species_indices(numbers: np.ndarray, species: tuple[int, ...]) -> np.ndarray:
    """Index (n_atoms,) into `species` of every atomic number; UnknownSpeciesError if it is not included."""
    unseen = unseen_among(numbers, species)
    if unseen:
        raise UnknownSpeciesError(
            f"the model knows {[chemical_symbols[z] for z in species]} but the structure holds "
            f"{[chemical_symbols[z] for z in unseen]}; fit a model on data with these elements, or one with "
            "extrapolate = true, which guesses from similar elements"
        )
    return _index_by_number(species)[numbers]


def unseen_among(numbers: np.ndarray, species: tuple[int, ...]) -> tuple[int, ...]:
    """Sorted atomic numbers that occur in `numbers` (n_atoms,) but not in `species`."""
    unseen = _index_by_number(species)[numbers] < 0
    return tuple(sorted(set(np.asarray(numbers)[unseen].tolist()))) if unseen.any() else ()


@lru_cache(maxsize=32)
def _index_by_number(species: tuple[int, ...]) -> np.ndarray:
    """Index into `species` for each atomic number, -1 for elements not included."""
    table = np.full(len(chemical_symbols), -1, np.int32)
    table[list(species)] = np.arange(len(species))
    return table


@dataclass(frozen=True, eq=False)
class Reduction(ArrayRecord):
    """Reduced channels c[q] = sum_zn weights[q, z, n] c_full[z, n] in place of one per element and radial function, and the pairs of
    channels in the power spectrum (Darby et al., doi:10.1103/PhysRevLett.131.028001).

    Parameters
    ----------
    weights : (n_channels, n_species, n_max) array
    a, b : (n_pairs,) int arrays
        Pairs of channels in the power spectrum.
    scale : (n_pairs,) array
        Factor of each pair in the power spectrum, before 1 / sqrt(2l + 1).
    """

    weights: np.ndarray
    a: np.ndarray
    b: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class SoapDescriptor(Descriptor):
    """Normalised invariants of the smooth density: its power spectrum, and contractions of more than two densities.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    basis : RadialBasis
        Radial functions, the same for every element.
    central_weight : float
        Weight of the centre's own density.
    central_reference_all_species : bool
        Whether the centre's own density enters the channels of all elements (key of the same name in GAP).
    constant : float
        Appended to the normalised features (GAP's covariance_sigma0).
    reduction : Reduction or None
        Reduced channels; None: one channel for every element and radial function, in all pairs.
    contractions : Contractions or None
        Invariants of three and more densities, the first of the features.

    Raises
    ------
    ConfigError
        If l_max is too large for the core, or species are not sorted.
    """

    species: tuple[int, ...]
    basis: RadialBasis
    central_weight: float = 1.0
    central_reference_all_species: bool = False
    constant: float = 0.0
    reduction: Reduction | None = None
    contractions: Contractions | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.basis.l_max <= MAX_L:
            raise ConfigError(f"l_max = {self.basis.l_max}: must lie between 0 and {MAX_L}")
        if not self.species or list(self.species) != sorted(set(self.species)):
            raise ConfigError(f"species = {self.species}: must be sorted atomic numbers, each once")

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        return self.basis.cutoff

    @property
    def square(self) -> float:
        """Squared norm p . p, the same for every environment."""
        return 1.0 + self.constant**2

    @property
    def n_channels(self) -> int:
        return len(self.species) * self.basis.n_max if self.reduction is None else len(self.reduction.weights)

    @property
    def weights(self) -> np.ndarray:
        """Weights (n_channels, n_species, n_max) of elements and radial functions in every channel."""
        if self.reduction is not None:
            return self.reduction.weights
        return np.eye(self.n_channels).reshape(self.n_channels, len(self.species), -1)

    @property
    def n_contracted(self) -> int:
        """Number of contractions of more than two densities, which are the first features."""
        return 0 if self.contractions is None else self.contractions.n_features

    @property
    def n_features(self) -> int:  # type: ignore[override]
        n_pairs = self.n_channels * (self.n_channels + 1) // 2 if self.reduction is None else len(self.reduction.a)
        return self.n_contracted + n_pairs * (self.basis.l_max + 1) + (self.constant > 0)

    def feature_names(self) -> tuple[str, ...]:
        """See `Descriptor`: the two channels of every entry of the power spectrum, element and radial function, and its degree."""
        if self.reduction is None:
            channels = [f"{chemical_symbols[z]}{n}" for z in self.species for n in range(self.basis.n_max)]
            a, b = np.tril_indices(self.n_channels)
        else:
            channels = [f"q{k}" for k in range(self.n_channels)]
            a, b = self.reduction.a, self.reduction.b
        names = [f"B{k}" for k in range(self.n_contracted)]
        names += [f"{channels[p]} {channels[q]} l={l}" for p, q in zip(a, b, strict=True) for l in range(self.basis.l_max + 1)]
        return (*names, "constant") if self.constant > 0 else tuple(names)

    @cached_property
    def table(self) -> RadialTable:
        """Table of the radial functions for the core."""
        return tabulate(self.basis)

    @cached_property
    def blocks(self) -> Blocks:
        """Channels in the layout of the core."""
        own = self.basis.self_coefficients()
        if self.reduction is None:
            return element_blocks(self, self.table.knots, own)
        return mixed_block(self, self.table.knots, own, self.reduction.weights)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Entries of the power spectrum, ordered by channel pair, then degree."""
        if self.reduction is None:
            a, b = np.tril_indices(self.n_channels)
            return Spectrum.of(a, b, np.where(a == b, 1.0, np.sqrt(2)), self.basis.l_max)
        return Spectrum.of(self.reduction.a, self.reduction.b, self.reduction.scale, self.basis.l_max)

    @cached_property
    def core(self) -> Density:
        """Compiled tables, as used by compiled models."""
        return make_core(self, self.blocks, self.spectrum, self.contractions)

    def view(self, pairs: Pairs) -> PairView:
        """View of the pairs for the core; UnknownSpeciesError for an element that is not in `species`."""
        species = species_indices(pairs.numbers if pairs.elements is None else pairs.elements, self.species)
        return PairView(species, pairs.j, pairs.offsets, pairs.vectors, pairs.distances)

    def expand(self, pairs: Pairs) -> np.ndarray:
        """Expansion coefficients (n_atoms, n_channels, n_harmonics), lm = l^2 + l + m."""
        coefficients = self.core.expand(self.view(pairs), np.arange(pairs.n_atoms, dtype=np.int32))
        return coefficients[:, :, self.blocks.channels].transpose(0, 2, 1)

    def compute(self, pairs: Pairs, centres: np.ndarray | None = None) -> np.ndarray:
        """Features (n_centres, n_features), of norm 1 before the constant; `centres` are indices of atoms, all by default."""
        return self.core.features(self.view(pairs), _centres(pairs, centres), n_threads())

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""
        return self.compute_and_vjp(pairs, cotangent)[1]

    def compute_and_vjp(self, pairs: Pairs, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n_atoms, n_features) as `compute`, and pair gradients (n_pairs, 3), eV/A, as `vjp`, at the cost of the latter."""
        gradients = np.zeros((pairs.n_pairs, 3))
        cotangent = np.ascontiguousarray(cotangent)
        return self.core.features_vjp(self.view(pairs), _centres(pairs, None), cotangent, gradients), gradients

    def state(self) -> dict[str, Any]:
        """See `Descriptor`; tables of channels and contractions are arrays with names such as "reduction_weights"."""
        basis: Any = self.basis
        names = {kind: name for name, kind in RADIAL_BASES.items()}
        tables = {name: table for name in TABLES if (table := getattr(self, name)) is not None}
        return {
            **{name: getattr(self, name) for name in ("central_weight", "central_reference_all_species", "constant")},
            "basis": {"type": names[type(basis)], **_fields(basis)},
            **{f"{name}_{key}": np.asarray(value) for name, table in tables.items() for key, value in _fields(table).items()},
        }

    @classmethod
    def from_state(cls, species: tuple[int, ...], state: Mapping[str, Any]) -> SoapDescriptor:
        """See `Descriptor`."""
        options = dict(state["basis"])
        found: dict[str, Any] = {"basis": RADIAL_BASES[options.pop("type")](**options)}
        for name, kind in TABLES.items():
            own = {key.removeprefix(f"{name}_"): v for key, v in state.items() if key.startswith(f"{name}_")}
            if own:
                found[name] = kind(**{key: v.item() if v.ndim == 0 else v for key, v in own.items()})
        plain = {key: value for key, value in state.items() if not key.startswith(("basis", *(f"{name}_" for name in TABLES)))}
        return cls(species, **plain, **found)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("blocks", "spectrum", "core")}


TABLES: dict[str, Any] = {"reduction": Reduction, "contractions": Contractions}
"""Classes of the tables of a descriptor, by argument."""


def _fields(record: Any) -> dict[str, Any]:
    """Fields of a dataclass that are not None, by name."""
    return {field.name: value for field in fields(record) if (value := getattr(record, field.name)) is not None}


def _centres(pairs: Pairs, centres: np.ndarray | None) -> np.ndarray:
    return np.arange(pairs.n_atoms, dtype=np.int32) if centres is None else np.ascontiguousarray(centres, np.int32)
