"""Base of descriptors that are maps of sums in the compiled core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from ..neighbours import Pairs
from .density import species_indices
from .mapped_sums import MappedSums
from .neighbour_sums import neighbourhood
from .protocol import Descriptor

Own = TypeVar("Own", bound="SummedDescriptor")


class SummedDescriptor(Descriptor):
    """Base of descriptors (frozen dataclasses) whose features follow from the property `sums`."""

    sums: Any  # a cached property, which would be a field here

    @classmethod
    def from_state(cls: type[Own], species: tuple[int, ...], state: Mapping[str, Any]) -> Own:
        """See `Descriptor`. Tables are made immediately: values that cannot be tabulated are errors when a file is loaded."""
        made = super().from_state(species, state)
        _ = made.sums
        return made

    def __getstate__(self) -> dict:
        return {own.name: self.__dict__[own.name] for own in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def is_in_core(cls) -> bool:
        """See `Descriptor`: unless a class of a user's computes something else with the sums."""
        return all(getattr(cls, name) is getattr(SummedDescriptor, name) for name in ("compute", "vjp"))

    @property
    def in_core(self) -> MappedSums | None:
        """See `Descriptor`."""
        return self.sums if self.is_in_core() else None

    def check(self, pairs: Pairs) -> None:
        """Raise StructureError for structures in which the features are not defined; by default there are none."""

    def compute(self, pairs: Pairs) -> np.ndarray:
        """Features (n_atoms, n_features).

        Raises
        ------
        UnknownSpeciesError
            For an element that is not in `species`.
        StructureError
            See `check`.
        """
        self.check(pairs)
        return self.sums.compute(neighbourhood(pairs, self.species), self._kinds(pairs))

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features) in eV."""
        gradients = np.zeros((pairs.n_pairs, 3))
        self.sums.add_vjp(neighbourhood(pairs, self.species), self._kinds(pairs), np.asarray(cotangent), gradients)
        return gradients

    def _kinds(self, pairs: Pairs) -> np.ndarray:
        """Indices (n_atoms,) of the elements among `species`."""
        return species_indices(pairs.numbers if pairs.elements is None else pairs.elements, self.species)
