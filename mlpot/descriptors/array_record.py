"""Frozen records of arrays that are compared and hashed by their contents."""

from __future__ import annotations

from dataclasses import fields

import numpy as np


class ArrayRecord:
    """Base class of dataclasses with eq=False: equal if all fields are equal, with arrays compared by value."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._contents() == other._contents()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._contents())

    def _contents(self) -> tuple:
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)
