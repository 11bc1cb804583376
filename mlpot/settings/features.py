"""Settings of a many-body term on any descriptor."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from ..descriptors.named import check_parameters, descriptor_class, path_of
from ..keys.explain import TAGS
from ..keys.quantities import PURE, Ratio
from .sparse import SparseSettings


class FeatureTermSettings(SparseSettings):
    """Many-body term on a descriptor of one's own: a kernel of its normalised features.

    Keys that are not of this class are keyword arguments of the descriptor, as those in `parameters` are.
    """

    TAG: ClassVar[str] = "features"
    """In place of `type` where a file tells terms from each other."""

    type: str = Field(description='The descriptor, as "package.module:Class".', examples=["package.module:Class"])
    parameters: dict[str, Any] = Field(
        {}, description="Keyword arguments of the descriptor; they may also stand beside the other keys.", examples=[{}]
    )
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
            raise ValueError(f"{twice[0]}: is given twice, beside parameters and in it; remove one")
        return {**own, "parameters": {**given, **other}}

    @model_validator(mode="after")
    def _has_a_descriptor(self) -> Self:
        kind = descriptor_class(self.type)
        check_parameters(kind, self.parameters, set(type(self).model_fields))
        return self

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> Self:
        if self.zeta != round(self.zeta):
            raise ValueError(f"zeta = {self.zeta}: must be a whole number; other powers of features are no covariance")
        for key, kernel in (("zeta", "polynomial"), ("length_scale", "gaussian")):
            if key in self.model_fields_set and getattr(self, key) != type(self).model_fields[key].default and self.kernel != kernel:
                raise ValueError(f'{key} = {getattr(self, key)}: is for kernel = "{kernel}"; remove it')
        return self

    def extrapolates(self) -> bool:
        """See `TermSettingsBase`."""
        raise ValueError(
            f'extrapolate = true: a term with type = "{self.type}" does not know which elements are alike; set extrapolate = false'
        )


TAGS[FeatureTermSettings.TAG] = FeatureTermSettings
