"""Forces and stresses that are not the derivatives of the energies are told by what they look like."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, GPa, Hartree, Ry, kJ, mol
from conftest import SMALL_TERMS, lennard_jones

import mlpot
from mlpot.data.unit_check import unit_doubts
from mlpot.structures import all_labelled


def near_frames(n_frames, strain, rattle):
    """A crystal, strained and rattled a little."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(n_frames):
        atoms = bulk("Si", "fcc", a=3.5, cubic=True) * (2, 2, 2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(rattle, rng=rng)
        atoms.calc = lennard_jones()
        atoms.get_stress()
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def structures():
    return all_labelled([*near_frames(16, 0.0, 0.05), *near_frames(16, 0.02, 0.01)])


def with_factors(structures, forces=1.0, stress=1.0):
    return [replace(s, forces=s.forces * forces, virial=s.virial * stress) for s in structures]


def test_right_labels_raise_no_doubt(structures):
    assert unit_doubts(structures) == []
    assert unit_doubts(structures[:2]) == []
    assert unit_doubts(with_factors(structures, 1.1, 0.9)) == []


@pytest.mark.parametrize(
    "factor, looks",
    [
        (-1, r"eV/A with the sign turned \(gradients\)"),
        (Bohr / Hartree, "Hartree/bohr;"),
        (-Bohr / Hartree, r"Hartree/bohr with the sign turned \(gradients\)"),
        (1000, "meV/A or kJ/mol/nm;"),
        (1e5, "no unit is known"),
    ],
)
def test_forces(structures, factor, looks):
    (doubt,) = unit_doubts(with_factors(structures, forces=factor))
    assert doubt.startswith("forces: ")
    assert re.search(looks, doubt)


@pytest.mark.parametrize(
    "factor, looks",
    [
        (-1, "eV/A^3 with the sign turned;"),
        (10 / GPa, "kBar;"),
        (1 / GPa, "GPa;"),
        (-10 / GPa, "kBar with the sign turned;"),
    ],
)
def test_stresses(structures, factor, looks):
    (doubt,) = unit_doubts(with_factors(structures, stress=factor))
    assert doubt.startswith("stress: ") and f"they look like {looks}" in doubt


@pytest.mark.parametrize("factor", [1 / GPa, -10 / GPa])
def test_stresses_in_one_cell(structures, factor):
    """No strain, no difference: only their size is left."""
    one_cell = [s for s in structures if np.allclose(s.atoms.cell, structures[0].atoms.cell)]
    assert len(one_cell) == 16 and unit_doubts(one_cell) == []
    size = np.median([np.abs(s.virial).max() / s.n_atoms for s in one_cell])
    pressed = with_factors(one_cell, stress=0.5 / size)  # 0.5 eV/atom: a few GPa
    assert unit_doubts(pressed) == []
    (doubt,) = unit_doubts(with_factors(pressed, stress=factor))
    assert doubt.startswith("stress: half of the structures have more than") and "they look like GPa, kBar or virials" in doubt


@pytest.mark.parametrize(("factor", "looks"), [(1 / Ry, "Ry"), (mol / kJ, "kJ/mol"), (1 / 32, "eV per atom")])
def test_energies(structures, factor, looks):
    """Where forces and stresses agree with each other."""
    (doubt,) = unit_doubts([replace(s, energy=s.energy * factor) for s in structures])
    assert doubt.startswith("energies: they change by") and f"they look like {looks}" in doubt


def test_a_virial_in_place_of_a_stress(structures):
    volumes = [replace(s, virial=-s.virial * s.atoms.get_volume()) for s in structures]
    (doubt,) = unit_doubts(volumes)
    assert doubt.startswith("stress: ") and "stresses times volume (virials have virial_key) with the sign turned" in doubt


@pytest.mark.parametrize("n_frames, strain, rattle", [(8, 0.0, 0.05), (16, 0.0, 0.06)])
def test_few_structures_that_are_less_alike(n_frames, strain, rattle):
    """Third-order terms are as large as the others here; signs and units can still be seen."""
    few = all_labelled(near_frames(n_frames, strain, rattle))
    assert unit_doubts(few) == []
    for factor, looks in ((-1, "gradients"), (Bohr / Hartree, "Hartree/bohr")):
        assert any(looks in doubt for doubt in unit_doubts(with_factors(few, forces=factor)))


def test_both(structures):
    doubts = unit_doubts(with_factors(structures, -1, -1))
    assert [doubt.split(":")[0] for doubt in doubts] == ["forces", "stress"]


def test_energies_of_another_kind_raise_no_doubt(structures):
    """Noise says nothing of units, however large."""
    rng = np.random.default_rng(0)
    assert unit_doubts([replace(s, energy=float(rng.normal(scale=50))) for s in structures]) == []


def test_a_fit_warns(caplog):
    frames = near_frames(12, 0.0, 0.05)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=-atoms.get_forces())
    with caplog.at_level(logging.WARNING, "mlpot"):
        mlpot.fit(frames, mlpot.FitConfig(terms=SMALL_TERMS[:1], check_labels=False))
    assert any(message.startswith("forces: ") and "gradients" in message for message in caplog.messages)
