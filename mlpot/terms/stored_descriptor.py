"""Descriptors in files: the class by name, and its state."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..data.stored import NAME, Stored
from ..descriptors.named import checked, descriptor_class, name_of
from ..descriptors.protocol import Descriptor
from ..errors import DescriptorError
from .headers import MOST_REACH, Species, TermHeader

Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class DescriptorHeader(TermHeader):
    """Header of a term with a descriptor, which is imported and restored from `state` and the arrays in `state_arrays`."""

    species: Species
    descriptor: Annotated[str, Field(max_length=300)]
    state: dict[str, Any]
    state_arrays: tuple[Name, ...]

    @property
    def own_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        return self.species


def description_of(descriptor: Descriptor) -> dict[str, Any]:
    """Entries of a `DescriptorHeader`; DescriptorError for a state that a file cannot store."""
    state = _checked_state(descriptor)
    arrays = {name for name, value in state.items() if isinstance(value, np.ndarray)}
    return {
        "species": descriptor.species,
        "descriptor": name_of(type(descriptor)),
        "state": {name: value for name, value in state.items() if name not in arrays},
        "state_arrays": sorted(arrays),
    }


def arrays_of(descriptor: Descriptor) -> dict[str, np.ndarray]:
    """Arrays of the state for a file."""
    return {f"state/{k}": v for k, v in descriptor.state().items() if isinstance(v, np.ndarray)}


def read_descriptor(header: DescriptorHeader, stored: Stored, place: str) -> Descriptor:
    """The descriptor of a header.

    Raises
    ------
    DescriptorError
        If its class cannot be imported, or rejects the state.
    ValueError
        If what it makes of the state contradicts the file.
    """
    arrays = {name: stored.array(f"{place}/state/{name}") for name in header.state_arrays}
    kind = descriptor_class(header.descriptor)
    made = checked(lambda: kind.from_state(header.species, {**header.state, **arrays}), header.descriptor)
    if made.species != header.species or made.cutoff > MOST_REACH:
        raise ValueError(f"{place}: {header.descriptor}: species {made.species}, cutoff {made.cutoff} A differ from the file")
    if not made.is_settled:
        raise ValueError(f"{place}: {header.descriptor}: {', '.join(made.choices)}: missing; a fitted model has made its choices")
    return made


def _checked_state(descriptor: Descriptor) -> dict[str, Any]:
    """State of a descriptor for a file; DescriptorError for values that a file cannot store."""
    state, name = descriptor.state(), name_of(type(descriptor))
    for key, value in state.items():
        if not NAME.fullmatch(key):
            raise DescriptorError(f"{name}.state: {key!r}: names must consist of lower-case letters, digits and _")
        try:
            json.dumps(None if isinstance(value, np.ndarray) else value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DescriptorError(f"{name}.state: {key} = {value!r}: must be numbers, strings, lists or arrays") from error
    return state
