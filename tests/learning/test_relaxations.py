"""Relaxations that learn: confirmed by a label, continued after any interruption; labels cost nothing."""


import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from conftest import lennard_jones
from learning_runs import campaign, crystal, do_run, plan, relaxing, without_seconds

from mlpot.errors import ConfigError
from mlpot.labellers.faulty import calls
from mlpot.labels.store import LabelStore
from mlpot.learning import policy
from mlpot.learning.cycle import obtain
from mlpot.learning.policy import Rules
from mlpot.learning.relaxation import LONGEST, Fire, Relaxation, check_relaxation
from mlpot.learning.run_folder import read_state
from mlpot.learning.walker import Walker
from mlpot.report.log_file import read_log
from mlpot.report.run_report import write_run_report

pytestmark = pytest.mark.usefixtures("labels_in_this_process")
TRUSTING = Rules(threshold=0.5, novelty=5.0)
"""The model is believed until the end, which a label then confirms, or not."""


def strained(seed=1):
    atoms = crystal(seed)
    atoms.set_cell(atoms.cell.array @ np.array([[0.97, 0.02, 0], [0, 0.98, 0], [0, 0, 1.01]]), scale_atoms=True)
    return atoms


def true_forces(atoms, cell=False):
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.calc = lennard_jones()
    return (FrechetCellFilter(copy) if cell else copy).get_forces()


@pytest.mark.slow
@pytest.mark.parametrize("cell", [False, True])
def test_the_final_forces_are_those_of_a_label(tmp_path, cell):
    start = strained()
    the_plan = relaxing(400, fmax=0.01, whole_cell=cell)
    status, run = do_run(tmp_path / "run", tmp_path / "calls", the_plan, starts=[start], rules=TRUSTING)
    assert status == "converged" and run.verdict.name == "converged"
    final = run.walkers[0].atoms
    assert np.linalg.norm(true_forces(final, cell), axis=1).max() <= 0.01
    rows = LabelStore(tmp_path / "run").rows()
    np.testing.assert_array_equal(rows[-1].positions, final.positions)
    assert rows[-1].reason == "confirm"
    reference = start.copy()
    reference.calc = lennard_jones()
    BFGS(FrechetCellFilter(reference) if cell else reference, logfile=None).run(fmax=0.001)
    assert final.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=0.02)
    if cell:
        assert final.get_volume() == pytest.approx(reference.get_volume(), rel=2e-3)
    else:
        np.testing.assert_array_equal(final.cell.array, start.cell.array)
    log = read_log(tmp_path / "run" / "log.csv")
    np.testing.assert_array_equal(log["step"], np.arange(len(log["step"])))
    assert np.isnan(log["temperature_K"]).all() and np.isnan(log["time_fs"]).all()
    frames = ase.io.read(tmp_path / "run" / "trajectory.xyz", ":")
    assert frames[-1].info["step"] == log["step"][-1] and frames[-1].info["labelled"]
    assert log["max_force_eV_per_A"][-1] == pytest.approx(np.linalg.norm(true_forces(final), axis=1).max())
    page = write_run_report(tmp_path / "run").read_text()
    assert "Converged: w0: the largest force in the label" in page


def test_the_cell_of_a_slab_is_relaxed_in_its_plane():
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.cell[2] *= 3
    atoms.pbc = (True, True, False)
    before = atoms.cell.array.copy()
    atoms.calc = EMT()
    the_plan = relaxing(300, fmax=0.01, whole_cell=True)
    check_relaxation(the_plan, "w0", atoms)
    relaxation = Relaxation(atoms, the_plan)
    relaxation.begin()
    while not relaxation.is_settled and relaxation.step < the_plan.steps:
        relaxation.advance()
    stress = atoms.get_stress(voigt=False)
    assert np.abs(stress[:2, :2]).max() * atoms.get_volume() / len(atoms) <= 0.01
    np.testing.assert_allclose(atoms.cell.array[2], before[2], atol=1e-12)
    assert np.abs(atoms.cell.array - before).max() > 1e-2
    atoms.rotate(30, "x", rotate_cell=True)
    with pytest.raises(ConfigError, match=r"w0: .*rotate the structure"):
        check_relaxation(the_plan, "w0", atoms)


