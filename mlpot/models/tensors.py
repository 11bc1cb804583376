"""Fitted targets: dipoles, polarisabilities and other quantities, with derivatives and standard deviations.

A value of rank 0 or 1 is one spherical part of degree 0 or 1; a symmetric matrix has two, its trace (0) and the rest (2), each a
Gaussian process of its own. Cartesian values are put together from the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from scipy.linalg import solve_triangular

from ..data.target_labels import DIPOLE, Origin
from ..data.targets import Target
from ..descriptors.couplings import PARTS, cartesian
from ..descriptors.density import species_indices
from ..errors import required
from ..neighbours import Pairs, find_pairs
from ..terms.covariant import CovariantTerm
from ..threads import single_blas_thread

NEUTRAL_SYSTEMS = Origin()
N_MEMBERS = 16
"""Members of the ensemble of a target."""


@dataclass(frozen=True)
class TargetPrediction:
    """A predicted quantity.

    Parameters
    ----------
    target : Target
        Its name, rank and unit.
    value : array
        Of the target's shape, (), (3,) or (3, 3), with a leading axis of atoms for targets per atom.
    std : array or None
        Standard deviations of the components of `value`; None unless asked for.
    gradients : (n_atoms, 3, ...) array or None
        Derivatives with respect to the positions, per A: the first two axes are atom and direction. None unless asked for, and for
        targets per atom.
    sum_rule : float or None
        For dipoles with gradients, the largest deviation of the sum of the derivatives over the atoms from the charge, e.
    members : (n_members, ...) array or None
        Values of an ensemble that is compatible with the data; None unless asked for.
    """

    target: Target
    value: np.ndarray
    std: np.ndarray | None = None
    gradients: np.ndarray | None = None
    sum_rule: float | None = None
    members: np.ndarray | None = None


@dataclass(frozen=True)
class SphericalPart:
    """A Gaussian process for the spherical components of one degree.

    Parameters
    ----------
    terms : tuple of CovariantTerm
    weights : (M,) array
        Of the covariances for prior scales of 1, term after term.
    factor : (M, M) array
        Upper triangular R; the covariance of the weights is (R'R)^-1.
    scales : (n_terms, n_elements) array
        Prior standard deviations, in the unit of the target.
    noise : float
        Standard deviation of the labels that the model cannot explain.
    calibration : float
        Factor of the standard deviations.
    """

    terms: tuple[CovariantTerm, ...]
    weights: np.ndarray
    factor: np.ndarray
    scales: np.ndarray
    noise: float
    calibration: float = 1.0

    @property
    def order(self) -> int:
        """Degree."""
        return self.terms[0].order

    @property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return max(term.descriptor.cutoff for term in self.terms)

    @cached_property
    def _slices(self) -> list[slice]:
        ends = np.cumsum([0, *(sum(term.sizes) for term in self.terms)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @cached_property
    def _contracted(self) -> list[tuple[np.ndarray, ...]]:
        return [term.contracted(self.weights[part]) for term, part in zip(self.terms, self._slices, strict=True)]

    def predict(self, pairs: Pairs, gradients: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Local components (n_atoms, 2 order + 1), and derivatives (2 order + 1, n_pairs, 3) of their sum if asked for."""
        values = np.zeros((pairs.n_atoms, 2 * self.order + 1))
        slopes = np.zeros((2 * self.order + 1, pairs.n_pairs, 3)) if gradients else None
        for term, table in zip(self.terms, self._contracted, strict=True):
            term.predict(pairs, table, values, slopes)
        return values, slopes

    def rows(self, pairs: Pairs, per_atom: bool) -> np.ndarray:
        """Covariances (.., 2 order + 1, M) with the columns."""
        return np.concatenate([term.rows(pairs, per_atom) for term in self.terms], axis=-1)

    def covariance(self, pairs: Pairs, per_atom: bool, rows: np.ndarray) -> np.ndarray:
        """Covariances (.., 2 order + 1, 2 order + 1) of the components, calibrated, without the noise of labels.

        Includes the discrepancy of the model, as the noise found by the fit is for noise-free labels.
        """
        m = 2 * self.order + 1
        half = solve_triangular(self.factor, rows.reshape(-1, rows.shape[-1]).T, trans="T", check_finite=False)
        half = half.T.reshape(-1, m, rows.shape[-1])
        found = half @ half.transpose(0, 2, 1)
        open_part = self.unexplained(pairs)
        index = np.arange(m)
        found[:, index, index] += open_part if per_atom else open_part.sum(axis=0)
        found[:, index, index] += self.noise**2
        return self.calibration**2 * (found if per_atom else found[0])

    def unexplained(self, pairs: Pairs) -> np.ndarray:
        """Prior variance (n_atoms, 2 order + 1) of the local components that the sparse points leave open."""
        return np.sum([t.unexplained(pairs, s) for t, s in zip(self.terms, self.scales, strict=True)], axis=0)

    @cached_property
    def _deviations(self) -> np.ndarray:
        """Deviations (M, n_members) of the members' weights from the mean: draws from the posterior, of zero mean."""
        draws = np.random.default_rng(0).standard_normal((len(self.weights), N_MEMBERS))
        draws -= draws.mean(axis=1, keepdims=True)
        return self.calibration * solve_triangular(self.factor, draws, check_finite=False)

    def members(self, rows: np.ndarray) -> np.ndarray:
        """Deviations (n_members, .., 2 order + 1) of the members' components from the prediction."""
        return np.moveaxis(rows @ self._deviations, -1, 0)


@dataclass(frozen=True)
class TargetErrors:
    """Errors of a target on a set of structures.

    Parameters
    ----------
    n : int
        Structures.
    mae, rmse : float
        Mean absolute and root mean square error over components, in the unit of the target.
    std : float
        Root mean square deviation of the labels from the mean of each component.
    parts : dict
        By degree the root mean square error in percent of the standard deviation of the spherical components.
    coverage : float or None
        Share of the components within one standard deviation.
    """

    n: int
    mae: float
    rmse: float
    std: float
    parts: dict[str, float]
    coverage: float | None = None


@dataclass(frozen=True)
class TargetModel:
    """A fitted target.

    Parameters
    ----------
    target : Target
    parts : dict of int to SphericalPart
        By degree.
    means : dict of int to float
        For degree 0, the contribution of each element (atomic number) to the component.
    key, label_unit : str
        Key and unit of the labels in the data.
    origin : Origin
    left_out : TargetErrors or None
        Errors on structures left out, from the fit.
    training : TargetErrors or None
    notes : tuple of str
        Remarks of the fit, such as labels of other branches.
    """

    target: Target
    parts: Mapping[int, SphericalPart]
    means: Mapping[int, float]
    key: str
    label_unit: str
    origin: Origin = NEUTRAL_SYSTEMS
    left_out: TargetErrors | None = None
    training: TargetErrors | None = None
    notes: tuple[str, ...] = ()

    @property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return max(part.cutoff for part in self.parts.values())

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers that the target was fitted for."""
        return next(iter(self.parts.values())).terms[0].descriptor.species

    def predict(
        self, atoms: Atoms, uncertainty: bool = False, gradients: bool = True, members: bool = False, pairs: Pairs | None = None
    ) -> TargetPrediction:
        """Predict the quantity of a structure.

        Parameters
        ----------
        atoms : ase.Atoms
        uncertainty, gradients, members : bool
            What to add to the value.
        pairs : Pairs or None
            Neighbours of the structure that reach `cutoff`, where they are known.

        Raises
        ------
        StructureError
            If the structure cannot be used.
        UnknownSpeciesError
            If the target was not fitted for an element.
        DataError
            For a charged structure without an origin.
        """
        species_indices(atoms.numbers, self.species)  # raises UnknownSpeciesError
        pairs = find_pairs(atoms, self.cutoff) if pairs is None else pairs
        per_atom, rank = self.target.per_atom, self.target.rank
        shape = (len(atoms),) * per_atom + self.target.shape
        value, variance, deviations = np.zeros(shape), np.zeros(shape), np.zeros((N_MEMBERS, *shape))
        slopes = np.zeros((len(atoms), 3, *self.target.shape)) if gradients and not per_atom else None
        with single_blas_thread():
            for degree, part in self.parts.items():
                local, pair_slopes = part.predict(pairs, slopes is not None)
                if degree == 0:
                    local += np.array([self.means[z] for z in atoms.numbers.tolist()])[:, None]
                value += cartesian(local if per_atom else local.sum(axis=0), rank, degree)
                if slopes is not None and pair_slopes is not None:
                    own = -pairs.forces(np.moveaxis(pair_slopes, 0, -1))
                    slopes += cartesian(own, rank, degree)
                if uncertainty or members:
                    rows = part.rows(pairs, per_atom)
                    variance += _cartesian_variance(part.covariance(pairs, per_atom, rows), rank, degree)
                    deviations += cartesian(part.members(rows), rank, degree)
        value, sum_rule = self._at_origin(atoms, value, slopes)
        return TargetPrediction(
            self.target, value, np.sqrt(variance) if uncertainty else None, slopes, sum_rule, value + deviations if members else None
        )

    def _at_origin(self, atoms: Atoms, value: np.ndarray, slopes: np.ndarray | None) -> tuple[np.ndarray, float | None]:
        """The value about the origin, likewise `slopes`, in place; and the deviation from the sum rule for dipoles."""
        if not self.has_origin:
            return value, None
        value = value + self.origin.shift(atoms)
        if slopes is None:
            return value, None
        slopes += self.origin.slope(atoms)[:, None, None] * np.eye(3)
        charge = 0.0 if self.origin.place in ("center_of_mass", "center_of_charge", None) else self.origin.charge_of(atoms)
        return value, float(np.abs(slopes.sum(axis=0) - charge * np.eye(3)).max())

    @property
    def has_origin(self) -> bool:
        """Whether the values of charged systems depend on an origin."""
        return self.target == DIPOLE or self.origin.place is not None


def _cartesian_variance(covariance: np.ndarray, rank: int, degree: int) -> np.ndarray:
    """Variances (..., 3, 3) of Cartesian components from covariances (..., 2 degree + 1, 2 degree + 1) of spherical ones."""
    basis = PARTS[rank][degree].reshape(2 * degree + 1, -1)
    found = np.einsum("...mn,mc,nc->...c", covariance, basis, basis)
    return found.reshape(*covariance.shape[:-2], *(3,) * rank)


@dataclass(frozen=True)
class TargetModels(Mapping[str, TargetModel]):
    """The targets of a model, by name."""

    models: Mapping[str, TargetModel] = field(default_factory=dict)

    def __getitem__(self, name: str) -> TargetModel:
        return self.models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def __repr__(self) -> str:
        return f"TargetModels({', '.join(self)})"

    def predict(self, atoms: Atoms, uncertainty: bool = False) -> TargetValues:
        """Predictions of all targets for a structure, each made when it is first asked for."""
        return TargetValues(self, atoms.copy(), uncertainty)


NO_TARGETS = TargetModels()


@dataclass(frozen=True)
class TargetValues(Mapping[str, TargetPrediction]):
    """Predictions of targets for one structure, by name; made when first asked for.

    Attributes such as `dipole`, `dipole_std` and `dipole_gradients` belong to the prediction of that name. With the dipole come
    `born_charges` (n_atoms, 3, 3), e: for every atom the derivative of component [., b] of the dipole with respect to direction
    [a, .] of its position.
    """

    models: TargetModels = NO_TARGETS
    atoms: Atoms | None = None
    uncertainty: bool = False
    made: dict[str, TargetPrediction] = field(default_factory=dict)

    def __getitem__(self, name: str) -> TargetPrediction:
        if name not in self.made:
            model = self.models[name]
            self.made[name] = model.predict(required(self.atoms, "atoms"), self.uncertainty)
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not (found := attribute_of(self, name)):
            raise AttributeError(f"no target {name!r}; there are {', '.join(self.models) or 'none'}")
        return found[0]


def attribute_of(values: Mapping[str, TargetPrediction], name: str) -> list[Any]:
    """Value of an attribute such as "dipole", "dipole_std" or "born_charges", in a list; empty where it is unknown."""
    if name == "born_charges" and DIPOLE.name in values:
        return [values[DIPOLE.name].gradients]
    for ending, field_name in (("", "value"), ("_std", "std"), ("_gradients", "gradients")):
        own = name.removesuffix(ending)
        if name.endswith(ending) and own in values:
            return [getattr(values[own], field_name)]
    return []
