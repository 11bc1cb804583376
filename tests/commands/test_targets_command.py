"""`mlpot fit` and `mlpot evaluate` with targets: tables, JSON, models without a potential, errors in one line."""

import json

import pytest
from ase.io import write
from target_data import waters
from typer.testing import CliRunner

from mlpot.commands.main import app

TARGET = """
[[targets]]
name = "polarizability"
unit = "A^3"
terms = [{ cutoff = 3.0, n_invariants = 10 }]
[output]
model = "m.h5"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("train", 0), ("test", 1)):
        frames = waters(14, seed)
        for atoms in frames:
            atoms.calc = None
        write(f"{name}.xyz", frames)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_targets_without_a_potential(folder):
    (folder / "fit.toml").write_text('[data]\ntrain = "train.xyz"\ntest = "test.xyz"\n' + TARGET)
    fitted = run("fit", "fit.toml")
    assert fitted.exit_code == 0, fitted.output
    assert "predicts its targets only" in fitted.output and "left out" in fitted.output and "not used" not in fitted.output
    evaluated = run("evaluate", "m.h5", "test.xyz", "--json", "out.json")
    assert evaluated.exit_code == 0, evaluated.output
    found = json.loads((folder / "out.json").read_text())["targets"]["polarizability"]
    assert found["n"] == 14 and set(found["parts"]) == {"0", "2"} and 0 <= found["coverage"] <= 1


def test_a_target_without_labels(folder):
    target = TARGET.replace("polarizability", "dipole").replace("A^3", "e*A")
    (folder / "fit.toml").write_text('[data]\ntrain = "train.xyz"\n' + target)
    failed = run("fit", "fit.toml")
    assert failed.exit_code != 0 and "no structure has 'dipole'" in " ".join(failed.output.split())
    assert not (folder / "m.h5").exists()
