"""Bispectrum of the neighbour density on the three-sphere: the descriptor of SNAP, and the one of AMP.

Bartok, Payne, Kondor, Csanyi, Phys. Rev. Lett. 104, 136403 (2010), doi:10.1103/PhysRevLett.104.136403; Thompson et al., J. Comput.
Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018; element channels: Cusentino, Wood, Thompson, J. Phys. Chem. A 124, 5456 (2020),
doi:10.1021/acs.jpca.0c02450; AMP: Khorshidi, Peterson, Comput. Phys. Commun. 207, 310 (2016), doi:10.1016/j.cpc.2016.05.010:

    U^j_{mm'}  = w_self delta_{mm'} + sum_j w_j f_c(r_j) D^j_{mm'}(angle 2 omega_j about r_j)
    B_{j1 j2 j} = sum C(j1 m1, j2 m2; j m) C(j1 m1', j2 m2'; j m') U^j1_{m1 m1'} U^j2_{m2 m2'} conj(U^j_{mm'})
    SNAP: omega = rfac0 pi (r - rmin0) / (cutoff - rmin0),  f_c = [1 + cos(pi (r - rmin0) / (cutoff - rmin0))] / 2
    AMP:  omega = arcsin(r / cutoff) / 2,  w_self = 0,  j1 = j2 and whole j only
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.data import chemical_symbols

from .._ext.core import SphereBispectrum
from ..errors import ConfigError, StructureError
from ..neighbours import Pairs
from ..threads import n_threads
from .acsf import check_species
from .cutoff_functions import CutoffFunction
from .mapped_sums import MappedSums
from .neighbour_sums import neighbourhood
from .sphere_couplings import ProductTables, Triple, amp_triples, snap_triples
from .summed_descriptor import SummedDescriptor

MOST_DEGREES = 14
"""Largest two_j_max: the cost of products grows with its seventh power."""
MOST_CHANNELS = 8
LARGEST_WEIGHT = 1e6
ANGLES = ("snap", "amp")


@dataclass(frozen=True)
class Bispectrum(SummedDescriptor):
    """Bispectrum components, SNAP's or AMP's.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        Largest distance of neighbours, A (SNAP: rcutfac times twice the largest radius).
    two_j_max : int
        Twice the highest j, at most `MOST_DEGREES`: 2, 5, 8, 14, 20, 30, 40, 55 components for 1 to 8.
    rfac0 : float
        Part of half a turn, pi, at which omega is at the cutoff; below 1.
    rmin0 : float
        Distance at which omega is 0, A; atoms must not come closer.
    radii : sequence of float or None
        Relative sizes of the elements: neighbours i and j count within cutoff (R_i + R_j) / (2 max R). None: all equal.
    weights : sequence of float or None
        w of every element; None: 1 ("snap"), the atomic number ("amp").
    self_weight : float
        w_self of "snap".
    angle : str
        "snap" or "amp".
    chem : bool
        One density for every element, and components of every three of them (SNAP: chemflag).
    wselfall : bool
        With chem, the centre counts in the densities of all elements, not only of its own (SNAP: wselfallflag).
    bnorm : bool
        Components divided by 2 j + 1 (SNAP: bnormflag).
    bzero : bool
        Components minus the components of a lone atom (SNAP: bzeroflag).

    Raises
    ------
    ConfigError
        For parameters out of range, that do not fit the species, or that AMP's bispectrum does not have.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from mlpot.neighbours import find_pairs
    >>> Bispectrum((1, 8), 3.0, 4).compute(find_pairs(molecule("H2O"), 3.0)).shape
    (3, 14)
    """

    species: tuple[int, ...]
    cutoff: float
    two_j_max: int = 8
    rfac0: float = 0.99363
    rmin0: float = 0.0
    radii: Sequence[float] | None = None
    weights: Sequence[float] | None = None
    self_weight: float = 1.0
    angle: str = "snap"
    chem: bool = False
    wselfall: bool = False
    bnorm: bool = False
    bzero: bool = False

    def __post_init__(self) -> None:
        check_species(self.species)
        CutoffFunction(self.cutoff)
        if self.angle not in ANGLES:
            raise ConfigError(f"angle = {self.angle!r}: must be one of {', '.join(ANGLES)}")
        if not 0 <= self.two_j_max <= MOST_DEGREES:
            raise ConfigError(
                f"two_j_max = {self.two_j_max}: must lie between 0 and {MOST_DEGREES}; the cost grows with its seventh power"
            )
        for name in ("radii", "weights"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._per_element(name))
        self._check_angle()
        if self.chem and len(self.species) > MOST_CHANNELS:
            raise ConfigError(
                f"chem = true: {len(self.species)} elements; the number of components grows with their third power, at most "
                f"{MOST_CHANNELS} are possible; set chem = false"
            )
        if self.wselfall and not self.chem:
            raise ConfigError("wselfall = true: is for chem = true; remove it")

    def _per_element(self, name: str) -> tuple[float, ...]:
        values = tuple(float(value) for value in getattr(self, name))
        lowest = 0.0 if name == "radii" else -LARGEST_WEIGHT
        fit = all(math.isfinite(v) and lowest <= v <= LARGEST_WEIGHT and (v > 0 or name == "weights") for v in values)
        if len(values) != len(self.species) or not fit:
            kind = "positive" if name == "radii" else "finite"
            raise ConfigError(
                f"{name} = {list(values)}: must be {kind} numbers of at most {LARGEST_WEIGHT:g}, one for each of "
                f"{len(self.species)} elements"
            )
        return values

    def _check_angle(self) -> None:
        if self.angle == "amp":
            for name in ("rfac0", "rmin0", "radii", "self_weight", "chem", "wselfall", "bnorm", "bzero"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise ConfigError(f'{name} = {getattr(self, name)}: is for angle = "snap"; remove it')
            return
        if not 0 < self.rfac0 < 1:
            raise ConfigError(
                f"rfac0 = {self.rfac0}: must lie between 0 and 1, exclusive: the angle at the cutoff must stay below half a turn"
            )
        shortest = self.cutoffs.min()
        if not 0 <= self.rmin0 < shortest:
            raise ConfigError(f"rmin0 = {self.rmin0}: must be at least 0 and below the shortest cutoff, {shortest:g} A")
        if not abs(self.self_weight) <= LARGEST_WEIGHT:
            raise ConfigError(f"self_weight = {self.self_weight}: must be a finite number of at most {LARGEST_WEIGHT:g}")

    @cached_property
    def cutoffs(self) -> np.ndarray:
        """Cutoff (n_species, n_species) of every pair of elements, A."""
        radii = np.array(self.radii or (1.0,) * len(self.species))
        return self.cutoff * np.add.outer(radii, radii) / (2 * radii.max())

    @cached_property
    def channels(self) -> np.ndarray:
        """Density (n_species,) to which neighbours of each element belong."""
        return np.arange(len(self.species)) if self.chem else np.zeros(len(self.species), int)

    @cached_property
    def self_weights(self) -> np.ndarray:
        """Weight (n_species, n_channels) of a centre of each element in every density."""
        own = 0.0 if self.angle == "amp" else self.self_weight
        if self.wselfall or not self.chem:
            return np.full((len(self.species), self.channels.max() + 1), own)
        return own * np.eye(len(self.species))

    @cached_property
    def triples(self) -> tuple[Triple, ...]:
        """Densities of every feature."""
        if self.angle == "amp":
            return amp_triples(self.two_j_max)
        return snap_triples(self.two_j_max, int(self.channels.max()) + 1)

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return len(self.triples)

    @cached_property
    def lone(self) -> np.ndarray:
        """Features (n_species, n_features) of a lone atom of every element."""
        degree = np.array([t[0] + 1 for *_, t in self.triples])
        own = [self.self_weights[:, [triple[k][1] for triple in self.triples]] for k in range(3)]
        return own[0] * own[1] * own[2] * (1 if self.bnorm else degree)

    @cached_property
    def sphere(self) -> SphereBispectrum:
        """The compiled form."""
        given = self.weights or (self.species if self.angle == "amp" else (1.0,) * len(self.species))
        scale = np.array([1 / (t[0] + 1) if self.bnorm else 1.0 for *_, t in self.triples])
        tables = ProductTables(self.two_j_max, int(self.channels.max()) + 1, self.triples, scale)
        return SphereBispectrum(
            two_j_max=self.two_j_max, half_angle=self.angle == "amp", steepness=self.rfac0 * math.pi, start=self.rmin0,
            channel=self.channels.astype(np.int32), weights=np.array(given, float), cutoffs=self.cutoffs,
            self_weights=self.self_weights, **tables.core_arrays(),
        )  # fmt: skip

    @cached_property
    def sums(self) -> MappedSums:
        """See `SummedDescriptor`."""
        return MappedSums([self.sphere], shift=-self.lone if self.bzero else None)

    def check(self, pairs: Pairs) -> None:
        """Raise StructureError for atoms closer than `rmin0`."""
        if self.rmin0 > 0 and pairs.n_pairs and pairs.distances.min() < self.rmin0:
            k = int(pairs.distances.argmin())
            symbols = [chemical_symbols[pairs.numbers[atom]] for atom in (pairs.i[k], pairs.j[k])]
            raise StructureError(
                f"atoms {pairs.i[k]} and {pairs.j[k]} ({'-'.join(symbols)}) are {pairs.distances[k]:.3f} A apart, closer than "
                f"rmin0 = {self.rmin0} A, where the bispectrum is not defined; set a smaller rmin0"
            )

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """See `Descriptor`."""
        found = np.zeros((pairs.n_pairs, 3, self.n_features))
        self.sphere.fill_jacobian(neighbourhood(pairs, self.species), found, n_threads())
        return found
