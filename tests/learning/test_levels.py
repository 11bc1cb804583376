"""Two levels of labels: a sum of two processes, cheap labels wherever a model is uncertain, expensive ones for the difference."""

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import FAULTY, LENNARD_JONES, faulty_parameters, make_frames
from learning_runs import CONFIG, STRICT, crystal, plan, without_seconds

import mlpot
from mlpot.errors import ConfigError, LabelError, RunFolderError
from mlpot.labellers.faulty import calls
from mlpot.labels.plan import LabellingPlan
from mlpot.labels.store import LabelStore, read_rows
from mlpot.learning.calculator import LearningCalculator
from mlpot.learning.campaign import Campaign
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.cycle import BudgetSpent
from mlpot.learning.level_campaign import TwoLevelCampaign
from mlpot.learning.level_fit import TwoLevelFit
from mlpot.learning.policy import Rules
from mlpot.learning.runner import LearningRun
from mlpot.learning.served_run import LearningEvaluator
from mlpot.learning.walker import Walker
from mlpot.models.summed import summed
from mlpot.report.run_data import read_run
from mlpot.report.run_report import write_run_report
from mlpot.settings.files import LearnFile
from mlpot.settings.levels import CheapPlan
from mlpot.settings.presets import resolve
from mlpot.structures import labelled

pytestmark = pytest.mark.usefixtures("labels_in_this_process")
CHEAP = {**LENNARD_JONES, "epsilon": 0.9 * LENNARD_JONES["epsilon"]}
LJ = "ase.calculators.lj.LennardJones"


def _with(atoms, parameters):
    """The structure with the label of another level."""
    other = atoms.copy()
    other.calc = LennardJones(**parameters)
    found = {"energy": other.get_potential_energy(), "forces": other.get_forces(), "stress": other.get_stress()}
    other.calc = SinglePointCalculator(other, **found)
    return other


@pytest.fixture(scope="module")
def frames():
    return make_frames(5, seed=3)


@pytest.fixture(scope="module")
def both(frames):
    """A fit to five cheap labels and three expensive ones."""
    fit = TwoLevelFit(resolve(CONFIG, (14,)), (14,))
    fit.learn_cheap([_with(atoms, CHEAP) for atoms in frames])
    for atoms in frames[:3]:
        fit.update([atoms], fit.propose([atoms]))
    return fit


def test_the_model_is_the_sum_of_two_processes(both, frames):
    """Means add up and so do variances of the posterior, whatever the representatives."""
    cheap, difference, model = both.cheap.model, both.difference.model, both.model
    atoms = frames[4]
    parts = [part.predict(atoms, uncertainty=True) for part in (cheap, difference)]
    whole = model.predict(atoms, uncertainty=True)
    assert whole.energy == pytest.approx(sum(p.energy for p in parts), abs=1e-6)
    np.testing.assert_allclose(whole.forces, sum(p.forces for p in parts), atol=1e-5)
    np.testing.assert_allclose(whole.stress, sum(p.stress for p in parts), atol=1e-7)
    assert whole.energy_std == pytest.approx(np.hypot(parts[0].energy_std, parts[1].energy_std), rel=1e-3)
    assert whole.forces_std.mean() == pytest.approx(np.sqrt(sum(p.forces_std.mean() ** 2 for p in parts)), rel=0.2)
    directly = model.predict_directly(atoms, uncertainty=True)
    np.testing.assert_allclose(whole.energies_std, directly.energies_std, rtol=1e-3)
    mlpot.validate_model(model, atoms)


def test_each_process_has_its_own_scales(both):
    """The difference is a tenth of the expensive level: its energy scales are smaller than those of the cheap one."""
    cheap, difference = (np.max([s for t in m.terms for s in t.energy_scales]) for m in (both.cheap.model, both.difference.model))
    assert difference < 0.5 * cheap
    assert len(both.model.terms) == 2 * len(both.cheap.terms)


