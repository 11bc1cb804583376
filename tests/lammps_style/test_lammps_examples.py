"""The inputs in inputs/lammps run, on two ranks, with a small model and few steps."""

import tomllib

import pytest
from core_programs import ROOT
from lammps_runs import mpirun

from mlpot.lammps.script import Script
from mlpot.settings.files import LearnFile

INPUTS = ROOT / "inputs" / "lammps"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n", "steps"), [("melt", 1, 40), ("npt", 1, 100), ("shear", 1, 100), ("deposition", 2, 400)])
def test_an_example(plugin, exported, tmp_path, name, n, steps):
    variables = {"model": exported("one element"), "out": tmp_path / name, "n": n, "steps": steps}
    lines = [f"variable {key} index {value}" for key, value in variables.items()]
    said = mpirun(2, [*lines, f"include {INPUTS / name}.lammps"], tmp_path, plugin)
    assert "Loop time" in said and "nan" not in said
    assert [file for file in tmp_path.iterdir() if file.name.startswith(f"{name}.")]


def test_the_example_that_learns(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = LearnFile.checked(tomllib.loads((INPUTS / "learn.toml").read_text()), "learn.toml")
    script = Script.read(settings.dynamics.input)
    assert script.elements == ("Si",) and script.is_heated and not script.uses_stress and settings.dynamics.ranks == 2
