"""The learner's decisions and lessons, and runs that are continued, with labels that cost nothing."""

import threading

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import BFGS
from conftest import FAULTY, SMALL_TERMS, faulty_parameters, lennard_jones, make_frames

import mlpot
from mlpot.errors import ConfigError, LabelError, MlpotError, RunFolderError
from mlpot.labellers.faulty import calls
from mlpot.labellers.plan import LabellingPlan
from mlpot.learning.calculator import BudgetSpent, LearningCalculator
from mlpot.learning.dynamics import DynamicsPlan
from mlpot.learning.learner import Learner
from mlpot.learning.policy import AdaptiveThreshold, FixedThreshold, Observation, make_policy
from mlpot.learning.runner import LearningRun
from mlpot.learning.store import LabelStore
from mlpot.models.settings import FitConfig
from mlpot.report.run_report import read_log, write_run_report

TERMS = [SMALL_TERMS[0], {**SMALL_TERMS[1], "n_sparse": 100}]
CONFIG = FitConfig(terms=TERMS)


def relabelled(atoms):
    copy = atoms.copy()
    copy.calc = lennard_jones()
    results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(), "stress": copy.get_stress()}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def test_the_adaptive_threshold_follows_the_errors():
    """Twice the error per uncertainty halves the threshold; the noise that is left bounds it from below."""
    policy = make_policy("adaptive", force_noise=0.05)
    calm, wild = policy, policy
    for _ in range(10):
        calm = calm.observe(Observation(force_error=0.1, std_before=0.02, std_after=0.001))
        wild = wild.observe(Observation(force_error=0.2, std_before=0.02, std_after=0.001))
    assert calm.threshold() == pytest.approx(0.02)
    assert wild.threshold() == pytest.approx(0.01)
    blurred = policy.observe(Observation(force_error=9.0, std_before=0.02, std_after=0.03))
    assert blurred.threshold() == pytest.approx(0.036)
    bold = policy.observe(Observation(1e-6, 0.001, 0.0001)).observe(Observation(1e-6, 0.001, 0.0001))
    assert bold.threshold() == pytest.approx(0.002)


def test_thresholds_survive_a_restart():
    policy = AdaptiveThreshold(0.1)
    for k in range(15):
        policy = policy.observe(Observation(0.1 + 0.01 * k, 0.02, 0.003))
    assert len(policy.recent) == 10
    assert AdaptiveThreshold(0.1).restore(policy.state()).threshold() == policy.threshold()
    assert make_policy(0.03, 0.05) == FixedThreshold(0.03)
    assert FixedThreshold(0.03).observe(Observation(1, 1, 1)).threshold() == 0.03


def test_decisions():
    learner = Learner(CONFIG, (14,), threshold=0.01, max_labels=1)
    assert learner.decide(None).reason == "no model"
    first, far = make_frames(2, seed=3)
    learner.learn(first, None)
    sure = learner.decide(learner.model.predict(first, uncertainty=True))
    assert not sure.label and sure.reason == "certain"
    far.positions[0] += [0.9, 0.4, 0.2]
    unsure = learner.decide(learner.model.predict(far, uncertainty=True))
    assert not unsure.label and unsure.reason == "budget spent"
    learner.max_labels = 2
    assert learner.decide(learner.model.predict(far, uncertainty=True)).label


def test_learning_lowers_the_uncertainty_of_what_was_learned(frames):
    learner = Learner(CONFIG, (14,))
    learner.learn(frames[0], None)
    prediction = learner.model.predict(frames[1], uncertainty=True)
    n_before = learner.model.n_sparse
    lesson = learner.learn(frames[1], prediction)
    assert lesson.std_after < lesson.std_before
    assert lesson.force_error == pytest.approx(np.sqrt(np.mean((prediction.forces - frames[1].get_forces()) ** 2)))
    assert learner.model.n_sparse == n_before + lesson.n_new_points
    assert learner.model_version == 2


