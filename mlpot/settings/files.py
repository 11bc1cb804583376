"""Whole configuration files: `mlpot fit`, `mlpot learn` and `mlpot driver`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from ..keys.base import Settings
from .baseline import BaselineSection
from .data import DataSettings
from .driver import DriverSettings
from .dynamics import LAMMPS, DynamicsPlan
from .fit import FitConfig, FitSettings, ModelSettings
from .labeller import LabellingPlan
from .learning import LearningSettings, Rules
from .levels import CheapPlan, LevelPlan, check_levels
from .output import DriverOutput, FitOutput, RunOutput
from .run import RunSettings
from .targets import TargetsSettings
from .tune import TuneSettings
from .walkers import StructureSettings, WalkerSettings

NOT_NAMES = {"True", "False", "nan", "NaN", "inf", "Infinity", "infinity"}
"""Names of walkers that ASE's database would read as values."""


class ModelFile(Settings):
    """The section [model] of a file, for commands that need no more: `mlpot features`, `mlpot criteria`."""

    model: ModelSettings = Field(description="Preset or terms of the model.")


class FittedFile(BaselineSection, TargetsSettings):
    """Sections of every file that describes a fit."""

    data: DataSettings = Field(DataSettings(), description="Labelled structures.")
    model: ModelSettings = Field(ModelSettings(), description="Preset or terms of the model.")
    fit: FitSettings = Field(FitSettings(), description="Noises, and how the fit is made.")

    def fit_config(self) -> FitConfig:
        """[model], [fit], [baseline] and the isolated-atom energies as one."""
        parts = {name: value for section in (self.model, self.fit) for name, value in section}
        return FitConfig(
            **parts, isolated_atom_energies=self.data.isolated_atom_energies, baseline=self.baseline, targets=self.targets
        )


class DataFile(FittedFile):
    """A file for commands that fit without keeping the model: `mlpot learning-curve`, `mlpot compare`."""

    output: FitOutput | None = Field(None, description="Files that a fit writes.")

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if not self.data.is_given:
            raise ValueError("data.train: missing; name a file of labelled structures, or add [[data.sets]]")
        return self


class FitFile(DataFile):
    """A file for `mlpot fit`."""

    output: FitOutput = Field(description="Files that a fit writes.")


class TuneFile(DataFile):
    """A file for `mlpot tune`; without [model] the search begins with the balanced preset."""

    tune: TuneSettings = Field(TuneSettings(), description="Search of `mlpot tune`.")


class LearningFile(FittedFile):
    """Sections of every run that learns."""

    structure: StructureSettings = Field(description="Where the simulation starts.")
    labeller: LabellingPlan = Field(LabellingPlan(), description="How labels are made.")
    labellers: tuple[LevelPlan, ...] = Field((), description="Two levels of labels, cheap and expensive, instead of [labeller].")
    learning: LearningSettings = Field(LearningSettings(), description="When to ask for a label, and when the run ends.")
    output: RunOutput = Field(description="Files that a run writes.")

    @property
    def has_lammps(self) -> bool:
        """Whether LAMMPS moves the atoms of a simulation."""
        return False

    def run_settings(self) -> RunSettings:
        """Settings needed by the loop of the run."""
        return RunSettings.of(self.output, self.learning, self.labelling)

    @property
    def labelling(self) -> LabellingPlan:
        """Settings of labels; with two levels, of the expensive ones."""
        return next((own for own in self.labellers if own.level == "expensive"), self.labeller)

    @property
    def cheap_labelling(self) -> CheapPlan | None:
        """Settings of labels of the cheap level; None with one level."""
        return next((own for own in self.labellers if own.level == "cheap"), None)

    def rules(self) -> Rules:
        """When to ask for a label; with two levels, for an expensive one."""
        own = self.labelling
        return self.learning.changed(max_labels=own.max_labels) if isinstance(own, LevelPlan) else self.learning

    @model_validator(mode="after")
    def _levels_are_complete(self) -> Self:
        if not self.labellers:
            return self
        check_levels(self.labellers)
        if "labeller" in self.model_fields_set:
            raise ValueError("labellers: give either [labeller] or two [[labellers]], not both")
        if self.learning.max_labels is not None:
            raise ValueError("learning.max_labels: give each of the [[labellers]] its own max_labels, and remove this key")
        for name, value in (("baseline", self.baseline), ("learning.model", self.learning.model)):
            if value is not None:
                raise ValueError(f"{name}: cannot be combined with two [[labellers]]; remove it, or use a single [labeller]")
        if self.data.isolated_atom_energies is not None:
            raise ValueError("data.isolated_atom_energies: with two [[labellers]] they are fitted at each level; remove the key")
        return self

    @model_validator(mode="after")
    def _has_the_data_it_needs(self) -> Self:
        if self.labelling.cluster is not None and not self.has_lammps:
            raise ValueError('labeller.cluster is for dynamics.engine = "lammps"; remove it')
        if self.learning.threshold_dipole is not None and all(target.name != "dipole" for target in self.targets):
            raise ValueError('learning.threshold_dipole: no dipole is learned; add [[targets]] name = "dipole", or remove the key')
        if self.learning.threshold_dipole is not None and self.has_lammps:
            raise ValueError('learning.threshold_dipole: LAMMPS predicts no dipoles; remove the key, or set dynamics.engine = "ase"')
        if self.data.test is not None:
            raise ValueError("data.test is for `mlpot fit`; remove it, and run `mlpot evaluate` with the model of the run")
        if not self.data.is_given and (unread := self.data.keys().given()):
            raise ValueError(f"data.{next(iter(unread))}_key: names labels of data that are not given; name files in data.train")
        if self.learning.model and not self.data.is_given:
            raise ValueError("learning.model needs the data it was fitted to: name it in data.train")
        if not self.data.is_given and any(term.is_learned for term in self.model.terms):
            raise ValueError(
                'embedding = "learned" in model.terms needs data to learn from: name it in data.train, or set '
                'embedding = "periodic" and remove embedding_start'
            )
        return self


