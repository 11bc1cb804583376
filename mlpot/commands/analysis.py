"""Commands that look at descriptors and data: `mlpot features`, `mlpot criteria`, `mlpot map`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ConfigError, counted
from .console import bars, check_target, console, problems, progress, table
from .data import EnergyKey, ForcesKey, StressKey, VirialKey

if TYPE_CHECKING:
    from ase import Atoms

    from ..analysis.criteria import Criteria
    from ..analysis.sources import FeatureSource
    from ..analysis.subject import Subject

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

DEFAULT_ELEMENTS = (1, 6)
"""Elements of a descriptor from settings, without data."""


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

    check_target("--output", output, data, terms, model)
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
    of = f"({counted(len(frames), 'structure')}, {counted(n_atoms, 'atom')})"
    console.print(f"{counted(n_rows, 'row')} {of} of {counted(source.n_features, 'feature')}")
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
    from ase.data import chemical_symbols

    from ..analysis.sources import source_of_model, source_of_settings
    from ..config import read_terms
    from ..models.files import load_model

    if (terms is None) == (model is None):
        raise ConfigError("--terms, --model: give one of them")
    if model is not None:
        if elements is not None:
            raise ConfigError("--elements: a model knows its elements; leave it out")
        return source_of_model(load_model(model))
    present = {int(z) for atoms in frames for z in atoms.numbers}
    species = present if elements is None else _species(elements)
    if absent := sorted(present.difference(species)):
        raise ConfigError(f"--elements {elements}: the structures hold {[chemical_symbols[z] for z in absent]} too; add them")
    return source_of_settings(read_terms(terms), sorted(species), frames)  # type: ignore[arg-type]


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


def criteria(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A model file, without --terms and --python; then, if wanted, labelled structures for a learning curve."
        ),
    ] = None,
    terms: Terms = None,
    python: Annotated[
        str | None,
        typer.Option(
            help="A descriptor of dscribe, featomic or your own, with create(atoms) or compute(atoms): package.module:object."
        ),
    ] = None,
    arguments: Annotated[
        str | None, typer.Option(help="With --python: arguments of a class or function, as JSON.")
    ] = None,
    elements: Elements = None,
    cutoff: Annotated[
        float | None, typer.Option(min=0.5, max=30, help="With --python: the cutoff, A, if the object has none.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this criterion; repeatable.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with tables and pictures.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random structures.")] = 0,
    energy_key: EnergyKey = None,
) -> None:
    """Measure the criteria of a descriptor: invariance, uniqueness, continuity, efficiency, structure, generality."""
    from dataclasses import replace

    from ..analysis.criteria import CRITERIA, measure
    from ..analysis.criteria_page import write_criteria_page
    from ..analysis.ridge_curve import learning_curve
    from ..durable import write_text

    for option, file in (("--json", json_file), ("--html", html)):
        check_target(option, file, terms, *(files or []))
    chosen = only or list(CRITERIA)
    if unknown := [name for name in chosen if name not in CRITERIA]:
        raise ConfigError(f"--only {unknown[0]}: must be one of {', '.join(CRITERIA)}")
    model, data = _model_and_data(files or [], terms is not None or python is not None)
    frames = [] if data is None else _read(data, [energy_key, None, None, None])
    subject = _subject(model, terms, python, arguments, elements, cutoff, frames)
    found = measure(subject, chosen, seed, lambda name: problems.print(f"measuring: {name}", style="dim"))
    if data is not None:
        with bars() as shown:
            show = progress(shown)
            found = replace(
                found, curve=learning_curve(subject, frames, seed, lambda done, n: show("structures", done, n))
            )
    _print(found)
    if json_file:
        write_text(json_file, json.dumps(found.to_dict(), indent=1))
    if html:
        write_criteria_page(html, found)


def _print(found: Criteria) -> None:
    """Tables, and a last line with the verdict."""
    from ..analysis.criteria import CRITERIA
    from ..analysis.criteria_page import HEADS, cells

    for name in CRITERIA:
        own = [cells(row) for row in found.rows if row.criterion == name]
        if own:
            console.print(table(name, HEADS, own))
    _print_curve(found.curve)
    failed = [f"{row.criterion}: {row.name}" for row in found.failed]
    console.print(
        f"not fulfilled: {'; '.join(failed)}" if failed else "all properties with a limit are fulfilled", markup=False
    )


def _model_and_data(files: list[Path], described: bool) -> tuple[Path | None, Path | None]:
    """The arguments: with a descriptor by option only data, otherwise a model first."""
    most = 1 if described else 2
    if len(files) > most or not (files or described):
        wanted = (
            "at most one file of structures with --terms or --python"
            if described
            else "a model file, or --terms or --python"
        )
        raise ConfigError(f"{len(files)} files: give {wanted}")
    return (None, files[0] if files else None) if described else (files[0], files[1] if len(files) > 1 else None)


def _subject(
    model: Path | None, terms: Path | None, python: str | None, arguments: str | None, elements: str | None, cutoff: float | None,
    frames: Sequence[Atoms],
) -> Subject:  # fmt: skip
    """The descriptor that options name, for some elements."""
    from ..analysis.foreign import foreign_subject
    from ..analysis.probes import random_structures
    from ..analysis.sources import source_of_model, source_of_settings
    from ..analysis.subject import subject_of
    from ..config import read_terms
    from ..models.files import load_model

    if terms is not None and python is not None:
        raise ConfigError("--terms, --python: give one of them")
    if python is None and (arguments is not None or cutoff is not None):
        raise ConfigError("--arguments, --cutoff: are for --python; leave them out")
    known = _species(elements) if elements is not None else sorted({int(z) for atoms in frames for z in atoms.numbers})
    if python is not None:
        return foreign_subject(python, _arguments(arguments), known, cutoff)
    if terms is None:
        if elements is not None:
            raise ConfigError("--elements: a model knows its elements; leave it out")
        return subject_of(source_of_model(load_model(model)), str(model))  # type: ignore[arg-type]
    settings = read_terms(terms)
    if not known:
        known = list(DEFAULT_ELEMENTS)
        console.print("elements: H, C (--elements names others)", style="dim")
    on = frames or random_structures(known)

    def source(species: Sequence[int]) -> FeatureSource:
        return source_of_settings(settings, species, on if set(species) == set(known) else ())

    return subject_of(source(known), str(terms), source)


def _arguments(text: str | None) -> dict[str, Any]:
    """Arguments of a class out of JSON."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError(f"--arguments: is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f'--arguments {text!r}: must be an object such as {{"r_cut": 5.0}}')
    return found


