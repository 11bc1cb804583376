"""What all settings have in common, and errors in them for people."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from ..descriptors.named import DESCRIPTORS
from ..errors import ConfigError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:  # the one that it is, wherever it is kept
    ModelMetaclass = type(BaseModel)

WORDS = {"dictionary": "table", "tuple": "list", "boolean": "true or false", "a true or false": "true or false"}
"""What files call it."""
TAGS: dict[str, type[BaseModel]] = {}
"""Kinds of settings that a key `type` chooses, by its value."""


class _Explaining(ModelMetaclass):
    """Settings made in Python say what is wrong with them as those in files do."""

    def __call__(cls, *args, **kwargs):
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            lines = explained(error, cast(type[BaseModel], cls))
            raise ConfigError("\n".join(f"{cls.__name__}: {line}" for line in lines)) from error


class Settings(BaseModel, metaclass=_Explaining):
    """Base of all settings: immutable, unknown keys are errors (ConfigError)."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What is not left at its default."""
        for name, field in type(self).model_fields.items():
            if (value := getattr(self, name)) != field.get_default(call_default_factory=True):
                yield name, value

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Note what `type` chooses."""
        kind = cls.model_fields.get("type")
        if kind is not None and isinstance(kind.default, str):
            TAGS[kind.default] = cls


class TermSettingsBase(Settings):
    """Base of the settings of all terms: what a fit asks of them beside their keys, with the answers of most."""

    @property
    def is_learned(self) -> bool:
        """Whether the term's channels are learned from data, so that there must be data before there is a term."""
        return False

    def check_elements(self, species: Sequence[int]) -> None:
        """ConfigError where a key says nothing of one of the elements (atomic numbers) of the data."""

    def extrapolates(self) -> bool:
        """Whether the term knows which elements are alike; ValueError for one that can say nothing of unseen elements."""
        return False


def explained(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """A line for each thing that is wrong, such as `model.terms[0].nmax: unknown key; did you mean 'n_max'?`."""
    return [_explain(problem, schema) for problem in error.errors()]


def _explain(problem: Mapping[str, Any], schema: type[BaseModel]) -> str:
    path = [part for part in problem["loc"] if part not in TAGS]
    name = _path(path)
    if problem["type"] == "extra_forbidden":
        tag = next((part for part in problem["loc"] if part in TAGS), None)
        near = difflib.get_close_matches(str(path[-1]), _known_keys(schema, path[:-1], tag), n=1, cutoff=0.5)
        return f"{name}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{name}: missing; add it"
    if problem["type"].startswith("union_tag"):
        given = problem["input"].get("type") if isinstance(problem["input"], dict) else problem["input"]
        names = sorted({tag for tag, kind in TAGS.items() if not hasattr(kind, "TAG")} | set(DESCRIPTORS))
        return f'{name}.type = {given!r}: must be one of {names}, or "package.module:Class" of a descriptor'
    message = _plain(problem["msg"])
    if isinstance(problem["input"], dict):
        key = re.match(r"\w+: unknown key", message) if name else None
        return f"{name}{'.' if key else ': '}{message}" if name else message
    return f"{name} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _plain(message: str) -> str:
    """A message in our words: "input should be a valid integer, unable to parse ..." is "must be an integer"."""
    text = message.removeprefix("Value error, ")
    if not text.startswith("Input should "):
        return text
    text = re.sub(r", (unable to parse|got a number).*", "", text.removeprefix("Input should "))
    text = "must " + text.replace("a valid ", "a ").replace("a integer", "an integer")
    for theirs, ours in WORDS.items():
        text = re.sub(rf"\b{theirs}\b", ours, text)
    return text


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(schema: type[BaseModel], path: list[Any], tag: str | None) -> list[str]:
    """Keys that may stand where the unknown one stood."""
    if "terms" in path and tag:
        return list(TAGS[tag].model_fields)
    for part in path:
        field = schema.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue
        kinds = [field.annotation, *get_args(field.annotation)]
        schema = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), schema)
    return list(schema.model_fields)
