"""The atlas as a page of chemiscope, with its program inside: one HTML file that opens offline.

Chemiscope: Fraux, Cersonsky, Ceriotti, J. Open Source Softw. 5, 2117 (2020), doi:10.21105/joss.02117; `pip install 'mlpot[map]'`.
"""

from __future__ import annotations

import json
from html import escape
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ..durable import write_text
from ..errors import ConfigError
from .atlas import Atlas

PROGRAM = "sphinx/static/chemiscope.min.js"
"""Its place in the package chemiscope."""
STYLE = """body { margin: 0.5rem; font-family: system-ui, sans-serif; }
#panels { display: grid; grid-template-columns: 3fr 2fr; gap: 0.5rem; }
#map, #structure { height: 36rem; position: relative; }"""
START = """Chemiscope.DefaultVisualizer.load(
  {meta: "meta", map: "map", structure: "structure", info: "info"}, JSON.parse(document.getElementById("data").textContent)
).catch((error) => { document.getElementById("meta").textContent = String(error); });"""


def load_chemiscope() -> Any:
    """The module; ConfigError if it is not installed."""
    try:
        return import_module("chemiscope")
    except ImportError as error:
        raise ConfigError(
            f"--viewer chemiscope: it cannot be imported ({error}); install it with: pip install 'mlpot[map]'"
        ) from error


def write_chemiscope_page(file: Path, atlas: Atlas, title: str) -> None:
    """Write the page atomically.

    Raises
    ------
    ConfigError
        If chemiscope is not installed, or has its program elsewhere than this version knows.
    """
    chemiscope = load_chemiscope()
    program = files("chemiscope").joinpath(PROGRAM)
    if not program.is_file():
        raise ConfigError(
            f"--viewer chemiscope: its version {chemiscope.__version__} has no {PROGRAM}; install another one, 1.1 for example"
        )
    bare = [Atoms(a.numbers, positions=a.positions, cell=a.cell, pbc=a.pbc) for a in atlas.frames]
    data = chemiscope.create_input(structures=bare, properties=properties(atlas), metadata={"name": title})
    content = json.dumps(data).replace("<", "\\u003c")
    script = program.read_text(encoding="utf-8").replace("</script", "<\\/script")
    write_text(
        file,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style><body>'
        '<div id="meta"></div><div id="panels"><div id="map"></div><div id="structure"></div></div><div id="info"></div>'
        f'<script>{script}</script><script type="application/json" id="data">{content}</script><script>{START}</script>'
        "</body></html>",
    )


def properties(atlas: Atlas) -> dict[str, Any]:
    """Values of structures, those to be drawn first at the beginning."""
    places = atlas.structures.places
    described = atlas.to_dict()["structures"]
    found: dict[str, Any] = {
        "component 1": places[:, 0], "component 2": places[:, 1], **atlas.per_structure, "remoteness": atlas.structures.remoteness,
        "config_type": described["config_type"], "name": described["name"],
    }  # fmt: skip
    if "novelty" not in atlas.per_atom:
        for z, (where, own) in atlas.environments.items():
            largest = np.full(len(atlas.frames), np.nan)
            np.fmax.at(largest, where[:, 0], own.remoteness)
            found[f"largest remoteness of {chemical_symbols[z]}"] = largest
    return {name: {"target": "structure", "values": _values(values)} for name, values in found.items()}


def _values(values: Any) -> list[Any]:
    """Numbers, NaN where there is none, or texts."""
    return values if isinstance(values, list) else [None if v != v else float(v) for v in values]
