"""Output of the command line: results on standard output, progress and problems on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperGroup

from ..errors import ConfigError

console = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
PICTURES = (".png", ".pdf", ".svg", ".jpg")
problems = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
TrustBaseline = Annotated[
    bool, typer.Option("--trust-baseline", help="Call the calculator that the model file puts beneath the model, whatever it is.")
]


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of plain text."""
    made = Table(*heads, title=escape(title))
    for row in rows:
        made.add_row(*map(escape, row))
    return made


def check_target(option: str, file: Path | None, *read: Path | None) -> None:
    """ConfigError for a file that could not be written at the end of the command, or that is one of the files it reads."""
    if file is None:
        return
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{option} {file}: its folder does not exist; create it")
    if file.is_dir():
        raise ConfigError(f"{option} {file}: is a folder; name a file in it")
    if file.exists() and any(source is not None and source.exists() and file.samefile(source) for source in read):
        raise ConfigError(f"{option} {file}: is a file that is read; choose another name")


class Commands(TyperGroup):
    """Commands whose options are refused in our words: typer checks them with pydantic."""

    def invoke(self, ctx):
        """As typer's."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.replace("Input should be", "must be").replace("Value error, ", "")
            raise


def check_plot(option: str, file: Path | None) -> None:
    """ConfigError for a picture that could not be written at the end of the command."""
    check_target(option, file)
    if file is None or file.suffix.lower() in PICTURES:
        return
    raise ConfigError(f"{option} {file}: unknown kind of picture; end its name with one of {' '.join(PICTURES)}")


def check_predictions(option: str, file: Path | None, data: Path) -> None:
    """ConfigError unless a file can be written as extended XYZ and is not the file of the structures."""
    check_target(option, file)
    if file is None:
        return
    if not file.name.endswith("xyz"):
        raise ConfigError(f"{option} {file}: predictions are written as extended XYZ; end its name with .xyz")
    if file.exists() and data.exists() and file.samefile(data):
        raise ConfigError(f"{option} {file}: is the file with the labels; choose another name")


def bars() -> Progress:
    """Progress bars, see `progress`."""
    return Progress(
        TextColumn("{task.description:16s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=problems
    )


def progress(shown: Progress) -> Callable[[str, int, int], None]:
    """A progress callback that keeps one bar per stage."""
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = shown.add_task(stage, total=total)
        shown.update(tasks[stage], completed=done)

    return show
