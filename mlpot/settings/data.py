"""Section [data]: labelled structures, and the names of their labels."""

from __future__ import annotations

from typing import Any, Self

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from ..data.label_keys import KINDS, LabelKeys
from ..data.reading import DataSource
from ..keys.base import Settings
from ..keys.quantities import Energy


class LabelKeySettings(Settings):
    """Names of the labels in structure files; well-known names are recognised without these keys."""

    energy_key: str | None = Field(None, description="Name of the total energies, eV.", examples=["REF_energy"])
    forces_key: str | None = Field(None, description="Name of the forces, eV/A.", examples=["REF_forces"])
    stress_key: str | None = Field(
        None, description="Name of the stresses, eV/A^3, positive under tension as in ASE.", examples=["REF_stress"]
    )
    virial_key: str | None = Field(None, description="Name of the virials, -stress * volume, eV.", examples=["REF_virial"])

    def keys(self) -> LabelKeys:
        """The names that were given."""
        return LabelKeys(**{kind: getattr(self, f"{kind}_key") for kind in KINDS})


class IsolatedAtomSettings(Settings):
    """Energies of isolated atoms."""

    isolated_atom_energies: dict[str, Energy] | None = Field(
        None,
        description="Energies of isolated atoms by chemical symbol; when left out they come from isolated atoms in the data, or "
        "are fitted.",
        examples=[{"Si": -0.79}],
    )

    @model_validator(mode="after")
    def _real_elements(self) -> Self:
        check_symbols("isolated_atom_energies", self.isolated_atom_energies or ())
        return self


def check_symbols(key: str, symbols: Any) -> None:
    """ValueError for the keys of a table that are not chemical symbols."""
    unknown = sorted(set(symbols) - set(atomic_numbers))
    if unknown:
        raise ValueError(f"{key}: {unknown} are not chemical symbols; use symbols such as Si")


class DataSetSettings(LabelKeySettings):
    """More training data whose labels have names of their own, or which form a family."""

    files: str | list[str] = Field(
        description='Files, globs, folders or "file@0:100" of labelled structures.', examples=["surface.xyz"]
    )
    config_type: str | None = Field(
        None,
        min_length=1,
        description="Family of these structures, replacing the one in the files; isolated atoms keep theirs.",
        examples=["surface"],
    )

    @field_validator("files")
    @classmethod
    def _some_file(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("names no file; name at least one")
        return value

    def keys_beside(self, general: LabelKeys) -> LabelKeys:
        """Label names of this file, and general names for other kinds. A stress is one kind, whether given as stress or virial."""
        own = self.keys().given()
        tensor = {"stress", "virial"} & set(own)
        rest = {k: v for k, v in general.given().items() if not (tensor and k in ("stress", "virial"))}
        return LabelKeys(**(rest | own))


class DataFileSettings(Settings):
    """Files of labelled structures."""

    train: str | list[str] = Field(
        [], description='Files, globs, folders or "file@0:100" of labelled structures.', examples=["train.xyz"]
    )
    test: str | list[str] | None = Field(
        None, description="Structures whose errors are reported after the fit.", examples=["test.xyz"]
    )

class DataSettings(IsolatedAtomSettings, LabelKeySettings, DataFileSettings):
    """Labelled structures."""

    sets: tuple[DataSetSettings, ...] = Field(
        (), description="More training data whose labels have other names, or which form a family."
    )

    @field_validator("sets", mode="before")
    @classmethod
    def _are_tables(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or not all(isinstance(s, dict | DataSetSettings) for s in value):
            raise ValueError('must be tables: a line [[data.sets]], and files = "..." below it')
        return value

    @property
    def is_given(self) -> bool:
        """Whether there is anything to fit."""
        return bool(self.train or self.sets)

    def sources(self) -> list[DataSource]:
        """The training data, file by file with the names of its labels."""
        own = [DataSource(self.train, self.keys(), where="data.train")] if self.train else []
        sets = enumerate(self.sets)
        return own + [DataSource(s.files, s.keys_beside(self.keys()), s.config_type, f"data.sets[{k}]") for k, s in sets]
