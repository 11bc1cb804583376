"""Section [baseline]: a calculator beneath the fit, which then learns the difference from it (delta learning)."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import Field, model_validator

from ..keys.base import Settings

KNOWN_CALCULATORS: dict[str, frozenset[str]] = {
    "ase.calculators.emt.EMT": frozenset({"asap_cutoff"}),
    "ase.calculators.lj.LennardJones": frozenset({"sigma", "epsilon", "rc", "ro", "smooth"}),
    "ase.calculators.morse.MorsePotential": frozenset({"epsilon", "r0", "rho0", "rcut1", "rcut2"}),
    "tblite.ase.TBLite": frozenset({
        "method", "charge", "multiplicity", "accuracy", "electronic_temperature", "max_iterations", "mixer_damping", "verbosity",
        "cache_api",
    }),
}  # fmt: skip
"""Calculators, with their keyword arguments, that a model file may name without being trusted: with numbers and words for these
arguments they compute, and start no program and read no file."""


class BaselineSettings(Settings):
    """The calculator beneath a fit."""

    calculator: str = Field(
        description="Import path of the ASE calculator beneath the fit, or of a function that makes one.",
        examples=["tblite.ase.TBLite"],
    )
    parameters: dict[str, Any] = Field({}, description="Keyword arguments of the calculator.", examples=[{"method": "GFN1-xTB"}])
    reuse: bool = Field(
        False,
        description="Keep one calculator for all structures, for calculators that take long to start; its results must not depend on "
        "the structures before.",
    )

    @model_validator(mode="after")
    def _can_be_recorded(self) -> Self:
        if not all(part.isidentifier() for part in self.calculator.replace(":", ".").split(".")) or "." not in self.calculator:
            raise ValueError(f'calculator = {self.calculator!r}: must be an import path such as "tblite.ase.TBLite"')
        try:
            json.dumps(self.parameters)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameters: only numbers, strings, lists and tables can be recorded ({error})") from error
        return self

    @property
    def is_known(self) -> bool:
        """Whether the calculator is one of `KNOWN_CALCULATORS`, with harmless arguments only."""
        allowed = KNOWN_CALCULATORS.get(self.calculator, frozenset())
        plain = all(isinstance(value, int | float | str) for value in self.parameters.values())
        return self.calculator in KNOWN_CALCULATORS and set(self.parameters) <= allowed and plain


class BaselineSection(Settings):
    """Settings of a fit that may have a calculator beneath it."""

    baseline: BaselineSettings | None = Field(
        None,
        description="Calculator beneath the fit.",
        examples=[{"calculator": "tblite.ase.TBLite", "parameters": {"method": "GFN1-xTB"}}],
    )