def test_a_difference_is_expensive_minus_cheap(both, frames):
    known, other = labelled(frames[1]), labelled(_with(frames[1], CHEAP))
    found = both.difference.structures[1]
    assert found.energy == pytest.approx(known.energy - other.energy, abs=1e-12)
    np.testing.assert_allclose(found.forces, known.forces - other.forces, atol=1e-12)
    np.testing.assert_allclose(found.virial, known.virial - other.virial, atol=1e-10)
    np.testing.assert_allclose(found.virial, 0.1 * known.virial, atol=1e-9)


def test_saved_fits_are_taken_over_and_the_sum_is_a_model_for_every_door(both, frames, tmp_path):
    both.save(tmp_path / "fit.h5")
    again = TwoLevelFit(resolve(CONFIG, (14,)), (14,))
    cheap = [_with(atoms, CHEAP) for atoms in frames]
    again.adopt(TwoLevelFit.load(tmp_path / "fit.h5"), cheap, frames[:4], 0)
    assert len(again.structures) == 3 and len(again.cheap.structures) == 5
    np.testing.assert_array_equal(again.model.weights, both.model.weights)
    other = TwoLevelFit(resolve(CONFIG, (14,)), (14,))
    other.adopt(TwoLevelFit.load(tmp_path / "fit.h5"), cheap[1:], frames[:4], 0)
    assert not other.structures and not other.cheap.structures
    both.model.save(tmp_path / "model.h5")
    model = mlpot.load_model(tmp_path / "model.h5")
    p, q = (m.predict(frames[3], uncertainty=True) for m in (model, both.model))
    np.testing.assert_array_equal(p.forces, q.forces)
    np.testing.assert_array_equal(p.forces_std, q.forces_std)
    model.export_core(tmp_path / "model.mlpot")


def test_an_expensive_label_needs_its_cheap_one(both, frames):
    with pytest.raises(ConfigError, match="learn its label of the cheap level first"):
        both.update([make_frames(1, seed=9)[0]])


def test_models_that_cannot_be_added_are_refused(both, frames):
    with pytest.raises(ConfigError, match="count twice"):
        summed(both.cheap.model, both.cheap.model)
    config = CONFIG.changed(repulsion=False, jitter=1e-6)
    with pytest.raises(ConfigError, match="same elements and jitter"):
        summed(both.cheap.model, mlpot.fit(frames[:2], config))


def two_levels(folder, calls_file, rules=STRICT, resume=False, most=None, config=CONFIG, frames=None):
    expensive = LabellingPlan(FAULTY, faulty_parameters(calls_file))
    cheap = CheapPlan(calculator=LJ, parameters=CHEAP, name="lj", max_labels=most)
    return TwoLevelCampaign(folder, expensive, cheap, config=config, rules=rules, resume=resume, frames=frames)


def run(folder, calls_file, steps=40, stop_after=None, **options):
    with two_levels(folder, calls_file, **options) as campaign:
        seen = []

        def observe(step):
            seen.append(step)
            if len(seen) == stop_after:
                raise InterruptedError

        learning = LearningRun(campaign, [Walker(campaign, "w0", crystal(), plan(steps=steps))], RunSettings(interval=5), observe)
        try:
            status = learning.run()
        except InterruptedError:
            status = "interrupted"
        learner = campaign.learner
        return status, learner.n_labels, learner.n_cheap, learner.model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    return folder, run(folder / "run", folder / "calls")


def test_a_run_asks_the_cheap_labeller_more_often(whole):
    folder, (status, n_labels, n_cheap, model) = whole
    assert status == "finished"
    assert len(calls(folder / "calls", "end")) == n_labels < n_cheap
    expensive, cheap = read_rows(folder / "run"), read_rows(folder / "run" / "cheap")
    assert len(expensive) == n_labels and len(cheap) == n_cheap
    assert {row.level for row in expensive} == {"expensive"} and {row.level for row in cheap} == {"cheap"}
    log = (folder / "run" / "log.csv").read_text()
    assert log.count(",cheap,") == n_cheap - n_labels
    stored = mlpot.load_model(folder / "run" / "model.h5")
    np.testing.assert_array_equal(stored.weights, model.weights)
    assert len(read_run(folder / "run").cheap_labels) == n_cheap


