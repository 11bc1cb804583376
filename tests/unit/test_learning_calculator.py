"""Calculators that learn, in scripts of any kind: dynamics, optimisers, bands; labels cost nothing."""

import threading

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import BFGS
from conftest import FAULTY, faulty_parameters, lennard_jones
from learning_runs import TERMS, calculator, crystal, do_run, plan

from mlpot.errors import LabelError, MlpotError
from mlpot.labellers.plan import LabellingPlan
from mlpot.learning.calculator import BudgetSpent
from mlpot.learning.learner import Learner
from mlpot.models.settings import FitConfig


def test_learning_in_an_optimiser(tmp_path):
    """From nothing to the minimum of the reference potential."""
    atoms = crystal()
    atoms.rattle(0.05, seed=2)
    with calculator(tmp_path / "run", tmp_path / "calls", config=FitConfig(terms=TERMS, force_noise=0.01)) as calc:
        atoms.calc = calc
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
        n_labels = calc.learner.n_labels
    true = atoms.copy()
    true.calc = lennard_jones()
    assert np.abs(true.get_forces()).max() < 0.15
    assert 0 < n_labels < 15


def test_learning_in_a_nudged_elastic_band(tmp_path):
    """An adatom on a row of atoms hops to the next place; images share the calculator."""
    row = Atoms("Si7", positions=[[2.5 * k, 0, 0] for k in range(7)])
    ends = []
    for place in (6.2, 8.8):
        end = row.copy()
        end.append("Si")
        end.positions[-1] = [place, 2.1, 0.1]
        end.set_constraint(FixAtoms(range(7)))
        ends.append(end)
    with calculator(tmp_path / "run", tmp_path / "calls") as calc:
        images = [ends[0], ends[0].copy(), ends[0].copy(), ends[0].copy(), ends[1]]
        band = NEB(images, allow_shared_calculator=True, method="improvedtangent")
        band.interpolate()
        for image in images:
            image.calc = calc
        BFGS(band, logfile=None).run(fmax=0.1, steps=60)
        energies = [image.get_potential_energy() for image in images]
        labels = calc.learner.n_labels
    true = images[2].copy()
    true.calc = lennard_jones()
    assert 0 < labels < 40
    assert energies[2] - energies[0] == pytest.approx(true.get_potential_energy() - _true_energy(images[0]), abs=0.1)


def _true_energy(atoms):
    copy = atoms.copy()
    copy.calc = lennard_jones()
    return copy.get_potential_energy()


def test_a_labelled_calculation_has_everything(tmp_path):
    with calculator(tmp_path / "run", tmp_path / "calls") as calc:
        atoms = crystal()
        atoms.calc = calc
        true = crystal()
        true.calc = lennard_jones()
        assert atoms.get_potential_energy() == true.get_potential_energy()
        np.testing.assert_array_equal(atoms.get_forces(), true.get_forces())
        np.testing.assert_allclose(atoms.get_potential_energies().sum(), true.get_potential_energy())
        assert calc.uncertainty["energies_std"].shape == (32,)
        assert set(calc.results) == {"energy", "free_energy", "energies", "forces", "stress"}


@pytest.mark.parametrize("wrong", [{"start_model": "nowhere.h5"}, {"resume": True}])
def test_a_start_that_fails_leaves_nothing_behind(tmp_path, wrong):
    """Neither a claim on the folder nor a worker: the next start is not refused."""
    folder = tmp_path / "run"
    if "resume" in wrong:
        folder.mkdir()
        (folder / "labels.db").write_bytes(b"not a database" * 100)
    before = sorted(folder.iterdir()) if folder.exists() else []
    n_threads = threading.active_count()
    with pytest.raises(MlpotError):
        calculator(folder, tmp_path / "calls", **wrong)
    assert (sorted(folder.iterdir()) if folder.exists() else []) == before
    assert threading.active_count() == n_threads


def test_budget_is_an_error_in_a_script(tmp_path):
    with calculator(tmp_path / "run", tmp_path / "calls", threshold=1e-9, max_labels=1) as calc:
        atoms = crystal()
        atoms.calc = calc
        atoms.get_forces()
        atoms.positions[0, 0] += 0.01
        with pytest.raises(BudgetSpent, match="raise max_labels"):
            atoms.get_forces()


def test_a_restart_learns_only_what_the_saved_fit_does_not_know(tmp_path, monkeypatch):
    """A clean end keeps the fit; the next start goes on from it, with the same numbers as one that learns all anew."""
    do_run(tmp_path / "run", tmp_path / "calls", plan())
    learned = []
    absorb = Learner._absorb
    monkeypatch.setattr(Learner, "_absorb", lambda self, atoms: learned.append(atoms) or absorb(self, atoms))
    models = []
    for saved in (True, False):
        if not saved:
            (tmp_path / "run" / "fit.h5").write_bytes(b"no fit")
        with calculator(tmp_path / "run", tmp_path / "calls", resume=True) as calc:
            calc.prepare(crystal().numbers)
            models.append(calc.learner.model)
            assert len(learned) == (0 if saved else calc.learner.n_labels)
    np.testing.assert_array_equal(models[0].weights, models[1].weights)
    np.testing.assert_array_equal(models[0].factor, models[1].factor)


@pytest.mark.parametrize("on_failure", ["stop", "go on"])
def test_a_label_that_fails_stops_the_script_or_does_not(tmp_path, on_failure):
    parameters = {**faulty_parameters(tmp_path / "calls"), "fail": ["", "raise", "raise"]}
    the_plan = LabellingPlan(FAULTY, parameters, on_failure=on_failure)
    with calculator(tmp_path / "run", tmp_path / "calls", threshold=1e-9, labelling=the_plan) as calc:
        atoms = crystal()
        atoms.calc = calc
        atoms.get_forces()
        atoms.positions[0, 0] += 0.01
        if on_failure == "stop":
            with pytest.raises(LabelError, match=r"self-consistency.*delete it"):
                atoms.get_forces()
        else:
            np.testing.assert_array_equal(atoms.get_forces(), calc.learner.model.predict(atoms).forces)
        atoms.positions[0, 0] += 0.01
        atoms.get_forces()
        assert calc.learner.n_labels == 2
