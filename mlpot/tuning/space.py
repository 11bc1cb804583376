"""Spaces of settings: what is searched, as points of a unit cube, and the configuration at each point."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, quoted
from ..settings.fit import FitConfig
from .key_paths import KeyPath

LOG_RATIO = 20.0
"""Ranges of positive numbers whose ends differ by at least this factor are searched on a logarithmic scale."""
TABLE_KEYS = {"low", "high", "log", "choices"}
Values = dict[str, Any]
"""Settings by the text of their path."""


@dataclass(frozen=True)
class Range:
    """A range of numbers, both ends included.

    Parameters
    ----------
    path : KeyPath
    low, high : float
    is_integer, is_log : bool
    """

    path: KeyPath
    low: float
    high: float
    is_integer: bool = False
    is_log: bool = False

    def value(self, u: float) -> float | int:
        """Number at u in [0, 1]; integers have intervals of the same length (on a logarithmic scale, by their logarithms)."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.is_integer else (self.low, self.high)
        if self.is_log:
            found = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            found = low + u * (high - low)
        if self.is_integer:
            return int(min(max(round(found), self.low), self.high))
        return float(f"{min(max(found, self.low), self.high):.4g}")  # as the file will have it

    def place(self, value: Any) -> float:
        """u in [0, 1] of a number; those outside of the range move to its ends."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.is_integer else (self.low, self.high)
        value = min(max(float(value), self.low), self.high)
        if self.is_log:
            return float(math.log(value / low) / math.log(high / low))
        return float((value - low) / (high - low))

    def ends(self) -> list[Any]:
        """Values to check before the search."""
        return [self.value(0.0), self.value(1.0)]

    def text(self) -> str:
        """Readable form."""
        return f"{self.low:g} to {self.high:g}" + (" (logarithmic)" if self.is_log else "")


@dataclass(frozen=True)
class Choice:
    """A list of values without an order.

    Parameters
    ----------
    path : KeyPath
    options : tuple
    """

    path: KeyPath
    options: tuple[Any, ...]

    def value(self, u: float) -> Any:
        """Option at u in [0, 1]."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def place(self, value: Any) -> float:
        """u in [0, 1] of an option: the middle of its interval; the middle of all for any other value."""
        known = [k for k, option in enumerate(self.options) if option == value]
        return (known[0] + 0.5) / len(self.options) if known else 0.5

    def ends(self) -> list[Any]:
        """Values to check before the search."""
        return list(self.options)

    def text(self) -> str:
        """Readable form."""
        return ", ".join(map(str, self.options))


Parameter = Range | Choice


@dataclass(frozen=True)
class Space:
    """Parameters of a search, and the configuration in which they are set.

    Parameters
    ----------
    parameters : tuple of Range and Choice
    template : FitConfig
        With terms.
    """

    parameters: tuple[Parameter, ...]
    template: FitConfig

    @classmethod
    def of(cls, search: Mapping[str, Any], template: FitConfig) -> Space:
        """Space from the table [tune.search].

        Raises
        ------
        ConfigError
            For an unknown path (with the nearest known one), an empty or inverted range, NaN, or a value that the setting refuses;
            each problem has a line that begins with `tune.search`.
        """
        space = cls(tuple(parameter(key, spec, template, search) for key, spec in search.items()), template)
        seen: dict[tuple[int | str | None, str | None], str] = {}
        for text, p in zip(search, space.parameters, strict=True):
            if (p.path.term, p.path.key) in seen:
                raise ConfigError(f"tune.search: {text} and {seen[p.path.term, p.path.key]} are the same setting; remove one")
            seen[p.path.term, p.path.key] = text
        for text, p in zip(search, space.parameters, strict=True):
            for value in p.ends():
                space._check(text, p, value)
        return space

    def _check(self, text: str, p: Parameter, value: Any) -> None:
        """ConfigError if a setting refuses a value."""
        try:
            self.config({str(p.path): value})
        except ConfigError as error:
            if p.path.is_conditional(self.template, [q.path for q in self.parameters]):
                return
            why = str(error).splitlines()[0].removeprefix("FitConfig: ")
            raise ConfigError(f'tune.search."{text}": {quoted(value)} is not possible: {why}') from None

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return len(self.parameters)

    def values(self, point: np.ndarray) -> Values:
        """Settings at a point (dimension,) of the unit cube."""
        return {str(p.path): p.value(float(u)) for p, u in zip(self.parameters, point, strict=True)}

    def point(self, values: Mapping[str, Any]) -> np.ndarray:
        """Point (dimension,) of settings; settings that are not given come from the template."""
        given = [values.get(str(p.path), p.path.get(self.template)) for p in self.parameters]
        return np.array([0.5 if v is None else p.place(v) for p, v in zip(self.parameters, given, strict=True)])

    def snapped(self, point: np.ndarray) -> np.ndarray:
        """The point (dimension,) in the middle of all that have the same settings."""
        return np.array([p.place(p.value(float(u))) for p, u in zip(self.parameters, np.clip(point, 0.0, 1.0), strict=True)])

    def config(self, values: Mapping[str, Any]) -> FitConfig:
        """The template with these settings.

        A `cutoff_width` larger than the cutoff of its term is reduced to it.

        Raises
        ------
        ConfigError
            If the settings contradict each other.
        """
        terms: list[dict[str, Any] | None] = [_given(term) for term in self.template.terms]
        changes: dict[str, Any] = {}
        paths = [(p.path, values[str(p.path)]) for p in self.parameters if str(p.path) in values]
        for path, value in sorted(paths, key=lambda item: item[0].key != "type"):
            path.set(terms, changes, value)
        kept = [t for t in terms if t is not None]
        for term in kept:
            if "cutoff" in term and term.get("cutoff_width", 0.0) > term["cutoff"]:
                term["cutoff_width"] = term["cutoff"]
        if not kept:
            raise ConfigError("every term is switched off")
        base = {name: getattr(self.template, name) for name in self.template.model_fields_set - {"terms", "preset", "cutoff"}}
        return FitConfig(**{**base, **changes, "terms": kept})

    def part(self, wanted: Iterable[Parameter]) -> Space:
        """Space of some of the parameters."""
        return Space(tuple(wanted), self.template)


