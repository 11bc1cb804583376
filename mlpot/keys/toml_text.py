"""TOML of plain values, on one line each: `tomli_w` spreads lists over lines, which leaves no room for a comment behind a key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from numbers import Integral, Real
from typing import Any

from ..errors import ConfigError


def toml_value(value: Any) -> str:
    """A TOML literal of a number, string, boolean, date, list or table.

    Raises
    ------
    ConfigError
        For values that TOML cannot express, such as None.
    """
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(key)} = {toml_value(inner)}" for key, inner in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        number = float(value)
        return repr(number) if math.isfinite(number) else "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
    raise ConfigError(f"{value!r}: cannot be written as TOML; use numbers, text, true or false, dates, lists and tables")


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def toml_section(name: str, values: Mapping[str, Any]) -> str:
    """A section without the values that are None."""
    lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join([name, *lines]) + "\n"
