"""Complete, commented configurations for a structure, every key with its meaning: `mlpot template`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ase.data import atomic_numbers, chemical_symbols
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..keys.base import Settings
from ..keys.explain import models
from ..keys.toml_text import toml_value
from ..settings.data import DataSetSettings
from ..settings.defaults import DEFAULT_CALCULATOR
from ..settings.describe import comment, example_text
from ..settings.files import DriverFile, FitFile, LearnFile
from ..settings.targets import TargetSettings

TemplateKind = Literal["fit", "learn", "driver"]


def template(
    kind: TemplateKind, file: str, species: list[int], given: Mapping[tuple[str, str], Any] | None = None
) -> str:
    """A complete configuration for a structure file, every key with its unit and meaning.

    Parameters
    ----------
    kind : "fit", "learn" or "driver"
    file : str
        The structure file.
    species : list of int
        Atomic numbers in it.
    given : dict
        Values by section and key that replace the defaults.
    """
    symbols = "-".join(chemical_symbols[z] for z in species).lower()
    contents = CONTENTS[kind]
    energies = {("data", "isolated_atom_energies"): {chemical_symbols[z]: 0.0 for z in species}}
    own = {key: value.replace("FILE", file).replace("NAME", symbols) for key, value in contents.given.items()}
    values = {**own, **labeller_for(species), **(given or {})}
    lines = [f"# mlpot {kind} THIS_FILE", ""]
    for section in sorted(contents.schema.model_fields, key=ORDER.index):
        if section in contents.without:
            continue
        if section == "targets":
            lines += [*_tables(contents.schema.model_fields[section], "targets", TargetSettings), ""]
            continue
        is_off = contents.schema.model_fields[section].default is None
        if is_off:
            lines.append(f"# {contents.schema.model_fields[section].description}")
        lines.append(f"{'# ' if is_off else ''}[{section}]")
        for key, field in keys_of(contents.schema, section).items():
            if key in WRITTEN_OUT or (section, key) in contents.without:
                continue
            if key == "sets":
                lines += _tables(field, "data.sets", DataSetSettings)
                continue
            line = _line(key, field, values.get((section, key), field.default), energies.get((section, key)))
            lines.append(f"# {line}" if is_off and not line.startswith("#") else line)
        lines.append("")
    return "\n".join(lines + contents.closing.splitlines())


def keys_of(schema: type[Settings], section: str) -> dict[str, FieldInfo]:
    """The declared keys of a section of a file."""
    return models(schema.model_fields[section].annotation)[0].model_fields


def _line(key: str, field: FieldInfo, value: Any, example: Any = None) -> str:
    """A key with its value, or commented with an example where it has no value."""
    is_set = value is not None and value is not PydanticUndefined and not (field.examples and value in ([], {}, ()))
    text = toml_value(value) if is_set else toml_value(example) if example else example_text(field)
    return f"{'' if is_set else '# '}{key} = {text}".ljust(44) + f"  # {comment(field)}"


def _tables(field: FieldInfo, name: str, entries: type[Settings]) -> list[str]:
    """An array of tables such as [[data.sets]], as comments."""
    keys = [_line(key, entry, entry.default) for key, entry in entries.model_fields.items() if key not in WRITTEN_OUT]
    return [f"# {field.description}", f"# [[{name}]]", *(key if key.startswith("#") else f"# {key}" for key in keys)]


def labeller_for(species: list[int]) -> dict[tuple[str, str], Any]:
    """A calculator for these elements: EMT for its metals alone, GFN1-xTB up to radon, else a name to be replaced."""
    where = ("labeller", "calculator"), ("labeller", "parameters")
    if set(species) <= EMT_METALS:
        return dict(zip(where, ("ase.calculators.emt.EMT", {}), strict=True))
    if max(species) <= LAST_OF_XTB:
        return dict(zip(where, (DEFAULT_CALCULATOR, {"method": "GFN1-xTB", "verbosity": 0}), strict=True))
    return dict(zip(where, (YOUR_CODE, {}), strict=True))


EMT_METALS = {atomic_numbers[symbol] for symbol in ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")}
"""Elements that ASE's EMT was made for; its H, C, N and O are meant for tests of programs."""
LAST_OF_XTB = 86
YOUR_CODE = "your_package.YourCalculator"
"""Placeholder if there is no calculator to suggest."""
FIT_GIVEN = {("data", "train"): "FILE", ("model", "preset"): "balanced", ("output", "model"): "NAME.h5"}
LEARN_GIVEN = {
    ("structure", "file"): "FILE",
    ("model", "preset"): "balanced",
    ("output", "folder"): "runs/NAME",
}
WRITTEN_OUT = ("terms", "config_type_noise")
"""Keys whose values are sections of their own."""
WALKERS = """\
# Several simulations may share labels and model; keys that are left out have the values in [structure] and [dynamics]:
# [[walkers]]
# name = "cold"
# temperature_K = 300.0
#
# [[walkers]]
# name = "hot"
# temperature_K = [300.0, 1200.0]
# replicas = 2
#
# Labels may have two levels, cheap and expensive: replace [labeller] by two [[labellers]], see docs/howto/two_levels.md.
"""
ORDER = (
    "data", "structure", "dynamics", "driver", "walkers", "labeller", "labellers", "learning", "targets", "baseline", "model", "fit",
    "output",
)  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """Contents of a kind of template: the file it is for, values that replace defaults, sections and keys to leave out, and text
    for its end."""

    schema: type[Settings]
    given: Mapping[tuple[str, str], str]
    without: frozenset[str | tuple[str, str]] = frozenset()
    closing: str = ""


CONTENTS: dict[TemplateKind, Contents] = {
    "fit": Contents(FitFile, FIT_GIVEN),
    "learn": Contents(LearnFile, LEARN_GIVEN, frozenset({"walkers", "labellers", ("data", "test")}), WALKERS),
    "driver": Contents(
        DriverFile,
        LEARN_GIVEN,
        frozenset({
            "labellers", ("structure", "repeat"), ("data", "test"), ("learning", "deadline"), ("learning", "deadline_margin_s"),
        }),
    ),
}
