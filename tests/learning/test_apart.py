"""Atoms beyond the cutoff from all others: labelled until a label shows that nothing acts on them."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from learning_runs import TERMS

import mlpot
from mlpot.learning.apart import EndsOfInteraction, are_felt, without_neighbours
from mlpot.learning.policy import Rules
from mlpot.settings.fit import FitConfig

CUTOFF = 4.0


def pair(length, symbol="Al"):
    return Atoms(2 * [symbol], positions=[[0, 0, 0], [length, 0, 0]])


def pulled(size, n_atoms=2):
    """Forces (n_atoms, 3), eV/A, that pull the first two atoms together."""
    forces = np.zeros((n_atoms, 3))
    forces[:2, 0] = size, -size
    return forces


def test_which_atoms_have_no_neighbours():
    assert without_neighbours(pair(3.9), CUTOFF).tolist() == []
    assert without_neighbours(pair(4.1), CUTOFF).tolist() == [0, 1]
    assert without_neighbours(Atoms("Al"), CUTOFF).tolist() == []  # the energy of one atom is learned like any other
    periodic = Atoms("Al2", positions=[[0, 0, 0], [4.5, 0, 0]], cell=[9, 9, 9], pbc=True)
    assert without_neighbours(periodic, CUTOFF).tolist() == [0, 1]
    periodic.set_cell([9, 3.9, 9])  # images are neighbours
    assert without_neighbours(periodic, CUTOFF).tolist() == []


def test_forces_and_the_energy_that_they_leave():
    rules, both = Rules(), np.array([0, 1])
    assert not are_felt(pulled(0.03), both, rules)
    assert are_felt(pulled(0.05), both, rules)  # half an angstrom of it: 12.5 meV/atom, and the target is 10
    assert not are_felt(pulled(0.05), both, rules.changed(target_energy=0.05))
    assert are_felt(pulled(0.5), both, rules.changed(target_energy=1.0))  # the target of the forces
    assert not are_felt(pulled(0.05, n_atoms=20), both, rules)
    assert not are_felt(pulled(9.0), np.empty(0, int), rules)


def test_interactions_end_where_a_label_has_shown_it():
    ends, both = EndsOfInteraction(), np.array([0, 1])
    assert not ends.are_passed(pair(9.0), both)
    ends.learn(pair(5.0), pulled(1.0), both, Rules())
    assert not ends.are_passed(pair(9.0), both)
    ends.learn(pair(6.0), pulled(0.0), both, Rules())
    assert ends.are_passed(pair(6.0), both) and ends.are_passed(pair(9.0), both)
    assert not ends.are_passed(pair(5.8), both)
    assert not ends.are_passed(pair(9.0, "Cu"), both)
    assert ends.are_passed(pair(1.0), np.empty(0, int))


@pytest.mark.parametrize("given", [None, pytest.param({"Al": EMT().get_potential_energy(Atoms("Al"))}, marks=pytest.mark.slow)])
def test_a_bond_that_is_longer_than_the_cutoff(tmp_path, caplog, given):
    """EMT's bond of aluminium ends at 5.9 A: beyond a shorter cutoff labels answer, also if the isolated atom is known."""
    lengths = (2.4, 2.8, 3.4, 5.0, 5.6, 5.9, 6.2, 30.0)
    config = FitConfig(terms=TERMS, isolated_atom_energies=given)
    with mlpot.LearningCalculator(tmp_path / "run", EMT(), species=[13], config=config) as calc:
        for length in lengths:
            atoms, true = pair(length), pair(length)
            atoms.calc, true.calc = calc, EMT()
            assert atoms.get_potential_energy() == pytest.approx(true.get_potential_energy(), abs=0.1), length
        assert calc.learner.cutoff < 5.0
        assert len(calc.campaign.set_aside) == 2  # at 5 and 5.6 A; 5.9 is learned, and nothing beyond it is asked for
        assert max(s.atoms.get_distance(0, 1) for s in calc.learner.fit.structures) == 5.9
    assert "has no neighbour within the cutoff" in caplog.text and "increase the cutoff of its terms" in caplog.text


def test_the_first_label_is_learned_whatever_it_shows(tmp_path):
    """Without a model there is nothing that it could contradict."""
    atoms = pair(5.0)
    with mlpot.LearningCalculator(tmp_path / "run", EMT(), config=FitConfig(terms=TERMS)) as calc:
        atoms.calc = calc
        atoms.get_forces()
        assert calc.learner.n_labels == 1
        label = pair(5.1)
        label.calc = SinglePointCalculator(label, energy=0.0, forces=pulled(1.0))
        assert "atom 0 (Al) has no neighbour within the cutoff of" in calc.learner.doubt(label)
