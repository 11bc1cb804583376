"""Fitted targets: dipoles, polarisabilities and other quantities, with derivatives and standard deviations.

A value of rank 0 or 1 is one spherical part of degree 0 or 1; a symmetric matrix has two, its trace (0) and the rest (2), each a
Gaussian process of its own. Cartesian values are put together from the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms

from ..data.target_labels import DIPOLE, Origin, amount, vacuum
from ..data.targets import Target
from ..descriptors.couplings import cartesian, cartesian_variance, components
from ..descriptors.density import species_indices
from ..errors import required
from ..neighbours import find_pairs
from ..terms.covariant import CovariantTerm, Surroundings
from ..threads import single_blas_thread
from .beneath import TargetBeneath

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
    """A Gaussian process for the spherical components of one degree: linear in the features of its terms.

    Parameters
    ----------
    terms : tuple of CovariantTerm
    weights : (n_features,) array
        Of the features, term after term.
    known : (n_features, n_known) array
        K; the covariance of the weights is S^2 - K K' with the prior standard deviations S of the features. Its columns S^-1 K are
        orthogonal: the combinations of features that the labels have told about.
    scales : (n_terms, n_elements) array
        Prior standard deviations, in the unit of the target.
    noise : float
        Standard deviation of the labels that the model cannot explain.
    calibration : float
        Factor of the standard deviations.
    beneath : dict of int to float, or None
        Where a calculator's value is the last feature: the contribution of each element to it, which is taken off; empty for other
        degrees than 0.
    beneath_scale : float
        Prior standard deviation of the weight of that feature.
    """

    terms: tuple[CovariantTerm, ...]
    weights: np.ndarray
    known: np.ndarray
    scales: np.ndarray
    noise: float
    calibration: float = 1.0
    beneath: Mapping[int, float] | None = None
    beneath_scale: float = 0.0

    @property
    def order(self) -> int:
        """Degree."""
        return self.terms[0].order

    @property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return max(term.descriptor.cutoff for term in self.terms)

    @cached_property
    def _feature_scales(self) -> np.ndarray:
        """S (n_features,)."""
        found = np.repeat(self.scales.ravel(), [size for term in self.terms for size in term.sizes])
        return found if self.beneath is None else np.append(found, self.beneath_scale)

    @cached_property
    def _contracted(self) -> list[tuple[np.ndarray, ...]]:
        ends = np.cumsum([0, *(sum(term.sizes) for term in self.terms)])
        return [term.contracted(self.weights[a:b]) for term, (a, b) in zip(self.terms, pairwise(ends), strict=True)]

    def predict(self, around: Surroundings, gradients: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Local components (n_atoms, 2 order + 1), and derivatives (2 order + 1, n_pairs, 3) of their sum if asked for."""
        values = np.zeros((around.pairs.n_atoms, 2 * self.order + 1))
        slopes = np.zeros((2 * self.order + 1, around.pairs.n_pairs, 3)) if gradients else None
        for term, table in zip(self.terms, self._contracted, strict=True):
            term.predict(around, table, values, slopes)
        return values, slopes

    def features(self, around: Surroundings, per_atom: bool, below: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features (.., 2 order + 1, n_features) of all terms, and the prior variance (.., 2 order + 1) outside of them; `below` is
        the feature of a calculator."""
        found, outside = features_of(self.terms, around, per_atom)
        if below is not None:
            found = np.concatenate([found, below[:, None]], axis=1)
        return found, outside @ self.scales.ravel() ** 2

    def below(self, value: np.ndarray, atoms: Atoms, rank: int) -> np.ndarray:
        """The feature (2 order + 1,) of a calculator's value."""
        means = self.beneath or {}
        return components(value, rank, self.order) - sum(means.get(z, 0.0) for z in atoms.numbers.tolist())

    def covariance(self, features: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Covariances (.., 2 order + 1, 2 order + 1) of the components, calibrated, without the noise of labels.

        Includes the discrepancy of the model, as the noise found by the fit is for noise-free labels.
        """
        scaled, half = features * self._feature_scales, features @ self.known
        found = scaled @ np.swapaxes(scaled, -1, -2) - half @ np.swapaxes(half, -1, -2)
        index = np.arange(2 * self.order + 1)
        found[..., index, index] = np.maximum(found[..., index, index], 0.0) + outside + self.noise**2
        return self.calibration**2 * found

    @cached_property
    def _deviations(self) -> np.ndarray:
        """Deviations (n_features, n_members) of the members' weights from the mean: draws from the posterior, of zero mean.

        With orthonormal w and S^-1 K = w k, S (1 - w (1 - sqrt(1 - k^2)) w') is a square root of the covariance of the weights.
        """
        draws = np.random.default_rng(0).standard_normal((len(self.weights), N_MEMBERS))
        draws -= draws.mean(axis=1, keepdims=True)
        s = self._feature_scales[:, None]
        w = self.known / s
        square = np.sum(w**2, axis=0)
        shrunk = (1 - np.sqrt(np.maximum(1 - square, 0.0))) / np.maximum(square, 1e-300)
        return self.calibration * s * (draws - w @ (shrunk[:, None] * (w.T @ draws)))

    def members(self, features: np.ndarray) -> np.ndarray:
        """Deviations (n_members, .., 2 order + 1) of the members' components from the prediction."""
        return np.moveaxis(features @ self._deviations, -1, 0)


def features_of(terms: Sequence[CovariantTerm], around: Surroundings, per_atom: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features (.., n_features) of terms and the variance (.., n_blocks) outside of each, for scales of 1; blocks are the elements of
    term after term."""
    found = [term.features(around, per_atom) for term in terms]
    return np.concatenate([rows for rows, _ in found], axis=-1), np.concatenate([left for _, left in found], axis=-1)


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
    beneath : TargetBeneath or None
        A calculator whose value is a feature of all parts.
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
    beneath: TargetBeneath | None = None

    @property
    def cutoff(self) -> float:
        """Largest distance at which atoms interact, A."""
        return max(part.cutoff for part in self.parts.values())

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers that the target was fitted for."""
        return next(iter(self.parts.values())).terms[0].descriptor.species

    def predict(
        self, atoms: Atoms, uncertainty: bool = False, gradients: bool = True, members: bool = False,
        around: Surroundings | None = None,
    ) -> TargetPrediction:  # fmt: skip
        """Predict the quantity of a structure.

        Parameters
        ----------
        atoms : ase.Atoms
        uncertainty, gradients, members : bool
            What to add to the value.
        around : Surroundings or None
            Of the structure, where they are known; their neighbours reach `cutoff`.

        Raises
        ------
        StructureError
            If the structure cannot be used.
        UnknownSpeciesError
            If the target was not fitted for an element.
        DataError
            For a charged structure without an origin, and properties per volume without a volume.
        BaselineError
            If a calculator beneath the target is not trusted, or fails.
        """
        species_indices(atoms.numbers, self.species)  # raises UnknownSpeciesError
        around = Surroundings(find_pairs(atoms, self.cutoff)) if around is None else around
        per_atom, rank = self.target.per_atom, self.target.rank
        shape = (len(atoms),) * per_atom + self.target.shape
        value, variance, deviations = np.zeros(shape), np.zeros(shape), np.zeros((N_MEMBERS, *shape))
        slopes = np.zeros((len(atoms), 3, *self.target.shape)) if gradients and not per_atom else None
        below = None if self.beneath is None else self.beneath.value(atoms)
        self._add_slopes_beneath(atoms, slopes)
        with single_blas_thread():
            for degree, part in self.parts.items():
                local, pair_slopes = part.predict(around, slopes is not None)
                if degree == 0:
                    local += np.array([self.means[z] for z in atoms.numbers.tolist()])[:, None]
                value += cartesian(local if per_atom else local.sum(axis=0), rank, degree)
                if slopes is not None and pair_slopes is not None:
                    own = -around.pairs.forces(np.moveaxis(pair_slopes, 0, -1))
                    slopes += cartesian(own, rank, degree)
                feature = None if below is None else part.below(below, atoms, rank)
                value += 0.0 if feature is None else part.weights[-1] * cartesian(feature, rank, degree)
                if uncertainty or members:
                    rows, outside = part.features(around, per_atom, feature)
                    variance += cartesian_variance(part.covariance(rows, outside), rank, degree)
                    if members:
                        deviations += cartesian(part.members(rows), rank, degree)
        size = amount(self.target, atoms)
        value, variance, deviations = value / size + vacuum(self.target), variance / size**2, deviations / size
        slopes = None if slopes is None else slopes / size
        value, sum_rule = self._at_origin(atoms, value, slopes)
        return TargetPrediction(
            self.target, value, np.sqrt(variance) if uncertainty else None, slopes, sum_rule, value + deviations if members else None
        )

    def _add_slopes_beneath(self, atoms: Atoms, slopes: np.ndarray | None) -> None:
        """Add to derivatives, if any, what the calculator beneath the target contributes."""
        if self.beneath is None or slopes is None:
            return
        below, rank = self.beneath.slopes(atoms), self.target.rank
        for degree, part in self.parts.items():
            slopes += part.weights[-1] * cartesian(components(below, rank, degree), rank, degree)

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
            self.made[name] = self.models[name].predict(required(self.atoms, "atoms"), self.uncertainty, around=self._around)
        return self.made[name]

    @cached_property
    def _around(self) -> Surroundings:
        """Environments of the structure, for all targets."""
        cutoff = max(model.cutoff for model in self.models.values())
        return Surroundings(find_pairs(required(self.atoms, "atoms"), cutoff))

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