@pytest.mark.slow
def test_a_label_that_moves_the_answer_is_not_the_end(tmp_path, monkeypatch):
    """The first model knows one structure only: where it ends, the label disagrees, and the relaxation goes on."""
    monkeypatch.setattr(policy, "LOOKS", 0)
    rules = Rules(threshold=100.0, target_energy=100.0, novelty=1e9, check_interval="off")
    start = Atoms("Si4", [[0, 0, 0], [2.6, 0, 0], [0, 2.8, 0], [0.3, 0.2, 2.7]])
    status, _ = do_run(tmp_path / "run", tmp_path / "calls", relaxing(500), starts=[start], rules=rules)
    assert status == "converged"
    log = read_log(tmp_path / "run" / "log.csv")
    confirmed = log["max_force_eV_per_A"][log["reason"] == "confirm"]
    assert len(confirmed) > 1 and np.all(confirmed[:-1] > 0.02) and confirmed[-1] <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("cell", [False, True])
def test_an_interrupted_relaxation_gives_the_same_trajectory(tmp_path, cell):
    options = {"starts": [strained()], "rules": Rules(threshold=0.1)}
    the_plan = relaxing(400, fmax=0.01, whole_cell=cell)
    assert do_run(tmp_path / "whole", tmp_path / "calls1", the_plan, **options)[0] == "converged"
    for stop_after in range(5, 400, 16):
        status, run = do_run(tmp_path / "parts", tmp_path / "calls2", the_plan, stop_after > 5, stop_after, **options)
        if status != "interrupted":
            break
    assert status == "converged" and stop_after > 21
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    assert (tmp_path / "parts" / "trajectory.xyz").read_text() == (tmp_path / "whole" / "trajectory.xyz").read_text()
    finished = calls(tmp_path / "calls2", "end")
    assert len(finished) == len(set(finished)) == run.campaign.learner.n_labels
    again, run = do_run(tmp_path / "parts", tmp_path / "calls2", the_plan, True, **options)
    assert again == "converged" and calls(tmp_path / "calls2", "end") == finished


@pytest.mark.slow
def test_a_relaxation_that_runs_out_of_steps_goes_on_with_more(tmp_path):
    options = {"starts": [strained()], "rules": TRUSTING}
    status, run = do_run(tmp_path / "run", tmp_path / "calls", relaxing(5), **options)
    assert status == "finished" and run.verdict.name == "not converged" and "increase dynamics.steps" in run.verdict.advice
    state = read_state(tmp_path / "run")
    assert state["verdict"] == "not converged" and "largest force" in state["convergence"]["reason"]
    status, run = do_run(tmp_path / "run", tmp_path / "calls", relaxing(500), resume=True, **options)
    assert status == "converged" and read_state(tmp_path / "run")["verdict"] == "converged"
    tighter = relaxing(500, fmax=0.005)
    assert do_run(tmp_path / "run", tmp_path / "calls", tighter, resume=True, **options)[0] == "converged"
    assert read_log(tmp_path / "run" / "log.csv")["max_force_eV_per_A"][-1] <= 0.005


@pytest.mark.slow
def test_what_cannot_be_confirmed_is_not_converged(tmp_path, monkeypatch):
    """The last label is not to be had: for want of budget, or because it fails."""
    monkeypatch.setattr(policy, "LOOKS", 0)
    options = {"starts": [strained()]}
    trusting = Rules(threshold=100.0, target_energy=100.0, novelty=1e9, check_interval="off")
    rules = trusting.changed(max_labels=1)
    status, run = do_run(tmp_path / "a", tmp_path / "calls_a", relaxing(500), rules=rules, **options)
    assert status == "budget" and run.verdict.name == "not converged" and "no label has confirmed" in run.verdict.reason
    status, run = do_run(
        tmp_path / "b", tmp_path / "calls_b", relaxing(500), rules=trusting,
        plan_of_faults={"fail": ["", "nan", "nan"]}, on_failure="go on", **options,
    )  # fmt: skip
    assert status == "finished" and run.verdict.name == "not converged"
    assert len(read_log(tmp_path / "b" / "log.csv")["step"]) < 500


