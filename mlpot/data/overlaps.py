"""Structures that no model can take: atoms that overlap, positions and cells that are not finite."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StructureError
from ..neighbours import SHORTEST_DISTANCE, find_pairs
from ..structures import LabelledStructure


def check_structures(structures: Iterable[LabelledStructure], cutoff: float = SHORTEST_DISTANCE) -> None:
    """StructureError with the name of a structure whose atoms overlap, have too many neighbours within `cutoff`, or are nowhere."""
    for s in structures:
        try:
            find_pairs(s.atoms, cutoff)
        except StructureError as error:
            raise type(error)(f"{s.name}: {error}") from error
