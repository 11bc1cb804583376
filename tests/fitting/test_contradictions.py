"""Labels of another unit or sign than the others are seen in a fit, where no two structures are alike."""

import logging

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, GPa, Hartree

import mlpot


@pytest.fixture(scope="module")
def unlike():
    """Strained and rattled so much that their energies cannot be compared in pairs."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(14):
        atoms = bulk("Cu").repeat(2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.06 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.08 * rng.normal(size=(8, 3))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def doubts(frames, caplog, **factors):
    """Warnings of a fit to labels multiplied by factors."""
    changed = []
    for atoms in frames:
        copy = atoms.copy()
        results = {name: value * factors.get(name, 1.0) for name, value in atoms.calc.results.items()}
        copy.calc = SinglePointCalculator(copy, **results)
        changed.append(copy)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "mlpot"):
        mlpot.fit(changed, mlpot.FitConfig(preset="fast", cutoff=4.5, check_labels=False))
    return [message for message in caplog.messages if "look like" in message]


def test_right_labels_raise_no_doubt(unlike, caplog):
    assert doubts(unlike, caplog) == []


@pytest.mark.parametrize(("factors", "label", "looks"), [
    ({"forces": -1.0}, "forces", "eV/A with the sign turned (gradients)"),
    ({"forces": Bohr / Hartree}, "forces", "Hartree/bohr"),
    ({"stress": -1.0}, "stress", "eV/A^3 with the sign turned"),
    ({"stress": 10 / GPa}, "stress", "GPa, kBar or virials"),
    ({"energy": 1 / Hartree}, "energies", "Hartree"),
])  # fmt: skip
def test_one_kind_of_labels_that_contradicts_the_others(unlike, caplog, factors, label, looks):
    (message,) = doubts(unlike, caplog, **factors)
    assert message.startswith(f"{label}: ") and f"look like {looks}" in message
