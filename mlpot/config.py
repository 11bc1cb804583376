"""Configuration files: reading them, errors that name the key and the remedy, and the runs that they describe."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ase import Atoms

from .data.reading import read_and_warn
from .errors import ConfigError
from .fitting.data_check import check_config_types, with_isolated_atoms
from .keys.base import Settings
from .lammps.walker import LammpsWalker, start_of_lammps
from .learning.campaign import Campaign
from .learning.event_files import load_tensorboardx
from .learning.level_campaign import campaign_of
from .learning.runner import LearningRun, RunWalker
from .learning.served_run import LearningEvaluator
from .learning.walker import Walker, check_start
from .settings.dynamics import DynamicsPlan
from .settings.files import DriverFile, LearnFile, LearningFile, ModelFile
from .settings.fit import FitConfig, ModelSettings
from .settings.walkers import StructureSettings
from .structures import all_labelled, read_structures

Kind = TypeVar("Kind", bound=Settings)


def read_config(file: str | Path, schema: type[Kind]) -> Kind:
    """A configuration file as an instance of `schema`.

    Raises
    ------
    ConfigError
        File missing, not TOML, unknown key (with the nearest known one), wrong type or value.
    """
    return schema.checked(_values(file), str(file))


def read_terms(file: str | Path) -> ModelSettings:
    """The section [model] of a configuration file; all others are ignored.

    Raises
    ------
    ConfigError
        As `read_config`, or if there is no such section.
    """
    values = _values(file)
    if not isinstance(values.get("model"), dict):
        found = f"has {', '.join(sorted(values)[:8])}, but no" if values else "is empty, without"
        raise ConfigError(f"{file}: {found} [[model.terms]] or [model]; add the terms as in a file for `mlpot fit`")
    return ModelFile.checked({"model": values["model"]}, str(file)).model


def _values(file: str | Path) -> dict[str, Any]:
    """The content of a TOML file."""
    try:
        text = Path(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; give the path of a TOML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: cannot be read: byte {error.start} is no text in UTF-8; save it in UTF-8") from error
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        remedy = "" if Path(file).suffix == ".toml" else f"; for structures, `mlpot template fit {file}` writes a configuration"
        raise ConfigError(f"{file}: is not valid TOML: {error}{remedy}") from error


@contextmanager
def learning_run(settings: LearnFile, resume: bool) -> Iterator[LearningRun]:
    """The run that a configuration describes, its folder held until the end of the block.

    Raises
    ------
    ConfigError, DataError, RunFolderError, ModelFileError
        Before anything is written, where it can be told.
    """
    starts = [(name, _start_of(name, structure, plan), plan) for name, structure, plan in settings.all_walkers()]
    with _campaign(settings, [atoms for _, atoms, _ in starts], resume) as campaign, ExitStack() as engines:
        walkers: list[RunWalker] = []
        for name, atoms, plan in starts:
            if plan.is_lammps:
                walkers.append(engines.enter_context(closing(LammpsWalker(campaign, name, plan))))
            else:
                walkers.append(Walker(campaign, name, atoms, plan))
        yield LearningRun(campaign, walkers, settings.run_settings())


@contextmanager
def learning_evaluator(settings: DriverFile, resume: bool) -> Iterator[LearningEvaluator]:
    """Evaluator for i-PI as configured, with its folder locked until the end of the block. Raises as `learning_run`."""
    template = _start(settings.structure)
    with _campaign(settings, [template], resume) as campaign:
        run, driver = settings.run_settings(), settings.driver
        yield LearningEvaluator(campaign, template, run, driver.committee, driver.temperature_K)


def _campaign(s: LearningFile, starts: Sequence[Atoms], resume: bool) -> Campaign:
    if s.output.tensorboard:
        load_tensorboardx()  # before there is a folder
    frames = read_and_warn(s.data.sources())
    config = _for_data(s.fit_config(), frames, starts)
    return campaign_of(
        s.output.folder, s.labelling, s.cheap_labelling, config=config, rules=s.rules(), frames=frames,
        start_model=s.learning.model, resume=resume,
    )  # fmt: skip


def _for_data(config: FitConfig, frames: Sequence[Atoms], starts: Sequence[Atoms]) -> FitConfig:
    """With the energies of isolated atoms in the data.

    ConfigError for a family in `config_type_noise` that neither the data nor any label has.
    """
    structures = all_labelled(frames) if frames else []
    check_config_types(config, structures)
    species = {int(z) for atoms in (*frames, *starts) for z in atoms.numbers}
    return with_isolated_atoms(config, structures, sorted(species))


def _start_of(name: str, structure: StructureSettings, plan: DynamicsPlan) -> Atoms:
    """The atoms that a walker starts from, of LAMMPS only their elements; ConfigError if it cannot."""
    if plan.is_lammps:
        return start_of_lammps(plan)
    atoms = _start(structure)
    check_start(plan, name, atoms)
    return atoms


def _start(structure: StructureSettings) -> Atoms:
    atoms = read_structures(structure.file)[-1]
    if structure.repeat != (1, 1, 1):
        try:
            atoms = atoms.repeat(structure.repeat)
        except NotImplementedError as error:
            kinds = ", ".join(sorted({type(constraint).__name__ for constraint in atoms.constraints}))
            raise ConfigError(
                f"structure.repeat = {list(structure.repeat)}: {structure.file} has constraints that ASE cannot copy "
                f"({kinds}); repeat the structure first and set them afterwards"
            ) from error
    atoms.calc = None
    return atoms
