"""Guards: explosions are seen, hot and small systems are let alone."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.md.velocitydistribution import thermalize_momenta

from mlpot.learning.guards import COLD, FAR, HOT, flown, hot, is_doubtful, jumped, largest_temperature


@pytest.mark.parametrize("atoms", [Atoms("Ar"), molecule("H2"), molecule("H2O"), bulk("Cu") * (3, 3, 3)])
@pytest.mark.parametrize("temperature", [50.0, 300.0, 2000.0])
def test_thermal_fluctuations_are_no_explosion(atoms, temperature):
    """A thousand draws of momenta, whatever the size."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
        assert hot(atoms, temperature) is None and flown(atoms, temperature, cutoff=0.1) is None
        found.append(is_doubtful(atoms, temperature))
    assert np.mean(found) < 0.01


def test_the_bound_is_ten_times_the_highest_temperature_for_all_but_the_smallest_systems():
    assert largest_temperature(1000.0, 3000) == pytest.approx(HOT * 1000.0, rel=0.01)
    assert largest_temperature(1.0, 3000) == pytest.approx(HOT * COLD, rel=0.02)
    assert largest_temperature(1000.0, 3) > 1.5 * HOT * 1000.0
    crystal = bulk("Cu") * (4, 4, 4)
    for factor, seen in ((0.97, False), (1.03, True)):
        thermalize_momenta(crystal, temperature_K=5000.0, rng=np.random.default_rng(0))
        bound = largest_temperature(500.0, 3 * len(crystal))
        crystal.set_momenta(crystal.get_momenta() * np.sqrt(factor * bound / crystal.get_temperature()))
        assert (hot(crystal, 500.0) is not None) == seen and is_doubtful(crystal, 500.0)
    assert "K that are possible after a highest temperature of 500 K" in hot(crystal, 500.0)


def test_jumps():
    atoms = bulk("Cu", cubic=True)
    before, cell = atoms.positions.copy(), atoms.cell.array.copy()
    atoms.positions[2, 1] += FAR - 0.01
    assert jumped(before, cell, atoms) is None
    atoms.positions[2, 1] += 0.02
    assert "atom 2 (Cu) has moved" in jumped(before, cell, atoms)
    atoms.positions[0, 0] = np.nan
    assert "not finite" in jumped(before, cell, atoms)


def test_a_barostat_that_moves_all_atoms_is_no_jump():
    atoms = bulk("Cu", cubic=True) * (30, 1, 1)
    before, cell = atoms.positions.copy(), atoms.cell.array.copy()
    atoms.set_cell(1.02 * cell, scale_atoms=True)
    assert np.abs(atoms.positions - before).max() > FAR and jumped(before, cell, atoms) is None


def test_only_an_atom_that_leaves_for_good_has_flown():
    """Alone, fast, and on its way out: not the one that evaporates slowly, nor the one that is shot in."""

    def cluster(distance, energy, direction=1.0):
        atoms = bulk("Cu", cubic=True) + Atoms("Ar", [[0, 0, distance]])
        atoms.pbc = False
        speed = direction * np.sqrt(2 * energy / atoms.get_masses()[-1])
        atoms.set_momenta([[0, 0, 0]] * 4 + [[0, 0, speed * atoms.get_masses()[-1]]])
        return atoms

    assert "atom 4 (Ar) flies away" in flown(cluster(9.0, 3.0), 300.0, 5.0)
    assert flown(cluster(9.0, 0.1), 300.0, 5.0) is None
    assert flown(cluster(9.0, 3.0, -1.0), 300.0, 5.0) is None
    assert flown(cluster(9.0, 3.0), 300.0, 20.0) is None
    assert flown(cluster(9.0, 3.0), 3000.0, 5.0) is None
    assert flown(cluster(9.0, 3.0)[4:], 300.0, 5.0) is None
