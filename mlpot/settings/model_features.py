"""Settings of a many-body term on features of a model of whole structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ..descriptors.model_features import ModelFeatures
from .kernel import DescriptorTermSettings


class ModelFeatureTermSettings(DescriptorTermSettings):
    """Many-body term on features of any model of atoms, such as a neural network: a kernel of its normalised features."""

    type: Literal["features"] = Field("features", description="Kind of term.")
    model: str = Field(
        description='The model, a class that derives from mlpot.FeatureModel, as "package.module:Class".',
        examples=["feature_model:MessagePassing"],
    )
    parameters: dict[str, Any] = Field({}, description="Keyword arguments of the class.", examples=[{"cutoff": 4.0}])

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        return {"model": self.model, "parameters": self.parameters}

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        ModelFeatures((), self.model, self.parameters)
        return self