class LearnFile(LearningFile):
    """A file for `mlpot learn`."""

    dynamics: DynamicsPlan = Field(DynamicsPlan(), description="Molecular dynamics or a relaxation.")
    walkers: tuple[WalkerSettings, ...] = Field((), description="Several simulations that share labels and model.")

    @model_validator(mode="before")
    @classmethod
    def _starts_with_the_input_of_lammps(cls, values: Any) -> Any:
        """LAMMPS makes or reads the structure itself."""
        dynamics = values.get("dynamics") if isinstance(values, dict) else None
        if not isinstance(dynamics, dict) or dynamics.get("engine") != LAMMPS or "input" not in dynamics:
            return values
        if "structure" in values:
            raise ValueError('structure has no effect with dynamics.engine = "lammps", whose input makes it; remove the section')
        return {**values, "structure": {"file": dynamics["input"]}}

    @model_validator(mode="after")
    def _lammps_calls_no_python(self) -> Self:
        if (term := next((own for own in self.model.terms if not own.is_exported), None)) is not None and self.has_lammps:
            raise ValueError(
                f'model.terms: type = "{term.type}" is evaluated in Python, which LAMMPS cannot call; use other terms, or '
                'set dynamics.engine = "ase"'
            )
        if self.baseline is not None and any(dynamics.is_lammps for _, _, dynamics in self.all_walkers()):
            raise ValueError(
                f'baseline.calculator = {self.baseline.calculator!r}: LAMMPS cannot call it; remove [baseline], or set '
                'dynamics.engine = "ase"'
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [name for name, _, _ in self.all_walkers()]
        twice = sorted({name for name in names if names.count(name) > 1})
        words = sorted(set(names) & NOT_NAMES)
        if words:
            raise ValueError(f"walkers: {words[0]!r} reads as a number in labels.db; choose another name")
        if twice:
            raise ValueError(f"walkers: {twice[0]!r} occurs twice; give every walker a name of its own")
        return self

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> Self:
        """Keys of a walker must be used by its ensemble, keys of [dynamics] by at least one walker."""
        found = [dynamics for _, _, dynamics in self.all_walkers()]
        for walker in self.walkers:
            own = walker.over(self.dynamics)
            for key in own.without_effect():
                if getattr(walker, key, None) is not None:
                    raise ValueError(f"walkers: {walker.name}: {own.idle(key)}")
        for key in DynamicsPlan.model_fields:
            if all(key in dynamics.without_effect() for dynamics in found):
                raise ValueError(f"dynamics: {found[0].idle(key)}")
        return self

    @property
    def has_lammps(self) -> bool:
        """Whether LAMMPS moves the atoms of a simulation."""
        return any(plan.is_lammps for _, _, plan in self.all_walkers())

    def all_walkers(self) -> list[tuple[str, StructureSettings, DynamicsPlan]]:
        """Name, start and dynamics of every walker, replicas written out."""
        if not self.walkers:
            return [("main", self.structure, self.dynamics)]
        found: list[tuple[str, StructureSettings, DynamicsPlan]] = []
        for settings in self.walkers:
            structure, dynamics = settings.over(self.structure), settings.over(self.dynamics)
            for k in range(settings.replicas):
                name = settings.name if settings.replicas == 1 else f"{settings.name}-{k}"
                # walkers with the same seed would be identical; a seed of the walker itself is for its first replica
                own = k if getattr(settings, "seed", None) is not None else len(found)
                found.append((name, structure, dynamics.changed(seed=dynamics.seed + own)))
        return found


class DriverFile(LearningFile):
    """A file for `mlpot driver`: i-PI moves the atoms."""

    driver: DriverSettings = Field(description="How to reach i-PI, and what to send to it.")
    output: DriverOutput = Field(description="Files that a driver writes.")

    @model_validator(mode="after")
    def _ends_with_its_server(self) -> Self:
        if self.learning.deadline is not None:
            raise ValueError("learning.deadline: a driver ends when i-PI does; set total_time in i-PI's input instead")
        return self
