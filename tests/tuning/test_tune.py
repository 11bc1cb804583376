"""`mlpot.tune` on small data: from frames to configurations, in Python and by the command."""

import json
import tomllib

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import SMALL_TERMS, make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.errors import ConfigError, DataError, FitError
from mlpot.settings.files import FitFile
from mlpot.settings.fit import FitConfig
from mlpot.settings.tune import TuneSettings
from mlpot.structures import all_labelled
from mlpot.tuning.defaults import default_search
from mlpot.tuning.material import Material, grouped, is_trajectory
from mlpot.tuning.search import Limits
from mlpot.tuning.space import Space
from mlpot.tuning.trials import Trials
from mlpot.tuning.tuner import Task

CONFIG = FitConfig(terms=SMALL_TERMS)
SPACE = {"terms[1].cutoff": [2.8, 4.5], "terms[1].atom_sigma": [0.3, 0.7], "terms[1].zeta": [2, 3]}
QUICK = {"evaluations": 8, "finalists": 2, "replicas": 1, "probes": 20, "environments": 150, "objectives": ("forces", "energies")}
FILE = """
[data]
train = "train.xyz"
isolated_atom_energies = { Si = 0.0 }
[[model.terms]]
type = "pair"
cutoff = 4.5
n_sparse = 15
[[model.terms]]
type = "soap"
cutoff = 4.0
n_max = 3
l_max = 2
n_sparse = 30
[fit]
virial_noise = 0.1
[output]
model = "si.h5"
report = "si.html"
[tune]
finalists = 1
replicas = 0
probes = 20
environments = 150
[tune.search]
"terms[1].cutoff" = [2.8, 4.5]
"terms[1].zeta" = [2, 3]
"""


@pytest.fixture(scope="module")
def result():
    return mlpot.tune(make_frames(10), SPACE, CONFIG, **QUICK)


def test_the_best_is_on_the_front_and_can_be_fitted(result):
    assert result.best == result.pareto[0].config
    assert 2.8 <= result.best.terms[1].cutoff <= 4.5 and result.best.terms[1].zeta in (2, 3)
    assert [t["step"] for t in result.table] == ["features"] * 8 + ["weights"] * result.n_fits("weights")
    assert result.n_fits("features") == 0 and result.n_fits("weights") in (2, 3)  # the settings as given are fitted too
    assert len(result.pareto[0].tested) == 2 and result.default.tested[0].forces > 0  # two seeds; the default beside it
    errors = [c.error for c in result.pareto]
    costs = [c.cost for c in result.pareto]
    assert errors == sorted(errors) and costs == sorted(costs, reverse=True)
    assert any(f"full fits: {result.n_fits('weights')} in the search, " in line for line in result.summary())


@pytest.mark.slow
def test_trials_are_the_same_in_processes(result):
    again = mlpot.tune(make_frames(10), SPACE, CONFIG, **{**QUICK, "workers": 2, "particles": 8, "steps": ("features",)})
    first = {t.key: t.outcome.forces for t in result.trials if t.step == "features"}
    common = [t for t in again.trials if t.step == "features" and t.key in first]
    assert common and all(t.outcome.forces == first[t.key] for t in common)


def test_no_group_is_in_two_places():
    frames = make_frames(12)
    for k, atoms in enumerate(frames):
        atoms.info["trajectory"] = k // 2
    material = Material.of(frames, CONFIG, None, TuneSettings(groups="trajectory"))

    def names(structures):
        return {s.atoms.info["trajectory"] for s in structures}

    assert not names(material.test) & names(material.training)
    parts = [names(part) for part in material.folds(0)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert sum(map(len, material.folds(0))) == len(material.training)


def test_correlated_frames_are_a_trajectory():
    rng = np.random.default_rng(0)
    frames = make_frames(1) * 40
    for series, verdict in ((np.cumsum(rng.normal(size=40)), True), (rng.normal(size=40), False)):
        copies = []
        for size in series:
            atoms = frames[0].copy()
            atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.full((len(atoms), 3), np.exp(0.3 * size)))
            copies.append(atoms)
        structures = all_labelled(copies)
        assert is_trajectory(structures) is verdict
        assert max(map(len, grouped(structures, "auto"))) == (5 if verdict else 1)


def test_settings_that_fail_are_values():
    """A trial that needs more memory than there is, and one whose keys contradict each other."""
    task = Task.of(make_frames(8), {"terms[1].cutoff": [3.0, 3000.0]}, CONFIG, None, TuneSettings(**QUICK))
    trials = Trials(task.space, task.material.groups, [], (14,), task.settings)
    with pytest.raises(FitError, match=r"neighbours within 3000 A need about .* GB"):
        trials({"terms[1].cutoff": 3000.0})
    space = Space.of({"terms[0]": [True, False], "terms[1]": [True, False]}, CONFIG)
    with pytest.raises(ConfigError, match="every term is switched off"):
        space.config({"terms[0]": False, "terms[1]": False})


def test_all_settings_failing_is_one_line():
    with pytest.raises(FitError, match=r"all 4 trials failed, . of them because: .* neighbours within .*; change tune.search"):
        mlpot.tune(make_frames(8), {"terms[1].cutoff": [2000.0, 3000.0]}, CONFIG, **{**QUICK, "evaluations": 4})


def test_a_bound_of_the_cost_that_nothing_meets():
    settings = {**QUICK, "evaluations": 3, "finalists": 1, "max_cost": 1e-3}
    with pytest.raises(FitError, match=r"no model costs at most 0.001 us/atom .* the cheapest one costs"):
        mlpot.tune(make_frames(8), SPACE, CONFIG, **settings)