def _print_curve(curve: Sequence[dict[str, Any]]) -> None:
    if not curve:
        return
    heads = ("structures", "E RMSE meV/atom", "MAE", "training RMSE", "composition alone")
    console.print(table("learning curve", heads, [[f"{value:.4g}" for value in point.values()] for point in curve]))


def map_data(
    data: Annotated[
        Path, typer.Argument(help="Structures: any file that ASE reads, a glob, or some frames, data.xyz@0:100.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file to write.")],
    model: Annotated[Path | None, typer.Option(help="A model file: its features, novelty and errors.")] = None,
    terms: Terms = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write coordinates, duplicates, outliers, coverage.")
    ] = None,
    viewer: Annotated[
        Literal["own", "chemiscope"],
        typer.Option(help="The page: mlpot's, or chemiscope's, whose program is put inside (3 MB)."),
    ] = "own",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the sample that shortens the search for farthest points.")
    ] = 0,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
) -> None:
    """Maps of structures and environments: what is alike, duplicates, outliers, and what a model covers."""
    from ..analysis.atlas import make_atlas
    from ..analysis.chemiscope_page import load_chemiscope, write_chemiscope_page
    from ..analysis.map_page import write_map_page
    from ..analysis.sources import source_of_model, source_of_settings
    from ..config import read_terms
    from ..durable import write_text
    from ..models.files import load_model
    from ..settings.fit import ModelSettings

    for option, file in (("--output", output), ("--json", json_file)):
        check_target(option, file, data, terms, model)
    if output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output {output}: is an HTML file; end its name with .html")
    if viewer == "chemiscope":
        load_chemiscope()  # before anything that takes time
    fitted = load_model(model) if model else None
    frames = _read(data, [energy_key, forces_key, None, None])
    species = [z for atoms in frames for z in atoms.numbers]
    if terms is None and fitted is not None and set(species) <= set(fitted.species):
        source = source_of_model(fitted)
    else:
        settings = read_terms(terms) if terms else ModelSettings(preset="fast")
        source = source_of_settings(settings, species, frames)
    with bars() as shown:
        atlas = make_atlas(source, frames, fitted, seed, progress(shown))
    (write_map_page if viewer == "own" else write_chemiscope_page)(output, atlas, f"Map of {data.name}")
    if json_file:
        write_text(json_file, json.dumps(atlas.to_dict()))
    counts = {"structure": len(frames), "environment": len(species), "duplicate": len(atlas.duplicates)}
    console.print(", ".join(counted(n, noun) for noun, n in counts.items()))
    for row in atlas.coverage():
        console.print(
            f"{row['element']}: {row['novel']} of {row['environments']} environments are not covered by the model"
        )
    console.print(f"map: {output}", markup=False)
