"""Parts of a descriptor that are tables, in files of models and of fits: they are kept as they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import h5py
import numpy as np

from ..descriptors.contractions import Contractions
from ..descriptors.density import Reduction, SoapDescriptor
from .soap_term import SoapTerm
from .terms import Term

TABLES = {"reduction": Reduction, "contractions": Contractions}


Tables = Mapping[str, Any]
"""Tables of a descriptor as its arguments."""


def channels_of(terms: Sequence[Term]) -> dict[int, Tables]:
    """The channels of terms by their numbers, for a fit with the same ones."""
    return {
        k: {name: getattr(term.descriptor, name) for name in TABLES}
        for k, term in enumerate(terms)
        if isinstance(term, SoapTerm)
    }


def tables_of(descriptor: SoapDescriptor) -> dict[str, np.ndarray]:
    """Arrays and numbers of a descriptor's tables by their place, such as "reduction/weights"."""
    found = {name: getattr(descriptor, name) for name in TABLES}
    return {
        f"{name}/{field.name}": np.asarray(getattr(table, field.name))
        for name, table in found.items() if table is not None
        for field in fields(table) if getattr(table, field.name) is not None
    }  # fmt: skip


def read_tables(group: h5py.Group) -> dict[str, Any]:
    """The tables below a group, as arguments of `SoapDescriptor`; those of descriptors without are left out."""
    return {
        name: table(**{key: _whole(array[()]) for key, array in group[name].items()})
        for name, table in TABLES.items()
        if name in group
    }


def _whole(value: Any) -> Any:
    """Arrays as they are, numbers as numbers."""
    return value if np.ndim(value) else value.item()
