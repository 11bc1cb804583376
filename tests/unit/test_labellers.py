"""Labellers: what a calculator must deliver, and the calculator that fails on command."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from labelling import FAULTY, LJ, crystal, faulty

from mlpot.errors import ConfigError, LabelError
from mlpot.labellers import scratch
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.faulty import FaultyCalculator, calls
from mlpot.labellers.protocol import Label, check_label, key_of

# ---------------------------------------------------------------- calculator


def test_label_equals_the_calculator():
    atoms = crystal()
    label = CalculatorLabeller("ase.calculators.emt.EMT").label(atoms)
    atoms.calc = EMT()
    assert label.energy == atoms.get_potential_energy(force_consistent=True)
    assert np.array_equal(label.forces, atoms.get_forces())
    assert np.array_equal(label.stress, atoms.get_stress(voigt=False))
    assert label.seconds > 0
    assert label.settings == {"calculator": "ase.calculators.emt.EMT", "parameters": {}}


def test_no_stress_without_a_three_dimensional_cell_or_without_it_in_the_calculator():
    assert CalculatorLabeller(LJ).label(molecule("H2O")).stress is None
    slab = crystal()
    slab.pbc = (True, True, False)
    assert CalculatorLabeller(LJ).label(slab).stress is None
    assert CalculatorLabeller("ase.calculators.morse.MorsePotential").label(molecule("N2")).stress is None


def test_constraints_do_not_hide_forces():
    atoms = crystal()
    free = CalculatorLabeller(LJ).label(atoms)
    atoms.set_constraint(FixAtoms([0, 1]))
    assert np.array_equal(CalculatorLabeller(LJ).label(atoms).forces, free.forces)
    assert len(atoms.constraints) == 1


@pytest.mark.parametrize("path", ["labelling:emt_with", "labelling.emt_with"])
def test_a_function_may_make_the_calculator(path):
    labeller = CalculatorLabeller(path, {"scale": 2.0})
    labeller.check()
    assert labeller.label(crystal()).energy == pytest.approx(2 * CalculatorLabeller(LJ).label(crystal()).energy)


@pytest.mark.parametrize(
    ("path", "parameters", "words"),
    [
        ("nonsense", {}, "import path"),
        (".relative.Class", {}, "import path"),
        ("no_such_package.Calculator", {}, "no_such_package"),
        ("ase.calculators.lj.LenardJones", {}, "LenardJones"),
        ("ase.calculators.lj.all_changes", {}, "not a class"),
        ("labelling.emt_with", {"scales": 1}, "scales"),
        ("labelling.emt_with", {}, "does not take"),
        (LJ, {"sigma": object()}, "recorded"),
        ("ase.formula.Formula", {"formula": "H2O"}, "ASE calculator"),
        (FAULTY, {"fail": ["explode"]}, "explode"),
    ],
)
def test_what_cannot_work_is_known_at_the_start(path, parameters, words):
    with pytest.raises(ConfigError, match=words) as caught:
        CalculatorLabeller(path, parameters).check()
    assert path in str(caught.value) or repr(parameters) in str(caught.value)


def test_a_missing_package_names_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.delitem(sys.modules, "tblite.ase", raising=False)
    with pytest.raises(ConfigError, match="pip install tblite"):
        CalculatorLabeller().check()


@pytest.mark.parametrize(
    ("fault", "words"), [("raise", "self-consistency"), ("nan", "forces is not finite"), ("shape", "shape")]
)
def test_a_calculator_that_fails_is_a_label_error(tmp_path, fault, words):
    labeller = faulty(tmp_path, fail=[fault])
    with pytest.raises(LabelError, match=words):
        labeller.label(crystal())
    labeller.label(crystal())
    assert not scratch.left_by(os.getpid())


def test_a_calculation_has_its_own_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with scratch.scratch_folder() as folder:
        assert Path.cwd() == folder.resolve()
        assert not list(folder.iterdir())
        Path("wavefunction").write_text("big")
    assert Path.cwd() == tmp_path
    assert not folder.exists()


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
@pytest.mark.parametrize("spoil", ["nan", "shape"])
def test_check_label_names_the_culprit(name, spoil):
    values = {"energy": 1.0, "forces": np.zeros((4, 3)), "stress": np.zeros((3, 3))}
    check_label(crystal(), Label(**values, seconds=0.0, settings={}))
    values[name] = np.full_like(values[name], np.nan) if spoil == "nan" else np.zeros((3, 2))
    with pytest.raises(LabelError, match=name):
        check_label(crystal(), Label(**values, seconds=0.0, settings={}))


def test_labellers_travel():
    labeller = CalculatorLabeller(LJ, {"sigma": 2.0})
    assert pickle.loads(pickle.dumps(labeller)) == labeller


def test_a_key_is_of_everything_that_matters():
    labeller, atoms = CalculatorLabeller(LJ, {"sigma": 1.0, "rc": 3.0}), crystal()
    key = key_of(labeller, atoms)
    assert len(key) == 64
    assert key == key_of(CalculatorLabeller(LJ, {"rc": 3.0, "sigma": 1.0}), atoms.copy())
    others = {key, key_of(CalculatorLabeller(LJ, {"sigma": 1.0}), atoms), key_of(CalculatorLabeller(), atoms)}
    for change in ("positions", "cell", "pbc", "numbers", "initial_magmoms", "initial_charges"):
        other = atoms.copy()
        if change == "positions":
            other.positions[2, 1] = np.nextafter(other.positions[2, 1], 10)
        elif change == "cell":
            other.cell[0, 0] = np.nextafter(other.cell[0, 0], 10)
        elif change == "pbc":
            other.pbc[2] = False
        elif change == "numbers":
            other.numbers[0] = 28
        else:
            other.set_array(change, np.eye(1, 4)[0])
        others.add(key_of(labeller, other))
    assert len(others) == 9


# ---------------------------------------------------------------- executor


def test_the_faulty_calculator_follows_its_plan(tmp_path):
    plan = {"calls_file": str(tmp_path / "calls.txt"), "fail": ["", "wrong", "raise", ""]}
    good = CalculatorLabeller(LJ).label(crystal())
    results = []
    for _ in range(5):
        labeller = CalculatorLabeller(FAULTY, plan)
        try:
            results.append(labeller.label(crystal()))
        except LabelError:
            results.append(None)
    assert [r is None for r in results] == [False, False, True, False, False]
    assert np.array_equal(results[0].forces, good.forces)
    assert np.array_equal(results[1].forces, 2 * good.forces)
    assert results[0].energy == good.energy
    assert np.array_equal(results[0].stress, good.stress)
    assert len(calls(tmp_path / "calls.txt", "start")) == 5
    assert len(calls(tmp_path / "calls.txt", "end")) == 4


def test_without_a_calls_file_it_counts_by_itself():
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.1]])
    atoms.calc = FaultyCalculator(fail=["", "raise"])
    atoms.get_forces()
    atoms.rattle(0.01)
    with pytest.raises(RuntimeError):
        atoms.get_forces()
