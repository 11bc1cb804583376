"""[[labellers]]: two levels of labels, a cheap and an expensive one, in place of [labeller]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ..keys.quantities import PURE
from .labeller import LabellingPlan

MostLabels = Annotated[int, Field(ge=0), PURE]


class CheapPlan(LabellingPlan):
    """Settings of labels of the cheap level: keys of [labeller], a name and a budget."""

    name: str = Field(
        "cheap",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Name in messages: a letter, then letters, digits, _ and -.",
        examples=["gfn1"],
    )
    max_labels: MostLabels | None = Field(
        None, description="Budget of labels of this level; the run ends when it would need more.", examples=[500]
    )


class LevelPlan(CheapPlan):
    """One of the two levels of labels."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Name in messages: a letter, then letters, digits, _ and -.",
        examples=["gfn1"],
    )
    level: Literal["cheap", "expensive"] = Field(
        description="Asked wherever the model is uncertain, or only where the difference between the two levels is uncertain.",
        examples=["cheap"],
    )


def check_levels(labellers: Sequence[LevelPlan]) -> None:
    """ValueError unless there are two different labellers, one of each level."""
    names = [own.name for own in labellers]
    if len(labellers) == 1:
        raise ValueError(
            f"labellers: there is one only, {names[0]!r}; add one of the other level, or call the section [labeller] for labels of "
            "one level"
        )
    if len(labellers) > 2:
        raise ValueError(f"labellers: there are {len(labellers)}, {', '.join(names)}; keep two, one cheap and one expensive")
    first, second = labellers
    if first.name == second.name:
        raise ValueError(f"labellers: two have the name {first.name!r}; give each a name of its own")
    if first.level == second.level:
        other = "expensive" if first.level == "cheap" else "cheap"
        raise ValueError(f'labellers: {first.name!r} and {second.name!r} both have level = "{first.level}"; set one to "{other}"')
    if (first.calculator, first.parameters) == (second.calculator, second.parameters):
        raise ValueError(
            f"labellers: {first.name!r} and {second.name!r} are the same calculator with the same parameters, so that their "
            "difference is zero; change one, or use a single [labeller]"
        )
    cheap = first if first.level == "cheap" else second
    if cheap.cluster is not None:
        raise ValueError(f"labellers: {cheap.name!r}: cluster is a key of the expensive level, and holds for both; move it there")
