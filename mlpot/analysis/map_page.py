"""The atlas as one HTML file that opens offline: maps on a canvas, a structure viewer, tables of what stands out.

Texts of the data reach the page as JSON inside a script element that is not run, and as text nodes: names cannot become markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors

from ..report.html import paragraph, section, table, write_page
from ..structures import name_of
from .atlas import NOVEL, Atlas

MOST_ATOMS = 400_000
"""Atoms whose positions are kept in the file; structures beyond are on the map but not in the viewer."""
MOST_LISTED = 50
STYLE = """<style>
body { max-width: 90rem; } #panels { display: grid; grid-template-columns: 3fr 2fr; gap: 1rem; }
canvas { width: 100%; height: 32rem; border: 1px solid #ccc; touch-action: none; } #view { cursor: grab; }
#legend span { margin-right: 1rem; font-size: 0.85rem; }
#legend i { display: inline-block; width: 0.8rem; height: 0.8rem; margin-right: 0.3rem; }
#tip, #name, #axes { min-height: 1.5rem; font-size: 0.9rem; color: #444; }
[data-structure] { cursor: pointer; text-decoration: underline; }
@media (max-width: 50rem) { #panels { grid-template-columns: 1fr; } canvas { height: 22rem; } }
</style>"""
PANELS = """<p><label>map of <select id="what"></select></label> <label>colour <select id="colour"></select></label>
<label><input type="checkbox" id="sketch"> farthest points</label></p>
<div id="panels"><div><canvas id="map"></canvas><div id="axes"></div><div id="tip"></div></div>
<div><canvas id="view"></canvas><div id="name"></div></div></div><p id="legend"></p>"""


def write_map_page(file: Path, atlas: Atlas, title: str) -> None:
    """Write the page atomically."""
    text = (
        "Each point is a structure or an environment; points are near each other where their features are alike (kernel principal "
        "components). Click on a point or a name to see the structure; drag to turn it."
    )
    content = json.dumps({**atlas.to_dict(), **_shapes(atlas)}, separators=(",", ":")).replace("<", "\\u003c")
    script = files("mlpot.analysis").joinpath("map.js").read_text(encoding="utf-8")
    sections = [STYLE, paragraph(text), PANELS, *_tables(atlas)]
    sections.append(f'<script type="application/json" id="data">{content}</script><script>{script}</script>')
    write_page(file, title, sections)


def _shapes(atlas: Atlas) -> dict[str, Any]:
    """Positions for the viewer, and the look of elements."""
    shapes: list[dict[str, Any] | None] = []
    n_atoms = 0
    for atoms in atlas.frames:
        n_atoms += len(atoms)
        if n_atoms > MOST_ATOMS:
            shapes.append(None)
            continue
        cell = atoms.cell.array.ravel().round(3).tolist() if atoms.pbc.any() else []
        positions = atoms.positions.ravel().round(3).tolist()
        shapes.append({"symbols": list(atoms.symbols), "positions": positions, "cell": cell})
    used = sorted(atlas.environments)
    return {
        "shapes": shapes,
        "radii": {chemical_symbols[z]: float(covalent_radii[z]) for z in used},
        "colours": {chemical_symbols[z]: "#" + "".join(f"{int(255 * c):02x}" for c in jmol_colors[z]) for z in used},
    }


def _tables(atlas: Atlas) -> list[str]:
    found = []
    if covered := atlas.coverage():
        rows = [(r["element"], r["environments"], r["novel"], _number(r["largest_novelty"])) for r in covered]
        words = f"Environments with a novelty above {NOVEL}, or of elements that it does not know, are unlike the model's data."
        heads = ("element", "environments", "not covered", "largest novelty")
        found.append(section("What the model covers", paragraph(words), table(rows, heads)))
        worst = sorted(enumerate(atlas.per_structure["largest_novelty"]), key=lambda pair: -_or_large(pair[1]))
        links = [_link(atlas, k, -1, f"novelty {_number(v)}") for k, v in worst[:10] if _or_large(v) > NOVEL]
        if links:
            found.append(section("Structures it covers least", _list(links)))
    outliers = atlas.outliers()
    links = [
        _link(
            atlas,
            r["structure"],
            r["atom"],
            f"{r['element']} {r['atom']}, {r['times_the_usual']:.0f} times as remote as usual",
        )
        for r in outliers
    ]
    found.append(section("Outliers", _list(links) if links else paragraph("No environment is far from all others.")))
    pairs = [_link(atlas, a, -1, f"is {_name(atlas, b)}") for a, b in atlas.duplicates[:MOST_LISTED]]
    more = len(atlas.duplicates) - MOST_LISTED
    pairs += [f"and {more} more" for _ in range(more > 0)]
    found.append(section("Duplicates", _list(pairs) if pairs else paragraph("No structure occurs twice.")))
    return found


def _link(atlas: Atlas, structure: int, atom: int, text: str) -> str:
    name = escape(_name(atlas, structure))
    return f'<span data-structure="{structure}" data-atom="{atom}">{name}</span>: {escape(text)}'


def _name(atlas: Atlas, structure: int) -> str:
    return name_of(atlas.frames[structure], f"structure {structure}")


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3g}"


def _or_large(value: float) -> float:
    """The value, or infinity where there is none."""
    return float(value) if value == value else float("inf")