def test_the_model_is_a_function_of_the_labels(frames):
    """Learned one by one, or all at once after a restart: the same bits."""
    live = Learner(CONFIG, (14,))
    for k, atoms in enumerate(frames[:4]):
        live.learn(atoms, None if k == 0 else live.model.predict(atoms, uncertainty=True))
    again = Learner(CONFIG, (14,))
    again.begin([], frames[:4], state=live.state())
    np.testing.assert_array_equal(again.model.weights, live.model.weights)
    np.testing.assert_array_equal(again.model.factor, live.model.factor)
    assert again.policy == live.policy and again.model_version == 4 and again.n_asked == 4


def test_starting_from_data_and_a_model(frames):
    fitted = mlpot.fit(frames[:4], CONFIG)
    learner = Learner(FitConfig(preset="fast"), (14,))
    learner.begin(frames[:4], [], fitted)
    assert learner.config == fitted.config
    points = learner.model.terms[1].sparse_features[0]
    np.testing.assert_array_equal(points[:100], fitted.terms[1].sparse_features[0])
    with pytest.raises(ConfigError, match="exactly"):
        Learner(CONFIG, (6, 14)).begin(frames, [], fitted)


def crystal():
    atoms = bulk("Si", "fcc", a=3.6, cubic=True) * (2, 2, 2)
    atoms.rattle(0.02, seed=1)
    return atoms


def plan(steps=60, ensemble="nvt", **kwargs):
    return DynamicsPlan(ensemble=ensemble, ramp=(100.0, 500.0), timestep_fs=2.0, steps=steps, seed=4, **kwargs)


def calculator(folder, calls_file, **kwargs):
    kwargs = {"config": CONFIG, "threshold": "adaptive", **kwargs}
    return LearningCalculator(folder, FAULTY, faulty_parameters(calls_file), **kwargs)


def do_run(folder, calls_file, the_plan, resume=False, stop_after=None, **kwargs):
    """Run; `stop_after` steps of this call it is broken off in the middle, as a kill would."""
    with calculator(folder, calls_file, resume=resume, **kwargs) as calc:
        seen = []

        def observe(step):
            seen.append(step)
            if stop_after and len(seen) > stop_after:
                raise InterruptedError

        run = LearningRun(crystal(), the_plan, calc, interval=5, checkpoint_seconds=0.05, observer=observe)
        try:
            return run.run(), run
        except InterruptedError:
            return "interrupted", run


def without_seconds(folder):
    return [line.rsplit(",", 1)[0] for line in (folder / "log.csv").read_text().splitlines()]


@pytest.mark.parametrize(
    ("ensemble", "options"), [("nve", {}), ("nvt", {}), ("npt", {"pressure_GPa": 0.5}), ("npt", {"whole_cell": True})]
)
def test_an_interrupted_run_gives_the_same_trajectory(tmp_path, ensemble, options):
    the_plan = plan(ensemble=ensemble, **options)
    assert do_run(tmp_path / "whole", tmp_path / "calls1", the_plan)[0] == "finished"
    # each part goes further than the one before, so that the last one comes even if no checkpoint was due before
    for stop_after in range(7, 90, 10):
        resume = stop_after > 7
        status, run = do_run(tmp_path / "parts", tmp_path / "calls2", the_plan, resume, stop_after)
        if status != "interrupted":
            break
    assert status == "finished"
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    assert (tmp_path / "parts" / "trajectory.xyz").read_text() == (tmp_path / "whole" / "trajectory.xyz").read_text()
    whole, parts = LabelStore(tmp_path / "whole"), LabelStore(tmp_path / "parts")
    for a, b in zip(whole.rows(), parts.rows(), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.forces, b.forces)
    finished = calls(tmp_path / "calls2", "end")
    assert len(finished) == len(set(finished)) == len(parts)
    assert run.dynamics.step == 60
    if ensemble == "npt":
        assert run.dynamics.atoms.get_volume() != pytest.approx(crystal().get_volume(), rel=1e-6)


