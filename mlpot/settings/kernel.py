"""Keys that the settings of all terms on a descriptor share: the kernel, and how features come to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from ..descriptors.named import descriptor_class
from ..keys.quantities import PURE, Ratio
from .sparse import SparseSettings


class DescriptorTermSettings(SparseSettings):
    """Base of the settings of a many-body term on a descriptor: a kernel of its normalised features."""

    type: str
    kernel: Literal["polynomial", "gaussian"] = Field(
        "polynomial", description="Kernel as a function of the overlap of the normalised features of two environments."
    )
    length_scale: Ratio = Field(1.0, description="Length scale of the Gaussian kernel; features have norm 1.")
    standardise: bool = Field(
        True, description="Shift and scale features by their means and standard deviations in the data, element by element."
    )
    offset: Annotated[NonNegativeFloat, PURE] = Field(
        3.0,
        description="A constant feature added before normalisation: it gives lone atoms features and makes the kernel smoother; in "
        "units of the average length of standardised features, or of the features themselves.",
    )

    @property
    def is_exported(self) -> bool:
        """See `TermSettingsBase`: unless only Python can compute the descriptor."""
        return descriptor_class(self.type).is_in_core()

    def arguments(self, species: Sequence[int]) -> dict[str, Any]:
        """Keyword arguments of the descriptor, for these elements (atomic numbers)."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> Self:
        if self.zeta != round(self.zeta):
            raise ValueError(f"zeta = {self.zeta}: must be a whole number; other powers of features are no covariance")
        for key, kernel in (("zeta", "polynomial"), ("length_scale", "gaussian")):
            if self.is_changed(key) and self.kernel != kernel:
                raise ValueError(f'{key} = {getattr(self, key)}: is for kernel = "{kernel}"; remove it')
        return self

    def is_changed(self, key: str) -> bool:
        """Whether a key was given another value than its default."""
        return key in self.model_fields_set and getattr(self, key) != type(self).model_fields[key].default

    def extrapolates(self) -> bool:
        """See `TermSettingsBase`."""
        raise ValueError(
            f'extrapolate = true: a term with type = "{self.type}" does not know which elements are alike; set extrapolate = false'
        )