@pytest.mark.slow
def test_fixed_atoms_stay(tmp_path):
    start = strained()
    start.set_constraint(FixAtoms([0, 5]))
    status, run = do_run(
        tmp_path / "run", tmp_path / "calls", relaxing(400), starts=[start], rules=Rules(threshold=0.1)
    )
    assert status == "converged"
    np.testing.assert_array_equal(run.walkers[0].atoms.positions[[0, 5]], start.positions[[0, 5]])


@pytest.mark.slow
def test_relaxations_beside_dynamics(tmp_path):
    plans = [plan(steps=30), relaxing(400)]
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plans)
    assert status == "finished" and run.walkers[1].is_relaxed
    assert {w["name"]: w["ensemble"] for w in read_state(tmp_path / "run")["walkers"]} == {"w0": "nvt", "w1": "relax"}


class Spring(Calculator):
    """Atoms at springs; while it is the `model`, forces are wrong by a constant."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    is_model = True

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        error = np.array([[0.1, -0.2, 0.0]] * len(self.atoms)) if self.is_model else 0.0
        self.results = {"energy": 0.0, "forces": -2.0 * self.atoms.positions + error}


def test_a_model_whose_error_exceeds_fmax_is_led_to_where_labels_have_no_forces():
    """Two labels confirm the end although the model learns nothing from them."""
    atoms = Atoms("Si2", [[1.0, 0, 0], [0, 1.0, 0]])
    atoms.calc = Spring()
    relaxation = Relaxation(atoms, relaxing(1000, fmax=0.01))
    relaxation.begin()
    n_labels = 0
    while not (relaxation.is_settled and relaxation.is_labelled) and relaxation.step < 1000:
        if relaxation.is_settled:
            atoms.calc.is_model, n_labels = False, n_labels + 1
            relaxation.stay()
            label = dict(atoms.calc.results)
            relaxation.note({"energy": 0.0, "forces": label["forces"] + np.array([0.1, -0.2, 0.0])})
            assert atoms.calc.results["forces"] is label["forces"]
            atoms.calc.is_model = True
        else:
            relaxation.advance()
            relaxation.note(None)
    assert n_labels == 2 and np.abs(atoms.positions).max() < 0.005


def test_fire_finds_the_bottom_of_a_valley():
    """Of an anharmonic potential in a narrow valley; never farther than its longest step."""

    def forces(x):
        return -np.stack([2 * x[:, 0] + x[:, 0] ** 3, 40 * x[:, 1], 0.5 * x[:, 2]], axis=1)

    x, fire, lengths = np.array([[3.0, 0.5, -4.0], [0.1, -0.2, 1.0]]), Fire(), []
    for _ in range(300):
        displacements, fire = fire.step(forces(x))
        lengths.append(np.linalg.norm(displacements, axis=1).max())
        x = x + displacements
    assert np.abs(forces(x)).max() < 1e-3 and max(lengths) == pytest.approx(LONGEST)


@pytest.mark.slow
def test_a_state_is_all_that_a_relaxation_needs(tmp_path):
    with campaign(tmp_path / "run", tmp_path / "calls", Rules(threshold=1e-9)) as shared:
        walker = Walker(shared, "w", strained(), relaxing(100, whole_cell=True))
        shared.prepare((14,), state={})

        def go(n):
            for _ in range(n):
                if not walker.advance():
                    walker.repeat(*obtain([walker.waiting]))
            return walker.atoms.positions.copy(), walker.atoms.cell.array.copy()

        go(4)
        state = walker.state()
        first = go(3)
        walker.restore(state)
        for a, b in zip(first, go(3), strict=True):
            np.testing.assert_array_equal(a, b)
