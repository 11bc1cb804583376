"""Configuration files: reading them, errors that name the key and the remedy, and the runs that they describe."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from ase import Atoms
from ase.data import atomic_numbers
from pydantic import BaseModel, ValidationError

from .errors import ConfigError
from .learning.beads import LearningEvaluator
from .learning.campaign import Campaign
from .learning.runner import LearningRun
from .learning.walker import Walker
from .models.data_check import isolated_atoms, with_isolated_atoms
from .models.settings import FitConfig, Settings
from .reading import read_and_warn
from .schema import TERM_TYPES, DriverFile, LearnFile, LearningFile, StructureSettings
from .structures import all_labelled, read_structures


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
        raise ConfigError("\n".join(f"{file}: {_explain(problem, schema)}" for problem in error.errors())) from error


def _explain(problem: Mapping[str, Any], schema: type[BaseModel]) -> str:
    """`model.terms[0].nmax: unknown key; did you mean 'n_max'?`"""
    path = [part for part in problem["loc"] if part not in TERM_TYPES]
    name = _path(path)
    if problem["type"] == "extra_forbidden":
        tag = next((part for part in problem["loc"] if part in TERM_TYPES), None)
        near = difflib.get_close_matches(str(path[-1]), _known_keys(schema, path[:-1], tag), n=1, cutoff=0.5)
        return f"{name}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{name}: missing; add it"
    if problem["type"].startswith("union_tag"):
        given = problem["input"].get("type") if isinstance(problem["input"], dict) else problem["input"]
        return f"{name}.type = {given!r}: must be one of {sorted(TERM_TYPES)}"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):
        return f"{name}: {message}" if name else message
    return f"{name} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(schema: type[BaseModel], path: list[Any], tag: str | None) -> list[str]:
    """Keys that may stand where the unknown one stood."""
    if "terms" in path and tag:
        return list(TERM_TYPES[tag].model_fields)
    for part in path:
        field = schema.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue
        kinds = [field.annotation, *get_args(field.annotation)]
        schema = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), schema)
    return list(schema.model_fields)


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
    with _campaign(settings, [atoms for _, atoms, _ in starts], resume) as campaign:
        yield LearningRun(campaign, [Walker(campaign, *start) for start in starts], settings.run_settings())


@contextmanager
def learning_evaluator(settings: DriverFile, resume: bool) -> Iterator[LearningEvaluator]:
    """What answers i-PI as a configuration describes, its folder held until the end of the block. Raises as `learning_run`."""
    template = _start(settings.structure)
    with _campaign(settings, [template], resume) as campaign:
        run, driver = settings.run_settings(), settings.driver
        yield LearningEvaluator(campaign, template, run, driver.committee, driver.temperature_K)


def _campaign(s: LearningFile, starts: Sequence[Atoms], resume: bool) -> Campaign:
    frames = read_and_warn(s.data.train, s.data.keys()) if s.data.train else []
    config = _with_isolated_atoms(s.fit_config(), frames, starts)
    return Campaign(
        s.output.folder, s.labeller.plan(), config=config, rules=s.learning.rules(), frames=frames,
        start_model=s.learning.model, resume=resume,
    )  # fmt: skip


def _with_isolated_atoms(config: FitConfig, frames: Sequence[Atoms], starts: Sequence[Atoms]) -> FitConfig:
    """With the isolated-atom energies of the data, if these have all elements: what is fitted changes with every label."""
    structures = all_labelled(frames) if frames else []
    species = {int(z) for atoms in (*frames, *starts) for z in atoms.numbers}
    given = {atomic_numbers[symbol] for symbol in config.isolated_atom_energies or {}}
    if not species <= given | set(isolated_atoms(structures)):
        return config
    return with_isolated_atoms(config, structures, sorted(species))


def _start(structure: StructureSettings) -> Atoms:
    atoms = read_structures(structure.file)[-1]
    if structure.repeat != (1, 1, 1):  # of some constraints ASE cannot make copies
        atoms = atoms.repeat(structure.repeat)
    atoms.calc = None
    return atoms
