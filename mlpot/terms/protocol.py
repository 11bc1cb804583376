"""Protocols of terms: the parts of a model, each an independent Gaussian process with its own sparse points.

Fits, uncertainties, selections, files, compiled models, reports and checks use terms only through these protocols. `registry` lists
the kinds of terms; `defaults` contains implementations shared by most of them.
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
"""Parts of a term that were learned from data or drawn at random, as arguments of `empty`."""


class CompiledTerm(Protocol):
    """A term with fixed weights, compiled for simulations."""

    @property
    def in_core(self) -> bool:
        """Whether the compiled core evaluates it from its tables; otherwise it is a `PythonTerm`."""

    def core_tables(self) -> dict[str, np.ndarray]:
        """Tables for the compiled core, see `models.core_file`; ConfigError if it cannot evaluate the term."""

    def instance_tables(self) -> dict[str, np.ndarray]:
        """As `core_tables`, with the tables for instance variances, for a term compiled with a regularisation."""


class PythonTerm(CompiledTerm, Protocol):
    """A compiled term that the core does not know."""

    def predict(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, *, variances: np.ndarray | None = None
    ) -> None:
        """Add local energies (n_atoms,), pair gradients (n_pairs, 3), and on request variances (n_atoms,).

        These are prior variances, or instance variances if the term was compiled with a regularisation.
        """


@dataclass(frozen=True)
class Residual:
    """Contribution of the unexplained part of the prior variance to each member of the ensemble.

    Parameters
    ----------
    slopes : (n_features, N_MEMBERS) array
        Slopes of linear functions of the normalised features: draws of the prior with unit variance.
    prior, expected : float
        Prior variance of a local energy, and the unexplained variance that is ignored, eV^2.
    """

    slopes: np.ndarray
    prior: float
    expected: float


class Whole(Protocol):
    """Data of all terms, by element, with which the last term computes the variances of the whole model."""

    def triangles(self, number: int) -> list[np.ndarray]:
        """Lower triangles G over the points of all terms; the variances needed are |G k|^2."""

    def residual(self, number: int) -> Residual | None:
        """Contribution of the unexplained variance to the members; None without a many-body term last."""

    def before(self, number: int, covariances: np.ndarray) -> np.ndarray:
        """Covariances (n_atoms, n_other) with the points of all terms but the last: the leading columns of the triangles."""


@dataclass(frozen=True)
class Observed:
    """Arrays that observers in Python fill.

    Parameters
    ----------
    energies : (n_atoms,) array
        Local energies, eV; added to.
    pair_gradients : (n_pairs, 3) array
        eV/A; added to.
    covariances : (n_atoms, n) array
        With the observer's own points, eV^2; written.
    members : (n_pairs, 3, N_MEMBERS) array
        Pair gradients of the members in single precision, eV/A; added to.
    variances : (n_atoms,) array or None
        Prior variances, eV^2; added to where the term's prior counts.
    seen : (n_atoms, M) array
        Covariances with the points of all terms, of which `covariances` is a part; read by the last term.
    explained : (n_atoms, 2) array
        |G k|^2; the last term adds the elements that it serves.
    """

    energies: np.ndarray
    pair_gradients: np.ndarray
    covariances: np.ndarray
    members: np.ndarray
    variances: np.ndarray | None
    seen: np.ndarray
    explained: np.ndarray


class Observer(Protocol):
    """A compiled term that also computes the covariances and member gradients needed for uncertainties."""

    in_core: ClassVar[bool]
    """Whether the compiled core evaluates it from its tables; otherwise it is a `PythonObserver`."""

    @property
    def served(self) -> frozenset[int]:
        """Elements for which it computes |G k|^2 and the residuals of the members for all terms, if it is the last term."""

    def core_tables(self) -> dict[str, np.ndarray]:
        """Tables for the compiled core, including those for the uncertainty; ConfigError if it cannot evaluate the term."""


class PythonObserver(Observer, Protocol):
    """An observer that the core does not know."""

    def add(self, pairs: Pairs, into: Observed) -> None:
        """Add energies, gradients and variances to `into`, and write the covariances with the term's points."""

    def add_members(self, pairs: Pairs, members: np.ndarray) -> None:
        """Add only the members' pair gradients (n_pairs, 3, N_MEMBERS), without the unexplained part."""


class Term(Protocol):
    """Interface of a term for predictions."""

    header_type: ClassVar[type[TermHeader]]
    """Header of the term in a file."""
    is_many_body: ClassVar[bool]
    """Whether it compares environments (`ManyBodyTerm`). Sparse points of such terms are selected from the data, a subset of them
    represents all in uncertainties, and only their explained variance counts."""
    can_be_cut: ClassVar[bool]
    """Whether `compile` takes an argument `cut` (`soap_cut.Cut`), up to which forces may change."""
    has_prior: ClassVar[bool]
    """Whether its local energies have a prior variance; an imported model with a term that has none states no uncertainty."""

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
        """Readable name, one word."""

    @property
    def mixes_elements(self) -> bool | None:
        """Whether it can be `extended`; None for a term in which elements are simply replaced by their stand-ins."""

    def columns_of(self, number: int) -> np.ndarray:
        """Columns (n,) of the sparse points with which atoms of an element have covariances."""

    def prior(self) -> list[np.ndarray]:
        """Blocks of K_mm, eV^2."""

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Unexplained variances (n_atoms,) of instances, summed as if they were independent, eV^2."""

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3), evaluated directly from the formulas."""

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledTerm:
        """Compile the term for simulations, to a tolerance (eV per atom), in single precision where possible.

        With a regularisation (eV), instance variances are computed. `known` selects the points of each block for which covariances
        will be needed, by default all.
        """

    def extended(self, stand_ins: Mapping[int, int]) -> Term:
        """Extend the term to elements absent from the data; `stand_ins` maps each to a known element. See `mixes_elements`."""

    def description(self) -> dict[str, Any]:
        """Content of the header (`header_type`): scalars, "type" and "n_arrays"."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays for a file, by name relative to the path of the term."""

    @classmethod
    def read(cls, header: Any, stored: Stored, place: str) -> Term:
        """Read a term written with `description` and `arrays`; ValueError for invalid content."""


