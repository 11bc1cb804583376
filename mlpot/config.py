"""Configuration files: reading them, errors that name the key and the remedy, and the runs that they describe."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ase import Atoms
from pydantic import ValidationError

from .errors import ConfigError
from .learning.beads import LearningEvaluator
from .learning.campaign import Campaign
from .learning.runner import LearningRun
from .learning.walker import Walker
from .models.base_settings import explained
from .models.settings import Settings
from .schema import DriverFile, LearnFile, LearningFile, StructureSettings
from .structures import read_structures


def read_config(file: str | Path, schema: type[Settings]) -> Any:
    """A configuration file as an instance of `schema`.

    Raises
    ------
    ConfigError
        File missing, not TOML, unknown key (with the nearest known one), wrong type or value.
    """
    try:
        text = Path(file).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}") from error
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{file}: {line}" for line in explained(error, schema))) from error


@contextmanager
def learning_run(settings: LearnFile, resume: bool) -> Iterator[LearningRun]:
    """The run that a configuration describes, its folder held until the end of the block.

    Raises
    ------
    ConfigError, DataError, RunFolderError, ModelFileError
        Before anything is written, where it can be told.
    """
    starts = [(name, _start(structure), dynamics.plan()) for name, structure, dynamics in settings.all_walkers()]
    for name, atoms, plan in starts:
        plan.check_start(name, atoms)
    with _campaign(settings, resume) as campaign:
        yield LearningRun(campaign, [Walker(campaign, *start) for start in starts], settings.run_settings())


@contextmanager
def learning_evaluator(settings: DriverFile, resume: bool) -> Iterator[LearningEvaluator]:
    """What answers i-PI as a configuration describes, its folder held until the end of the block. Raises as `learning_run`."""
    template = _start(settings.structure)
    with _campaign(settings, resume) as campaign:
        run, driver = settings.run_settings(), settings.driver
        yield LearningEvaluator(campaign, template, run, driver.committee, driver.temperature_K)


def _campaign(s: LearningFile, resume: bool) -> Campaign:
    frames = read_structures(s.data.train) if s.data.train else []
    return Campaign(
        s.output.folder, s.labeller.plan(), config=s.fit_config(), rules=s.learning.rules(), frames=frames,
        start_model=s.learning.model, resume=resume,
    )  # fmt: skip


def _start(structure: StructureSettings) -> Atoms:
    atoms = read_structures(structure.file)[-1]
    if structure.repeat != (1, 1, 1):  # of some constraints ASE cannot make copies
        atoms = atoms.repeat(structure.repeat)
    atoms.calc = None
    return atoms
