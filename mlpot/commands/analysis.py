"""Commands that look at descriptors and data: `mlpot features`, `mlpot criteria`, `mlpot map`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError
from .console import bars, check_target, console, progress
from .data import EnergyKey, ForcesKey, StressKey, VirialKey

if TYPE_CHECKING:
    from ase import Atoms

    from ..analysis.sources import FeatureSource

Terms = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file with [[model.terms]] or a preset, such as one for `mlpot fit`; only [model] is read."
    ),
]
ModelFile = Annotated[Path | None, typer.Option(help="A model file, instead of --terms.")]
Elements = Annotated[
    str | None,
    typer.Option(help="Chemical symbols that the descriptor knows, such as Si,O; by default the elements of the data."),
]


def features(
    data: Annotated[
        Path, typer.Argument(help="Structures: any file that ASE reads, a glob, or some frames, data.xyz@0:100.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write: .h5, or .npz.")],
    terms: Terms = None,
    model: ModelFile = None,
    elements: Elements = None,
    average: Annotated[bool, typer.Option("--average", help="One row per structure: the mean over its atoms.")] = False,
    sum_up: Annotated[bool, typer.Option("--sum", help="One row per structure: the sum over its atoms.")] = False,
    jacobian: Annotated[bool, typer.Option("--jacobian", help="Derivatives by positions and strain too.")] = False,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
) -> None:
    """Features of every atom or structure, for other methods of regression, classification or visualisation."""
    from ..analysis.feature_files import check_kind, write_features
    from ..analysis.feature_table import feature_rows

    check_target("--output", output)
    check_kind(output)
    if average and sum_up:
        raise ConfigError("--average, --sum: give one of them")
    frames = _read(data, [energy_key, forces_key, stress_key, virial_key])
    source = _source(terms, model, elements, frames)
    _say_left_out(source)
    per: Any = "mean" if average else "sum" if sum_up else "atom"
    with bars() as shown:
        rows = feature_rows(source, frames, per, jacobian)
        write_features(output, source, frames, _followed(rows, len(frames), progress(shown)), per)
    n_atoms = sum(map(len, frames))
    n_rows = n_atoms if per == "atom" else len(frames)
    console.print(f"{n_rows} rows ({len(frames)} structures, {n_atoms} atoms) of {source.n_features} features")
    console.print(f"features: {output}", markup=False)


def _followed(rows: Iterable[Any], n: int, show: Any) -> Iterator[Any]:
    for done, row in enumerate(rows):
        show("structures", done + 1, n)
        yield row


def _read(data: Path, keys: Sequence[str | None] = (None,) * 4) -> list[Atoms]:
    """Structures with whatever labels they have; ConfigError or DataError if there are none."""
    from ..data.label_keys import LabelKeys
    from ..data.reading import read_labelled

    frames = read_labelled(data, LabelKeys(*keys)).frames
    if not frames:
        raise ConfigError(f"{data}: holds no structures")
    return frames


def _source(terms: Path | None, model: Path | None, elements: str | None, frames: Sequence[Atoms]) -> FeatureSource:
    """The descriptor that options name."""
    from ..analysis.sources import source_of_model, source_of_settings
    from ..config import read_terms
    from ..models.files import load_model

    if (terms is None) == (model is None):
        raise ConfigError("--terms, --model: give one of them")
    if model is not None:
        if elements is not None:
            raise ConfigError("--elements: a model knows its elements; leave it out")
        return source_of_model(load_model(model))
    species = _species(elements) if elements is not None else [z for atoms in frames for z in atoms.numbers]
    return source_of_settings(read_terms(terms), species, frames)  # type: ignore[arg-type]


def _species(elements: str) -> list[int]:
    """Atomic numbers of symbols; ConfigError for anything that is no element."""
    from ase.data import atomic_numbers

    names = [name for name in elements.replace(",", " ").split() if name]
    unknown = [name for name in names if atomic_numbers.get(name, 0) < 1]
    if unknown or not names:
        raise ConfigError(
            f"--elements {elements!r}: {(unknown or [''])[0]!r} is no chemical symbol; write them as Si,O"
        )
    return [atomic_numbers[name] for name in names]


def _say_left_out(source: FeatureSource) -> None:
    for name in source.left_out:
        console.print(f"{name}: has no descriptor; left out", style="dim", markup=False)
