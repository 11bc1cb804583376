"""`mlpot evaluate --output`: labels and predictions in a file that reads back."""

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.data.reading import read_labelled


@pytest.fixture(scope="module")
def model():
    return mlpot.fit(make_frames(4), mlpot.FitConfig(terms=SMALL_TERMS, **NOISES))


@pytest.fixture
def work(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    model.save("m.h5")
    frames = make_frames(3, seed=7)
    frames[1].info |= {"note": 'a "b" c', "number": 3, "nothing": None}
    molecule = make_frames(1, seed=8)[0]
    alone = molecule.copy()
    alone.set_cell(None)
    alone.pbc = False
    alone.calc = SinglePointCalculator(alone, forces=molecule.get_forces())
    ase.io.write("test.xyz", [*frames, alone], format="extxyz")
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_labels_and_predictions_read_back(work, model):
    result = run("evaluate", "m.h5", "test.xyz", "--output", "p.xyz")
    assert result.exit_code == 0, result.output
    assert "predictions: p.xyz" in result.output
    given = mlpot.read("test.xyz")
    data = read_labelled("p.xyz")
    assert data.notes == [], "predictions are no labels"
    assert len(data.frames) == 4
    for k, (atoms, expected) in enumerate(zip(data.frames, given, strict=True)):
        assert set(atoms.calc.results) == set(expected.calc.results)
        for key, value in expected.calc.results.items():
            np.testing.assert_array_equal(atoms.calc.results[key], value)
        assert np.array_equal(atoms.positions, expected.positions) and np.array_equal(atoms.cell, expected.cell)
        assert atoms.info["mlpot_source"] == f"test.xyz[{k}]"
        assert atoms.info.get("config_type") == expected.info.get("config_type")
        p = model.predict(expected, uncertainty=True)
        for name in ("energy", "energy_std"):
            assert atoms.info[f"mlpot_{name}"] == pytest.approx(getattr(p, name), rel=1e-6)
        for name in ("energies", "energies_std", "forces", "forces_std", "novelty"):
            np.testing.assert_allclose(atoms.arrays[f"mlpot_{name}"], getattr(p, name), rtol=1e-5, atol=1e-8)
        for name in ("stress", "stress_std"):
            if p.stress is None:
                assert f"mlpot_{name}" not in atoms.info
            else:
                np.testing.assert_allclose(np.reshape(atoms.info[f"mlpot_{name}"], (3, 3)), getattr(p, name), rtol=1e-5)
    assert data.frames[1].info["note"] == 'a "b" c' and data.frames[1].info["number"] == 3
    assert data.frames[3].calc.results.keys() == {"forces"}


def test_the_file_can_be_evaluated_again(work):
    first = run("evaluate", "m.h5", "test.xyz", "--output", "p.xyz").output
    again = run("evaluate", "m.h5", "p.xyz", "--output", "q.xyz").output
    rows = [[line for line in text.splitlines() if line.startswith("│ all")] for text in (first, again)]
    assert rows[0] == rows[1] != []
    assert (work / "q.xyz").read_text().replace("p.xyz[", "test.xyz[") == (work / "p.xyz").read_text()


def test_labels_that_were_not_asked_for_do_not_come_back(work):
    frames = mlpot.read("test.xyz@:2")
    for atoms in frames:
        atoms.info |= {"dft_energy": atoms.calc.results.pop("energy"), "energy": -1000.0}
    ase.io.write("other.xyz", frames)
    result = run("evaluate", "m.h5", "other.xyz", "--energy-key", "dft_energy", "--output", "p.xyz")
    assert result.exit_code == 0, result.output
    assert [atoms.get_potential_energy() for atoms in mlpot.read("p.xyz")] == [a.info["dft_energy"] for a in frames]


@pytest.mark.parametrize(
    "output, message",
    [
        ("test.xyz", "--output test.xyz: is the file with the labels"),
        ("no/p.xyz", "its folder does not exist"),
        ("p.json", "predictions are written as extended XYZ"),
        (".", "is a folder"),
    ],
)
def test_outputs_that_cannot_be_meant(work, output, message):
    before = (work / "test.xyz").read_bytes()
    result = run("evaluate", "m.h5", "test.xyz", "--output", output)
    assert result.exit_code == 2 and message in result.output
    assert (work / "test.xyz").read_bytes() == before
