"""Calculators that learn, in scripts of any kind: dynamics, optimisers, bands; labels cost nothing."""

import threading

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import BFGS
from conftest import FAULTY, faulty_parameters, lennard_jones
from h5_edits import edited
from learning_runs import STRICT, TERMS, calculator, crystal, do_run, plan

import mlpot
from mlpot.errors import ConfigError, LabelError, MlpotError
from mlpot.labellers.faulty import calls
from mlpot.labels.plan import LabellingPlan
from mlpot.labels.store import LabelStore
from mlpot.learning.calculator import BudgetSpent
from mlpot.learning.campaign import SET_ASIDE
from mlpot.learning.learner import Learner
from mlpot.learning.policy import Rules, first_check
from mlpot.models.prediction import counted_error
from mlpot.settings.fit import FitConfig

pytestmark = pytest.mark.usefixtures("labels_in_this_process")


@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.usefixtures("labels_in_processes")
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
        with pytest.raises(BudgetSpent, match=r"needed \(expected .*increase max_labels and start the script"):
            atoms.get_forces()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_fit_file_of_an_older_version_is_made_anew_from_its_labels(tmp_path):
    """A run with a given isolated atom is resumed: no label is lost or paid twice, and the atom alone has what was given."""
    config = FitConfig(terms=TERMS, isolated_atom_energies={"Si": 2.5})
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=20), config=config)
    paid = len(calls(tmp_path / "calls", "end"))
    with edited(tmp_path / "run" / "fit.h5") as h5:
        h5.attrs["format_version"] = 3
        for name in [name for name in h5 if name.startswith("rows_")]:
            h5[name][...] *= 1.5  # rows that are no differences are of no use
    with calculator(tmp_path / "run", tmp_path / "calls", config=config, resume=True) as calc:
        calc.prepare(crystal().numbers)
        assert calc.learner.n_labels == paid
        model, atoms = calc.learner.model, crystal(3)
        assert model.predict(Atoms("Si")).energy == pytest.approx(2.5, abs=1e-9)
        known = mlpot.load_model(tmp_path / "run" / "model.h5")
        assert known.predict(Atoms("Si")).energy == pytest.approx(2.5, abs=1e-9)
        np.testing.assert_allclose(model.predict(atoms).forces, known.predict(atoms).forces, atol=1e-4)
    assert len(calls(tmp_path / "calls", "end")) == paid


@pytest.mark.slow
@pytest.mark.parametrize("on_failure", ["stop", "go on"])
@pytest.mark.usefixtures("labels_in_processes")
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


LOOSE = Rules(target_energy=1e3, target_stress=1e3, novelty=1e9, check_interval="off")
"""With threshold = 1e3 it trusts everything that two labels have tested."""
ANYTHING = {"rules": LOOSE, "threshold": 1e3}


def taught(calc, n=3):
    """Structures whose labels a calculator has learned: the first, and those that tested it."""
    seen = []
    for seed in range(n):
        atoms = crystal()
        atoms.rattle(0.06 * seed, seed=seed)
        atoms.calc = calc
        atoms.get_forces()
        seen.append(atoms)
    assert calc.learner.n_labels == n
    return seen


@pytest.mark.slow
def test_the_stress_is_decided_on_when_it_is_asked_for(tmp_path, monkeypatch):
    rules = LOOSE.changed(target_stress=1e-12)
    events, predicted = [], []
    with calculator(tmp_path / "run", tmp_path / "calls", rules=rules, threshold=1e3, observe=events.append) as calc:
        taught(calc)
        atoms = crystal(7)
        atoms.calc = calc
        predict = type(calc).predict
        monkeypatch.setattr(type(calc), "predict", lambda self: predicted.append(1) or predict(self))
        forces = atoms.get_forces()
        assert "stress" not in calc.results and events[-1].answer is None and len(predicted) == 1
        step = calc.counters.step
        atoms.get_stress()
        assert events[-1].answer.paid and len(predicted) == 1 and calc.counters.step == step
        assert np.abs(atoms.get_forces() - forces).max() > 0  # those of the label now
        # from now on it counts at once
        other = crystal(8)
        other.calc = calc
        other.get_forces()
        assert events[-1].answer.paid and "stress" in calc.results


