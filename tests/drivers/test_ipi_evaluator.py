"""What the i-PI client answers with, and the commands around it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from conftest import make_frames
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.drivers.ipi_evaluator import BeadNeighbours, ModelEvaluator, extras, two_members
from mlpot.errors import ConfigError, UnknownSpeciesError
from mlpot.neighbours import find_pairs
from mlpot.units import BOHR, HARTREE


def test_the_evaluator_is_the_calculator(two_species_model):
    atoms = make_frames(1, numbers=(6, 14), seed=9)[0]
    calculator = mlpot.MlpotCalculator(two_species_model)
    p = calculator.predict(atoms)
    (found,) = ModelEvaluator(two_species_model).evaluate([atoms])
    assert found.energy == p.energy
    np.testing.assert_array_equal(found.forces, p.forces)
    np.testing.assert_array_equal(found.virial, p.virial)
    assert found.extras == {
        "energy_uncertainty": p.energy_std / HARTREE,
        "max_force_uncertainty": pytest.approx(np.sqrt((p.forces_std**2).mean(axis=1).max()) * BOHR / HARTREE),
        "max_novelty": p.novelty.max(),
        "model_version": 0,
        "n_labelled": 0,
        "learned": False,
    }
    assert list(extras(two_species_model.predict(atoms))) == list(found.extras)
    with pytest.raises(ConfigError):
        ModelEvaluator(two_species_model, "many")


def test_two_members(model):
    p = model.predict(make_frames(1, seed=9)[0], uncertainty=True)
    found = two_members(p)
    assert found.energies.mean() == pytest.approx(p.energy, rel=1e-15)
    assert found.energies.std(ddof=1) == pytest.approx(p.energy_std, rel=1e-9)


@pytest.mark.parametrize(("committee", "n"), [("std", 2), ("members", 8)])
def test_what_a_committee_is_told(model, committee, n):
    """The mean of the members is the model, in the shapes that i-PI reads."""
    atoms = make_frames(1, seed=9)[0]
    (found,) = ModelEvaluator(model, committee).evaluate([atoms])
    (alone,) = ModelEvaluator(model).evaluate([atoms])
    assert {name: found.extras[name] for name in alone.extras} == alone.extras
    told = {name: np.array(found.extras[f"committee_{name}"]) for name in ("pot", "force", "virial")}
    assert [array.shape for array in told.values()] == [(n,), (n, 3 * len(atoms)), (n, 9)]
    assert told["pot"].mean() * HARTREE == pytest.approx(alone.energy, abs=1e-9)
    np.testing.assert_allclose(told["force"].mean(axis=0) * HARTREE / BOHR, alone.forces.ravel(), atol=1e-6)
    np.testing.assert_allclose(told["virial"].mean(axis=0) * HARTREE, alone.virial.ravel(), atol=1e-5)


def test_an_imported_model_has_no_members(model):
    imported = replace(model, factor=None)
    with pytest.raises(ConfigError, match="has no ensemble"):
        ModelEvaluator(imported, "members")
    with pytest.raises(ConfigError, match="has no ensemble"):
        imported.compiled.predict_members(find_pairs(make_frames(1)[0], imported.cutoff), None)


def same_pairs(found, atoms, cutoff):
    expected = find_pairs(atoms, cutoff)
    np.testing.assert_array_equal(found.j, expected.j)
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_each_bead_keeps_its_list():
    """Beads far from each other: as many lists as beads, and no more when they wander; in whatever order they come."""
    rng = np.random.default_rng(0)
    beads = [make_frames(1, seed=2)[0] for _ in range(6)]
    for atoms in beads:
        atoms.positions += 0.25 * rng.normal(size=atoms.positions.shape)
    lists = BeadNeighbours(4.0)
    for step in range(60):
        for k in rng.permutation(6) if step % 2 else range(6):
            beads[k].positions += 0.01 * rng.normal(size=beads[k].positions.shape)
            same_pairs(lists.update(beads[k]), beads[k], 4.0)
    assert 6 <= lists.n_lists <= 12


def test_one_moving_structure_keeps_one_list():
    atoms, lists, rng = make_frames(1)[0], BeadNeighbours(4.0), np.random.default_rng(0)
    n_lists = []
    for _ in range(100):
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
        same_pairs(lists.update(atoms), atoms, 4.0)
        n_lists.append(lists.n_lists)
    assert max(n_lists) <= 3 and n_lists.count(1) > 50


def test_a_list_of_another_structure_is_not_used():
    lists, frames = BeadNeighbours(4.0), make_frames(3)
    for atoms in [*frames, bulk("Si", cubic=True), *frames]:
        same_pairs(lists.update(atoms), atoms, 4.0)


def test_unknown_elements_show_before_a_server_waits(model):
    with pytest.raises(UnknownSpeciesError):
        ModelEvaluator(model).check(bulk("C", "diamond", a=3.6))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--unix", "x", "--port", "3"], 2, "give either unix or port"),
        ([], 2, "give either unix or port"),
        (["--port", "0"], 2, "port = 0"),
        (["--unix", "x", "--template", "none.xyz"], 1, "none.xyz: no such file"),
        (["--unix", "x", "--template", "carbon.xyz"], 1, "C"),
        (["--unix", "x", "--patience", "0"], 1, "no server for 0 s"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, model, words, code, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    model.save("m.h5")
    bulk("Si", cubic=True).write("init.xyz")
    bulk("C", "diamond", a=3.6).write("carbon.xyz")
    words = [*words, *([] if "--template" in words else ["--template", "init.xyz"])]
    prefix = ["--prefix", str(tmp_path) + "/"] if "--unix" in words else []
    result = CliRunner().invoke(app, ["driver", "m.h5", *words, *prefix])
    assert result.exit_code == code, result.output
    assert says in result.output and "Traceback" not in result.output


def test_the_path_of_the_shim():
    result = CliRunner().invoke(app, ["ipi-pes"])
    assert result.exit_code == 0 and Path(result.output.strip()).name == "ipi_pes.py" and Path(result.output.strip()).is_file()
