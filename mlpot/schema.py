"""What may stand in configuration files: one schema for every command."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from .drivers.ipi import PATIENCE
from .drivers.ipi_evaluator import Committee
from .drivers.ipi_socket import PREFIX, Address
from .learning.checkpoints import RunSettings
from .learning.deadline import MARGIN, deadline_of
from .learning.policy import TARGET, TARGET_ENERGY, TARGET_STRESS, Rules
from .learning.verdict import Convergence
from .schema_data import DataSettings
from .schema_dynamics import DynamicsSettings, Ensemble, Ramp, idle
from .schema_labeller import LabellerSettings
from .settings.fit import (
    FitConfig,
    FitSettings,
    ModelSettings,
    PairTermSettings,
    Settings,
    SoapTermSettings,
    is_learned,
)
from .uncertainty.representatives import NOVEL
from .units import GIGAPASCAL

TERM_TYPES: dict[str, type[Settings]] = {"pair": PairTermSettings, "soap": SoapTermSettings}
LOCALHOST = "localhost"
NO_NAMES = {"True", "False", "nan", "NaN", "inf", "Infinity", "infinity"}


class StructureSettings(Settings):
    """Where the simulation starts."""

    file: str = Field(description="anything ase.io reads; its last frame is taken")
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((1, 1, 1), description="copies along the cell vectors")


class LearningSettings(Settings):
    """When to ask for a label, and when there is no more to learn."""

    threshold: Literal["adaptive"] | PositiveFloat = Field(
        "adaptive", description='largest expected error of a force that is trusted, eV/A, or "adaptive"'
    )
    target: PositiveFloat = Field(
        TARGET, description="eV/A: what an adaptive threshold comes down to, and what the verdict compares errors with"
    )
    target_energy: PositiveFloat = Field(
        TARGET_ENERGY, description="largest expected error of the energy that is trusted, eV/atom"
    )
    target_stress: PositiveFloat = Field(
        TARGET_STRESS / GIGAPASCAL, description="likewise of the stress where it is used, GPa"
    )
    soft_fraction: float | None = Field(
        None, gt=0, lt=1, description="above this part of the threshold a label is queued and the simulation goes on"
    )
    asynchronous: bool = Field(
        False, description="queued labels come when they come; otherwise runs can be repeated bit for bit"
    )
    check_interval: PositiveInt | Literal["auto", "off"] = Field(
        "auto", description='steps between labels that only check the true error; "auto": ever fewer; "off"'
    )
    min_interval: int = Field(100, ge=0, description="steps between labels of a walker, short of twice the threshold")
    novelty: PositiveFloat = Field(
        NOVEL, description="environments this far from all sparse points are always labelled"
    )
    max_labels: PositiveInt | None = Field(None, description="the run ends cleanly when more would be needed")
    max_wall_hours: PositiveFloat | None = Field(None, description="budget over all restarts; a clean end as well")
    max_cpu_hours: PositiveFloat | None = Field(None, description="likewise, labels included")
    deadline: str | None = Field(
        None, description='a clean end after so long, such as "23:30:00"; "auto": when the batch job that the run is in ends'
    )
    deadline_margin_s: NonNegativeFloat = Field(MARGIN, description="s that it ends earlier")
    converged_after: PositiveInt | None = Field(
        None, description="end after so many steps without a label, if check labels are below target_error"
    )
    target_error: PositiveFloat | None = Field(None, description="RMS force error of check labels, eV/A")
    model: str | None = Field(
        None, description="start from this model's terms, noises and sparse points, and the data of [data]"
    )

    @model_validator(mode="after")
    def _can_converge(self) -> LearningSettings:
        if self.converged_after is not None and (self.check_interval == "off" or self.target_error is None):
            raise ValueError("converged_after needs target_error and check labels: without them nobody sees the true error")
        return self

    def rules(self) -> Rules:
        """As the learner takes them."""
        values = {name: getattr(self, name) for name in Rules.__annotations__}
        return Rules(**{**values, "target_stress": self.target_stress * GIGAPASCAL})

    def convergence(self) -> Convergence:
        """As the runner takes it."""
        return Convergence(self.converged_after, self.target_error or 0.0)


class WalkerSettings(Settings):
    """One or more of several simulations; what is not said here is that of [structure] and [dynamics]."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="in log.csv and in the name of its trajectory")
    replicas: PositiveInt = Field(1, description="so many of them, with seeds of their own")
    file: str | None = Field(None, description="where it starts")
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="copies along the cell vectors"
    )
    ensemble: Ensemble | None = Field(None, description="nve | nvt | npt | relax")
    relax: Literal["positions", "cell"] | None = Field(None, description="positions | cell")
    fmax: PositiveFloat | None = Field(None, description="eV/A")
    temperature_K: PositiveFloat | Ramp | None = Field(None, description="K")
    pressure_GPa: float | None = Field(None, description="GPa")
    timestep_fs: PositiveFloat | None = Field(None, description="fs")
    steps: PositiveInt | None = Field(None, description="steps of this walker")
    seed: int | None = Field(None, ge=0, description="of velocities and thermostat")

    def over(self, part: Settings) -> Any:
        """A section with what this walker says otherwise."""
        own = {name: value for name in type(part).model_fields if (value := getattr(self, name, None)) is not None}
        return part.model_copy(update=own)


