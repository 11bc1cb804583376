"""Settings of a many-body term on a descriptor of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from ..descriptors.named import check_parameters, descriptor_class, path_of
from ..keys.explain import OF_A_CLASS, TAGS
from .kernel import DescriptorTermSettings


class FeatureTermSettings(DescriptorTermSettings):
    """Many-body term on a descriptor of one's own: a kernel of its normalised features.

    Keys that are not of this class are keyword arguments of the descriptor, as those in `parameters` are.
    """

    type: str = Field(description='The descriptor, as "package.module:Class".', examples=[OF_A_CLASS])
    parameters: dict[str, Any] = Field(
        {}, description="Keyword arguments of the descriptor; they may also be given directly in this table.", examples=[{}]
    )

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        return self.parameters

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, values: Any) -> Any:
        """Keyword arguments of the descriptor, wherever they stand, in `parameters`; a class by its path."""
        if not isinstance(values, dict):
            return values
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        other = {key: value for key, value in values.items() if key not in cls.model_fields}
        if isinstance(own.get("type"), type):
            own["type"] = path_of(own["type"])
        given = own.get("parameters", {})
        if not isinstance(given, dict):
            raise ValueError(f"parameters = {given!r}: must be a table of keyword arguments")
        if twice := sorted(set(other) & set(given)):
            raise ValueError(f"{twice[0]}: is given twice, inside and outside of parameters; remove one")
        return {**own, "parameters": {**given, **other}}

    @model_validator(mode="after")
    def _has_a_descriptor(self) -> Self:
        kind = descriptor_class(self.type)
        check_parameters(kind, self.parameters, set(type(self).model_fields))
        return self


TAGS[OF_A_CLASS] = FeatureTermSettings