def test_default_ranges_follow_the_bonds():
    material = Material.of(make_frames(8), CONFIG, None, TuneSettings())
    search = default_search(CONFIG, material)
    shortest, typical = material.bonds()
    assert 2.0 < shortest < typical < 2.6
    low, high = search["terms[1].cutoff"]
    assert low > shortest and typical * np.sqrt(2) < high < 8.0
    Space.of(search, CONFIG)
    assert set(search) >= {"terms[0].cutoff", "terms[1].atom_sigma", "terms[1].n_max", "terms[1].zeta"}
    assert search["terms[0].kernel"] == ["gaussian", "matern"] and search["terms[0].length_scale"]["log"]
    assert "terms[1].kernel" not in search
    assert search["terms[1].order"] == {"choices": [2, 3]} and search["terms[1].order_weight"]["high"] == 1.0
    higher = CONFIG.changed(terms=(CONFIG.terms[0], CONFIG.terms[1].changed(order=4, order_l_max=2)))
    assert "terms[1].order" not in default_search(higher, material)  # who asks for more gets no less


def test_no_key_of_a_search_is_left_as_it_is():
    """The jitter changes what the first step sees; how points are chosen is nothing that two steps could compare."""
    task = Task.of(make_frames(8), {"jitter": {"low": 1e-10, "high": 1e-2, "log": True}}, CONFIG, None, TuneSettings(**QUICK))
    assert [str(p.path) for p in task.searched.parameters] == ["jitter"]
    trials = Trials(task.searched, task.material.groups, [], (14,), task.settings)
    assert trials({"jitter": 1e-2}).forces != trials({"jitter": 1e-10}).forces
    search = {"terms[1].sparse_method": ["cur", "farthest", "random"]}
    with pytest.raises(ConfigError, match=r'"terms\[1\].sparse_method": the steps .* cannot compare it; set tune.steps = \["joint'):
        Task.of(make_frames(8), search, CONFIG, None, TuneSettings(**QUICK))
    joint = TuneSettings(**{**QUICK, "steps": ("joint",)})
    assert Task.of(make_frames(8), search, CONFIG, None, joint).searched.dimension == 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"groups": "trajectory"}, ConfigError, 'tune.groups = "trajectory": no structure has this key in its info'),
        ({"groups": "config_type"}, DataError, "groups"),
        ({"budget": "0min"}, ConfigError, "must be longer than nothing"),
        ({"budget": "soon"}, ConfigError, "must be a duration"),
        ({"evaluations": 0}, ConfigError, "must be a positive integer"),
        ({"objectives": ("cost",)}, ConfigError, 'add "forces" or "energies"'),
        ({"method": "swarn"}, ConfigError, 'did you mean "swarm"?'),
        ({"steps": ("weights",)}, ConfigError, "must be"),
    ],
)
def test_wrong_settings(changes, error, words):
    with pytest.raises(error) as found:
        mlpot.tune(make_frames(6), SPACE, CONFIG, **{**QUICK, **changes})
    assert words in str(found.value)


def test_a_budget_ends_the_search():
    assert Limits(10, None).allow(9) and not Limits(10, None).allow(10)
    assert not Limits(10, 0.0).allow(0)
    with pytest.raises(ConfigError, match=r"a trial at 60 A .* neighbours\) would take about .*reduce the upper bound"):
        mlpot.tune(make_frames(6), {"terms[1].cutoff": [3.0, 60.0]}, CONFIG, **{**QUICK, "budget": "5s"})


def test_the_command_writes_files_for_fits_and_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    ase.io.write("train.xyz", make_frames(10), format="extxyz")
    (tmp_path / "data.toml").write_text(FILE)
    runner = CliRunner()
    done = runner.invoke(app, ["tune", "data.toml", "-o", "tuned.toml", "--evaluations", "4"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "tuned.toml").read_text()
    settings = FitFile.checked(tomllib.loads(text), "tuned.toml")
    assert settings.output.model == "tuned.h5" and settings.output.report == "tuned_fit.html"
    assert settings.data.isolated_atom_energies == {"Si": 0.0}
    page = (tmp_path / "tuned.html").read_text()
    assert all(f'id="{name}"' in page for name in ("front", "importance", "trials", "space")) and page.count("<img") == 4
    refused = runner.invoke(app, ["tune", "data.toml", "-o", "tuned.toml"])
    assert refused.exit_code == 1 and "continue it with --resume" in refused.output.replace("\n", " ")
    again = runner.invoke(app, ["tune", "data.toml", "-o", "tuned.toml", "--evaluations", "4", "--resume"])
    assert again.exit_code == 0
    assert (tmp_path / "tuned.toml").read_text() == text
    fitted = runner.invoke(app, ["fit", "tuned.toml"])
    assert fitted.exit_code == 0 and (tmp_path / "tuned.h5").exists() and not (tmp_path / "si.h5").exists()


def test_the_command_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    ase.io.write("train.xyz", make_frames(5), format="extxyz")
    (tmp_path / "data.toml").write_text(FILE.replace('"terms[1].zeta"', '"terms[1].zeeta"'))
    for arguments, words in (
        (["data.toml"], "did you mean 'zeta'?"),
        (["train.xyz", "-o", "tuned.h5"], "end its name with .toml"),
        (["train.xyz", "--budget", "0s"], "must be longer than nothing"),
        (["train.xyz", "-o", "nowhere/t.toml"], "its folder does not exist"),
    ):
        done = CliRunner().invoke(app, ["tune", *arguments])
        assert done.exit_code == 2 and words in done.output.replace("\n", " "), done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.toml", "train.xyz"]


def test_a_row_of_the_table_can_be_written_as_json(result):
    json.dumps(result.table)
