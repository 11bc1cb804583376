"""A page that needs nothing else: text, tables, and images within."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ..durable import write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; }
th { font-weight: 600; border-bottom: 1px solid #bbb; } img { max-width: 100%; } p { max-width: 46rem; }
"""


def table(rows: Iterable[Sequence[object]], heads: Sequence[str] = ()) -> str:
    """A table of plain text."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def section(title: str, *content: str) -> str:
    """A heading and what is under it, already HTML."""
    return f"<h2>{escape(title)}</h2>" + "".join(content)


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def write_page(file: Path, title: str, sections: Iterable[str]) -> None:
    """Write the page atomically."""
    write_text(
        file,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>",
    )
