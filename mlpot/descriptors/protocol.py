"""What a descriptor is: features of every atom one way, the pullback of a cotangent the other way.

Everything generic stands on this contract: rows of a fit, representatives, ensembles, compiled terms, files, reports. A class of
one's own derives from `Descriptor` and is named in settings as `type = "package.module:Class"`; `validate_descriptor` measures
whether it keeps the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..neighbours import Pairs

Own = TypeVar("Own", bound="Descriptor")


class Descriptor(ABC):
    """Maps neighbour pairs to features, and cotangents of features to pair gradients.

    Features of an atom depend on the elements of itself and its neighbours and on the vectors to these (its own pairs) alone, do
    not change when all vectors are turned, and have continuous first derivatives; what a neighbour adds vanishes with its slope at
    the cutoff. The same arguments always give the same bits. Instances do not change.

    Attributes
    ----------
    species : tuple of int
        Sorted atomic numbers that it knows.
    cutoff : float
        Reach, A.
    n_features : int

    Examples
    --------
    `examples/own_descriptor.py` is a complete one.
    """

    species: tuple[int, ...]
    cutoff: float
    n_features: int
    choices: ClassVar[tuple[str, ...]] = ()
    """Fields, tuples of integers or None, that are taken from data; see `settled`."""

    @abstractmethod
    def compute(self, pairs: Pairs) -> np.ndarray:
        """Features (n_atoms, n_features) of the atoms whose pairs, all nearer than `cutoff`, are given."""

    @abstractmethod
    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """Derivatives (n_pairs, 3, n_features), 1/A, of the features of each pair's centre by the pair's vector.

        By default one `vjp` for each feature, which suffices as no pair belongs to two centres.
        """
        out = np.empty((pairs.n_pairs, 3, self.n_features))
        cotangent = np.zeros((pairs.n_atoms, self.n_features))
        for k in range(self.n_features):
            cotangent[:, k] = 1.0
            out[:, :, k] = self.vjp(pairs, cotangent)
            cotangent[:, k] = 0.0
        return out

    @property
    def is_settled(self) -> bool:
        """Whether it has all that it takes from data."""
        return True

    def settled(self: Own, structures: Sequence[Pairs]) -> Own:
        """The descriptor with its `choices` made on the environments of structures; by default there are none."""
        return self

    def state(self) -> dict[str, Any]:
        """What a file keeps beside the species: numbers, texts, lists and tables of these, and arrays of numbers; by default the
        fields of a dataclass. Names are of lower-case letters, digits and _."""
        if not is_dataclass(self):
            raise TypeError(f"{type(self).__qualname__}: make it a dataclass, or define state() and from_state()")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "species"}

    @classmethod
    def from_state(cls: type[Own], species: tuple[int, ...], state: Mapping[str, Any]) -> Own:
        """The same descriptor from what `state` gave, lists in place of tuples; by default keyword arguments of the class."""
        return cls(species, **state)  # type: ignore[call-arg]
