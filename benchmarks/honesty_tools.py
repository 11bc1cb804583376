"""Tools that are not dynamics, through a `LearningCalculator` and with the reference itself.

Each tool is a function of a calculator that returns numbers. It is called with a learning calculator and with the reference;
what the first returns is compared with what the second does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Vibrations
from honesty_judge import GPA
from honesty_systems import CHEAP, GFN1, Reference

import mlpot

DIFFERENCES = {"purpose": "differences"}
"""What a user says to a calculator whose small differences of energies and forces matter."""
ROUNDS = 5
"""Relaxations at most; another one follows when the label of the last geometry changed the answer."""


@dataclass(frozen=True)
class Metal:
    """An fcc metal, with a lattice constant (A) close to the minimum."""

    symbol: str
    lattice: float


METALS = {symbol: Metal(symbol, lattice) for symbol, lattice in (("Cu", 3.6), ("Al", 4.0), ("Ag", 4.07), ("Ni", 3.5))}


def confirmed(calculator: Calculator, atoms: Atoms) -> bool:
    """Label a final structure; whether that left the answer as it was. A reference needs no confirmation."""
    if not isinstance(calculator, mlpot.LearningCalculator):
        return True
    return not calculator.confirm(atoms).changed


@contextmanager
def learning(folder: Path, reference: Reference, told: Mapping[str, Any]) -> Iterator[mlpot.LearningCalculator]:
    """A learning calculator as a new user makes it."""
    parameters = dict(reference.parameters)
    with mlpot.LearningCalculator(folder / "run", reference.calculator, parameters, **told) as calculator:
        yield calculator


@dataclass(frozen=True)
class Answer:
    """Numbers of one kind that a tool returned.

    Parameters
    ----------
    quantity, unit : str
    values : list of float
    relative, absolute : float or None
        Bounds: an error within either of them is accepted. The second is in `unit`.
    """

    quantity: str
    unit: str
    values: list[float]
    relative: float | None = None
    absolute: float | None = None

    def compared(self, true: Answer) -> dict:
        """This answer beside the true one: largest error, and whether every number is within the bounds."""
        errors = np.abs(np.subtract(self.values, true.values))
        allowed = np.full(len(errors), self.absolute or 0.0)
        if self.relative is not None:
            allowed = np.maximum(allowed, self.relative * np.abs(true.values))
        return {
            "quantity": self.quantity, "unit": self.unit, "found": self.values, "true": true.values,
            "largest_error": float(errors.max()), "met": bool(np.all(errors <= allowed)),
        }  # fmt: skip


Measure = Callable[[Calculator, Path], list[Answer]]


@dataclass(frozen=True)
class Tool:
    """A tool, who provides the truth, and what the learning calculator is told."""

    measure: Measure
    reference: Reference
    told: Mapping[str, Any]

    def __call__(self, folder: Path) -> dict:
        """Answers with both calculators, and the labels that the learning one needed."""
        with learning(folder, self.reference, self.told) as calculator:
            found = self.measure(calculator, folder / "learned")
            labels = calculator.learner.n_asked
        true = self.measure(self.reference.make(), folder / "direct")
        return {"labels": labels, "answers": [f.compared(t) for f, t in zip(found, true, strict=True)]}


def relaxed(optimised: Any, atoms: Atoms, fmax: float, optimiser: type = BFGS) -> Atoms:
    """Relax an object (atoms, or a filter of them), confirm the geometry, and go on when it was not the right one."""
    for _ in range(ROUNDS):
        optimiser(optimised, logfile=None).run(fmax=fmax, steps=200)
        if confirmed(atoms.calc, atoms):
            break
    return atoms


def lattice_constants(metal: Metal, calculator: Calculator, folder: Path) -> list[Answer]:
    """Cell of the metal relaxed from two starts, 4 and 7 % too large."""
    found = []
    for scale in (1.04, 1.07):
        atoms = bulk(metal.symbol, a=scale * metal.lattice)
        atoms.calc = calculator
        relaxed(FrechetCellFilter(atoms), atoms, 1e-3)
        found.append(float((4 * atoms.get_volume()) ** (1 / 3)))
    return [Answer("lattice constants", "A", found, relative=0.003)]


def equation_of_state(metal: Metal, calculator: Calculator, folder: Path) -> list[Answer]:
    """Energy and pressure of the metal, lattice constants from 6 % below to 8 % above."""
    energies, pressures = [], []
    for scale in np.linspace(0.94, 1.08, 15):
        atoms = bulk(metal.symbol, a=metal.lattice * scale)
        atoms.calc = calculator
        energies.append(1e3 * float(atoms.get_potential_energy()))
        pressures.append(-GPA * float(atoms.get_stress()[:3].mean()))
    return [
        Answer("energies of 15 volumes", "meV/atom", energies, absolute=5.0),
        Answer("pressures of 15 volumes", "GPa", pressures, absolute=0.5),
    ]


def phonons(metal: Metal, calculator: Calculator, folder: Path) -> list[Answer]:
    """Energies of the metal's phonons at X and L, by finite displacements."""
    work = Phonons(bulk(metal.symbol, a=metal.lattice), calculator, supercell=(3, 3, 3), delta=0.02, name=str(folder))
    work.run()
    work.read(acoustic=True)
    at_x, at_l = 1e3 * work.band_structure([[0.5, 0, 0.5], [0.5, 0.5, 0.5]])
    return [
        Answer(f"phonons at {name}", "meV", [float(e) for e in energies], relative=0.05, absolute=0.5)
        for name, energies in (("X", at_x), ("L", at_l))
    ]


