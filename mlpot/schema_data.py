"""[data] of configuration files: which structures, and what their labels are called."""

from __future__ import annotations

from typing import Any

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from .data.label_keys import KINDS, LabelKeys
from .data.reading import DataSource
from .settings.fit import Settings


class DataSetSettings(Settings):
    """Some files of [data] whose labels have names of their own; what is not said here is that of [data]."""

    files: str | list[str] = Field(description='files, globs, folders or "file@0:100" of labelled structures')
    energy_key: str | None = Field(None, description="of total energies, eV, in these files")
    forces_key: str | None = Field(None, description="of forces, eV/A")
    stress_key: str | None = Field(None, description="of stresses, eV/A^3 in ASE's sign")
    virial_key: str | None = Field(None, description="of virials, -stress * volume, eV")
    config_type: str | None = Field(
        None, min_length=1, description="the family of these structures, in place of their own; isolated atoms keep theirs"
    )

    @field_validator("files")
    @classmethod
    def _some_file(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("no file; name one")
        return value

    def keys(self, general: LabelKeys) -> LabelKeys:
        """The names of labels: its own, and of other kinds the general ones. A stress is one kind, whatever it is given as."""
        own = LabelKeys(self.energy_key, self.forces_key, self.stress_key, self.virial_key).given()
        tensor = {"stress", "virial"} & set(own)
        rest = {k: v for k, v in general.given().items() if not (tensor and k in ("stress", "virial"))}
        return LabelKeys(**(rest | own))


class DataSettings(Settings):
    """Labelled structures."""

    train: str | list[str] = Field([], description='files, globs, folders or "file@0:100" of labelled structures')
    test: str | list[str] | None = Field(None, description="errors on these are in the closing table")
    isolated_atom_energies: dict[str, float] | None = Field(
        None, description="eV by symbol; when left out those of isolated atoms in the data, or fitted"
    )
    energy_key: str | None = Field(None, description="of total energies, eV; well-known names are found and said")
    forces_key: str | None = Field(None, description="of forces, eV/A; likewise")
    stress_key: str | None = Field(None, description="of stresses, eV/A^3 in ASE's sign; likewise")
    virial_key: str | None = Field(None, description="of virials, -stress * volume, eV; likewise")
    sets: tuple[DataSetSettings, ...] = Field(
        (), description="more training data, where files differ in the names of their labels or are families"
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

    def keys(self) -> LabelKeys:
        """The names of labels that were given."""
        return LabelKeys(**{kind: getattr(self, f"{kind}_key") for kind in KINDS})

    def sources(self) -> list[DataSource]:
        """The training data, file by file with the names of its labels."""
        own = [DataSource(self.train, self.keys(), where="data.train")] if self.train else []
        return own + [
            DataSource(s.files, s.keys(self.keys()), s.config_type, f"data.sets[{k}]") for k, s in enumerate(self.sets)
        ]

    @model_validator(mode="after")
    def _real_elements(self) -> DataSettings:
        for symbol in self.isolated_atom_energies or ():
            if symbol not in atomic_numbers:
                raise ValueError(f"isolated_atom_energies: {symbol!r} is not a chemical symbol")
        return self
