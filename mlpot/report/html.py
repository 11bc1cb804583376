"""A page that needs nothing else: text, tables, and images within."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ..durable import write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #bbb; } td { font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 0.8rem 0; } img { max-width: 100%; height: auto; } p { max-width: 46rem; }
figure { margin: 0.8rem 0; } figcaption { color: #555; font-size: 0.9rem; max-width: 46rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 0.5rem; }
nav a { margin-right: 1rem; } .warning, .good { padding: 0.4rem 0.8rem; }
.warning { background: #fdecea; border-left: 4px solid #c0392b; }
.good { background: #e9f7ef; border-left: 4px solid #1e8449; }
@media screen and (max-width: 40rem) {
  body { margin: 0.5rem auto; } figure { overflow-x: auto; } figure img { max-width: none; width: 42rem; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; } nav { display: none; } .wide { overflow: visible; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } td, th { padding-right: 0.4rem; }
}
"""


def table(rows: Iterable[Sequence[object]], heads: Sequence[str] = (), name: str = "") -> str:
    """A table of plain text that scrolls by itself where the screen is narrow; `name` finds it in the page."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    own = f' id="{escape(name)}"' if name else ""
    return f'<div class="wide"><table{own}>{f"<tr>{head}</tr>" if head else ""}{body}</table></div>'


def captioned(image: str, caption: str = "") -> str:
    """An image, already HTML, and a sentence on how to read it."""
    return f"<figure>{image}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"


def grid(items: Iterable[str]) -> str:
    """HTML items, placed next to each other if the screen is wide enough."""
    return f'<div class="grid">{"".join(items)}</div>'


def warning(text: str, name: str = "") -> str:
    """Plain text that must not be overlooked; `name` finds it in the page."""
    return _box("warning", text, name)


def good_news(text: str, name: str = "") -> str:
    """Plain text that says that all is well; `name` finds it in the page."""
    return _box("good", text, name)


def _box(kind: str, text: str, name: str) -> str:
    own = f' id="{escape(name)}"' if name else ""
    return f'<p class="{kind}"{own}>{escape(text)}</p>'


def section(title: str, *content: str) -> str:
    """A heading and what is under it, already HTML."""
    return f'<h2 id="{anchor(title)}">{escape(title)}</h2>' + "".join(content)


def anchor(title: str) -> str:
    """Anchor of a heading for links."""
    return "section-" + "-".join(title.lower().split())


def contents(titles: Iterable[str]) -> str:
    """Links to sections."""
    return "<nav>" + "".join(f'<a href="#{anchor(title)}">{escape(title)}</a>' for title in titles) + "</nav>"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Plain text whose lines stay as they are."""
    return f"<pre>{escape(text)}</pre>"


def write_page(file: Path, title: str, sections: Iterable[str]) -> None:
    """Write the page atomically."""
    write_text(
        file,
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>",
    )
