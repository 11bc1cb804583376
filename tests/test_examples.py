"""What the inputs and the examples say is run, in small."""

import json
import os
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from conftest import DATA
from ipi_runs import I_PI, Process
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.config import read_config
from mlpot.settings.files import DriverFile, FitFile, LearnFile

ROOT = Path(__file__).resolve().parents[1]
INPUTS = sorted((ROOT / "inputs").glob("*.toml"))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A folder laid out like the repository, with the reference data beside it where there is any."""
    work = tmp_path / "mlpot"
    shutil.copytree(ROOT / "inputs", work / "inputs")
    if DATA.is_dir():
        (tmp_path / "shared").symlink_to(DATA.parent)
    monkeypatch.chdir(work)
    return work


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: file.name)
def test_inputs_are_valid(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    sections = tomllib.loads(file.read_text())
    schema = FitFile if "data" in sections else DriverFile if "driver" in sections else LearnFile
    settings = read_config(file, schema)
    if schema is not FitFile:
        assert Path(settings.structure.file).exists()


def test_structures_are_those_that_the_script_makes(copy):
    inputs = copy / "inputs"
    before = {file.relative_to(inputs).as_posix(): ase.io.read(file) for file in inputs.rglob("*.xyz")}
    runpy.run_path(str(inputs / "make_structures.py"), run_name="__main__")
    assert set(before) == {"si8.xyz", "si32.xyz", "si64.xyz", "water8.xyz", "ipi/water8.xyz", "ipi/cluster8.xyz"}
    for name, atoms in before.items():
        np.testing.assert_allclose(ase.io.read(inputs / name).positions, atoms.positions, atol=1e-8)


@pytest.mark.slow
def test_the_demo_and_its_check(copy, capsys, monkeypatch):
    """The main job on real electronic structure, shortened, and the example that judges it."""
    pytest.importorskip("tblite", reason="tblite is not installed")
    config = copy / "inputs" / "demo.toml"
    config.write_text(config.read_text().replace("steps = 1500", "steps = 60"))
    result = CliRunner().invoke(app, ["learn", str(config)])
    assert result.exit_code == 0, result.output
    assert (copy / "runs/demo/report.html").exists()
    monkeypatch.setattr(sys, "argv", ["check", "runs/demo", "--structures", "2"])
    runpy.run_path(str(ROOT / "examples" / "check_learned_run.py"), run_name="__main__")
    error = float(re.search(r"F MAE ([\d.]+)", capsys.readouterr().out).group(1))
    assert error < 0.15


def run_example(name, *arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    monkeypatch.syspath_prepend(ROOT / "examples")  # as for a script that is run by its name
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


@pytest.mark.slow
def test_features_of_a_model(monkeypatch, capsys):
    run_example("feature_model.py", monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert out.count("passed") == 9 and "FAILED" not in out
    assert float(re.search(r"forces err by ([\d.]+) eV/A", out)[1]) < 0.1


def test_a_descriptor_of_ones_own(monkeypatch, capsys):
    """Every check passes, and the fit errs by less than it says."""
    run_example("own_descriptor.py", monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert out.count("passed") == 14 and "FAILED" not in out
    error, expected = map(float, re.search(r"forces err by ([\d.]+) eV/A, expected ([\d.]+)", out).groups())
    assert error < 0.05 < 3 * expected


@pytest.mark.slow
def test_a_potential_of_forty_elements(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ase.Atoms.__mul__", lambda atoms, _: atoms.repeat((3, 3, 3)))
    run_example("forty_elements.py", "--clusters", 40, "--plot", tmp_path / "cost.png", monkeypatch=monkeypatch)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["1", "5", "10", "20", "40"]
    assert len({row[2] for row in rows}) == 1  # as many features for any number of elements
    assert (tmp_path / "cost.png").stat().st_size > 1000


@pytest.mark.slow
def test_alloys_with_mixed_channels(data, tmp_path, monkeypatch, capsys):
    options = ("--every", 500, "--n-sparse", 20, "--models", "K = 12", "K = 8", "--plot", tmp_path / "convergence.png")
    run_example("mixed_alloys.py", data, *options, monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert float(re.search(r"exponent (\S+)", out)[1]) < -0.4
    assert re.findall(r"(\d+) features", out) == ["546", "252"]
    assert (tmp_path / "convergence.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed")
def test_the_driver(copy):
    """inputs/driver.xml and inputs/driver.toml, as their heads say, shortened."""
    pytest.importorskip("tblite", reason="tblite is not installed")
    text, name = (copy / "inputs" / "driver.xml").read_text(), f"mlpot_{os.getpid()}_driver"
    commands = re.findall(r"<\?start (.*)\?>", text)
    assert commands == ["i-pi inputs/driver.xml", "mlpot driver inputs/driver.toml"]
    text = re.sub(r"<total_steps>\d+", "<total_steps>60", text).replace(">mlpot<", f">{name}<")
    (copy / "inputs" / "driver.xml").write_text(text)
    config = copy / "inputs" / "driver.toml"
    config.write_text(config.read_text().replace('"mlpot"', f'"{name}"'))
    with (
        Process([I_PI, "inputs/driver.xml"], copy, "i-pi.log") as ipi,
        Process([sys.executable, "-m", "mlpot", "driver", "inputs/driver.toml"], copy, "driver.log") as driver,
    ):
        assert ipi.wait() == 0, ipi.text
        assert driver.wait(60) == 0, driver.text
    assert (copy / "runs/driver/report.html").exists()
    assert np.loadtxt(copy / "driver.md")[-1, 0] == 60


@pytest.mark.slow
def test_fit_of_silicon(copy, data):
    """inputs/fit_si.toml with a third of its sparse points still predicts the test structures."""
    config = copy / "inputs" / "fit_si.toml"
    config.write_text(config.read_text().replace("n_sparse = 1000", "n_sparse = 300"))
    result = CliRunner().invoke(app, ["fit", str(config)])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["evaluate", "si.h5", "../shared/data/Si_test.xyz", "--json", "errors.json"])
    assert result.exit_code == 0, result.output
    errors = json.loads((copy / "errors.json").read_text())
    assert errors["energy_mae_mev_per_atom"] < 3.5
    assert errors["force_mae_ev_per_ang"] < 0.085


def test_the_table_of_what_is_checked_names_tests():
    table = (ROOT / "benchmarks" / "README.md").read_text().partition("## What is checked where")[2]
    cells = re.findall(r"(\w+/test_\w+\.py)(?:: ((?:test_\w+(?:, )?)+))?", table)
    assert len(cells) > 20
    for file, names in cells:
        text = (ROOT / "tests" / file).read_text()
        for name in filter(None, names.split(", ")):
            assert f"def {name}(" in text, f"{file}: {name}"
