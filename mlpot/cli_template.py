"""`mlpot template`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import ConfigError

if TYPE_CHECKING:
    from ase import Atoms


def template(
    kind: Annotated[
        Literal["fit", "learn", "ipi"],
        typer.Argument(help="What the configuration is for; ipi: a simulation of i-PI that learns."),
    ],
    structure: Annotated[
        Path, typer.Argument(help="A structure file: labelled for fit, a start (its last frame) for learn and ipi.")
    ],
    beads: Annotated[
        int | None, typer.Option(min=1, help="ipi: of the ring polymers; 1, the default, is classical.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="ipi: K; 300 by default.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="ipi: the folder for its files, by default this one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="ipi: replace files that are there.")] = False,
) -> None:
    """Print a complete, commented configuration for a structure; for ipi, write input.xml, learn.toml and init.xyz."""
    from .structures import read_structures
    from .templates import template as make_template

    frames = read_structures(structure)
    if kind == "ipi":
        _write_start(frames[-1], structure.stem, beads or 1, temperature, output or Path(), overwrite)
        return
    given = {"--beads": beads, "--temperature": temperature, "--output": output, "--overwrite": overwrite or None}
    if ours := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"{', '.join(ours)}: only for `mlpot template ipi`; the others print, redirect them into a file"
        )
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    typer.echo(make_template(kind, str(structure), species), nl=False)


def _write_start(atoms: Atoms, name: str, beads: int, temperature: float | None, folder: Path, overwrite: bool) -> None:
    """The files of `ipi_template` into a folder that exists or can be made; nothing when one of them is in the way."""
    from .durable import create_text, write_text
    from .templates_ipi import CONFIG, INPUT, ipi_template

    contents = ipi_template(atoms, name, beads, 300.0 if temperature is None else temperature)
    there = [str(folder / file) for file in contents if (folder / file).exists()]
    if there and not overwrite:
        raise ConfigError(f"{', '.join(there)}: there already; choose another --output, or --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in contents.items():
            (write_text if overwrite else create_text)(folder / file, text)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error}); choose another --output") from error
    typer.echo(f"wrote {', '.join(str(folder / file) for file in contents)}")
    typer.echo(f"look through them, then, in {folder.resolve()}:  i-pi {INPUT} &  mlpot driver {CONFIG}")
