"""A fast potential from a slow one: the exploration that its options describe, and a judgement that can be wrong."""

import json
from itertools import pairwise

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from conftest import rattled_copper
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.errors import ConfigError
from mlpot.learning.distillation import CHECKED, Exploration, Teacher, fresh_structures, judge

EMT_PATH = "ase.calculators.emt.EMT"


def exploration(**changes):
    values = {
        "file": "a.xyz", "temperatures": [300.0, 900.0], "pressures": [], "steps": 1000, "timestep": 2.0, "target": 0.05,
        "preset": "fast", "max_labels": None, "workers": 1, "seed": 0,
    }  # fmt: skip
    return Exploration(**(values | changes))


@pytest.fixture(scope="module")
def model():
    return mlpot.fit([rattled_copper(seed) for seed in range(6)], mlpot.FitConfig(preset="fast", cutoff=4.0, check_labels=False))


def test_a_walker_for_every_state():
    settings = exploration().settings(Teacher(EMT_PATH, {}), "run")
    assert [(d.ensemble, d.temperature_K) for _, _, d in settings.all_walkers()] == [("nvt", 300.0), ("nvt", 900.0)]
    assert settings.learning.target == settings.learning.target_error == 0.05 and settings.learning.converged_after == 100
    pressed = exploration(pressures=[0.0, 5.0]).settings(Teacher(EMT_PATH, {}), "run").all_walkers()
    states = [(d.ensemble, d.temperature_K, d.pressure_GPa) for _, _, d in pressed]
    assert states == [("npt", 300.0, 0.0), ("npt", 300.0, 5.0), ("npt", 900.0, 0.0), ("npt", 900.0, 5.0)]
    with pytest.raises(ConfigError, match="temperature_K"):
        exploration(temperatures=[-3.0]).settings(Teacher(EMT_PATH, {}), "run")


def test_the_judgement_is_the_difference_from_the_teacher(model):
    frames = [rattled_copper(seed) for seed in range(20, 23)]
    found = judge(model, Teacher(EMT_PATH, {}), frames)
    errors = [model.predict(atoms).forces - atoms.get_forces() for atoms in frames]
    assert found.force_rmse == pytest.approx(np.sqrt(np.mean(np.concatenate(errors) ** 2)), rel=1e-9)
    energies = [(model.predict(atoms).energy - atoms.get_potential_energy()) / 4 for atoms in frames]
    assert found.energy_rmse == pytest.approx(1000 * np.std(energies), rel=1e-6)
    assert found.speed_up == found.teacher_seconds / found.model_seconds and found.n_atoms == 4
    assert judge(model, Teacher(EMT_PATH, {}), frames[:1], bulk("Cu", cubic=True).repeat(2)).n_atoms == 32


def test_fresh_structures_are_apart(model):
    starts = [rattled_copper(1), rattled_copper(2)]
    found = fresh_structures(model, starts, [300.0, 300.0], 2.0)
    assert len(found) == CHECKED and all(atoms.calc is None for atoms in found)
    apart = [np.abs(a.positions - b.positions).max() for a, b in pairwise(found)]
    assert min(apart) > 0.01
    again = fresh_structures(model, starts, [300.0, 300.0], 2.0)
    assert np.array_equal(found[-1].positions, again[-1].positions)


@pytest.mark.parametrize(("given", "said"), [("{x", "is not JSON"), ("[1]", "must be an object")])
def test_parameters_are_json(given, said, tmp_path):
    write(tmp_path / "a.xyz", bulk("Cu"))
    command = ["distil", str(tmp_path / "a.xyz"), "--calculator", EMT_PATH, "-o", str(tmp_path / "m.h5"), "--parameters", given]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and said in result.output
    assert not (tmp_path / "m.h5").exists() and not (tmp_path / "m.run").exists()


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.xyz", bulk("Cu", cubic=True).repeat((2, 1, 1)))
    command = ["distil", "a.xyz", "--calculator", EMT_PATH, "-o", "cu.h5", "--steps", "60", "--target", "0.01"]
    result = CliRunner().invoke(app, [*command, "--preset", "fast", "--json", "cu.json"])
    assert result.exit_code == 0 and "speed-up" in result.output
    assert "above --target 0.01 eV/A" in result.output
    found = json.loads((tmp_path / "cu.json").read_text())
    assert 0.01 < found["force_rmse"] < 0.3 and not found["is_converged"] and found["n_labels"] >= 2 and found["speed_up"] > 0
    assert mlpot.load_model("cu.h5").species == (29,) and (tmp_path / "cu.run" / "report.html").exists()
