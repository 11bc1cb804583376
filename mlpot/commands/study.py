"""Commands that compare amounts of data and presets: `mlpot learning-curve` and `mlpot compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, counted
from .console import check_plot, check_target, console, table
from .data import EnergyKey, ForcesKey, StressKey, VirialKey, say_data

if TYPE_CHECKING:
    from ..fitting.studies import Study, StudyRow


class Preset(StrEnum):
    """Presets, as the command line takes them."""

    fast = "fast"
    balanced = "balanced"
    accurate = "accurate"


HEADS = (
    "structures", "sparse", "E RMSE meV/atom", "F RMSE eV/A", "stress RMSE GPa", "training: E", "F", "fit s", "us/atom",
    "with uncertainty",
)  # fmt: skip
Data = Annotated[
    Path, typer.Argument(help="A TOML file with [data], [model], [fit] as for `mlpot fit`; or labelled structures.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the choice of structures that are held out.")]


def learning_curve(
    data: Data,
    json_file: Json = None,
    plot: Annotated[Path | None, typer.Option(help="Draw errors and costs into this file.")] = None,
    seed: Seed = 0,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
) -> None:
    """Errors against the amount of data: fits to 10 ... 100 % of it, on groups of structures held out (or the test set)."""
    from ..fitting.studies import curve_words, few_words, slope
    from ..fitting.studies import learning_curve as curve
    from ..report.plots import save
    from ..report.study_plots import learning_curve_figure

    check_target("--json", json_file, data)
    check_plot("--plot", plot)
    task = _study(data, [energy_key, forces_key, stress_key, virial_key], seed)
    rows = list(curve(task, before=_say))
    console.print(
        table(f"Learning curve, errors on {counted(len(task.test), 'structure')} held out", ("data", *HEADS), _cells(rows))
    )
    for line in curve_words(rows) + few_words(task):
        console.print(line, markup=False)
    slopes = {"force_slope": slope(rows), "energy_slope": slope(rows, "energy_rmse_mev_per_atom")}
    _write(json_file, {"rows": [row.to_dict() for row in rows], **slopes})
    if plot:
        save(learning_curve_figure(rows), plot)


def compare(
    data: Data,
    json_file: Json = None,
    preset: Annotated[list[Preset] | None, typer.Option(help="Only this preset; repeatable.")] = None,
    seed: Seed = 0,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
) -> None:
    """The presets on your data: errors on groups of structures held out (or the test set), cost of a step and of the fit."""
    from ..fitting.studies import PRESET_NAMES, compare_presets, few_words, preset_words

    check_target("--json", json_file, data)
    task = _study(data, [energy_key, forces_key, stress_key, virial_key], seed)
    rows = list(compare_presets(task, [p.value for p in preset or ()] or PRESET_NAMES, before=_say))
    console.print(table(f"Presets, errors on {counted(len(task.test), 'structure')} held out", ("model", *HEADS), _cells(rows)))
    for line in preset_words(rows) + few_words(task):
        console.print(line, markup=False)
    _write(json_file, {"rows": [row.to_dict() for row in rows]})


def _say(name: str) -> None:
    console.print(f"fitting: {name}", style="dim", markup=False)


def _write(file: Path | None, values: dict) -> None:
    from ..durable import write_text

    if file:
        write_text(file, json.dumps(values, indent=1))


def _study(file: Path, keys: Sequence[str | None], seed: int) -> Study:
    """The fits and tests that a configuration or structure files describe."""
    from ..config import read_config
    from ..data.label_keys import LabelKeys
    from ..data.reading import read_labelled, read_sources
    from ..fitting.studies import study
    from ..settings.files import DataFile

    if file.suffix != ".toml":
        found = read_labelled(file, LabelKeys(*keys))
        say_data("Data", found)
        return study(found.frames, seed=seed)
    if any(keys):
        raise ConfigError(f"--energy-key and the others are for structure files; set them in [data] of {file}")
    settings = read_config(file, DataFile)
    found = read_sources(settings.data.sources())
    say_data("Training data", found)
    test = None
    if settings.data.test:
        tested = read_labelled(settings.data.test, settings.data.keys())
        say_data("Test data", tested)
        test = tested.frames
    return study(found.frames, settings.fit_config(), test, seed)


def _cells(rows: Sequence[StudyRow]) -> list[list[str]]:
    """The rows of `HEADS`, each after its name."""
    return [
        [
            row.name, str(row.n_structures), str(row.n_sparse),
            *(_number(asdict(row.test)[k]) for k in ("energy_rmse_mev_per_atom", "force_rmse_ev_per_ang", "stress_rmse_gpa")),
            *(_number(asdict(row.training)[k]) for k in ("energy_rmse_mev_per_atom", "force_rmse_ev_per_ang")),
            *map(_number, (row.fit_seconds, row.us_per_atom, row.us_per_atom_with_uncertainty)),
        ]
        for row in rows
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