@pytest.mark.slow
def test_the_report_counts_both(whole):
    folder, (_, _, n_cheap, _) = whole
    page = write_run_report(folder / "run").read_text()
    assert "labels of the cheap level" in page and f"{n_cheap}, " in page


def test_its_errors_are_as_small_as_stated(whole):
    _, (_, _, _, model) = whole
    found = []
    for seed in range(3):
        atoms = _with(crystal(20 + seed), LENNARD_JONES)
        p = model.predict(atoms, uncertainty=True)
        found.append((p.forces - atoms.get_forces()) / p.forces_std)
    assert np.sqrt(np.mean(np.square(found))) < 1.5


def test_an_interrupted_run_of_two_levels_goes_on_bit_for_bit(whole, tmp_path):
    folder, (_, n_labels, n_cheap, model) = whole
    for stop_after in (7, 23, None):
        status, *counts, again = run(tmp_path / "run", tmp_path / "calls", stop_after=stop_after, resume=stop_after != 7)
    assert status == "finished" and counts == [n_labels, n_cheap]
    assert without_seconds(tmp_path / "run") == without_seconds(folder / "run")
    assert (tmp_path / "run" / "trajectory.xyz").read_text() == (folder / "run" / "trajectory.xyz").read_text()
    np.testing.assert_array_equal(again.weights, model.weights)
    finished = calls(tmp_path / "calls", "end")
    assert len(finished) == len(set(finished)) == n_labels


def test_each_level_has_a_budget(tmp_path):
    status, n_labels, n_cheap, _ = run(tmp_path / "a", tmp_path / "calls", most=3)
    assert (status, n_cheap) == ("budget", 3) and n_labels <= 3
    rules = STRICT.changed(max_labels=2, threshold=1e-4)
    status, n_labels, n_cheap, _ = run(tmp_path / "b", tmp_path / "calls_b", rules=rules, steps=20)
    assert (status, n_labels) == ("budget", 2) and n_cheap > 2


def test_scripts_have_two_levels_too(tmp_path):
    """Confirmed structures are labelled at both; a folder of one level goes on with two, but not the other way round."""
    cheap = CheapPlan(calculator=LJ, parameters=CHEAP)
    options = {"config": CONFIG, "rules": Rules(target=0.05, check_interval="off")}
    atoms = crystal()
    with LearningCalculator(tmp_path / "run", FAULTY, faulty_parameters(tmp_path / "calls"), **options) as calc:
        atoms.calc = calc
        atoms.get_forces()
    with LearningCalculator(
        tmp_path / "run", FAULTY, faulty_parameters(tmp_path / "calls"), resume=True, cheap=cheap, **options
    ) as calc:
        atoms = crystal(2)
        atoms.calc = calc
        atoms.get_forces()
        assert calc.learner.n_cheap >= calc.learner.n_labels >= 1
        assert len(LabelStore(tmp_path / "run" / "cheap")) == calc.learner.n_cheap
        calc.confirm(atoms)
        reference = _with(atoms, LENNARD_JONES)
        np.testing.assert_allclose(atoms.get_forces(), reference.get_forces(), atol=1e-10)
    parameters = faulty_parameters(tmp_path / "calls")
    with Campaign(tmp_path / "run", LabellingPlan(FAULTY, parameters), config=CONFIG, resume=True) as campaign:
        with pytest.raises(RunFolderError, match="two levels of labels"):
            campaign.prepare((14,))


def test_a_server_is_answered_from_two_levels(tmp_path):
    """As i-PI's requests are: structure by structure, with energies and forces near the expensive level's."""
    with two_levels(tmp_path / "run", tmp_path / "calls", rules=Rules(target=0.05, check_interval="off")) as campaign:
        evaluator = LearningEvaluator(campaign, crystal())
        with evaluator.serving():
            for seed in range(4):
                atoms = crystal(seed)
                (answer,) = evaluator.evaluate([atoms])
                wanted = _with(atoms, LENNARD_JONES)
                assert np.sqrt(np.mean((answer.forces - wanted.get_forces()) ** 2)) < 0.1
        learner = campaign.learner
        assert 1 <= learner.n_labels <= learner.n_cheap
    assert len(read_rows(tmp_path / "run")) == learner.n_labels and len(read_rows(tmp_path / "run" / "cheap")) == learner.n_cheap


