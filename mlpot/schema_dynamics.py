"""What may stand in [dynamics], and which ensemble reads it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from .learning.dynamics import DynamicsPlan
from .learning.relaxation import RelaxationPlan
from .settings.fit import Settings

Ensemble = Literal["nve", "nvt", "npt", "relax"]
Ramp = Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
"""Temperatures, K."""
USES: dict[str, tuple[Ensemble, ...]] = {
    "thermostat_fs": ("nvt", "npt"),
    "pressure_GPa": ("npt",),
    "barostat_fs": ("npt",),
    "shape": ("npt",),
    "relax": ("relax",),
    "fmax": ("relax",),
}
"""Ensembles that read a key."""


class DynamicsSettings(Settings):
    """Molecular dynamics, or a relaxation."""

    ensemble: Ensemble = Field("nvt", description="nve | nvt | npt | relax")
    temperature_K: PositiveFloat | Ramp = Field(
        300.0, description="a number, or [start, end] for a linear ramp; [300, 300, 900] is held in the first half"
    )
    timestep_fs: PositiveFloat = Field(1.0, description="fs")
    steps: PositiveInt = Field(2000, description="steps of the whole run; of a relaxation the largest number of them")
    seed: int = Field(0, ge=0, description="of velocities and thermostat")
    thermostat_fs: PositiveFloat = Field(100.0, description="time constant of the Langevin thermostat, fs")
    pressure_GPa: float = Field(0.0, description="npt: external pressure")
    barostat_fs: PositiveFloat = Field(1000.0, description="npt: time constant of the barostat, fs")
    shape: Literal["volume", "cell"] = Field("volume", description="npt: what may change, the volume or the whole cell")
    relax: Literal["positions", "cell"] = Field(
        "positions", description="relax: positions alone or the cell too; temperatures and times are not used"
    )
    fmax: PositiveFloat = Field(0.02, description="relax: largest force at the end, eV/A, confirmed by a label")

    def without_effect(self) -> list[str]:
        """Keys that say something else than their defaults do, and that this ensemble does not read."""
        given = (key for key in USES if getattr(self, key) != type(self).model_fields[key].default)
        return [key for key in given if self.ensemble not in USES[key]]

    def plan(self) -> DynamicsPlan | RelaxationPlan:
        """As the runner takes it."""
        if self.ensemble == "relax":
            return RelaxationPlan(self.steps, self.fmax, self.relax == "cell")
        t = self.temperature_K
        return DynamicsPlan(
            ensemble=self.ensemble,
            ramp=t if isinstance(t, tuple) else (t, t),
            timestep_fs=self.timestep_fs,
            steps=self.steps,
            seed=self.seed,
            thermostat_fs=self.thermostat_fs,
            barostat_fs=self.barostat_fs,
            pressure_GPa=self.pressure_GPa,
            whole_cell=self.shape == "cell",
        )


def idle(key: str, dynamics: DynamicsSettings) -> str:
    """What is wrong with a key that is not read."""
    value = getattr(dynamics, key)
    shown = f'"{value}"' if isinstance(value, str) else f"{value:g}"
    owners = " or ".join(f'"{name}"' for name in USES[key])
    return f'{key} = {shown} is for ensemble = {owners}, and that is "{dynamics.ensemble}"; change one of them'
