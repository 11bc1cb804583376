"""Configurations as complete files for `mlpot fit`."""

from __future__ import annotations

import tomllib
from typing import Any

from ..keys.base import Settings
from ..keys.toml_text import toml_section
from ..settings.data import DataSettings
from ..settings.files import FitFile
from ..settings.fit import FitConfig, FitSettings, ModelSettings
from ..settings.output import FitOutput


def fit_file(config: FitConfig, data: DataSettings, output: FitOutput, comment: str) -> str:
    """Text of a TOML file for `mlpot fit`.

    Parameters
    ----------
    config : FitConfig
        Model and noises; its isolated-atom energies are in `data`, or found in the structures.
    data : DataSettings
    output : FitOutput
    comment : str
        First lines of the file.

    Raises
    ------
    ConfigError
        If the text would not be read as it was meant.
    """
    parts = ["".join(f"# {line}\n" for line in comment.splitlines())]
    own = _given(data)
    sets = own.pop("sets", ())
    parts.append(toml_section("[data]", own))
    parts += [toml_section("[[data.sets]]", _given(s)) for s in sets]
    model = {key: value for key, value in _given(config).items() if key in ModelSettings.model_fields and key != "terms"}
    parts += [toml_section("[model]", model)] if model else []
    parts += [toml_section("[[model.terms]]", {"type": t.type, **_given(t)}) for t in config.terms]
    parts.append(toml_section("[fit]", {k: v for k, v in _given(config).items() if k in FitSettings.model_fields}))
    parts.append(toml_section("[output]", _given(output)))
    text = "\n".join(parts)
    FitFile.checked(tomllib.loads(text), "the tuned configuration")
    return text


def _given(settings: Settings) -> dict[str, Any]:
    """Keys that were given and differ from their defaults, tables of settings as plain tables."""
    found = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name in settings.model_fields_set and value != field.default and value is not None:
            found[name] = _plain(value) if name != "sets" else value
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return _given(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value
