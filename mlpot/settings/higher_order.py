"""What a user may say of invariants of more than two densities."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .base import Settings

HIGHEST_DEGREE = {3: 6, 4: 5}
"""By order: beyond, finding the invariants takes longer than anybody waits (order 4 of degree 5 two minutes, of 6 over ten)."""


class OrderSettings(Settings):
    """Keys of a density term that let it see more than pairs of neighbours together."""

    order: Literal[2, 3, 4] = Field(
        2, description="densities in an invariant at most: 2 the power spectrum, 3 the bispectrum of mixed channels, 4"
    )
    order_l_max: int = Field(3, ge=1, le=6, description="highest angular degree in invariants of 3 and 4 densities")
    order_channels: PositiveInt = Field(8, description="random mixtures of channels that these are made of")
    order_weight: PositiveFloat = Field(
        0.1, description="their weight beside the power spectrum, for each density more"
    )

    @model_validator(mode="after")
    def _can_be_found(self) -> OrderSettings:
        highest = HIGHEST_DEGREE.get(self.order)
        if highest is not None and self.order_l_max > highest:
            raise ValueError(f"order_l_max = {self.order_l_max}: at most {highest} with order = {self.order}")
        return self
