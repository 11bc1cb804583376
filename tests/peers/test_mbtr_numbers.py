"""MBTR against numbers of dscribe's LMBTR, made by make_mbtr_numbers.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.data import atomic_numbers

from mlpot.descriptors import Mbtr
from mlpot.neighbours import find_pairs

NUMBERS = json.loads(Path(__file__).with_name("mbtr_numbers.json").read_text())


def structure(name):
    if name == "water":
        return molecule("H2O")
    piece = bulk("SiC", "zincblende", a=4.36, cubic=True)
    piece.rattle(0.1, seed=3)
    piece.pbc = False
    return piece


@pytest.mark.parametrize("case", NUMBERS["cases"], ids=lambda c: f"{c['structure']}, {c['geometry']}, {c['weighting']['function']}")
def test_numbers(case):
    atoms = structure(case["structure"])
    symbols = sorted(set(atoms.symbols), key=atomic_numbers.get)
    weighting = {"weighting": case["weighting"]["function"], "scale": case["weighting"].get("scale")}
    name = "k3" if case["geometry"] == "cosine" else "k2"
    grid = {"geometry": case["geometry"], **case["grid"], **weighting}
    own = Mbtr(tuple(atomic_numbers[s] for s in symbols), 12.0, cutoff_width=1.0, **{name: grid})
    found = own.compute(find_pairs(atoms, own.cutoff))[:2].reshape(2, -1, case["grid"]["n"])
    if name == "k2":
        kinds = [f"X-{a}" for a in symbols]
    else:
        kinds = [f"{b}-X-{a}" for k, a in enumerate(symbols) for b in symbols[: k + 1]]
        kinds += [f"X-{a}-{b}" for a in symbols for b in symbols]
    assert found.shape[1] == len(kinds)
    for k, kind in enumerate(kinds):
        np.testing.assert_allclose(found[:, k], case["blocks"][kind], rtol=1e-9, atol=2e-9, err_msg=kind)