@pytest.mark.slow
def test_a_small_difference_is_labelled_unless_it_is_known_precisely(tmp_path):
    """The same displacement of one atom, which dynamics can trust."""
    for purpose, n_labels in (("dynamics", 3), ("auto", 4), ("differences", 4)):
        folder = tmp_path / purpose
        with calculator(folder, tmp_path / f"calls{purpose}", purpose=purpose, **ANYTHING) as calc:
            *_, last = taught(calc) if purpose != "differences" else [*taught(calc, 2), crystal()]
            moved = last.copy()
            moved.positions[3, 1] += 0.01
            moved.calc = calc
            before = calc.learner.n_labels
            moved.get_forces()
            assert calc.learner.n_labels - before == n_labels - 3
    with pytest.raises(ConfigError, match="purpose"):
        calculator(tmp_path / "run", tmp_path / "calls", purpose="phonons")


@pytest.mark.slow
def test_an_optimiser_does_not_end_where_forces_are_below_their_expected_error(tmp_path):
    """Targets that everything is within; the last structure is labelled all the same."""
    with calculator(tmp_path / "run", tmp_path / "calls", **ANYTHING) as calc:
        atoms = crystal()
        atoms.rattle(0.05, seed=2)
        atoms.calc = calc
        BFGS(atoms, logfile=None).run(fmax=1e-3, steps=100)
        assert calc.campaign.known(atoms) is not None
    atoms.calc = lennard_jones()
    assert np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max()) < 2e-3


@pytest.mark.slow
def test_confirming_a_structure(tmp_path, caplog):
    with calculator(tmp_path / "run", tmp_path / "calls", **ANYTHING) as calc:
        taught(calc)
        atoms = crystal(7)
        atoms.calc = calc
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        true = atoms.copy()
        true.calc = lennard_jones()
        found = calc.confirm(atoms)
        assert found.energy_error == pytest.approx((energy - true.get_potential_energy()) / 32)
        differences = forces - true.get_forces()
        assert found.force_error == pytest.approx(np.sqrt(np.mean(differences**2)))
        assert found.max_force_error == pytest.approx(np.abs(differences).max())
        assert found.stress_error > 0 and not found.changed
        np.testing.assert_array_equal(atoms.get_forces(), true.get_forces())
        assert calc.learner.n_labels == 4 and LabelStore(tmp_path / "run").rows()[-1].reason == "confirm"
        again = calc.confirm()
        assert (again.energy_error, again.force_error, again.changed) == (0.0, 0.0, False)
        assert len(calls(tmp_path / "calls", "end")) == 4
        calc.learner.rules = calc.learner.rules.changed(target_energy=1e-9, max_labels=5)
        atoms.rattle(0.05)
        assert calc.confirm(atoms).changed
        atoms.rattle(0.05)
        with pytest.raises(BudgetSpent, match="max_labels"):
            calc.confirm(atoms)
    assert "confirm(atoms)" not in caplog.text  # the last answer was a label's


@pytest.mark.slow
@pytest.mark.parametrize("momenta", [False, True])
def test_an_answer_that_nobody_confirmed(tmp_path, caplog, momenta):
    """Its expected errors are said at the end, but not of dynamics."""
    with calculator(tmp_path / "run", tmp_path / "calls", **ANYTHING) as calc:
        taught(calc)
        atoms = crystal(7)
        if momenta:
            atoms.set_momenta(np.ones((32, 3)))
        atoms.calc = calc
        atoms.get_forces()
        errors = calc.uncertainty["energy_std"] / 32, counted_error(calc.uncertainty["forces_std"])
    said = f"expected errors {1e3 * errors[0]:.2g} meV/atom, {errors[1]:.2g} eV/A; call confirm(atoms) to check it"
    assert (said in caplog.text) == (not momenta)


