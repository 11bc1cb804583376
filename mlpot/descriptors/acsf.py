"""Symmetry functions of Behler and Parrinello as a descriptor; see `acsf_functions` for formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from ase.data import chemical_symbols
from scipy.sparse import block_diag, csr_array

from ..errors import ConfigError, quoted
from ..neighbours import Pairs
from .acsf_functions import SymmetryFunction
from .acsf_pool import METHODS, amp_functions, auto_functions, choose_on
from .acsf_records import read_entry, record_of
from .acsf_sums import FunctionSums
from .cutoff_functions import CutoffFunction
from .mapped_sums import MappedSums
from .summed_descriptor import SummedDescriptor

SETS = {"auto": auto_functions, "amp": amp_functions}
"""Functions that have a name: the pool to choose from (`select`, `ACSF.chosen`), and AMP's default."""


@dataclass(frozen=True)
class Feature:
    """One column: a function of neighbours of certain elements (none: weighted, of all)."""

    function: SymmetryFunction
    neighbours: tuple[int, ...]

    @property
    def elements(self) -> str:
        """Symbols of the neighbours, with a dash between two."""
        return "-".join(chemical_symbols[z] for z in self.neighbours) or "weighted"

    def __str__(self) -> str:
        return f"{self.function.kind} {self.elements}"


