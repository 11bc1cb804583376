"""Features of any model of atoms, such as the last layer of a neural network, as a descriptor.

A model of this kind works on whole structures: with message passing, features of an atom depend on atoms beyond its neighbours. It
returns the derivative of a sum of features by positions and strain. Everything generic takes derivatives by the vectors of pairs, so
these are found such that they add up to the model's: with the vectors v_p of the pairs p = i -> j, the smallest g_p with

    sum_(p: j = a) g_p - sum_(p: i = a) g_p = dE/dr_a          for every atom a
    sum_p (v_p g_p' + g_p v_p') / 2 = dE/dstrain

They are g_p = lambda_j - lambda_i + Y v_p with a symmetric matrix Y: lambda solves an equation with the Laplacian of the graph of
pairs, and Y a Lyapunov equation. Energies, forces, virials and stresses are exact; quantities of single pairs (stresses of atoms)
depend on this choice.

Security: naming a class imports its module. Nothing is called but classes that derive from `FeatureModel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from ..errors import DescriptorError, quoted
from ..import_paths import imported
from ..neighbours import Pairs
from .protocol import Descriptor

REST = 1e-6
"""Largest part of a derivative, relative to its size, that pairs within the cutoff may leave out."""
ZERO = 1e-6
"""Derivatives below this fraction of the cotangent, per A, count as round-off."""
SINGULAR = 1e-9
"""Eigenvalues below this fraction of the largest belong to deformations that positions describe already."""


class FeatureModel(ABC):
    """A model whose features are used in a term with `type = "features"`; classes of users derive from it.

    Features are invariant under translation, rotation and permutation, and smooth functions of the positions. Atoms that no chain of
    distances below `cutoff` connects do not influence each other. Results are bitwise reproducible.

    Attributes
    ----------
    species : tuple of int
        Atomic numbers that it knows.
    cutoff : float
        Longest distance between two atoms that see each other directly, A: for message passing, the cutoff of one layer.
    n_features : int

    Examples
    --------
    See `examples/feature_model.py` for a complete one.
    """

    species: tuple[int, ...]
    cutoff: float
    n_features: int

    @abstractmethod
    def compute(self, atoms: Atoms) -> np.ndarray:
        """Features (n_atoms, n_features)."""

    @abstractmethod
    def vjp(self, atoms: Atoms, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of sum(cotangent * features), with the cotangent (n_atoms, n_features) constant.

        Returns
        -------
        gradients : (n_atoms, 3) array
            By the positions, 1/A.
        strain : (3, 3) array
            By the strain of the whole structure, positions and cell; zeros will do for structures without periodic directions.
        """


