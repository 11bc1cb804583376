"""Settings of a many-body term on the local many-body tensor representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..descriptors.distributions import MOST_BINS, Angles, Distances
from ..descriptors.mbtr import MOST_WEIGHTS
from ..keys.base import Settings
from ..keys.quantities import PURE, Ratio
from .named_features import NamedTermSettings
from .terms import CutoffWidth


class GridSettings(Settings):
    """Keys of the grid of a distribution, besides its range."""

    n: Annotated[int, Field(ge=2, le=MOST_BINS), PURE] = Field(40, description="Number of bins of the grid.")
    scale: Ratio | None = Field(
        None, description='Decay s of weighting = "exp", 1/A; 0.5 for distances and 0.3 for angles when left out.', examples=[0.5]
    )


class DistanceGridSettings(GridSettings):
    """Distribution of the distances to the neighbours (k = 2)."""

    geometry: Literal["distance", "inverse_distance"] = Field("inverse_distance", description="What is distributed.")
    min: Annotated[float, PURE] = Field(0.1, description="Centre of the first bin, A or 1/A.")
    max: Annotated[float, PURE] = Field(1.1, description="Centre of the last bin, A or 1/A.")
    sigma: Ratio = Field(0.03, description="Broadening, A or 1/A, at least a third of the width of a bin.")
    weighting: Literal["unity", "exp", "inverse_square"] = Field(
        "exp", description='Weight of a neighbour at a distance r: 1, e^(-scale r), or 1/r^2; times a smooth step at the cutoff.'
    )

    def arguments(self) -> dict[str, Any]:
        """Arguments of `Distances`."""
        return self.model_dump() | {"scale": 0.5 if self.weighting == "exp" and self.scale is None else self.scale}

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        Distances(**self.arguments())
        return self


class AngleGridSettings(GridSettings):
    """Distribution of the cosines of angles (k = 3)."""

    geometry: Literal["cosine", "angle"] = Field("cosine", description='Distributed quantity; "angle" is refused: it has kinks.')
    min: Annotated[float, PURE] = Field(-1.0, description="Centre of the first bin.")
    max: Annotated[float, PURE] = Field(1.0, description="Centre of the last bin.")
    sigma: Ratio = Field(0.08, description="Broadening, at least a third of the width of a bin.")
    weighting: Literal["unity", "exp", "smooth_cutoff"] = Field(
        "exp",
        description="Weight of a triangle: 1 or e^(-scale perimeter), times smooth steps at the cutoff for both neighbours; or "
        "1 + 2 x^3 - 3 x^2, x = r / cutoff, for both.",
    )
    vertices: Literal["all", "centre"] = Field(
        "all", description='Angles at the centre and at its neighbours, or only those at the centre.'
    )

    def arguments(self) -> dict[str, Any]:
        """Arguments of `Angles`."""
        return self.model_dump() | {"scale": 0.3 if self.weighting == "exp" and self.scale is None else self.scale}

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        Angles(**self.arguments())
        return self


class MbtrTermSettings(NamedTermSettings):
    """Many-body term on the local many-body tensor representation: distributions of distances and angles."""

    type: Literal["mbtr"] = Field("mbtr", description="Kind of term.")
    cutoff_width: CutoffWidth = 1.0
    k2: DistanceGridSettings | None = Field(
        None,
        description="Distribution of distances, a table with geometry, min, max, n, sigma, weighting, scale; with neither k2 nor k3 "
        "both have their defaults.",
        examples=[{"min": 0.1, "max": 1.1}],
    )
    k3: AngleGridSettings | None = Field(
        None,
        description="Distribution of cosines of angles, a table with geometry, min, max, n, sigma, weighting, scale, vertices.",
        examples=[{"n": 30, "sigma": 0.1}],
    )
    n_weights: Annotated[int, Field(ge=0, le=MOST_WEIGHTS), PURE] | None = Field(
        None,
        description="Sum over all elements, once with weight 1 and this many times with properties of the elements as weights, "
        "instead of one distribution for every element, pair and triple.",
        examples=[2],
    )

    __hash__ = NamedTermSettings.__hash__

    @model_validator(mode="before")
    @classmethod
    def _have_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("k2") is None and values.get("k3") is None:
            return {**values, "k2": {}, "k3": {}}
        return values

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """See `DescriptorTermSettings`."""
        grids = {name: getattr(self, name) and getattr(self, name).arguments() for name in ("k2", "k3")}
        return {"cutoff": self.cutoff, "cutoff_width": self.cutoff_width, "n_weights": self.n_weights} | grids
