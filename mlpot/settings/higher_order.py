"""Keys of a density term for invariants of more than two densities."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..keys.base import Settings
from ..keys.quantities import PURE, Count, Ratio

HIGHEST_DEGREE = {3: 6, 4: 5}
"""Highest `order_l_max` by order: finding the invariants of order 4 takes two minutes for degree 5 and over ten for degree 6."""


class OrderSettings(Settings):
    """Keys of a density term that add invariants of three and four densities to the power spectrum."""

    order: Annotated[Literal[2, 3, 4], PURE] = Field(
        2,
        description="Largest number of densities in an invariant: 2 is the power spectrum, 3 adds bispectra of mixed channels, 4 "
        "products of four.",
    )
    order_l_max: Annotated[int, Field(ge=1, le=6), PURE] = Field(
        3, description="Highest angular degree in invariants of three and four densities."
    )
    order_channels: Count = Field(8, description="Number of random mixtures of channels that these invariants are built from.")
    order_weight: Ratio = Field(
        0.1, description="Weight relative to the power spectrum, applied once for each density beyond two."
    )

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        highest = HIGHEST_DEGREE.get(self.order)
        if highest is not None and self.order_l_max > highest:
            raise ValueError(f"order_l_max = {self.order_l_max}: must be at most {highest} with order = {self.order}")
        return self
