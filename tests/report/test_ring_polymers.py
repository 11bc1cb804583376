"""Kinetic energies of ring polymers against what is known of them, and the frames that they are made of."""

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpot.report.frames import sampled_steps
from mlpot.report.ring_polymers import kinetic_energies, spreads
from mlpot.units import BOLTZMANN

HBAR = 6.582119569e-16 * ase.units.second
"""eV times ASE's unit of time."""


def ring_polymer(positions, forces):
    """Beads from (n_beads, n_atoms, 3) arrays."""
    beads = [Atoms("H" * positions.shape[1], positions=one) for one in positions]
    for atoms, own in zip(beads, forces, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=own)
    return beads


@pytest.mark.slow
def test_a_harmonic_oscillator_of_many_beads():
    """Exact for P beads: <K> = 3 kT / 2 sum_k w^2 / (w_k^2 + w^2), with the frequencies w_k of the free ring."""
    temperature, n_beads, n_samples, mass, stiffness = 100.0, 8, 800, 1.0, 0.5
    kT = BOLTZMANN * temperature
    omega_p = n_beads * kT / HBAR
    modes = 2 * omega_p * np.sin(np.arange(n_beads) * np.pi / n_beads)
    variances = n_beads * kT / (mass * modes**2 + stiffness)
    rng = np.random.default_rng(0)
    k = np.arange(n_beads)
    basis = np.array([np.cos(2 * np.pi * j * k / n_beads) + np.sin(2 * np.pi * j * k / n_beads) for j in k]) / np.sqrt(
        n_beads
    )
    np.testing.assert_allclose(basis @ basis.T, np.eye(n_beads), atol=1e-12)
    found = []
    for _ in range(n_samples):
        amplitudes = rng.normal(size=(n_beads, 3)) * np.sqrt(variances)[:, None]
        q = (basis.T @ amplitudes)[:, None, :]
        found.append(kinetic_energies(ring_polymer(q, -stiffness * q), temperature)[0])
    exact = 1.5 * kT + 1.5 * kT * np.sum(stiffness / (mass * modes[1:] ** 2 + stiffness))
    assert exact > 2 * 1.5 * kT
    assert np.mean(found) == pytest.approx(exact, rel=0.05)


def test_atoms_of_one_place_are_classical():
    q = np.ones((4, 2, 3))
    beads = ring_polymer(q, np.random.default_rng(0).normal(size=q.shape))
    np.testing.assert_allclose(kinetic_energies(beads, 300.0), 1.5 * BOLTZMANN * 300)
    np.testing.assert_array_equal(spreads(beads), 0)


def test_spreads():
    q = np.zeros((2, 1, 3))
    q[0, 0, 0], q[1, 0, 0] = 0.3, -0.3
    np.testing.assert_allclose(spreads(ring_polymer(q, q)), [0.3])


def test_whole_steps_of_a_trajectory(tmp_path):
    """Steps of which only some beads are there, as labelled ones, are left out, wherever reading begins."""
    frames = []
    for step in range(30):
        for bead in range(3 if step % 2 == 0 else 1):
            atoms = Atoms("H2", positions=np.full((2, 3), 10 * step + bead))
            atoms.info.update(step=step, bead=bead)
            frames.append(atoms)
    file = tmp_path / "t.xyz"
    ase.io.write(file, frames, format="extxyz")
    for number in (1, 4, 1000):
        steps = sampled_steps(file, number, 3)
        assert all(step % 2 == 0 for step in steps) and list(steps) == sorted(steps)
        for step, beads in steps.items():
            assert [atoms.positions[0, 0] for atoms in beads] == [10 * step + k for k in range(3)]
    assert len(sampled_steps(file, 1000, 3)) == 15
    assert len(sampled_steps(file, 4, 3)) == 4
