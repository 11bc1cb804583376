"""Structures that no model can take: atoms that overlap, positions and cells that are not finite."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StructureError
from ..neighbours import SHORTEST_DISTANCE, find_pairs
from ..structures import LabelledStructure


def check_structures(structures: Iterable[LabelledStructure]) -> None:
    """StructureError with the name of a structure whose atoms overlap, or whose cell or positions cannot be used."""
    for s in structures:
        try:
            find_pairs(s.atoms, SHORTEST_DISTANCE)
        except StructureError as error:
            raise type(error)(f"{s.name}: {error}") from error
