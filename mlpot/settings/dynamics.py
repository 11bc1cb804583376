"""Section [dynamics]: molecular dynamics or a relaxation, and which keys each ensemble uses."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..keys.base import Settings
from ..keys.quantities import Count, Femtoseconds, Force, Kelvin, Seed, Steps, Unit
from ..keys.toml_text import toml_value

ENSEMBLES = ("nve", "nvt", "npt", "relax")
LAMMPS = "lammps"
USES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("input", "ranks", "command", "look_every", "leg"), (LAMMPS,)),
    **dict.fromkeys(("ensemble", "temperature_K", "timestep_fs", "steps", "seed"), ENSEMBLES),
    "thermostat_fs": ("nvt", "npt"),
    "pressure_GPa": ("npt",),
    "barostat_fs": ("npt",),
    "shape": ("npt",),
    "relax": ("relax",),
    "fmax": ("relax",),
}
"""Ensembles that use a key; LAMMPS counts as one, since its input says what it does."""


class DynamicsPlan(Settings):
    """Molecular dynamics or a relaxation: section [dynamics], and the plan of a `Walker`."""

    engine: Literal["ase", "lammps"] = Field("ase", description="Program that moves the atoms: mlpot with ASE, or LAMMPS.")
    input: str | None = Field(
        None, description="Input of LAMMPS, with `pair_style mlpot`; it also makes or reads the structure.", examples=["in.lammps"]
    )
    ranks: Count = Field(1, description="MPI ranks of LAMMPS.")
    command: str | None = Field(
        None,
        description="Command of your own LAMMPS, which must know pair style mlpot; default: the wheel, ranks by mpiexec.",
        examples=["srun -n 64 lmp"],
    )
    look_every: Steps = Field(10, description="Steps of LAMMPS between two looks at its uncertainty, which may end a leg.")
    leg: Steps = Field(
        100, description="Steps of LAMMPS until mlpot sees the structure, decides, and writes log and trajectory."
    )
    ensemble: Literal["nve", "nvt", "npt", "relax"] = Field(
        "nvt",
        description="Constant energy, constant temperature (Langevin, BAOAB), constant pressure (Langevin-Hoover), or a relaxation.",
    )
    temperature_K: Kelvin | Annotated[tuple[Kelvin, ...], Field(min_length=2)] = Field(
        300.0,
        description="Temperature, or several that the thermostat passes in straight lines of equal length: [300, 300, 900] stays at "
        "300 K for the first half.",
    )
    timestep_fs: Femtoseconds = Field(1.0, description="Time step.")
    steps: Steps = Field(2000, description="Steps of the whole run; largest number of steps of a relaxation.")
    seed: Seed = Field(0, description="Seed of the initial velocities and of the thermostat.")
    thermostat_fs: Femtoseconds = Field(100.0, description="Time constant of the Langevin thermostat.")
    pressure_GPa: Annotated[float, Unit("GPa")] = Field(0.0, description="External pressure of npt.")
    barostat_fs: Femtoseconds = Field(1000.0, description="Time constant of the barostat of npt.")
    shape: Literal["volume", "cell"] = Field("volume", description="What npt may change: the volume, or the whole cell.")
    relax: Literal["positions", "cell"] = Field(
        "positions", description="What a relaxation changes: positions, or positions and cell (slab, wire: its periodic directions)."
    )
    fmax: Force = Field(
        0.02,
        description="Largest force at the end of a relaxation, confirmed by a label; of a cell also the largest derivative of the "
        "energy by the strain, eV per atom.",
    )

    @model_validator(mode="after")
    def _lammps_has_an_input(self) -> Self:
        if self.is_lammps and self.input is None:
            raise ValueError('input: missing; name the input of LAMMPS, such as "in.lammps"')
        return self

    @property
    def is_lammps(self) -> bool:
        """Whether LAMMPS moves the atoms."""
        return self.engine == LAMMPS

    @property
    def kind(self) -> str:
        """The ensemble, or LAMMPS: decides which keys are used."""
        return LAMMPS if self.is_lammps else self.ensemble

    @property
    def is_relaxation(self) -> bool:
        """Whether it relaxes rather than integrates."""
        return self.kind == "relax"

    @property
    def name(self) -> str:
        """The ensemble as log, state and report call it; relaxations of the cell are "relax cell"."""
        return "relax cell" if self.is_relaxation and self.whole_cell else self.kind

    @property
    def whole_cell(self) -> bool:
        """Whether the shape of the cell changes, in npt or in a relaxation."""
        return (self.relax if self.is_relaxation else self.shape) == "cell"

    @property
    def ramp(self) -> tuple[float, ...]:
        """Temperatures that the thermostat passes, two or more, K."""
        t = self.temperature_K
        return t if isinstance(t, tuple) else (t, t)

    @property
    def is_heated(self) -> bool:
        """Whether the temperature of the thermostat changes along the run."""
        return self.kind in ("nvt", "npt") and len(set(self.ramp)) > 1

    def without_effect(self) -> list[str]:
        """Keys that differ from their defaults although this ensemble does not use them."""
        given = (key for key in USES if getattr(self, key) != type(self).model_fields[key].default)
        return [key for key in given if self.kind not in USES[key]]

    def idle(self, key: str) -> str:
        """The message for a key without effect."""
        if USES[key] == (LAMMPS,) or self.is_lammps:
            remedy = "remove it, LAMMPS' input says it" if self.is_lammps else 'set engine = "lammps", or remove it'
            return f'{key} has no effect with engine = "{self.engine}"; {remedy}'
        owners = " or ".join(f'"{name}"' for name in USES[key])
        value = getattr(self, key)
        given = f"{value:g}" if isinstance(value, float) else toml_value(value)
        return f'{key} = {given} is for ensemble = {owners}, but ensemble = "{self.ensemble}"; change one of them'
