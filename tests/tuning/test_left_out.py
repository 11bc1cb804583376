"""Errors on left-out groups in closed form, against fits that really leave them out."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames

from mlpot.fitting.batch import fit_terms, make_baseline, make_terms
from mlpot.fitting.task import FitTask
from mlpot.settings.fit import FitConfig
from mlpot.settings.presets import resolve
from mlpot.structures import all_labelled
from mlpot.tuning.left_out import errors_left_out


@pytest.fixture(scope="module")
def task():
    frames = make_frames(6)
    alone = Atoms("Si", cell=[20, 20, 20], pbc=True)
    alone.calc = SinglePointCalculator(alone, energy=0.0, forces=np.zeros((1, 3)))
    structures = all_labelled([*frames, alone])
    fixed = [{**t, "energy_scale": 1.0} for t in SMALL_TERMS]
    config = resolve(FitConfig(terms=fixed, isolated_atom_energies={"Si": 0.0}, **NOISES), (14,))
    return FitTask(structures, (14,), make_baseline(config, structures, (14,)), config)


@pytest.mark.parametrize("size", [1, 3])
def test_the_closed_form_is_a_fit_to_all_others(task, size):
    """Groups of one have fewer rows than there are columns here, only when cut to energies; groups of three have more."""
    terms = make_terms(task)
    bound = list(task.structures[:-1])
    groups = [bound[k : k + size] for k in range(0, 6, size)]
    found, _ = errors_left_out(task, terms, groups)
    energies, forces = [], []
    for group in groups:
        own_energies, own_forces = [], []
        others = [s for s in task.structures if not any(s is g for g in group)]
        model = fit_terms(others, task.species, terms, task.baseline, task.config)
        for s in group:
            p = model.predict_directly(s.atoms)
            own_energies.append(abs(p.energy - s.energy) / s.n_atoms)
            own_forces.append(np.abs(p.forces - s.forces).ravel())
        energies.append(np.mean(own_energies))
        forces.append(np.mean(np.concatenate(own_forces)))
    assert found.energies == pytest.approx(np.mean(np.sqrt(energies)) ** 2, rel=1e-5)
    assert found.forces == pytest.approx(np.mean(np.sqrt(forces)) ** 2, rel=1e-5)


def test_few_rows_and_many_rows_are_the_same_formula(task):
    terms = make_terms(task)
    few = [replaced(s) for s in task.structures[:-1]]
    small = FitTask([*few, task.structures[-1]], task.species, task.baseline, task.config)
    found, _ = errors_left_out(small, terms, [[s] for s in few])
    wanted = []
    for s in few:
        others = [o for o in small.structures if o is not s]
        model = fit_terms(others, task.species, terms, task.baseline, task.config)
        wanted.append(abs(model.predict_directly(s.atoms).energy - s.energy) / s.n_atoms)
    assert found.forces is None
    assert found.energies == pytest.approx(np.mean(np.sqrt(wanted)) ** 2, rel=1e-5)


def replaced(structure):
    """The structure with its energy alone: one row."""
    from dataclasses import replace

    return replace(structure, forces=None, virial=None)