class FitOutput(Settings):
    """What a fit writes."""

    model: str = Field(description="the model file")
    report: str | None = Field(None, description="HTML report of the fit")


class RunOutput(Settings):
    """What a run writes."""

    folder: str = Field(description="the run folder; new or empty, or --resume")
    interval: PositiveInt = Field(10, description="steps between frames of the trajectory")
    checkpoint_s: NonNegativeFloat = Field(10.0, description="seconds between checkpoints; labels make one as well")


class DataFile(Settings):
    """A configuration for commands that fit to find something out: [output] is for `mlpot fit`."""

    data: DataSettings = Field(description="[data] with train, or with [[data.sets]]")
    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    output: FitOutput | None = None

    @model_validator(mode="after")
    def _has_data(self) -> DataFile:
        if not self.data.is_given:
            raise ValueError("data.train: missing; name a file of labelled structures, or give [[data.sets]]")
        return self

    def fit_config(self) -> FitConfig:
        """[model], [fit] and the isolated-atom energies as one."""
        return join(self.model, self.fit, self.data.isolated_atom_energies)


class FitFile(DataFile):
    """A configuration for `mlpot fit`."""

    output: FitOutput


class LearningFile(Settings):
    """What all that learns has in common."""

    structure: StructureSettings
    labeller: LabellerSettings = LabellerSettings()
    learning: LearningSettings = LearningSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    output: RunOutput

    def fit_config(self) -> FitConfig:
        """[model], [fit] and the isolated-atom energies as one."""
        return join(self.model, self.fit, self.data.isolated_atom_energies)

    def run_settings(self) -> RunSettings:
        """[output] and the ends of [learning], as a run takes them."""
        return RunSettings(
            interval=self.output.interval, checkpoint_seconds=self.output.checkpoint_s,
            asynchronous=self.learning.asynchronous, convergence=self.learning.convergence(),
            max_cpu_hours=self.learning.max_cpu_hours, max_wall_hours=self.learning.max_wall_hours,
            cores_per_label=self.labeller.cores, at_once=self.labeller.workers,
            deadline=deadline_of(self.learning.deadline, self.learning.deadline_margin_s),
        )  # fmt: skip

    @model_validator(mode="after")
    def _has_the_data_it_needs(self) -> LearningFile:
        if self.data.test is not None:
            raise ValueError("data.test: is for `mlpot fit`; remove it, and run `mlpot evaluate` with the model of the run")
        if self.learning.model and not self.data.is_given:
            raise ValueError("learning.model needs the data it was fitted to: name it in data.train")
        if not self.data.is_given and any(map(is_learned, self.model.terms)):
            raise ValueError(
                'embedding = "learned" in model.terms needs data to learn from: name it in data.train, or set '
                'embedding = "periodic" and leave embedding_start out'
            )
        return self