def test_data_get_their_cheap_labels(tmp_path):
    start = make_frames(3, seed=5)
    with two_levels(tmp_path / "run", tmp_path / "calls", frames=start) as campaign:
        campaign.prepare((14,), {})
        learner = campaign.learner
        assert (learner.n_labels, learner.n_cheap) == (3, 3) and not calls(tmp_path / "calls", "end")
        campaign.settle(campaign.ask(crystal(), None, "no model", "w", 0))
        state, weights = campaign.state(), learner.fitted_model.weights
    with two_levels(tmp_path / "run", tmp_path / "calls", frames=start, resume=True) as campaign:
        campaign.prepare((14,), state)
        np.testing.assert_array_equal(campaign.learner.fitted_model.weights, weights)


def test_a_cheap_label_that_fails_says_so(tmp_path):
    cheap = CheapPlan(calculator=FAULTY, parameters={**faulty_parameters(tmp_path / "calls"), "fail": ["raise", "raise"]}, name="lj")
    expensive = LabellingPlan(LJ, LENNARD_JONES)
    with TwoLevelCampaign(tmp_path / "run", expensive, cheap, config=CONFIG, rules=STRICT) as campaign:
        campaign.prepare((14,), {})
        with pytest.raises(LabelError, match=r"labeller 'lj': label .* of the cheap level cannot be learned"):
            campaign.settle(campaign.ask(crystal(), None, "no model", "w", 0))


def levels(**changes):
    first = {"name": "a", "level": "cheap", "calculator": LJ, "parameters": CHEAP}
    second = {"name": "b", "level": "expensive", "calculator": LJ, "parameters": LENNARD_JONES, "max_labels": 7}
    return {"structure": {"file": "x.xyz"}, "output": {"folder": "run"}, "labellers": [first, second], **changes}


def test_settings_of_two_levels():
    settings = LearnFile.checked(levels())
    assert settings.labelling.name == "b" and settings.cheap_labelling.name == "a"
    assert settings.rules().max_labels == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["labellers"].pop(), "labellers: there is one only, 'a'"),
        (lambda v: v["labellers"].append({**v["labellers"][0], "name": "c"}), "there are 3, a, b, c; keep two"),
        (lambda v: v["labellers"][1].update(name="a"), "two have the name 'a'"),
        (lambda v: v["labellers"][1].update(level="cheap"), "both have level = \"cheap\"; set one to \"expensive\""),
        (lambda v: v["labellers"][1].update(parameters=CHEAP), "same calculator with the same parameters"),
        (lambda v: v["labellers"][0].pop("name"), "name"),
        (lambda v: v["labellers"][0].update(level="chaep"), "level"),
        (lambda v: v.update(labeller={"calculator": LJ}), "give either \\[labeller\\] or two"),
        (lambda v: v.update(learning={"max_labels": 5}), "learning.max_labels: give each"),
        (lambda v: v.update(baseline={"calculator": LJ}), "baseline: cannot be combined"),
        (lambda v: v.update(data={"train": "x.xyz", "isolated_atom_energies": {"Si": 1.0}}), "fitted at each level"),
    ],
)
def test_wrong_levels_are_explained(change, said):
    values = levels()
    change(values)
    with pytest.raises(ConfigError, match=said):
        LearnFile.checked(values)


def test_budget_of_the_cheap_level_is_named(tmp_path):
    with two_levels(tmp_path / "run", tmp_path / "calls", most=0) as campaign:
        campaign.prepare((14,), {})
        with pytest.raises(BudgetSpent, match="'lj', the cheap level"):
            campaign.ask(crystal(), None, "no model", "w", 0)