def test_log_labels_and_report(tmp_path):
    _, run = do_run(tmp_path / "run", tmp_path / "calls", plan())
    log = read_log(tmp_path / "run" / "log.csv")
    np.testing.assert_array_equal(log["step"], np.arange(61))
    np.testing.assert_allclose(log["time_fs"], 2.0 * np.arange(61))
    assert log["labelled"][0] == 1 and np.isnan(log["max_energy_std_eV"][0])
    rows = LabelStore(tmp_path / "run").rows()
    assert len(rows) == log["labelled"].sum() == run.calculator.learner.n_labels
    labelled = log["labelled"] > 0
    over = log["max_energy_std_eV"] > log["threshold"]
    np.testing.assert_array_equal(labelled[1:], over[1:])
    np.testing.assert_allclose(log["energy_eV"][labelled], [row.energy for row in rows])
    assert rows[1].data["predicted_forces"].shape == (32, 3)
    page = write_run_report(tmp_path / "run").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert "http" not in page.replace("http-equiv", "")
    model = mlpot.load_model(tmp_path / "run" / "model.h5")
    np.testing.assert_array_equal(model.weights, run.calculator.learner.model.weights)


def test_refused_folders(tmp_path):
    do_run(tmp_path / "run", tmp_path / "calls", plan(steps=5))
    with pytest.raises(RunFolderError, match="--resume"):
        calculator(tmp_path / "run", tmp_path / "calls")
    with pytest.raises(RunFolderError, match="ensemble"):
        do_run(tmp_path / "run", tmp_path / "calls", plan(ensemble="nve"), resume=True)
    with pytest.raises(RunFolderError, match=r"log\.csv"):
        read_log(tmp_path / "log.csv")


def test_a_spent_budget_ends_cleanly_and_can_be_raised(tmp_path):
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), threshold=1e-5, max_labels=3)
    assert status == "budget"
    assert len(LabelStore(tmp_path / "run")) == 3
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", plan(), resume=True, threshold=1e-5, max_labels=5)
    assert status == "budget"
    assert len(calls(tmp_path / "calls", "end")) == 5


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


@pytest.mark.parametrize("on_failure", ["stop", "go on"])
def test_a_label_that_fails_stops_the_run_or_does_not(tmp_path, on_failure):
    parameters = {**faulty_parameters(tmp_path / "calls"), "fail": ["", "raise", "raise"]}
    plan = LabellingPlan(FAULTY, parameters, on_failure=on_failure)
    with LearningCalculator(tmp_path / "run", config=CONFIG, threshold=1e-9, labelling=plan) as calc:
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


def test_isolated_molecules_learn_too(tmp_path):
    """No cell, no stress."""
    atoms = Atoms("Si4", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0], [0, 0, 2.4]])
    with calculator(tmp_path / "run", tmp_path / "calls") as calc:
        run = LearningRun(atoms, plan(steps=10, ensemble="nvt"), calc)
        assert run.run() == "finished"
        assert "stress" not in calc.results


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
            calc.prepare(crystal())
            models.append(calc.learner.model)
            assert len(learned) == (0 if saved else calc.learner.n_labels)
    np.testing.assert_array_equal(models[0].weights, models[1].weights)
    np.testing.assert_array_equal(models[0].factor, models[1].factor)


def test_a_saved_fit_of_other_data_is_not_used(frames):
    live = Learner(CONFIG, (14,))
    live.begin(frames[:2], frames[2:4])
    for data, learned, known in ((frames[:2], frames[2:5], 4), (frames[:2], frames[3:5], 0), (frames[:3], [], 0)):
        other = Learner(CONFIG, (14,))
        other.begin(data, learned, saved=live.fit)
        assert (other.fit is live.fit) == (known > 0)
        assert other.n_labels == len(data) + len(learned)
        if known:
            live = Learner(CONFIG, (14,))
            live.begin(frames[:2], frames[2:4])
    elsewhere = Learner(FitConfig(terms=TERMS, force_noise=0.2), (14,))
    elsewhere.begin(frames[:2], frames[2:4], saved=live.fit)
    assert elsewhere.fit is not live.fit