def _given(term: Any) -> dict[str, Any]:
    """Keys of a term's settings that are not at their defaults, and its type."""
    return {name: getattr(term, name) for name in type(term).model_fields if name in term.model_fields_set or name == "type"}


def parameter(text: str, spec: Any, template: FitConfig, others: Iterable[str] = ()) -> Parameter:
    """A parameter from an entry of [tune.search]; see `Space.of` for errors."""
    where = f'tune.search."{text}"'
    path = KeyPath.parsed(text, template, others)
    table = spec if isinstance(spec, Mapping) else {}
    if unknown := set(table) - TABLE_KEYS:
        raise ConfigError(f"{where}: unknown key {sorted(unknown)[0]!r}; use low and high (and log), or choices")
    choices = table.get("choices", None if table else spec)
    if not table and isinstance(spec, list | tuple) and len(spec) == 2 and all(map(_is_number, spec)):
        return _range(where, path, spec[0], spec[1], None, template)
    if "low" in table or "high" in table:
        if "choices" in table or not {"low", "high"} <= set(table):
            raise ConfigError(f"{where}: give low and high, or choices")
        return _range(where, path, table["low"], table["high"], table.get("log"), template)
    if not isinstance(choices, list | tuple):
        raise ConfigError(f"{where} = {quoted(spec)}: must be [low, high], a list of choices, or a table")
    if len(choices) < 2:
        raise ConfigError(f"{where} = {quoted(spec)}: leaves nothing to choose; give two choices or more, or set the key in [model]")
    if any(_is_number(c) and not math.isfinite(c) for c in choices):
        raise ConfigError(f"{where} = {quoted(spec)}: choices must be finite numbers")
    if len({json.dumps(c, sort_keys=True, default=str) for c in choices}) < len(choices):
        raise ConfigError(f"{where} = {quoted(spec)}: has one choice twice")
    return Choice(path, tuple(choices))


def _range(where: str, path: KeyPath, low: Any, high: Any, log: Any, template: FitConfig) -> Range:
    shown = f"{where} = [{low}, {high}]"
    if not (_is_number(low) and _is_number(high)) or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{shown}: both ends must be finite numbers")
    if low > high:
        raise ConfigError(f"{shown}: is inverted; write [{high}, {low}]")
    if low == high:
        raise ConfigError(f"{shown}: is empty; set the key in [model] or [fit] instead")
    if log is not None and not isinstance(log, bool):
        raise ConfigError(f"{where}: log = {quoted(log)}: must be true or false")
    if log and low <= 0:
        raise ConfigError(f"{shown}: a logarithmic range must be positive")
    whole = path.is_integer(template)
    if whole and (low != int(low) or high != int(high)):
        raise ConfigError(f"{shown}: {path.key} is an integer; give whole numbers")
    is_log = bool(low > 0 and high / low >= LOG_RATIO) if log is None else log
    return Range(path, float(low), float(high), whole, is_log)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