@dataclass(frozen=True)
class ModelFeatures(Descriptor):
    """Features of a `FeatureModel`.

    Parameters
    ----------
    species : tuple of int
        Atomic numbers.
    model : str
        Its class, as "package.module:Class".
    parameters : dict
        Keyword arguments of the class.

    Raises
    ------
    DescriptorError
        If the class cannot be imported, is of another kind, refuses its arguments, or does not know an element; in all methods, if
        the model fails or breaks the contract.
    """

    is_local: ClassVar[bool] = False

    species: tuple[int, ...]
    model: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if missing := sorted(set(self.species) - {int(z) for z in self._made.species}):
            raise DescriptorError(f"{self.model}: does not know {', '.join(chemical_symbols[z] for z in missing)}")

    def __getstate__(self) -> dict[str, Any]:
        return {"species": self.species, "model": self.model, "parameters": self.parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __hash__(self) -> int:
        return hash((self.species, self.model))

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        """Longest distance between two atoms that see each other directly, A."""
        return float(self._made.cutoff)

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return int(self._made.n_features)

    @cached_property
    def _made(self) -> FeatureModel:
        try:
            kind = imported(self.model)
        except Exception as error:  # modules raise anything when imported
            raise DescriptorError(
                f"{quoted(self.model)}: cannot be imported ({type(error).__name__}: {quoted(error, 200)}); put it where Python finds "
                "it, for example with PYTHONPATH"
            ) from error
        if not (isinstance(kind, type) and issubclass(kind, FeatureModel)):
            raise DescriptorError(f"{quoted(self.model)}: must be a class that derives from mlpot.FeatureModel")
        try:
            return kind(**self.parameters)
        except Exception as error:  # constructors raise anything
            given = f"{self.model}: parameters = {self.parameters!r}"
            raise DescriptorError(f"{given}: {type(error).__name__}: {quoted(error, 200)}") from error

    def compute(self, pairs: Pairs) -> np.ndarray:
        """See `Descriptor`."""
        return np.array(self._called("compute", pairs.atoms), float)

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """See `Descriptor`."""
        return self.vjps(pairs, [cotangent])[0]

    def vjps(self, pairs: Pairs, cotangents: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `vjp`, for several cotangents of the same structure."""
        atoms, spread = pairs.atoms, _Spread(pairs)
        found = []
        for cotangent in cotangents:
            gradients, strain = self._called("vjp", atoms, np.array(cotangent))
            gradients, strain = np.array(gradients, float), np.array(strain, float)
            shapes = gradients.shape, strain.shape
            if shapes != ((len(atoms), 3), (3, 3)) or not (np.isfinite(gradients).all() and np.isfinite(strain).all()):
                raise DescriptorError(
                    f"{self.model}.vjp: returned arrays of shapes {shapes}; they must be finite, ({len(atoms)}, 3) and (3, 3)"
                )
            least = max(ZERO * float(np.abs(cotangent).max(initial=0.0)), 1e-300)
            among_pairs, rest = spread.of(gradients, (strain + strain.T) / 2, least)
            if rest > REST:
                raise DescriptorError(
                    f"{self.model}.vjp: pairs within cutoff = {self.cutoff:g} A leave out a part of {rest:.2g} of the derivative: "
                    "features depend on atoms farther apart, or change when the structure is moved; increase cutoff, or correct vjp"
                )
            found.append(among_pairs)
        return found

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """DescriptorError: features of an atom depend on more than its own pairs."""
        raise DescriptorError(f"{self.model}: has no jacobian, since its features depend on more than an atom's own neighbours")

    def _called(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._made, method)(*arguments)
        except Exception as error:  # models raise anything
            raise DescriptorError(f"{self.model}.{method} failed: {type(error).__name__}: {quoted(error, 200)}") from error


class _Spread:
    """Derivatives by positions and strain as derivatives by the vectors of pairs; see the top of this module."""

    def __init__(self, pairs: Pairs):
        self._pairs, n = pairs, pairs.n_atoms
        ones, index = np.ones(pairs.n_pairs), np.arange(pairs.n_pairs)
        # rows are atoms: +1 where an atom is the neighbour of a pair, -1 where it is the centre; 0 for its own image
        self._atoms = sparse.coo_matrix((ones, (pairs.j, index)), (n, pairs.n_pairs)).tocsr()
        self._atoms = self._atoms - sparse.coo_matrix((ones, (pairs.i, index)), (n, pairs.n_pairs)).tocsr()
        laplacian = (self._atoms @ self._atoms.T).tocsc()
        _, part = connected_components(laplacian, directed=False)
        _, first = np.unique(part, return_index=True)
        held = np.zeros(n)
        held[first] = 1.0  # one atom of every part stays where it is
        self._solver = splu((laplacian + sparse.diags(held)).tocsc())
        self._moved = self._atoms @ pairs.vectors
        self._followed = self._solver.solve(np.ascontiguousarray(self._moved))
        metric = pairs.vectors.T @ pairs.vectors - self._moved.T @ self._followed
        values, self._axes = np.linalg.eigh((metric + metric.T) / 2)
        sums = values[:, None] + values[None, :]
        largest = max(float(np.trace(pairs.vectors.T @ pairs.vectors)), 1e-300)
        self._inverse = np.where(sums > SINGULAR * largest, 1 / np.where(sums > 0, sums, 1.0), 0.0)

    def of(self, gradients: np.ndarray, strain: np.ndarray, least: float) -> tuple[np.ndarray, float]:
        """Derivatives (n_pairs, 3) by the vectors, and the part that they leave out, relative to their size, which is `least` at
        least."""
        pairs = self._pairs
        followed = self._solver.solve(np.ascontiguousarray(gradients))
        wanted = strain - _symmetric(self._moved.T @ followed)
        turned = self._axes.T @ (2 * wanted) @ self._axes
        inner = self._axes @ (turned * self._inverse) @ self._axes.T
        lagrange = followed - self._followed @ inner
        found = lagrange[pairs.j] - lagrange[pairs.i] + pairs.vectors @ inner
        strain_left = self._axes.T @ (strain - _symmetric(pairs.vectors.T @ found)) @ self._axes
        left = np.abs(gradients - self._atoms @ found).max(), np.abs(strain_left[self._inverse > 0]).max(initial=0.0)
        return found, float(max(left)) / max(float(np.abs(gradients).max()), float(np.abs(strain).max()), least)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2