def dimer(metal: Metal, calculator: Calculator, folder: Path) -> list[Answer]:
    """Bond scan of two atoms in vacuum."""
    energies = []
    for length in np.linspace(1.8, 6.0, 22):
        atoms = Atoms(2 * [metal.symbol], [[0, 0, 0], [length, 0, 0]])
        atoms.calc = calculator
        energies.append(float(atoms.get_potential_energy()))
    return [Answer("energies of 22 bond lengths", "eV", energies, absolute=0.1)]


def vibrations(formula: str, calculator: Calculator, folder: Path) -> list[Answer]:
    """Frequencies of a molecule at the minimum that the calculator itself finds; `formula` is its name in ASE."""
    atoms = molecule(formula)
    atoms.calc = calculator
    relaxed(atoms, atoms, 0.01)
    work = Vibrations(atoms, name=str(folder))
    work.run()
    frequencies = [float(f) for f in work.get_frequencies().real[6:]]
    return [Answer("vibrations", "1/cm", frequencies, relative=0.03)]


def hop(metal: Metal, calculator: Calculator, folder: Path) -> list[Answer]:
    """Barrier of an adatom that moves from an fcc to an hcp hollow of the metal's (111) face: NEB with five images."""
    ends = []
    for site in ("fcc", "hcp"):
        slab = fcc111(metal.symbol, (2, 2, 3), a=metal.lattice, vacuum=8.0)
        add_adsorbate(slab, metal.symbol, metal.lattice / 2, site)
        slab.info.clear()
        slab.set_constraint(FixAtoms(mask=slab.get_tags() > 2))
        slab.calc = calculator
        ends.append(relaxed(slab, slab, 0.02))
    images = [ends[0].copy(), *(ends[0].copy() for _ in range(3)), ends[1].copy()]
    band = NEB(images, method="improvedtangent", allow_shared_calculator=True)
    band.interpolate()
    for image in images:
        image.calc = calculator
    for _ in range(ROUNDS):
        BFGS(band, logfile=None).run(fmax=0.05, steps=100)
        if confirmed(calculator, max(images, key=lambda image: image.get_potential_energy())):
            break
    energies = [1e3 * float(image.get_potential_energy()) for image in images]
    return [
        Answer("barrier", "meV", [max(energies) - energies[0]], relative=0.1, absolute=10.0),
        Answer("energies along the path", "meV", [e - energies[0] for e in energies[1:]], relative=0.1, absolute=10.0),
    ]


METAL_TOOLS = {
    "relax cell": (lattice_constants, DIFFERENCES),
    "equation of state": (equation_of_state, DIFFERENCES),
    "phonons": (phonons, DIFFERENCES),
    "dimer": (dimer, {}),
    "barrier": (hop, DIFFERENCES),
}
MOLECULES = ("H2O", "NH3", "CH4", "H2CO", "SH2")
TOOLS = {
    f"{name} {metal.symbol}": Tool(partial(measure, metal), CHEAP, told)
    for metal in METALS.values()
    for name, (measure, told) in METAL_TOOLS.items()
} | {f"vibrations {formula}": Tool(partial(vibrations, formula), GFN1, DIFFERENCES) for formula in MOLECULES}
