"""[structure] and [[walkers]]: where simulations start, and what sets one apart from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, PositiveInt, create_model

from ..keys.base import Settings
from ..keys.quantities import PURE, Count
from .dynamics import DynamicsPlan

Section = TypeVar("Section", bound=Settings)
Copies = Annotated[PositiveInt, PURE]


class StructureSettings(Settings):
    """Initial structure of the simulation."""

    file: str = Field(description="Structure file that ASE reads; its last frame is used.", examples=["start.xyz"])
    repeat: tuple[Copies, Copies, Copies] = Field((1, 1, 1), description="Copies along the three cell vectors.")


class WalkerKeys(Settings):
    """Keys that only walkers have."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Name in log.csv and of the trajectory: a letter, then letters, digits, _ and -.",
        examples=["hot"],
    )
    replicas: Count = Field(1, description="Number of such walkers, which differ by their seeds.")

    def over(self, section: Section) -> Section:
        """A section of the file with the keys of this walker taking precedence."""
        own = {name: value for name in type(section).model_fields if (value := getattr(self, name, None)) is not None}
        return section.changed(**own)


def optional_keys(*sections: type[Settings]) -> dict[str, Any]:
    """The keys of sections as fields that may be left out, for `create_model`."""
    found: dict[str, Any] = {}
    for section in sections:
        for name, field in section.model_fields.items():
            kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            examples = field.examples or [field.default]
            found[name] = (kind | None, Field(None, description=field.description, examples=examples))
    return found


if TYPE_CHECKING:
    WalkerSettings = WalkerKeys
else:
    WalkerSettings = create_model(
        "WalkerSettings",
        __base__=WalkerKeys,
        __module__=__name__,
        __doc__="One or several simulations of a run; keys that are left out have the values in [structure] and [dynamics].",
        **optional_keys(StructureSettings, DynamicsPlan),
    )