@pytest.mark.slow
def test_a_structure_that_was_labelled_is_answered_by_its_label(tmp_path):
    with calculator(tmp_path / "run", tmp_path / "calls", threshold=1e-9, max_labels=2) as calc:
        atoms = crystal()
        atoms.calc = calc
        forces = atoms.get_forces()
        other = crystal(5)
        other.calc = calc
        other.get_forces()
        atoms.calc.reset()
        np.testing.assert_array_equal(atoms.get_forces(), forces)
        assert calc.learner.n_asked == 2


def test_a_lone_atom_is_labelled_once(tmp_path):
    """Wherever it flies."""
    with calculator(tmp_path / "run", tmp_path / "calls", threshold=1e-9) as calc:
        for x in (0.0, 0.1, 7.0):
            atom = Atoms("Si", positions=[[x, 0, 0]])
            atom.calc = calc
            atom.get_forces()
        assert calc.learner.n_labels == 1


@pytest.mark.slow
def test_a_label_with_absurd_forces_is_kept_and_not_learned(tmp_path, caplog):
    close = Atoms("Si2", positions=[[0, 0, 0], [1.3, 0, 0]])
    with calculator(tmp_path / "run", tmp_path / "calls", threshold=1e-9) as calc:
        atoms = crystal()
        atoms.calc = calc
        atoms.get_forces()
        close.calc = calc
        true = close.copy()
        true.calc = lennard_jones()
        np.testing.assert_array_equal(close.get_forces(), true.get_forces())  # the script goes on from it
        assert calc.learner.n_labels == 1 and len(calc.campaign.set_aside) == 1
    assert "is kept but not learned: a force of" in caplog.text
    rows = LabelStore(tmp_path / "run").rows()
    assert len(rows) == 2 and "a force of" in rows[1][SET_ASIDE]
    with calculator(tmp_path / "run", tmp_path / "calls", threshold=1e-9, resume=True) as calc:
        close.calc = calc
        np.testing.assert_array_equal(close.get_forces(), true.get_forces())
        assert calc.learner.n_labels == 1 and len(calls(tmp_path / "calls", "end")) == 2
    with calculator(tmp_path / "new", tmp_path / "calls", threshold=1e-9) as calc:
        close.calc = calc
        with pytest.raises(LabelError, match="not learned: a force of"):
            close.get_forces()


@pytest.mark.slow
def test_another_script_goes_on_with_what_labels_showed(tmp_path):
    """The calibration and the time of the next check are in labels.db."""
    rules = STRICT.changed(target=1e3, target_energy=1e3, check_interval="auto")
    with calculator(tmp_path / "run", tmp_path / "calls", rules=rules) as calc:
        taught(calc)
        for seed in range(40):
            atoms = crystal(seed)
            atoms.calc = calc
            atoms.get_forces()
        learner = calc.learner
        assert learner.check_interval > first_check(rules) and learner.history.recent
    with calculator(tmp_path / "run", tmp_path / "calls", rules=rules, resume=True) as calc:
        calc.prepare([14])
        assert calc.learner.history == learner.history and calc.learner.check_interval == learner.check_interval
        assert calc.learner.model.calibration == learner.model.calibration


@pytest.mark.slow
@pytest.mark.usefixtures("labels_in_processes")
def test_a_script_gets_the_same_labels_every_time(tmp_path):
    """However long they take: queued ones are learned before the next calculation."""
    rules = STRICT.changed(target=0.5, target_energy=1e3, soft_fraction=0.01)
    found = []
    for name, seconds in (("fast", 0.0), ("slow", 0.2)):
        parameters = {**faulty_parameters(tmp_path / f"calls{name}"), "seconds": seconds}
        with calculator(tmp_path / name, "", rules=rules, labelling=LabellingPlan(FAULTY, parameters)) as calc:
            for seed in range(8):
                atoms = crystal(seed)
                atoms.calc = calc
                atoms.get_forces()
        found.append([(row.reason, row.walker_step, row.energy) for row in LabelStore(tmp_path / name).rows()])
    assert found[0] == found[1] and "soft" in {reason for reason, *_ in found[0]}