@dataclass(frozen=True)
class ACSF(SummedDescriptor):
    """Atom-centred symmetry functions.

    Features are in this order: for every element, by atomic number, the radial functions; the weighted radial ones; for every pair
    of elements (a, b), b <= a, the angular functions; the weighted angular ones. Where any function is for given elements they are
    in the order of the functions, each for all its elements. The element of the centre is not encoded, but in functions for given
    centres.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        A.
    functions : sequence or str
        "auto" or "amp", see `SETS`; or entries such as ["G1"], ["G2", eta, r_s], ["G3", kappa], ["G4", eta, zeta, lambda],
        ["G5", eta, zeta, lambda] (1/A^2, A, 1/A), others as in `acsf_functions.PARAMETERS`, or SymmetryFunction, or its record.
    weighted : bool
        Sum over all elements with atomic numbers as weights, instead of for each element and pair.
    cutoff_function, cutoff_alpha, cutoff_gamma
        As in `CutoffFunction`, of all functions but compact ones and those with a cutoff of their own.
    select : str
        How `settled` chooses features on data: "cur" or "farthest", see `acsf_pool.choose_functions`; "none": all are kept.
    n_functions : int
        Features that are chosen.
    columns : tuple of int or None
        Which of all features are kept, ascending; None: all, or those still to be chosen.

    Raises
    ------
    ConfigError
        For functions that cannot be, that reach beyond the cutoff, that occur twice, or for elements that are not in `species`.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from mlpot.neighbours import find_pairs
    >>> acsf = ACSF((1, 8), 4.0, [["G1"], ["G2", 0.5, 1.0]])
    >>> acsf.compute(find_pairs(molecule("H2O"), 4.0)).shape
    (3, 4)
    """

    species: tuple[int, ...]
    cutoff: float
    functions: Any
    weighted: bool = False
    cutoff_function: str = "cosine"
    cutoff_alpha: float = 0.0
    cutoff_gamma: int = 4
    select: str = "none"
    n_functions: int = 64
    columns: tuple[int, ...] | None = None
    choices: ClassVar[tuple[str, ...]] = ("columns",)

    def __post_init__(self) -> None:
        check_species(self.species)
        if self.select not in METHODS or self.n_functions < 1:
            raise ConfigError(
                f"select = {self.select!r}, n_functions = {self.n_functions}: must be one of {', '.join(METHODS)}, at least 1"
            )
        cutoff = CutoffFunction(self.cutoff, self.cutoff_function, self.cutoff_alpha, self.cutoff_gamma)
        named = isinstance(self.functions, str)
        if not self.functions or (named and self.functions not in SETS):
            raise ConfigError(f'functions = {self.functions!r}: must be "auto", "amp" or a list of functions')
        entries = SETS[self.functions](self.cutoff) if named else self.functions
        parsed = tuple(read_entry(entry, cutoff, self.weighted) for entry in entries)
        for k, function in enumerate(parsed):
            self._check(function, k, parsed)
        object.__setattr__(self, "functions", parsed)
        if self.columns is not None:
            self._check_columns(tuple(self.columns))

    def _check_columns(self, columns: tuple[int, ...]) -> None:
        n = len(self.all_features)
        if not columns or list(columns) != sorted(set(columns)) or not 0 <= columns[0] <= columns[-1] < n:
            raise ConfigError(f"columns = {quoted(columns)}: must be ascending numbers of some of the {n} features")
        object.__setattr__(self, "columns", tuple(int(k) for k in columns))

    def _check(self, function: SymmetryFunction, k: int, parsed: tuple[SymmetryFunction, ...]) -> None:
        if function.factor.end > self.cutoff * (1 + 1e-12):
            raise ConfigError(
                f"functions[{k}] ({function.kind}) reaches {function.factor.end} A, beyond cutoff = {self.cutoff} A; raise cutoff"
            )
        if function in parsed[:k]:
            raise ConfigError(
                f"functions[{k}] ({function.kind}) is the same as functions[{parsed.index(function)}]; remove one"
            )
        unknown = {z for z in (*function.neighbours, function.centre) if z} - set(self.species)
        if unknown:
            raise ConfigError(
                f"functions[{k}] ({function.kind}) is for {[chemical_symbols[z] for z in sorted(unknown)]}, which the data does not "
                f"contain: {[chemical_symbols[z] for z in self.species]}; remove it"
            )

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Meaning of every column (n_features)."""
        every = self.all_features
        return every if self.columns is None else tuple(every[k] for k in self.columns)

    @cached_property
    def all_features(self) -> tuple[Feature, ...]:
        """The same before any choice."""
        if any(f.neighbours or f.centre for f in self.functions):
            return tuple(Feature(f, e) for f in self.functions for e in self._elements(f))
        found = []
        for radial in (True, False):
            plain = [f for f in self.functions if f.is_radial == radial and not f.weighted]
            found += [Feature(f, e) for e in (self._elements(plain[0]) if plain else []) for f in plain]
            found += [Feature(f, ()) for f in self.functions if f.is_radial == radial and f.weighted]
        return tuple(found)

    def _elements(self, function: SymmetryFunction) -> list[tuple[int, ...]]:
        """Neighbours that a function is computed for, in turn."""
        if function.weighted or function.neighbours:
            return [tuple(sorted(function.neighbours, reverse=True))]
        if function.is_radial:
            return [(z,) for z in self.species]
        return [(a, b) for n, a in enumerate(self.species) for b in self.species[: n + 1]]

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return len(self.features)

    def feature_names(self) -> tuple[str, ...]:
        """See `Descriptor`: kind, parameters and elements."""
        return tuple(f"{feature.function} {feature.elements}" for feature in self.features)

    @cached_property
    def parts(self) -> tuple[FunctionSums, ...]:
        """The compiled sums: of functions of elements, of weighted functions; those that are there."""
        bare = dict.fromkeys(replace(f.function, neighbours=(), centre=0) for f in self.features)
        parts = (tuple(f for f in bare if f.weighted == weighted) for weighted in (False, True))
        found = tuple(FunctionSums(part, self.species) for part in parts if part)
        for sums in found:
            sums.tabulate()
        return found

    @cached_property
    def sums(self) -> MappedSums:
        """See `SummedDescriptor`."""
        centres = np.array([feature.function.centre for feature in self.features])
        mask = None
        if centres.any():
            mask = np.where(centres == 0, 1.0, np.array(self.species)[:, None] == centres)
        matrix = block_diag([part.linear for part in self.parts], format="csr")[self.places]
        return MappedSums([source for part in self.parts for source in part.sources], csr_array(matrix), mask)

    @cached_property
    def places(self) -> np.ndarray:
        """Index (n_features,) of every feature among all values of the parts."""
        where = {}
        begin = 0
        for sums in self.parts:
            for functions, (n_blocks, n) in zip((sums.radial, sums.angular), sums.shapes, strict=True):
                for k, f in enumerate(functions):
                    where[f] = (begin + k, n)
                begin += n_blocks * n
        return np.array(
            [
                self._place(feature, *where[replace(feature.function, neighbours=(), centre=0)])
                for feature in self.features
            ]
        )

    def _place(self, feature: Feature, first: int, apart: int) -> int:
        index = [self.species.index(z) for z in feature.neighbours]
        block = index[0] * (index[0] + 1) // 2 + index[1] if len(index) == 2 else sum(index)
        return first + block * apart

    def chosen(self, columns: Sequence[int]) -> ACSF:
        """The descriptor of some of these features only, in ascending order of their columns."""
        own = range(len(self.all_features)) if self.columns is None else self.columns
        return replace(self, columns=tuple(own[k] for k in sorted({int(k) for k in columns})))

    @property
    def is_settled(self) -> bool:
        """See `Descriptor`."""
        return self.select == "none" or self.columns is not None

    def settled(self, structures: Sequence[Pairs]) -> ACSF:
        """See `Descriptor`: with the features that represent the others on these environments."""
        return self if self.is_settled else self.chosen(choose_on(self, structures, self.n_functions, self.select).tolist())

    def state(self) -> dict[str, Any]:
        """See `Descriptor`: every function is written out."""
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "species"}
        return {**kept, "functions": [record_of(f) for f in self.functions]}


def check_species(species: tuple[int, ...]) -> None:
    """ConfigError unless `species` are sorted atomic numbers, each once."""
    if not species or list(species) != sorted(set(species)) or not all(0 < z < len(chemical_symbols) for z in species):
        raise ConfigError(f"species = {species}: must be sorted atomic numbers, each once")