class LearnFile(LearningFile):
    """A configuration for `mlpot learn`."""

    dynamics: DynamicsSettings = DynamicsSettings()
    walkers: tuple[WalkerSettings, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> LearnFile:
        names = [name for name, _, _ in self.all_walkers()]
        twice = sorted({name for name in names if names.count(name) > 1})
        words = sorted(set(names) & NO_NAMES)
        if words:
            raise ValueError(f"walkers: {words[0]!r} reads as a number in labels.db; choose another name")
        if twice:
            raise ValueError(f"walkers: {twice[0]!r} occurs twice; give every walker a name of its own")
        return self

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> LearnFile:
        """What a walker says is for its own ensemble; what [dynamics] says, for that of one walker at least."""
        found = {name: dynamics for name, _, dynamics in self.all_walkers()}
        for walker in self.walkers:
            own = walker.over(self.dynamics)
            for key in own.without_effect():
                if getattr(walker, key, None) is not None:
                    raise ValueError(f"walkers: {walker.name}: {idle(key, own)}")
        for key in DynamicsSettings.model_fields:
            if all(key in dynamics.without_effect() for dynamics in found.values()):
                raise ValueError(idle(key, next(iter(found.values()))))
        return self

    def all_walkers(self) -> list[tuple[str, StructureSettings, DynamicsSettings]]:
        """Name, start and dynamics of every walker, replicas written out."""
        if not self.walkers:
            return [("main", self.structure, self.dynamics)]
        found: list[tuple[str, StructureSettings, DynamicsSettings]] = []
        for settings in self.walkers:
            structure, dynamics = settings.over(self.structure), settings.over(self.dynamics)
            for k in range(settings.replicas):
                name = settings.name if settings.replicas == 1 else f"{settings.name}-{k}"
                # walkers of one seed would be one walker; a seed that was given counts for the first replica
                own = k if settings.seed is not None else len(found)
                found.append((name, structure, dynamics.model_copy(update={"seed": dynamics.seed + own})))
        return found


class DriverSettings(Settings):
    """Where i-PI is, and how it sends its structures."""

    unix: str | None = Field(None, description="the <address> in i-PI's input, with mode='unix'")
    prefix: str = Field(PREFIX, description="of UNIX sockets, as in i-pi -S")
    host: str = Field(LOCALHOST, description="instead of unix: the <address> with mode='inet'")
    port: int | None = Field(None, description="and the <port>")
    patience_s: NonNegativeFloat = Field(
        PATIENCE, description="seconds to wait for i-PI, at the beginning and when it is lost"
    )
    committee: Committee = Field("none", description='"std" | "members" with <ffcommittee> in i-PI\'s input')
    clients: PositiveInt = Field(1, description="connections; one is best, with <batch_size> = nbeads")
    temperature_K: PositiveFloat | None = Field(
        None, description="of ring polymers: i-PI does not tell; for kinetic energies in the report"
    )

    @model_validator(mode="after")
    def _one_address(self) -> DriverSettings:
        self.address()
        if self.unix is not None and self.host != LOCALHOST:
            raise ValueError(f"host = {self.host!r}: is for port, and unix = {self.unix!r} is given; remove one of them")
        if self.port is not None and self.prefix != PREFIX:
            raise ValueError(f"prefix = {self.prefix!r}: is for unix, and port = {self.port} is given; remove one of them")
        return self

    def address(self) -> Address:
        """As a client takes it."""
        return Address.given(self.unix, self.host, self.port, self.prefix)


class DriverOutput(RunOutput):
    """As of `mlpot learn`, but frames are those of all beads, and steps are short."""

    interval: PositiveInt = Field(100, description="steps between frames of the trajectory")


class DriverFile(LearningFile):
    """A configuration for `mlpot driver`: i-PI moves the atoms."""

    driver: DriverSettings
    output: DriverOutput

    @model_validator(mode="after")
    def _ends_with_its_server(self) -> DriverFile:
        if self.learning.deadline is not None:
            raise ValueError("learning.deadline: a driver ends when i-PI does; give total_time in i-PI's input instead")
        return self


def join(model: ModelSettings, fit: FitSettings, isolated_atom_energies: dict[str, float] | None) -> FitConfig:
    """The sections of a file as the FitConfig of the Python interface."""
    parts = {name: getattr(part, name) for part in (model, fit) for name in type(part).model_fields}
    return FitConfig(**parts, isolated_atom_energies=isolated_atom_energies)
