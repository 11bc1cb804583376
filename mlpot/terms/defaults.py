"""Default implementations shared by most terms; see `protocol`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from ..data.stored import Stored
from ..neighbours import Pairs
from ..structures import LabelledStructure
from .headers import LONGEST_COORDINATE
from .protocol import Tables

Own = TypeVar("Own", bound="TermDefaults")


class TermDefaults:
    """Base class of terms (frozen dataclasses with a field `energy_scales`) with nothing to select, learn, tune or extend."""

    is_many_body: ClassVar[bool] = False
    can_be_cut: ClassVar[bool] = False
    has_prior: ClassVar[bool] = True
    if TYPE_CHECKING:  # fields and properties of terms; as attributes here they would be defaults of fields

        @property
        def points(self) -> tuple[np.ndarray, ...]: ...
        @property
        def energy_scales(self) -> tuple[float, ...]: ...

    @property
    def label(self) -> str:
        """See `Term`."""
        return type(self).__name__.removesuffix("Term").lower()

    @property
    def mixes_elements(self) -> bool | None:
        """See `Term`."""
        return None

    def extended(self: Own, stand_ins: Mapping[int, int]) -> Own:
        """See `Term`: elements are replaced by their stand-ins."""
        return self

    @property
    def point_bounds(self) -> tuple[float, float]:
        """See `FittedTerm`: sparse points are lengths."""
        return 0.0, LONGEST_COORDINATE

    @property
    def tables(self) -> Tables:
        """See `FittedTerm`."""
        return {}

    @property
    def exponent(self) -> float | None:
        """See `FittedTerm`."""
        return None

    @classmethod
    def read_tables(cls, settings: Any, species: tuple[int, ...], stored: Stored, place: str) -> Tables:
        """See `FittedTerm`."""
        return {}

    def table_arrays(self) -> dict[str, np.ndarray]:
        """See `FittedTerm`."""
        return {}

    @property
    def is_settled(self) -> bool:
        """See `FittedTerm`."""
        return True

    def settled(self: Own, pairs: Sequence[Pairs]) -> Own:
        """See `FittedTerm`."""
        return self

    def new_points(self, structures: Sequence[LabelledStructure], settings: Any) -> list[np.ndarray]:
        """See `FittedTerm`."""
        return [block[:0] for block in self.points]

    def with_scales(self: Own, energy_scales: float | tuple[float, ...]) -> Own:
        """See `FittedTerm`."""
        changed: Any = self
        return replace(changed, energy_scales=energy_scales)

    def with_exponent(self: Own, zeta: float) -> Own:
        """See `FittedTerm`."""
        return self

    def scale_of(self, number: int) -> float:
        """See `FittedTerm`."""
        return max(self.energy_scales)

    def representatives(self, most: int, distinct: float) -> tuple[np.ndarray, ...]:
        """See `FittedTerm`: all sparse points."""
        return tuple(np.arange(len(block)) for block in self.points)

    def strangest(self, number: int) -> float:
        """See `FittedTerm`."""
        return 1.0
