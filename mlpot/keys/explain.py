"""Settings in words: which values a key allows, and what is wrong with those that were given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ..errors import quoted
from .quantities import Unit

CONVERTED, BEYOND = "converted", "beyond"
"""Types of our own problems: a value that pydantic would convert, see `refused`; a number that no formula can take, see `beyond`."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Sizes of numbers that are not zero: squares and fourth powers of them are still numbers."""
PLAIN = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_long": "must have at most {max_length} characters",
}
KINDS = {
    "int": "must be an integer", "float": "must be a number", "string": "must be text", "bool": "must be true or false",
    "list": "must be a list", "tuple": "must be a list", "dict": "must be a table", "model": "must be a table",
    "json": "must be JSON",
}  # fmt: skip
"""Texts by the type of a problem, or its prefix."""
TAGS: dict[str, type[BaseModel]] = {}
"""Classes of settings by the value of their key `type`."""
OF_A_CLASS = "package.module:Class"
"""In place of every `type` that is the import path of a class, where settings are chosen and errors list the types."""


def alternatives(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
    """The types that an annotation allows, unions taken apart, each with its bounds and unit; None is left out."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from alternatives(inner, [*more, *metadata])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from alternatives(member, metadata)
    elif annotation is not NoneType:
        flat = [m for item in metadata for m in (item.metadata if isinstance(item, FieldInfo) else [item])]
        yield annotation, flat


def of_field(field: FieldInfo) -> Iterator[tuple[Any, list[Any]]]:
    """`alternatives` of a declared key."""
    return alternatives(field.annotation, field.metadata)


def kinds(field: FieldInfo) -> set[type]:
    """Python types that a key takes; `object` if it takes anything."""
    return _kinds(of_field(field))


def _kinds(pairs: Iterable[tuple[Any, list[Any]]]) -> set[type]:
    found: set[type] = set()
    for kind, _ in pairs:
        if get_origin(kind) is Literal:
            found |= {type(value) for value in get_args(kind)}
        else:
            found.add(object if kind is Any else get_origin(kind) or kind)
    return found


def refused(value: Any, field: FieldInfo) -> bool:
    """Whether a value would have to be converted: `steps = true` is not 1, `steps = "3"` is not 3, `symmetric = 1` is not true;
    nor are values in lists and tables."""
    return _refused(value, list(of_field(field)))


def _refused(value: Any, pairs: list[tuple[Any, list[Any]]]) -> bool:
    if isinstance(value, Mapping | list | tuple):
        inner = [pair for kind, _ in pairs for argument in _arguments(kind, value) for pair in alternatives(argument)]
        within = value.values() if isinstance(value, Mapping) else value
        return bool(inner) and any(_refused(one, inner) for one in within)
    known, is_truth = _kinds(pairs), isinstance(value, bool | np.bool_)
    if object in known:
        return False
    if isinstance(value, str) and known & {int, float, bool} and not any(kind is str for kind, _ in pairs):
        return value not in _literals(pairs)
    return (is_truth and bool not in known) or (known == {bool} and not is_truth)


def beyond(value: Any, field: FieldInfo) -> bool:
    """Whether a key for numbers has one, anywhere in its value, that is finite and yet of an impossible size."""
    return bool(units(field)) and _is_beyond(value)


def _is_beyond(value: Any) -> bool:
    if isinstance(value, float):
        return value != 0 and np.isfinite(value) and not SMALLEST <= abs(value) <= LARGEST
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return any(map(_is_beyond, inner))


def _arguments(kind: Any, value: Any) -> list[Any]:
    """Annotations of what is in a table or list of a kind; none for another kind of container."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, Mapping):
        return list(arguments[1:]) if origin is dict else []
    return [a for a in arguments if a is not Ellipsis] if origin in (list, tuple) else []


def _literals(pairs: Iterable[tuple[Any, list[Any]]]) -> list[Any]:
    return [value for kind, _ in pairs if get_origin(kind) is Literal for value in get_args(kind)]


def words(field: FieldInfo) -> list[Any]:
    """The single values that a key allows, such as "adaptive"."""
    return _literals(of_field(field))


def units(field: FieldInfo) -> list[str]:
    """Units of all numbers that a key takes, without repetitions; "" is a pure number, "?" one without a declared unit."""
    return list(dict.fromkeys(_units(of_field(field))))


def _units(pairs: Iterator[tuple[Any, list[Any]]]) -> Iterator[str]:
    for kind, metadata in pairs:
        if kind in (int, float):
            yield next((m.name for m in metadata if isinstance(m, Unit)), "?")
        elif get_origin(kind) in (list, tuple, dict):
            for inner in get_args(kind):
                if inner is not Ellipsis:
                    yield from _units(alternatives(inner))


def models(annotation: Any) -> list[type[BaseModel]]:
    """Classes of settings anywhere in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in models(inner)]


def allowed(field: FieldInfo) -> str:
    """Allowed values of a key, such as `"adaptive" or a positive number (eV/A)`."""
    return " or ".join(dict.fromkeys(_words(kind, metadata) for kind, metadata in of_field(field)))


def _words(kind: Any, metadata: Sequence[Any]) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        shown = [f'"{value}"' if isinstance(value, str) else str(value) for value in args]
        return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
    if kind in (int, float):
        return _number(kind, metadata)
    if kind in (list, tuple, dict) or origin in (list, tuple, dict):
        return _container(origin or kind, args, metadata)
    return {str: "text", bool: "true or false", Any: "any value"}.get(kind, "a table")


def _number(kind: type, metadata: Sequence[Any]) -> str:
    noun = "integer" if kind is int else "number"
    bounds = {type(m): getattr(m, type(m).__name__.lower()) for m in metadata if isinstance(m, Gt | Ge | Lt | Le)}
    unit = next((f" ({m.name})" for m in metadata if isinstance(m, Unit) and m.name), "")
    article = "an" if kind is int else "a"
    if bounds == {Gt: 0}:
        return f"a positive {noun}{unit}"
    words = {Gt: "greater than", Ge: "of at least", Lt: "less than", Le: "at most"}
    said = " and ".join(f"{words[bound]} {value}" for bound, value in bounds.items())
    return f"{article} {noun} {said}{unit}" if said else f"{article} {noun}{unit}"


def _container(kind: type, args: Sequence[Any], metadata: Sequence[Any]) -> str:
    if kind is dict:
        values = _any_of(args[1:])
        return "a table" if values in ("", "any value") else f"a table of values, each {values}"
    inner = [a for a in args if a is not Ellipsis]
    fewest = next((m.min_length for m in metadata if isinstance(m, MinLen)), 0)
    number = f" of {len(inner)}" if len(args) > 1 and Ellipsis not in args else f" of {fewest} or more" if fewest else ""
    return f"a list{number}, each {_any_of(inner[:1])}"


def _any_of(annotations: Sequence[Any]) -> str:
    return " or ".join(dict.fromkeys(_words(*pair) for annotation in annotations for pair in alternatives(annotation)))


def explained(error: ValidationError, schema: type[BaseModel], values: Any) -> list[str]:
    """One line for each key that is wrong, such as `model.terms[0].nmax: unknown key; did you mean 'n_max'?`.

    Parameters
    ----------
    error : pydantic.ValidationError
        Of `schema`.
    schema : subclass of BaseModel
    values : dict
        What was validated.
    """
    problems = [Problem(problem, schema, values) for problem in error.errors(include_url=False)]
    return list(dict.fromkeys(str(problem) for problem in problems))


class Problem:
    """One of pydantic's problems, at the key of the file that it is about.

    Parameters
    ----------
    problem : dict
        Of `ValidationError.errors()`.
    schema, values
        As in `explained`.
    """

    def __init__(self, problem: Mapping[str, Any], schema: type[BaseModel], values: Any):
        self.problem = problem
        self.path: list[str | int] = []
        """Keys and indices, without the names that pydantic gives to members of unions."""
        self.owner: type[BaseModel] | None = schema
        """Class of settings that the path ends in, None inside a table or list of plain values."""
        self.field: FieldInfo | None = None
        """The innermost declared key on the path, with its own path and value."""
        self.field_path: list[str | int] = []
        self.value: Any = values
        self.field_value: Any = values
        parts = [*problem["loc"], problem["ctx"]["key"]] if problem["type"] in (CONVERTED, BEYOND) else problem["loc"]
        for k, part in enumerate(parts):
            self._step(part, k == len(parts) - 1 and problem["type"] == "missing")

    def _step(self, part: str | int, is_missing: bool) -> None:
        """One key or index further down, if it is one."""
        if not is_missing and not _has(self.value, part):
            return
        self.path.append(part)
        self.value = None if is_missing else self.value[part]
        if self.owner is not None and part in self.owner.model_fields:
            self.field = self.owner.model_fields[str(part)]
            self.field_path, self.field_value = list(self.path), self.value
            self.owner = None
        if isinstance(self.value, Mapping) and self.field is not None and self.owner is None:
            found = models(self.field.annotation) + [m for item in self.field.metadata for m in models(item)]
            is_table = found and not (self.path == self.field_path and dict in kinds(self.field))
            kind = str(self.value.get("type"))
            self.owner = TAGS.get(OF_A_CLASS if ":" in kind else kind, found[0]) if is_table else None

    def __str__(self) -> str:
        kind, name = self.problem["type"], _dotted(self.path)
        if kind == "extra_forbidden":
            known = list(self.owner.model_fields) if self.owner is not None else []
            return f"{name}: unknown key{did_you_mean(self.path[-1], known, repr)}"
        if kind == "missing":
            return f"{name}: missing; add it"
        if kind.startswith("union_tag"):
            given = self.value.get("type") if isinstance(self.value, Mapping) else self.value
            return f"{name}.type = {shown(given)}: must be one of {sorted(TAGS)}{did_you_mean(given, list(TAGS))}"
        if kind == "value_error":
            message = self.problem["msg"].removeprefix("Value error, ")
            if isinstance(self.problem["input"], Mapping | BaseModel):
                return f"{name}: {message}" if name else message
            return f"{name} = {shown(self.problem['input'])}: {message}"
        if self.field is None:
            return "must be a table of keys"
        if kind.startswith("string_") and isinstance(self.value, str):  # a pattern or a length
            return f"{name} = {shown(self.value)}: is not possible; {self.field.description}"
        if kind == BEYOND:
            return f"{name} = {shown(self.value)}: must be {allowed(self.field)}, between {SMALLEST:g} and {LARGEST:g} in size"
        remedy = did_you_mean(self.field_value, words(self.field))
        return f"{_dotted(self.field_path)} = {shown(self.field_value)}: must be {allowed(self.field)}{remedy}"


def plainly(problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems in our words where there is no declared key, as in headers of binary files."""
    kind, bounds = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    if kind in PLAIN:
        return PLAIN[kind].format(**bounds)
    return next((words for start, words in KINDS.items() if kind.startswith(start)), "is not possible here")


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)


def shown(value: Any) -> str:
    """A wrong value in a message, as one short line."""
    return str(value).lower() if isinstance(value, bool) else quoted(value)


def did_you_mean(given: Any, known: Sequence[Any], spelled: Callable[[str], str] = '"{}"'.format) -> str:
    """The nearest of the known words, as the end of a message; empty if none is near."""
    words = [word for word in known if isinstance(word, str)]
    near = difflib.get_close_matches(given, words, n=1, cutoff=0.5) if isinstance(given, str) else []
    return f"; did you mean {spelled(near[0])}?" if near else ""


def _dotted(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
