"""Numbers of dscribe's LMBTR for tests: dscribe 2.1.2 fails with newer versions of ASE, so they are kept in mbtr_numbers.json.

    pip install dscribe==2.1.2 ase==3.26.0 && python tests/peers/make_mbtr_numbers.py
"""

import json
from importlib.metadata import version
from pathlib import Path

from ase.build import bulk, molecule
from dscribe.descriptors import LMBTR

EXACT = {"function": "exp", "threshold": 1e-40}
"""Without terms left out; the cell below is not periodic."""
K2 = [
    ({"function": "inverse_distance"}, {"min": 0.0, "max": 1.5, "n": 24, "sigma": 0.05}, EXACT | {"scale": 0.5}),
    ({"function": "distance"}, {"min": 0.5, "max": 6.0, "n": 24, "sigma": 0.2}, {"function": "unity"}),
]
K3 = [
    ({"function": "cosine"}, {"min": -1.0, "max": 1.0, "n": 20, "sigma": 0.1}, EXACT | {"scale": 0.5}),
    ({"function": "cosine"}, {"min": -1.1, "max": 0.7, "n": 20, "sigma": 0.06}, {"function": "unity"}),
]


def structures():
    """Water, and a rattled piece of silicon carbide in vacuum."""
    water = molecule("H2O")
    piece = bulk("SiC", "zincblende", a=4.36, cubic=True)
    piece.rattle(0.1, seed=3)
    piece.pbc = False
    return {"water": water, "piece": piece}


def block(descriptor, row, kinds):
    """Numbers of one combination of elements."""
    return row[descriptor.get_location(kinds)].tolist()


def main():
    """Write the numbers with their versions."""
    found = {"versions": {name: version(name) for name in ("dscribe", "ase")}, "cases": []}
    for name, atoms in structures().items():
        symbols = sorted(set(atoms.symbols), key=lambda s: atoms[list(atoms.symbols).index(s)].number)
        for geometry, grid, weighting in K2 + K3:
            descriptor = LMBTR(geometry=geometry, grid=grid, weighting=weighting, species=symbols)
            kinds = [("X", a) for a in symbols]
            if geometry["function"] == "cosine":
                kinds = [(a, "X", b) for k, b in enumerate(symbols) for a in symbols[: k + 1]]
                kinds += [("X", a, b) for a in symbols for b in symbols]
            rows = descriptor.create(atoms)[:2]
            blocks = {"-".join(kind): [block(descriptor, row, kind) for row in rows] for kind in kinds}
            found["cases"].append(
                {"structure": name, "geometry": geometry["function"], "grid": grid, "weighting": weighting, "blocks": blocks}
            )
    Path(__file__).with_name("mbtr_numbers.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
