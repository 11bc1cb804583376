"""Compiled terms in the core: one call of the C library evaluates all of them.

A model in the core is a handle on tables, arrays by name, which the library uses where they are. Names and contents agree
with the sections of a model file, see `models.core_file`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .._ext.core import N_MEMBERS, CoreModel, aligned, packed_lower
from ..descriptors.density import species_indices
from ..errors import ConfigError, StructureError
from ..neighbours import Pairs
from ..threads import n_threads, single_blas_thread
from .linear_algebra import inverse_lower, prior_factor

Arrays = Mapping[str, np.ndarray]
"""Tables of a term or a model, by name."""
ANY_REACH = 100.0
"""Stands for the cutoff of a single term, A; its own cutoffs count."""


@dataclass(frozen=True)
class MemberSums:
    """Forces (n_atoms, 3, N_MEMBERS), eV/A, and virial (9, N_MEMBERS), eV, of the members of an ensemble."""

    forces: np.ndarray
    virial: np.ndarray

    @classmethod
    def none(cls, n_atoms: int) -> MemberSums:
        """Before anything is added."""
        return cls(np.zeros((n_atoms, 3, N_MEMBERS)), np.zeros((9, N_MEMBERS)))

    @classmethod
    def of(cls, pairs: Pairs, gradients: np.ndarray) -> MemberSums:
        """From pair gradients (n_pairs, 3, N_MEMBERS), eV/A."""
        return cls(pairs.forces(gradients), pairs.virial(gradients).reshape(9, -1))


@dataclass(frozen=True)
class Sums:
    """Sums behind the uncertainty, as in `mlpot_sums` of the C library; None: not wanted.

    Parameters
    ----------
    covariances : (n_atoms, n_representatives) array
        Covariances of the local energies with the representatives, eV^2. Columns of terms in the core are written; columns of other
        terms must be filled already if the last term is in the core.
    explained : (n_atoms, 2) array
        |G k|^2 of the last term, if it is in the core, eV^2; added to.
    variances : (n_atoms,) array
        Prior variances, or instance variances of an imported model, eV^2; added to.
    members : (n_pairs, 3, N_MEMBERS) float32 array
        Pair gradients of the ensemble members, eV/A; added to.
    sums : MemberSums
        Forces and virial of the ensemble members instead, at half the cost; added to.
    """

    covariances: np.ndarray | None = None
    explained: np.ndarray | None = None
    variances: np.ndarray | None = None
    members: np.ndarray | None = None
    sums: MemberSums | None = None


NOTHING = Sums()


def plain(array: np.ndarray) -> np.ndarray:
    """Contiguous array of one of the three types of numbers of the core."""
    numbers = np.asarray(array)
    wanted = np.int32 if numbers.dtype.kind in "iub" else numbers.dtype
    return np.ascontiguousarray(numbers, wanted)


def kept(tables: Arrays) -> dict[str, np.ndarray]:
    """Tables that the core uses where they are, without copying them."""
    return {name: aligned(plain(array)) for name, array in tables.items()}


def triangle_tables(n_known: int, triangles: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Tables of lower triangles G over the points of other terms and the known points, with which the core computes |G k|^2."""
    sizes = np.array([len(triangles[0]) - n_known, len(triangles)])
    return kept({"s.sizes": sizes, "s.triangles": np.concatenate([packed_lower(triangle) for triangle in triangles])})


def instance_triangles(prior: Sequence[np.ndarray], variance: float) -> list[np.ndarray]:
    """Lower triangles with G'G = (K_ss + regularisation)^-1 for every block of K_mm with points."""
    with single_blas_thread():
        return [inverse_lower(prior_factor(block, variance)) for block in prior if len(block)]


def load(tables: Arrays) -> CoreModel:
    """Model in the core; ConfigError if it cannot be evaluated, for instance because numbers are not finite."""
    try:
        return CoreModel(kept(tables))
    except ValueError as error:
        raise ConfigError(f"{error}; fit the model again") from error


def only_in_python(label: str) -> ConfigError:
    """Error for a term on a descriptor that only Python can compute."""
    return ConfigError(
        f"a {label} term is evaluated in Python: programs that read exported models have no such descriptor, so the model cannot be "
        "exported; use soap terms, or the descriptors that come with mlpot"
    )


def joined(species: Sequence[int], counted: Sequence[int], cutoff: float, terms: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Tables of a model, without baseline and uncertainty.

    Parameters
    ----------
    species, counted : sequences of int
        Atomic numbers of the model, and the elements that represent them in the terms.
    cutoff : float
        A.
    terms : sequence of tables
        In the order of evaluation.
    """
    found = {
        "species": np.array(species), "counts_as": np.array(counted), "cutoff": np.array([cutoff]), "n_terms": np.array([len(terms)]),
    }  # fmt: skip
    return found | {f"t{place}.{name}": array for place, own in enumerate(terms) for name, array in own.items()}


def evaluate(core: CoreModel, pairs: Pairs, sums: Sums = NOTHING) -> tuple[np.ndarray, np.ndarray]:
    """Local energies (n_atoms,) in eV and pair gradients (n_pairs, 3) in eV/A of a model in the core; fills `sums`.

    Raises
    ------
    UnknownSpeciesError
        If the model does not know an element.
    StructureError
        If the structure is invalid for another reason.
    """
    energies, gradients = np.empty(pairs.n_atoms), np.empty((pairs.n_pairs, 3))
    numbers = pairs.numbers if pairs.elements is None else pairs.elements
    try:
        core.predict(
            numbers, pairs.offsets, pairs.j, pairs.vectors, energies, gradients, n_threads(),
            sums.covariances, sums.explained, sums.variances, sums.members,
            *((sums.sums.forces, sums.sums.virial) if sums.sums else ()),
        )  # fmt: skip
    except ValueError as error:
        species_indices(numbers, core.species)  # raises UnknownSpeciesError
        raise StructureError(str(error)) from error
    return energies, gradients


def alone(tables: Arrays, uncertainty: Arrays | None = None) -> CoreModel:
    """A single term in the core, without baseline; `uncertainty` are tables u.* without the prefix."""
    species = plain(tables["species"]).tolist()
    found = joined(species, species, ANY_REACH, [tables]) | {"b.energies": np.zeros(len(species))}
    return load(found | {f"u.{name}": array for name, array in (uncertainty or {"kind": np.array([0])}).items()})


def observing_alone(tables: Arrays, n_points: int, is_many_body: bool) -> CoreModel:
    """A single term in the core with its `Observer.core_tables`, which computes covariances, prior variances and members."""
    return alone(tables, {
        "kind": np.array([3]), "sizes": np.array([n_points, 1, not is_many_body, 1]), "terms": np.array([0]), "starts": np.array([0]),
    })  # fmt: skip


def no_members(pairs: Pairs | None) -> np.ndarray:
    """Pair gradients (n_pairs, 3, N_MEMBERS) of the members before anything is added; of no pairs where there are none."""
    return np.zeros((pairs.n_pairs if pairs else 0, 3, N_MEMBERS), np.float32)
