"""Keys in words: comments of templates, tables of the README, and the reference docs/keys.md, all from the declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..keys.explain import allowed, models, units, words
from ..keys.toml_text import toml_value
from .baseline import BaselineSettings
from .data import DataSetSettings, DataSettings
from .driver import DriverSettings
from .dynamics import DynamicsPlan
from .fit import FitSettings, ModelSettings, NoiseSettings
from .labeller import LabellingPlan, TlsSettings
from .learning import LearningSettings
from .levels import LevelPlan
from .output import DriverOutput, FitOutput, RunOutput
from .targets import CovariantTermSettings, TargetSettings
from .tune import TuneSettings
from .walkers import StructureSettings, WalkerSettings


def _type_of(kind: type[BaseModel]) -> str:
    """The key `type` of the settings of a term, or an example of it."""
    field = kind.model_fields["type"]
    return field.examples[0] if field.is_required() and field.examples else field.default


SECTIONS: dict[str, tuple[type[BaseModel], str]] = {
    "[data]": (DataSettings, "fit, learn, driver"),
    "[[data.sets]]": (DataSetSettings, "fit, learn, driver"),
    "[model]": (ModelSettings, "fit, learn, driver"),
    **{
        f'[[model.terms]] type = "{_type_of(kind)}"': (kind, "fit, learn, driver")
        for kind in models(ModelSettings.model_fields["terms"].annotation)
    },
    "[[targets]]": (TargetSettings, "fit, learn, driver"),
    "[[targets.terms]]": (CovariantTermSettings, "fit, learn, driver"),
    "[fit]": (FitSettings, "fit, learn, driver"),
    "[fit.config_type_noise.NAME]": (NoiseSettings, "fit, learn, driver"),
    "[baseline]": (BaselineSettings, "fit, learn, driver"),
    "[structure]": (StructureSettings, "learn, driver"),
    "[dynamics]": (DynamicsPlan, "learn"),
    "[[walkers]]": (WalkerSettings, "learn"),
    "[labeller]": (LabellingPlan, "learn, driver"),
    "[labeller.tls]": (TlsSettings, "learn, driver"),
    "[[labellers]]": (LevelPlan, "learn, driver"),
    "[learning]": (LearningSettings, "learn, driver"),
    "[driver]": (DriverSettings, "driver"),
    "[tune]": (TuneSettings, "tune"),
    "[output] of mlpot fit": (FitOutput, "fit"),
    "[output] of mlpot learn": (RunOutput, "learn"),
    "[output] of mlpot driver": (DriverOutput, "driver"),
}
"""Every section: its keys, and the commands that read it."""
REFERENCE = """\
# Keys of configuration files

Made from the declarations in `mlpot/settings` by `python docs/write_keys.py`; do not edit.

A file is TOML. `mlpot fit`, `mlpot learn` and `mlpot driver` read the sections that name them; a key that is unknown or has an
impossible value is an error that names it. `mlpot template fit|learn|ipi structure.xyz` writes a file with all keys.
"""
BLOCK = re.compile(r"(<!-- keys of (?P<section>[^:]+): (?P<keys>[^>]*) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
"""A table in a text, between comments: `<!-- keys of [learning]: target threshold -->`."""


def default_text(field: FieldInfo) -> str:
    """The default as TOML, "" for a key that may be left out, "required" otherwise."""
    if field.is_required():
        return "required"
    return "" if field.default is None else toml_value(field.default)


def example_text(field: FieldInfo) -> str | None:
    """An example value as TOML, None where a key has none."""
    return toml_value(field.examples[0]) if field.examples else None


def comment(field: FieldInfo) -> str:
    """Unit, possible words and meaning of a key, for the end of its line: `steps | "auto" | "off": Steps between ...`."""
    kinds = [unit for unit in units(field) if unit] + [toml_value(word) for word in words(field)]
    return f"{' | '.join(kinds)}: {field.description}" if kinds else str(field.description)


def key_table(section: type[BaseModel], keys: Iterable[str] = ()) -> str:
    """A table in Markdown of keys of a section, all by default: value, default and meaning."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name in keys or section.model_fields:
        field = section.model_fields[name]
        default = default_text(field)
        shown = f"`{default}`" if default and default != "required" else default
        rows.append(f"| `{name}` | {allowed(field)} | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def reference() -> str:
    """The text of docs/keys.md."""
    parts = [REFERENCE]
    for title, (section, commands) in SECTIONS.items():
        summary = " ".join((section.__doc__ or "").split("\n\n")[0].split())
        parts.append(f"## {title}\n\n{summary} Read by: {commands}.\n\n{key_table(section)}")
    return "\n".join(parts)


def filled(text: str) -> str:
    """A text whose blocks of keys are up to date, see `BLOCK`."""

    def block(found: re.Match[str]) -> str:
        section, _ = SECTIONS[found["section"]]
        return f"{found[1]}{key_table(section, found['keys'].split())}{found[4]}"

    return BLOCK.sub(block, text)
