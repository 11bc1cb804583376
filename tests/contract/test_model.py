"""What every model and calculator must satisfy, ours and users'."""

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.fd import FiniteDifferenceCalculator
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from conftest import SMALL_TERMS, make_frames

import mlpot
from mlpot.checks import default_structure
from mlpot.errors import StructureError, UnknownSpeciesError


def small(numbers=(14,)):
    return make_frames(1, numbers=numbers, seed=11)[0][:10]


@pytest.mark.parametrize("name", ["model", "two_species_model"])
def test_contract(name, request):
    potential = request.getfixturevalue(name)
    for atoms in (default_structure(potential), small(potential.species), Atoms(small(potential.species), pbc=False)):
        failed = [check for check in mlpot.validate_model(potential, atoms) if not check.passed]
        assert not failed


@pytest.mark.parametrize("zeta", [1.0, 2.5, 3.0, 7.0])
def test_contract_for_any_exponent(frames, zeta):
    terms = [{**SMALL_TERMS[1], "zeta": zeta}]
    potential = mlpot.fit(frames[:3], mlpot.FitConfig(terms=terms))
    assert not [check for check in mlpot.validate_model(potential, small()) if not check.passed]


class Broken:
    """A model with one flaw, which the contract check must find."""

    def __init__(self, model, flaw):
        self.model, self.flaw = model, flaw
        self.cutoff, self.species = model.cutoff, model.species

    def predict(self, atoms, uncertainty=False):
        from dataclasses import replace

        p = self.model.predict(atoms)
        if self.flaw == "virial":
            return replace(p, virial=-p.virial)
        if self.flaw == "forces":
            return replace(p, forces=1.001 * p.forces)
        if self.flaw == "sum":
            return replace(p, energy=p.energy + 1e-3)
        if self.flaw == "rotation":
            return replace(p, energy=p.energy + 1e-3 * float(np.sin(atoms.positions[0, 0] - atoms.positions[1, 0])))
        return replace(p, energy=p.energy * (1.0 if len(atoms) == 2 and p.forces.any() else 1.01))


@pytest.mark.parametrize("flaw", ["virial", "forces", "sum", "rotation", "cutoff"])
def test_the_contract_check_finds_flaws(model, flaw):
    assert not all(check.passed for check in mlpot.validate_model(Broken(model, flaw), small()))


def test_calculator_agrees_with_the_model(model, tmp_path):
    model.save(tmp_path / "model.h5")
    atoms = small()
    atoms.calc = mlpot.MlpotCalculator(tmp_path / "model.h5")
    p = model.predict(atoms, uncertainty=True)
    assert atoms.get_potential_energy() == p.energy
    np.testing.assert_array_equal(atoms.get_forces(), p.forces)
    np.testing.assert_array_equal(atoms.get_potential_energies(), p.energies)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), p.stress, atol=1e-15)
    np.testing.assert_allclose(p.stress, -p.virial / atoms.get_volume())
    np.testing.assert_array_equal(atoms.calc.uncertainty["energies_std"], p.energies_std)
    assert atoms.calc.uncertainty["energy_std"] == p.energy_std > 0
    assert set(atoms.calc.results) == {"energy", "free_energy", "energies", "forces", "stress"}
    from ase.outputs import all_outputs

    assert set(atoms.calc.results) <= set(all_outputs)
    atoms.get_properties(["energy", "forces"])


def test_calculator_against_ases_finite_differences(model):
    atoms = small()
    atoms.calc = mlpot.MlpotCalculator(model)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    atoms.calc = FiniteDifferenceCalculator(mlpot.MlpotCalculator(model), eps_disp=1e-4, eps_strain=1e-4)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(stress, atoms.get_stress(), atol=1e-6)


