"""Tables of data that commands print before they use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import counted
from .console import console, table

if TYPE_CHECKING:
    from ..data.reading import FileContents, LabelledData

MOST_FILES = 30
MOST_FAMILIES = 8
HEADS = ("file", "structures", "energies", "forces", "stresses", "config types", "elements")

EnergyKey = Annotated[str | None, typer.Option(help="Name of the energies, if it is not a well-known one.")]
ForcesKey = Annotated[str | None, typer.Option(help="Name of the forces.")]
StressKey = Annotated[str | None, typer.Option(help="Name of the stresses, eV/A^3 in ASE's sign.")]
VirialKey = Annotated[str | None, typer.Option(help="Name of the virials, -stress * volume in eV.")]


def say_data(title: str, data: LabelledData) -> None:
    """Print the files and their contents, and which labels were recognised or not used."""
    console.print(table(title, HEADS, map(_row, data.files[:MOST_FILES])))
    if len(data.files) > MOST_FILES:
        console.print(f"and {counted(len(data.files) - MOST_FILES, 'more file')}, {counted(len(data.frames), 'structure')} in all")
    for note in data.notes:
        console.print(note, markup=False)


def _row(contents: FileContents) -> tuple[str, ...]:
    families = [f"{name} {n}" for name, n in contents.config_types.items()]
    more = [f"{len(families) - MOST_FAMILIES} more"] if len(families) > MOST_FAMILIES else []
    numbers = (contents.structures, contents.energies, contents.forces, contents.stresses)
    return (
        contents.name,
        *map(str, numbers),
        ", ".join(families[:MOST_FAMILIES] + more),
        " ".join(contents.elements),
    )