class FittedTerm(Term, Protocol):
    """Additional interface of a term for fits."""

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """Sparse points (n, ...) of each block; blocks are independent of each other."""

    @property
    def point_bounds(self) -> tuple[float, float]:
        """Lower and upper bound of the numbers in `points`."""

    @property
    def tables(self) -> Tables:
        """Argument of `empty`, besides settings, that recreates the same term without points."""

    @property
    def exponent(self) -> float | None:
        """Exponent of the kernel, which tuning may change; None if it has none."""

    @classmethod
    def check_settings(cls, settings: Any) -> None:
        """Raise ValueError for settings that would lead to arrays of unbounded size."""

    @classmethod
    def empty(cls, settings: Any, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None) -> FittedTerm:
        """Create the term described by settings, without sparse points."""

    @classmethod
    def read_tables(cls, settings: Any, species: tuple[int, ...], stored: Stored, place: str) -> Tables:
        """Read `tables` below a path in a file."""

    def table_arrays(self) -> dict[str, np.ndarray]:
        """`tables` as arrays for a file, by name relative to a path."""

    def settled(self, pairs: Sequence[Pairs]) -> FittedTerm:
        """The term, still without points, with tables learned from these structures if its settings ask for this."""

    @property
    def is_settled(self) -> bool:
        """Whether its tables are final."""

    def new_points(self, structures: Sequence[LabelledStructure], settings: Any) -> list[np.ndarray]:
        """Sparse points of each block that follow directly from structures; none if environments are selected."""

    def with_points(self, points: tuple[np.ndarray, ...]) -> FittedTerm:
        """The same term with other sparse points."""

    def with_scales(self, energy_scales: float | tuple[float, ...]) -> FittedTerm:
        """The same term with other energy scales, eV: one per block, or one for all."""

    def with_exponent(self, zeta: float) -> FittedTerm:
        """The same term with another exponent, if it has one."""

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariances (n, m) of sparse points of one block for an energy scale of 1 eV, eV^2."""

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """Add covariances of the energy (M,), forces (3 n_atoms, M) and virial (9, M) with the sparse points."""

    def covariances(self, pairs: Pairs) -> np.ndarray:
        """Covariances (n_atoms, M) of the local energies with the sparse points, eV^2."""

    def variances(self, pairs: Pairs) -> np.ndarray:
        """Prior variances (n_atoms,) of the local energies, eV^2."""

    def scale_of(self, number: int) -> float:
        """Energy scale of an element, eV; the largest if several blocks involve the element."""

    def representatives(self, most: int, distinct: float) -> tuple[np.ndarray, ...]:
        """Indices of the points of each block that represent all: at most `most`.

        Each has at least the fraction `distinct` of its prior variance unexplained by the previous ones.
        """

    def strangest(self, number: int) -> float:
        """Fraction of the prior variance that the points leave unexplained at nearly empty environments: lone atoms and pairs.

        It sets the scale of unfamiliar environments: for a slowly decaying kernel it is smaller than for a rapidly decaying one.
        """

    def observer(self, compiled: Any, members: np.ndarray, whole: Whole | None) -> Observer:
        """Observer for this term, restricted to representatives, with member weights (n, N_MEMBERS), 1/eV.

        `compiled` is the compiled form of the whole term; `whole` is passed to the last term of a model.
        """


class Features(Protocol):
    """Normalised features of environments, as compared by kernels, with their `vjp`."""

    @property
    def species(self) -> tuple[int, ...]: ...

    @property
    def cutoff(self) -> float: ...

    @property
    def n_features(self) -> int: ...

    @property
    def square(self) -> float:
        """Squared norm p . p, the same for every environment."""

    def compute(self, pairs: Pairs, centres: np.ndarray | None = None) -> np.ndarray:
        """Features (n_centres, n_features); `centres` are indices of atoms, all by default."""

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """Derivatives (n_pairs, 3, n_features) of the features of each pair's centre by the pair's vector, 1/A."""


class ManyBodyTerm(FittedTerm, Protocol):
    """A term that compares environments: sparse points are features, in one block for every element."""

    @property
    def features(self) -> Features: ...

    @property
    def kernel(self) -> Kernel: ...

    @property
    def sparse_features(self) -> tuple[np.ndarray, ...]:
        """Features (n_sparse, n_features) of the sparse points of every element."""

    def prior_variance(self, number: int) -> float:
        """Prior variance of a local energy of an element, eV^2."""

    def unexplained_by(self, kept: Sequence[np.ndarray]) -> list[float]:
        """Largest prior variance of any sparse point not explained by the kept ones, eV^2, for every element."""
