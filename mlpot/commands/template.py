"""`mlpot template`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import ConfigError, StructureError
from ..neighbours import SHORTEST_DISTANCE, find_pairs

if TYPE_CHECKING:
    from ase import Atoms


def template(
    kind: Annotated[
        Literal["fit", "learn", "ipi"],
        typer.Argument(help="Command that reads the configuration; ipi: an i-PI simulation that learns."),
    ],
    structure: Annotated[
        Path | None,
        typer.Argument(help="A structure file: labelled structures for fit, the start (its last frame) for learn and ipi."),
    ] = None,
    ipi_input: Annotated[
        Path | None,
        typer.Option("--input", help="ipi: an existing input of i-PI, instead of a structure."),
    ] = None,
    forcefield: Annotated[
        str | None, typer.Option(metavar="NAME", help="ipi --input: the ffsocket to serve if there are several.")
    ] = None,
    beads: Annotated[
        int | None, typer.Option(min=1, help="ipi: number of beads; 1, the default, is classical.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="ipi: temperature, K; default 300.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="ipi: folder for the files; default the current one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="ipi: replace existing files.")] = False,
) -> None:
    """Print a complete, commented configuration for a structure; for ipi, write input.xml, learn.toml and init.xyz, or, for an
    existing input, learn.toml and template.xyz."""
    from .templates import template as make_template

    given = {
        "--input": ipi_input, "--forcefield": forcefield, "--beads": beads, "--temperature": temperature, "--output": output,
        "--overwrite": overwrite or None,
    }  # fmt: skip
    if kind != "ipi" and (ours := [name for name, value in given.items() if value is not None]):
        raise ConfigError(
            f"{', '.join(ours)}: only for `mlpot template ipi`; the other kinds print to standard output, redirect it to a file"
        )
    if structure is not None and ipi_input is not None:
        raise ConfigError("give a structure file or, for ipi, an input of i-PI with --input, not both")
    if ipi_input is not None:
        if beads is not None or temperature is not None:
            raise ConfigError(f"--beads, --temperature: given by {ipi_input}; leave them out")
        _write_beside(ipi_input, forcefield, output or ipi_input.parent, overwrite)
        return
    if structure is None:
        raise ConfigError("give a structure file or, for ipi, an input of i-PI with --input")
    frames = _frames(structure)
    if kind == "ipi":
        _write_start(frames[-1], structure.stem, beads or 1, temperature, output or Path(), overwrite)
        return
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    typer.echo(make_template(kind, str(structure), species), nl=False)


def _frames(structure: Path) -> list[Atoms]:
    """Structures of a file that a simulation can start from: finite, and without atoms that overlap."""
    from ..structures import check_atoms, read_structures

    frames = read_structures(structure)
    for atoms in frames:
        check_atoms(atoms, str(structure))
        try:
            find_pairs(atoms, SHORTEST_DISTANCE)
        except StructureError as error:
            raise StructureError(f"{structure}: {error}") from error
    return frames


def _write_start(atoms: Atoms, name: str, beads: int, temperature: float | None, folder: Path, overwrite: bool) -> None:
    """Write the files of `ipi_template`; the path of the folder makes the address unique."""
    from .templates_ipi import CONFIG, INPUT, ipi_template

    kelvin = 300.0 if temperature is None else temperature
    _write(folder, ipi_template(atoms, name, beads, kelvin, str(folder.resolve())), overwrite)
    typer.echo(f"check the files, then run in {folder.resolve()}:  i-pi {INPUT} &  mlpot driver {CONFIG}")


def _write_beside(ipi_input: Path, forcefield: str | None, folder: Path, overwrite: bool) -> None:
    """Write a configuration for an existing input."""
    from ..drivers.ipi_input import read_ipi_input
    from .templates_ipi import CONFIG, driver_template

    told = read_ipi_input(ipi_input)
    socket = told.socket(forcefield)
    _write(folder, driver_template(told, socket), overwrite)
    for hint in told.hints(socket):
        typer.echo(hint)
    typer.echo(f"check the files, then run in {folder.resolve()}:  i-pi {ipi_input.name} &  mlpot driver {CONFIG}")


def _write(folder: Path, contents: dict[str, str], overwrite: bool) -> None:
    """Write files into a folder, which is made if necessary; nothing if one of them exists."""
    from ..durable import create_text, write_text

    there = [str(folder / file) for file in contents if (folder / file).exists()]
    if there and not overwrite:
        raise ConfigError(f"{', '.join(there)}: there already; choose another --output, or use --overwrite")
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in contents.items():
            (write_text if overwrite else create_text)(folder / file, text)
            made.append(folder / file)
    except OSError as error:
        for written in () if overwrite else made:  # an input without its configuration is no start
            written.unlink(missing_ok=True)
        raise ConfigError(f"{folder}: cannot be written to ({error}); choose another --output") from error
    typer.echo(f"wrote {', '.join(str(folder / file) for file in contents)}")
