"""What the parts of a model are: each a Gaussian process of its own with sparse points of its own.

Fits, uncertainties, selections, files, compiled models, reports and checks know a term by these protocols alone. `registry` lists the
kinds of terms; answers that most of them share are in `defaults`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..data.stored import Stored
from ..neighbours import Pairs
from ..structures import LabelledStructure
from .headers import TermHeader
from .kernels import Kernel

Tables = Mapping[str, Any]
"""Parts of a term that were made from data or at random, as arguments of `empty`."""


class CompiledTerm(Protocol):
    """A term with its weights, ready for simulations."""

    def predict(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, *, variances: np.ndarray | None = None
    ) -> None:
        """Add local energies (n_atoms,), pair gradients (n_pairs, 3), and variances (n_atoms,) where asked: the prior's, or those
        of instances if the term was compiled with a regularisation."""

    def core_tables(self) -> dict[str, np.ndarray]:
        """Sections of a model file for the compiled core, see `models.core_file`; ConfigError for a term that C cannot evaluate."""

    def instance_tables(self) -> dict[str, np.ndarray]:
        """The same with the variances of instances, for a term that was compiled with a regularisation."""


@dataclass(frozen=True)
class Residual:
    """What every member adds where the points leave a part of the prior variance unexplained.

    Parameters
    ----------
    slopes : (n_features, N_MEMBERS) array
        Of linear functions of the normalised features; a draw of the prior whose variance is 1.
    prior, expected : float
        Prior variance of a local energy, and the unexplained variance that counts as none, eV^2.
    """

    slopes: np.ndarray
    prior: float
    expected: float


class Whole(Protocol):
    """What the last term of a model needs to do for all terms together, element by element."""

    def triangles(self, number: int) -> list[np.ndarray]:
        """Lower triangles G, over the points of all terms, whose |G k|^2 are wanted."""

    def residual(self, number: int) -> Residual | None:
        """What members add where the points do not explain an environment."""

    def before(self, number: int, covariances: np.ndarray) -> np.ndarray:
        """Covariances (n_atoms, n_other) with the points of the terms before the last, which the triangles begin with."""


class Observer(Protocol):
    """A compiled term that also gives what uncertainties are made of."""

    served: frozenset[int]
    """Elements whose |G k|^2, and what members add, it gives for all terms, if it is the last one."""

    def add(
        self,
        pairs: Pairs,
        energies: np.ndarray,
        pair_gradients: np.ndarray,
        covariances: np.ndarray,
        members: np.ndarray,
        variances: np.ndarray | None,
        seen: np.ndarray,
        explained: np.ndarray,
    ) -> None:
        """Add local energies (n_atoms,), pair gradients (n_pairs, 3), those of the members (n_pairs, 3, N_MEMBERS) in single
        precision and, where asked, prior variances (n_atoms,); write covariances (n_atoms, n) with its points.

        The last term adds |G k|^2 (n_atoms, 2) of the elements that it serves to `explained`, from `seen`, the covariances
        (n_atoms, M) with the points of all terms.
        """

    def add_members(self, pairs: Pairs, members: np.ndarray) -> None:
        """Add the members' pair gradients (n_pairs, 3, N_MEMBERS) alone, without what the points do not explain."""

    def core_tables(self) -> dict[str, np.ndarray]:
        """Sections of a model file for the compiled core, with what the uncertainty needs."""


class Term(Protocol):
    """What a prediction needs."""

    header_type: ClassVar[type[TermHeader]]
    """What a file says of such a term."""
    is_many_body: ClassVar[bool]
    """Whether it compares environments (`ManyBodyTerm`): its points are chosen from those of the data, a part of them represents
    all in uncertainties, and what they explain counts in place of what other terms explain."""

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers of the model."""

    @property
    def cutoff(self) -> float:
        """Reach, A."""

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""

    @property
    def energy_scales(self) -> tuple[float, ...]:
        """Prior standard deviation of every block, eV."""

    @property
    def label(self) -> str:
        """One word for people."""

    @property
    def mixes_elements(self) -> bool | None:
        """Whether it can be `extended`: None for a term that sees no difference between elements and their stand-ins."""

    def columns_of(self, number: int) -> np.ndarray:
        """Sparse points (n,) that atoms of an element have to do with."""

    def prior(self) -> list[np.ndarray]:
        """Blocks of K_mm, eV^2."""

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Variances (n_atoms,) of instances that the sparse points leave, added up as if they were independent, eV^2."""

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3), straight from the formulas."""

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledTerm:
        """The term for simulations, to `tolerance` (eV per atom), where it can in single precision; a regularisation (eV) asks for
        instance variances. `known` are the points of each block with which covariances will be wanted, by default all."""

    def extended(self, stand_ins: Mapping[int, int]) -> Term:
        """The term for elements that the data did not have, and those that stand in for them; see `mixes_elements`."""

    def description(self) -> dict[str, Any]:
        """What `header_type` reads: scalars, "type" and "n_arrays"."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of a file by their names below the term's place in it."""

    @classmethod
    def read(cls, header: Any, stored: Stored, place: str) -> Term:
        """The term that `description` and `arrays` described; ValueError for what cannot be."""