def test_stresses_of_atoms(model, frames):
    """They add up to the stress; those of a cluster far from another one are its own."""
    atoms = frames[0].copy()
    atoms.calc = mlpot.MlpotCalculator(model)
    stresses = atoms.get_stresses()
    assert stresses.shape == (len(atoms), 6)
    np.testing.assert_allclose(stresses.sum(axis=0), atoms.get_stress(), atol=1e-12)
    energies, forces = atoms.get_potential_energies(), atoms.get_forces()
    assert energies.sum() == pytest.approx(atoms.get_potential_energy()) and forces.shape == (len(atoms), 3)
    one, other = (
        Atoms("Si3", cell=[40.0] * 3, pbc=True, positions=p) for p in (np.diag([2.3] * 3), np.diag([2.9] * 3))
    )
    other.positions += 20.0
    apart = []
    for cluster in (one, other, one + other):
        cluster.calc = mlpot.MlpotCalculator(model)
        apart.append(cluster.get_stresses())
    np.testing.assert_allclose(apart[2], np.concatenate(apart[:2]), atol=1e-14)
    assert np.abs(apart[2]).max() > 1e-6


def test_the_stress_of_a_slab(model):
    """As ASE's calculators have it, of any cell of three vectors: by differences, in plane and across."""
    atoms = small()
    atoms.pbc = [True, True, False]
    stress, step = model.predict(atoms).stress, 1e-5
    for a, b in ((0, 0), (0, 1), (2, 2)):
        energies = []
        for h in (step, -step):
            strain = np.eye(3)
            strain[a, b] += 0.5 * h
            strain[b, a] += 0.5 * h
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(model.predict(strained).energy)
        assert stress[a, b] == pytest.approx((energies[0] - energies[1]) / (2 * step) / atoms.get_volume(), rel=1e-5, abs=1e-8)


def test_no_stress_without_three_cell_vectors(model):
    atoms = small()
    atoms.pbc = [True, True, False]
    atoms.cell[2] = 0.0
    assert model.predict(atoms).stress is None
    atoms.calc = mlpot.MlpotCalculator(model)
    atoms.get_forces()
    assert "stress" not in atoms.calc.results


def test_copies(model):
    atoms = small()
    calculator = mlpot.MlpotCalculator(model)
    atoms.calc = calculator
    forces = atoms.get_forces()
    for other in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        fresh = small()
        fresh.calc = other
        np.testing.assert_array_equal(fresh.get_forces(), forces)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(atoms).forces, forces)


@pytest.mark.parametrize("n_threads", [2, 5, 16])
def test_threads_change_no_bit(two_species_model, n_threads, monkeypatch):
    atoms = make_frames(1, numbers=(6, 14), seed=4)[0] * (2, 2, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = two_species_model.predict(atoms, uncertainty=True)
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads))
    many = two_species_model.predict(atoms, uncertainty=True)
    for name in ("energy", "energies", "forces", "virial", "energies_std", "energy_std", "forces_std", "novelty"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_clear_errors(model):
    with pytest.raises(UnknownSpeciesError, match="Ge"):
        model.predict(Atoms("SiGe", positions=[[0, 0, 0], [0, 0, 2.4]]))
    with pytest.raises(StructureError, match="empty"):
        model.predict(Atoms())
    broken = small()
    broken.positions[3] = np.nan
    with pytest.raises(StructureError, match="atom 3"):
        model.predict(broken)
    with pytest.raises(StructureError, match="overlap"):
        model.predict(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0.01]]))


def test_atoms_pushed_together_repel(model):
    """Where no data was, dynamics must not fall into a well."""
    energies = [model.predict(Atoms("Si2", positions=[[0, 0, 0], [0, 0, d]])).energy for d in (0.3, 0.5, 0.8, 1.1)]
    assert np.all(np.diff(energies) < 0)


@pytest.mark.slow
def test_nve_drift():
    """512 atoms, 5 ps at 600 K: the energy stays within 0.1 meV per atom."""
    model = mlpot.fit(make_frames(12, seed=2), mlpot.FitConfig(terms=SMALL_TERMS))
    atoms = bulk("Si", "fcc", a=3.6, cubic=True) * (4, 4, 8)
    atoms.calc = mlpot.MlpotCalculator(model, uncertainty=False)
    thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(0))
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, 2.0 * units.fs)
    energies = []
    for _ in range(250):
        dynamics.run(10)
        energies.append(atoms.get_total_energy() / len(atoms))
    drift = np.polyfit(np.arange(250), energies, 1)[0] * 250
    assert len(atoms) == 512
    assert abs(drift) < 1e-4
    assert np.std(energies) < 1e-4
    assert atoms.calc._neighbours.n_builds < 2500
