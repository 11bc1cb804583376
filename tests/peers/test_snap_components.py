"""Bispectrum components against LAMMPS' compute sna/atom and snad/atom."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from snap_files import by_id, load_atoms, start_lammps

from mlpot.descriptors import Bispectrum
from mlpot.neighbours import find_pairs


def components(atoms, symbols, radii, weights, rcutfac, two_j_max, style="sna/atom", **keys):
    """LAMMPS' numbers (n_atoms, n)."""
    engine = start_lammps()
    try:
        prism = load_atoms(engine, atoms, symbols)
        engine.command(f"pair_style zero {2 * rcutfac * max(radii) + 0.1}")
        engine.command("pair_coeff * *")
        words = {"bzeroflag": 0, **keys}
        rfac0 = words.pop("rfac0", 0.99363)
        text = " ".join(f"{key} {value}" for key, value in words.items())
        own = " ".join(map(str, (*radii, *weights)))
        engine.command(f"compute s all {style} {rcutfac} {rfac0} {two_j_max} {own} {text}")
        engine.command("run 0 post no")
        found = np.array(engine.numpy.extract_compute("s", 1, 2)).copy()
        return by_id(engine, found, len(atoms)), prism
    finally:
        engine.close()


def silicon():
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell @ np.array([[1, 0, 0], [0.1, 1.05, 0], [-0.07, 0.12, 0.96]]), scale_atoms=True)
    atoms.rattle(0.08, seed=0)
    return atoms


def alloy():
    atoms = silicon()
    atoms.symbols[[1, 3, 4]] = "C"
    return atoms


CASES = {
    "silicon": (silicon(), ["Si"], [0.5], [1.0], 4.7, 8, {}),
    "odd degree, starts at a distance": (silicon(), ["Si"], [0.5], [0.9], 4.4, 5, {"rmin0": 0.7, "rfac0": 0.8}),
    "longer than the cell": (silicon(), ["Si"], [0.5], [1.0], 6.5, 4, {"bzeroflag": 1}),
    "two elements": (alloy(), ["C", "Si"], [0.4, 0.55], [0.6, 1.0], 4.7, 6, {"bnormflag": 1}),
    "channels": (alloy(), ["C", "Si"], [0.4, 0.55], [0.6, 1.0], 4.7, 4, {"chem": "2 0 1", "bnormflag": 1}),
    "channels with all centres": (
        alloy(), ["C", "Si"], [0.4, 0.55], [0.6, 1.0], 4.7, 3, {"chem": "2 0 1", "wselfallflag": 1, "bzeroflag": 1}
    ),
    "water": (molecule("H2O"), ["H", "O"], [0.5, 0.5], [0.5, 1.0], 3.0, 4, {}),
}  # fmt: skip


def descriptor(symbols, radii, weights, rcutfac, two_j_max, keys):
    from ase.data import atomic_numbers

    flags = {name: bool(keys.get(word)) for name, word in (("chem", "chem"), ("wselfall", "wselfallflag"), ("bzero", "bzeroflag"))}
    return Bispectrum(
        tuple(atomic_numbers[s] for s in symbols), 2 * rcutfac * max(radii), two_j_max, keys.get("rfac0", 0.99363),
        keys.get("rmin0", 0.0), radii, weights, bnorm=bool(keys.get("bnormflag")), **flags,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_components(case):
    atoms, *arguments, keys = case
    own = descriptor(*arguments, keys)
    found = own.compute(find_pairs(atoms, own.cutoff))
    exact, _ = components(atoms, *arguments, **keys)
    np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-10)


def test_derivatives():
    atoms, *arguments, keys = CASES["two elements"]
    own = descriptor(*arguments, keys)
    pairs = find_pairs(atoms, own.cutoff)
    jacobian = own.jacobian(pairs)
    exact, prism = components(atoms, *arguments, style="snad/atom", **keys)
    # for every element of the centre, x, then y, then z: the derivative of all its components by the position of an atom, negative
    found = np.zeros((len(atoms), 2, 3, own.n_features))
    kind = (pairs.numbers[pairs.i] == 14).astype(int)
    np.add.at(found, (pairs.j, kind), -jacobian)
    np.add.at(found, (pairs.i, kind), jacobian)
    turned = prism.vector_to_lammps(np.moveaxis(found, 2, -1).reshape(-1, 3)).reshape(len(atoms), 2, -1, 3)
    expected = np.moveaxis(exact.reshape(len(atoms), 2, 3, -1), 2, -1)
    np.testing.assert_allclose(turned, expected, rtol=1e-8, atol=1e-8)
