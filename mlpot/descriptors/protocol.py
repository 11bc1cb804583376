"""Interface of descriptors: features of every atom, and the vector-Jacobian product for gradients.

Everything generic relies on this contract: rows of a fit, representatives, ensembles, compiled terms, files, reports. A user-defined
class derives from `Descriptor` and is named in settings as `type = "package.module:Class"`; `validate_descriptor` checks whether it
satisfies the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..neighbours import Pairs
from .mapped_sums import MappedSums

Own = TypeVar("Own", bound="Descriptor")


class Descriptor(ABC):
    """Maps neighbour pairs to features, and cotangents of features to pair gradients.

    Features of an atom depend only on its own element, the elements of its neighbours and the vectors to these (its own pairs). They
    are invariant under rotation of all vectors and have continuous first derivatives; the contribution of a neighbour vanishes
    together with its slope at the cutoff. Results are bitwise reproducible. Instances are immutable.

    Attributes
    ----------
    species : tuple of int
        Sorted atomic numbers of the supported elements.
    cutoff : float
        Largest distance of neighbours, A.
    n_features : int

    Examples
    --------
    See `examples/own_descriptor.py` for a complete descriptor.
    """

    species: tuple[int, ...]
    cutoff: float
    n_features: int
    is_local: ClassVar[bool] = True
    """Whether features of an atom depend on its own pairs alone, as above; else there is no `jacobian`."""
    choices: ClassVar[tuple[str, ...]] = ()
    """Fields, tuples of integers or None, that are taken from data; see `settled`."""

    @classmethod
    def is_in_core(cls) -> bool:
        """Whether the compiled core can compute the features, and programs without Python with it."""
        return False

    @property
    def in_core(self) -> MappedSums | None:
        """Sums of the compiled core of which the features are maps; None if `is_in_core` says no."""
        return None

    @abstractmethod
    def compute(self, pairs: Pairs) -> np.ndarray:
        """Features (n_atoms, n_features) of all atoms, from the pairs closer than `cutoff`."""

    @abstractmethod
    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""

    def vjps(self, pairs: Pairs, cotangents: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `vjp`, for several cotangents of the same structure."""
        return [self.vjp(pairs, cotangent) for cotangent in cotangents]

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """Derivatives (n_pairs, 3, n_features), 1/A, of the features of each pair's centre with respect to the pair's vector.

        By default computed with one `vjp` per feature, which is sufficient since no pair belongs to two centres.
        """
        out = np.empty((pairs.n_pairs, 3, self.n_features))
        cotangent = np.zeros((pairs.n_atoms, self.n_features))
        for k in range(self.n_features):
            cotangent[:, k] = 1.0
            out[:, :, k] = self.vjp(pairs, cotangent)
            cotangent[:, k] = 0.0
        return out

    def feature_names(self) -> tuple[str, ...]:
        """A name for every feature (n_features); by default they are numbered."""
        name = type(self).__name__.lower()
        return tuple(f"{name}[{k}]" for k in range(self.n_features))

    @property
    def is_settled(self) -> bool:
        """Whether it has all that it takes from data."""
        return True

    def settled(self: Own, structures: Sequence[Pairs]) -> Own:
        """The descriptor with its `choices` made on the environments of structures; by default there are none."""
        return self

    def state(self) -> dict[str, Any]:
        """State to be stored in files in addition to the species; by default the fields of a dataclass.

        Values are numbers, strings, lists and dictionaries of these, and numerical arrays. Names consist of lower-case letters,
        digits and _.
        """
        if not is_dataclass(self):
            raise TypeError(f"{type(self).__qualname__}: make it a dataclass, or define state() and from_state()")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "species"}

    @classmethod
    def from_state(cls: type[Own], species: tuple[int, ...], state: Mapping[str, Any]) -> Own:
        """Restore a descriptor from its `state`, with lists in place of tuples; by default passed as keyword arguments."""
        return cls(species, **state)  # type: ignore[call-arg]
