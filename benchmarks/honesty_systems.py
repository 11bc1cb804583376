"""Systems of `honesty.py`: start structures, who labels them, and the few values a new user sets in the template."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, diamond100, fcc111, make_supercell, molecule
from ase.calculators.calculator import Calculator
from ase.cluster import Icosahedron

INPUTS = Path(__file__).resolve().parents[1] / "inputs"
EMT = "ase.calculators.emt.EMT"
XTB = "tblite.ase.TBLite"
BODY_CENTRED = [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]
"""Supercell of four cubic cells whose shortest period is sqrt(3) times theirs."""


@dataclass(frozen=True)
class Reference:
    """The calculator that makes labels and provides the true forces.

    Parameters
    ----------
    calculator : str
        Import path, "package.module.Class".
    parameters : dict
        Its keyword arguments.
    """

    calculator: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Calculator:
        """A new calculator."""
        module, name = self.calculator.rsplit(".", 1)
        return getattr(import_module(module), name)(**self.parameters)


CHEAP = Reference(EMT)
GFN1 = Reference(XTB, {"method": "GFN1-xTB", "verbosity": 0})


@dataclass(frozen=True)
class System:
    """One learning run of the benchmark.

    Parameters
    ----------
    make : callable
        Returns the start structure.
    reference : Reference
    temperature_K : float or list of float
        A number, or the corners of a ramp.
    steps : int
    ensemble : str
        "nvt" or "npt".
    n_judged : int
        Largest number of frames that are compared with the reference. Few where it is expensive, so that judging a run
        costs less than the run.
    """

    make: Callable[[], Atoms]
    reference: Reference
    temperature_K: float | list[float]
    steps: int
    ensemble: str = "nvt"
    n_judged: int = 150

    def values(self, seed: int, folder: str) -> dict[tuple[str, str], Any]:
        """What replaces values of the template, by section and key."""
        return {
            ("dynamics", "ensemble"): self.ensemble,
            ("dynamics", "temperature_K"): self.temperature_K,
            ("dynamics", "steps"): self.steps,
            ("dynamics", "seed"): seed,
            ("labeller", "calculator"): self.reference.calculator,
            ("labeller", "parameters"): dict(self.reference.parameters),
            ("output", "folder"): folder,
        }


@dataclass(frozen=True)
class Shipped:
    """A configuration of the folder `inputs`, run as it is; only its folder is another one.

    Parameters
    ----------
    name : str
        Of its file, without suffix.
    most_labels : int
        That it may need, check labels included.
    n_judged : int
        As of `System`; these are labelled by GFN1-xTB.
    """

    name: str
    most_labels: int
    n_judged: int
    reference: Reference = GFN1

    def values(self, seed: int, folder: str) -> dict[tuple[str, str], Any]:
        """What replaces values of the file, by section and key; the seed stays."""
        start = tomllib.loads(self.text())["structure"]["file"]
        return {("structure", "file"): str(INPUTS.parent / start), ("output", "folder"): folder}

    def text(self) -> str:
        """The configuration."""
        return (INPUTS / f"{self.name}.toml").read_text(encoding="utf-8")


def co_on_copper() -> Atoms:
    """CO upright on an atop site of a four-layer Cu(111) slab."""
    slab = fcc111("Cu", (3, 3, 4), vacuum=8.0)
    add_adsorbate(slab, Atoms("CO", [[0, 0, 0], [0, 0, 1.15]]), 1.9, "ontop")
    return slab


def water_on_aluminium() -> Atoms:
    """A flat H2O molecule above an atop site of Al(111)."""
    slab = fcc111("Al", (3, 3, 4), vacuum=8.0)
    water = molecule("H2O")
    water.rotate(90, "y")
    add_adsorbate(slab, water, 2.3, "ontop", mol_index=0)
    return slab


def nitrogen_on_nickel() -> Atoms:
    """An N atom in an fcc hollow of Ni(111)."""
    slab = fcc111("Ni", (3, 3, 4), vacuum=8.0)
    add_adsorbate(slab, "N", 1.2, "fcc")
    return slab


def platinum_cluster() -> Atoms:
    """Icosahedron of 13 Pt atoms in vacuum."""
    cluster = Icosahedron("Pt", 2)
    return Atoms(cluster.symbols, positions=cluster.positions)


def copper_vacancy() -> Atoms:
    """107 Cu atoms on 108 sites."""
    atoms = bulk("Cu", cubic=True).repeat(3)
    del atoms[0]
    return atoms


def copper_gold() -> Atoms:
    """Random CuAu, 32 atoms."""
    atoms = bulk("Cu", a=3.85, cubic=True).repeat(2)
    atoms.symbols[np.random.default_rng(0).permutation(len(atoms))[: len(atoms) // 2]] = "Au"
    return atoms


def aluminium_nickel() -> Atoms:
    """Ordered AlNi (B2), 54 atoms."""
    return bulk("AlNi", "cesiumchloride", a=2.88).repeat(3)


def copper() -> Atoms:
    """108 Cu atoms."""
    return bulk("Cu", cubic=True).repeat(3)


def ethanol() -> Atoms:
    """A molecule in vacuum."""
    return molecule("CH3CH2OH")


def liquid_water() -> Atoms:
    """Eight molecules, randomly oriented, at the density of the liquid (29.9 A^3 each)."""
    rng, side = np.random.default_rng(0), 29.9 ** (1 / 3)
    atoms = Atoms(cell=3 * [2 * side], pbc=True)
    for place in np.ndindex(2, 2, 2):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate((np.array(place) + 0.5) * side - one.get_center_of_mass())
        atoms += one
    return atoms


def formic_acid_dimer() -> Atoms:
    """Two molecules of HCOOH in vacuum, joined by two hydrogen bonds: related by an inversion."""
    one = molecule("HCOOH")
    donor, acceptor, hydrogen = 0, 2, 3  # -O-, =O and the H of OH in ase.build's molecule
    one.positions -= one.positions[donor]
    # the partner's acceptor lies on the line of the donor and its hydrogen, 2.7 A from the donor
    bond = one.positions[hydrogen] / np.linalg.norm(one.positions[hydrogen])
    other = one.copy()
    other.positions = (2.7 * bond + one.positions[acceptor]) - one.positions
    return one + other


def sodium_chloride() -> Atoms:
    """Rock salt, 32 atoms."""
    return make_supercell(bulk("NaCl", "rocksalt", a=5.64, cubic=True), BODY_CENTRED)


def silicon() -> Atoms:
    """64 atoms, slightly displaced."""
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.02, seed=1)
    return atoms


def silicon_surface() -> Atoms:
    """Si(001), six layers of four atoms, p(2x1) dimers on both faces: GFN1-xTB often does not converge without them."""
    slab = diamond100("Si", (2, 2, 6), vacuum=6.0)
    _, y, z = slab.positions.T
    middle, faces = z.mean(), np.isin(slab.get_tags(), (1, 6))
    y[faces] += np.where(y[faces] < 1.9, 0.72, -0.72)
    z[faces] -= 0.2 * np.sign(z[faces] - middle)
    slab.rattle(0.02, seed=1)
    return slab


SYSTEMS = {
    "CO/Cu(111)": System(co_on_copper, CHEAP, 500.0, 1500),
    "H2O/Al(111)": System(water_on_aluminium, CHEAP, 300.0, 1500),
    "N/Ni(111)": System(nitrogen_on_nickel, CHEAP, 500.0, 1500),
    "Pt13": System(platinum_cluster, CHEAP, 600.0, 1500),
    "Cu vacancy": System(copper_vacancy, CHEAP, 800.0, 1500),
    "CuAu": System(copper_gold, CHEAP, [300.0, 900.0], 1500),
    "AlNi": System(aluminium_nickel, CHEAP, [300.0, 900.0], 1500),
    "Cu npt": System(copper, CHEAP, [300.0, 2400.0], 1500, "npt"),
    "ethanol": System(ethanol, GFN1, 300.0, 1000),
    "8 H2O": System(liquid_water, GFN1, 350.0, 1000, n_judged=60),
    "HCOOH dimer": System(formic_acid_dimer, GFN1, 200.0, 1000),
    "NaCl": System(sodium_chloride, GFN1, 1200.0, 500, n_judged=10),
    "Si64": System(silicon, GFN1, 600.0, 400, n_judged=10),
    "Si(001)": System(silicon_surface, GFN1, 600.0, 600, n_judged=15),
}
SHIPPED = {
    shipped.name: shipped
    for shipped in (Shipped("demo", 12, 12), Shipped("learn_si", 10, 10), Shipped("learn_water", 75, 100))
}