class FittedTerm(Term, Protocol):
    """What a fit needs besides."""

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """Sparse points (n, ...) of each block: blocks know nothing of each other."""

    @property
    def point_bounds(self) -> tuple[float, float]:
        """Between what their numbers lie."""

    @property
    def tables(self) -> Tables:
        """What `empty` needs besides settings to make the same term without points."""

    @property
    def exponent(self) -> float | None:
        """The exponent of its kernel, which tuning may change; None where there is none."""

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        """ValueError for settings in a file whose arrays would have no bounds."""

    @classmethod
    def empty(cls, settings: Any, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None) -> FittedTerm:
        """What settings describe, without sparse points."""

    @classmethod
    def read_tables(cls, settings: Any, species: tuple[int, ...], stored: Stored, place: str) -> Tables:
        """`tables` below a place in a file."""

    def table_arrays(self) -> dict[str, np.ndarray]:
        """`tables` as arrays of a file, by their names below a place."""

    def settled(self, pairs: Sequence[Pairs]) -> FittedTerm:
        """The term, still without points, whose tables follow the environments of these structures where they are to."""

    @property
    def is_settled(self) -> bool:
        """Whether its tables are what they will be."""

    def new_points(self, structures: Sequence[LabelledStructure], settings: Any) -> list[np.ndarray]:
        """Sparse points of each block that follow from structures by themselves; none where environments are chosen."""

    def with_points(self, points: tuple[np.ndarray, ...]) -> FittedTerm:
        """The same term with other sparse points."""

    def with_scales(self, energy_scales: float | tuple[float, ...]) -> FittedTerm:
        """The same term with other energy scales, eV: of every block, or one for all."""

    def with_exponent(self, zeta: float) -> FittedTerm:
        """The same term with another exponent, where it has one."""

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariances (n, m) of sparse points of one block for an energy scale of 1 eV, eV^2."""

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """Add covariances of the energy (M,), forces (3 n_atoms, M) and virial (9, M) with the sparse points."""

    def covariances(self, pairs: Pairs) -> np.ndarray:
        """Covariances (n_atoms, M) of the local energies with the sparse points, eV^2."""

    def variances(self, pairs: Pairs) -> np.ndarray:
        """Prior variances (n_atoms,) of the local energies, eV^2."""

    def scale_of(self, number: int) -> float:
        """Energy scale of an element, eV; the largest where several have to do with it."""

    def representatives(self, most: int, distinct: float) -> tuple[np.ndarray, ...]:
        """Which points of each block represent all: at most so many, each with at least that part of its prior variance left."""

    def strangest(self, number: int) -> float:
        """Part of the prior variance that the points leave at environments emptier than any: an atom alone, and in pairs.

        A kernel that decays slowly is sure of much more than one that decays fast, so what is strange to it is less in numbers.
        """

    def observer(self, compiled: Any, members: np.ndarray, whole: Whole | None) -> Observer:
        """What `compile` made of the whole term, with weights (n, N_MEMBERS) of an ensemble, 1/eV, for these points of it; `whole`
        is given to the last term of a model."""


class Features(Protocol):
    """Features of environments that a kernel compares: normalised, with their pullback."""

    @property
    def species(self) -> tuple[int, ...]: ...

    @property
    def cutoff(self) -> float: ...

    @property
    def n_features(self) -> int: ...

    @property
    def square(self) -> float:
        """p . p of every environment."""

    def compute(self, pairs: Pairs, centres: np.ndarray | None = None) -> np.ndarray:
        """Features (n_centres, n_features); `centres` are indices of atoms, all by default."""

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """Derivatives (n_pairs, 3, n_features) of the features of each pair's centre by the pair's vector, 1/A."""


class ManyBodyTerm(FittedTerm, Protocol):
    """A term that compares environments: one block of points, which are features, for every element."""

    @property
    def features(self) -> Features: ...

    @property
    def kernel(self) -> Kernel: ...

    @property
    def sparse_features(self) -> tuple[np.ndarray, ...]:
        """Features (n_sparse, n_features) of the points of every element."""

    def prior_variance(self, number: int) -> float:
        """Of a local energy of an element, eV^2."""

    def unexplained_by(self, kept: Sequence[np.ndarray]) -> list[float]:
        """Largest part of the prior variance of the points of every element, eV^2, that some of them leave."""
