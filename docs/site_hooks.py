"""Hooks of MkDocs: pages that nobody listed join How-to, and tables that follow from the sources are filled in."""

from __future__ import annotations

import inspect
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = "How-to"


def _named(entry):
    """Files that an entry of the navigation names."""
    if isinstance(entry, str):
        return {entry}
    return set().union(*map(_named, entry.values() if isinstance(entry, dict) else entry), set())


def on_config(config):
    """Add pages of docs/ that the navigation does not name."""
    known = _named(config["nav"])
    others = sorted(p.name for p in (ROOT / "docs").glob("*.md") if p.name not in known)
    for section in config["nav"]:
        if PLACE in section:
            section[PLACE] += others
    return config


def on_page_markdown(markdown, page, config, files):
    """Replace `<!-- errors -->` and `<!-- commands -->` by tables made from the sources."""
    for mark, table in (("<!-- errors -->", errors_table), ("<!-- commands -->", commands_table)):
        if mark in markdown:
            markdown = markdown.replace(mark, table())
    return markdown


def errors_table():
    """All errors that mlpot raises on purpose, with their meaning."""
    from mlpot import errors

    rows = ["| error | also a | meaning |", "|---|---|---|"]
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.MlpotError):
            bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
            rows.append(f"| `{name}` | {bases} | {' '.join((kind.__doc__ or '').split())} |")
    return "\n".join(rows)


def commands_table():
    """All commands, with what they do and an example."""
    import typer

    from mlpot.commands.main import app

    rows = ["| command | does | example |", "|---|---|---|"]
    for name, command in sorted(typer.main.get_command(app).commands.items()):
        example = (command.epilog or "").removeprefix("Example:").strip().replace("|", "\\|")
        rows.append(f"| `mlpot {name}` | {(command.help or '').splitlines()[0]} | `{example}` |")
    return "\n".join(rows)
