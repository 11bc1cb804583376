"""An ensemble of potentials: its mean is the model, and every member's forces and virial are derivatives of its energy."""

import numpy as np
import pytest
from conftest import SMALL_TERMS, make_frames

import mlpot
from mlpot.neighbours import find_pairs
from mlpot.structures import volume_of

STEP = 1e-3


@pytest.fixture(scope="module")
def pair_model(frames):
    return mlpot.fit(frames, mlpot.FitConfig(terms=SMALL_TERMS[:1]))


@pytest.fixture(params=["model", "two_species_model", "pair_model"])
def potential(request):
    return request.getfixturevalue(request.param)


def members(potential, atoms):
    return potential.compiled.predict_members(find_pairs(atoms, potential.cutoff), volume_of(atoms))


def structure(potential):
    atoms = make_frames(1, numbers=potential.species, seed=11)[0]
    atoms.rattle(0.1, seed=2)
    return atoms


def test_the_mean_is_the_model(potential):
    atoms = structure(potential)
    p, found = members(potential, atoms)
    judge = potential.predict(atoms, uncertainty=True)
    assert p.energy == judge.energy and p.energy_std == judge.energy_std
    np.testing.assert_array_equal(p.forces_std, judge.forces_std)
    assert (
        found.energies.shape == (8,) and found.forces.shape == (8, len(atoms), 3) and found.virials.shape == (8, 3, 3)
    )
    assert found.energies.mean() == pytest.approx(judge.energy, abs=1e-10)
    np.testing.assert_allclose(found.forces.mean(axis=0), judge.forces, atol=1e-6)
    np.testing.assert_allclose(found.virials.mean(axis=0), judge.virial, atol=1e-5)


def test_forces_and_virials_are_derivatives(potential):
    """Against differences of the members' energies: to some percent of the deviations, which is what they are made to."""
    atoms, rng = structure(potential), np.random.default_rng(3)
    p, found = members(potential, atoms)
    forces, virials = found.forces - p.forces, found.virials - p.virial
    errors, sizes = [], []
    for _ in range(6):
        direction, strain = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
        strain = (strain + strain.T) / 2

        def energies(step, direction=direction, strain=strain):
            moved, strained = atoms.copy(), atoms.copy()
            moved.positions += step * direction
            strained.set_cell(atoms.cell.array @ (np.eye(3) + step * strain), scale_atoms=True)
            ensembles = [members(potential, own) for own in (moved, strained)]
            return np.array([own.energies - mean.energy for mean, own in ensembles])

        slopes = -(energies(STEP) - energies(-STEP)) / (2 * STEP)
        expected = np.array([(forces * direction).sum(axis=(1, 2)), (virials * strain).sum(axis=(1, 2))])
        errors.append(slopes - expected)
        sizes.append(slopes)
    for error, size in zip(np.moveaxis(errors, 1, 0), np.moveaxis(sizes, 1, 0), strict=True):
        assert np.linalg.norm(error) < 0.1 * np.linalg.norm(size)


def force_deviation(potential, p, atoms):
    """Root mean square of the forces' deviations, with the scale of the members and without the model's discrepancy."""
    factors = potential.calibration.by_atom(atoms.numbers)[0][:, None]
    raw = (p.forces_std / factors) ** 2 - potential.noises.of_forces(atoms.numbers)[:, None] ** 2
    return potential.calibration.force_scale * np.sqrt(np.mean(raw))


def test_deviations_are_as_large_as_the_uncertainty(potential):
    atoms = structure(potential)
    p, found = members(potential, atoms)
    raw = force_deviation(potential, p, atoms)
    assert 0.6 < np.sqrt(np.mean((found.forces - p.forces) ** 2)) / raw < 1.2
