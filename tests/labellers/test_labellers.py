"""Labellers: what a calculator must deliver, and the calculator that fails on command."""

import os
import pickle
import sys
from dataclasses import replace
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
from mlpot.labellers.protocol import (
    OUTLIER_FLOOR,
    OUTLIER_LEAST,
    Label,
    check_finite,
    check_geometry,
    check_label,
    check_net_force,
    check_shapes,
    energy_doubt,
    key_of,
    same_energy,
)

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
    slab.pbc = (True, True, False)  # with three cell vectors: its plane has a stress, as ASE has it
    assert np.abs(CalculatorLabeller(LJ).label(slab).stress[:2, :2]).max() > 1e-6
    slab.pbc = False
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
        ("ase.calculators.lj.all_changes", {}, "must be a class"),
        ("labelling.emt_with", {"scales": 1}, "scales"),
        ("labelling.emt_with", {}, "does not accept"),
        (LJ, {"sigma": object()}, "recorded"),
        ("ase.formula.Formula", {"formula": "H2O"}, "ASE calculator"),
        (FAULTY, {"fail": ["explode"]}, "explode"),
    ],
)
def test_what_cannot_work_is_known_at_the_start(path, parameters, words):
    with pytest.raises(ConfigError, match=words) as caught:
        CalculatorLabeller(path, parameters).check()
    assert path in str(caught.value) or repr(parameters) in str(caught.value)


@pytest.mark.parametrize(("calculator", "name", "meant"), [
    ("tblite.ase.TBLite", "methdo", "method"), ("ase.calculators.emt.EMT", "asap_cutof", "asap_cutoff"),
    ("ase.calculators.lj.LennardJones", "sigam", "sigma"),
])  # fmt: skip
def test_a_misspelt_parameter_is_not_ignored(calculator, name, meant):
    pytest.importorskip(calculator.partition(".")[0])
    with pytest.raises(ConfigError, match=rf"labeller\.parameters\.{name}: .* would ignore it; did you mean '{meant}'\?"):
        CalculatorLabeller(calculator, {name: 1}).check()
    CalculatorLabeller(calculator, {"command_of_mine": 1}).check()


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


GOOD = Label(energy=-4.0, forces=np.zeros((4, 3)), stress=None, seconds=0.0, settings={})


def test_shapes():
    check_shapes(crystal(), GOOD)
    for forces in (np.zeros((3, 3)), np.zeros(12), np.zeros((4, 2))):
        with pytest.raises(LabelError, match=r"forces has shape .* expected \(4, 3\)"):
            check_shapes(crystal(), replace(GOOD, forces=forces))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_finite(value):
    check_finite(GOOD)
    forces = np.zeros((4, 3))
    forces[2, 1] = value
    for name, spoiled in (("energy", value), ("forces", forces), ("stress", np.full((3, 3), value))):
        with pytest.raises(LabelError, match=f"{name} is not finite"):
            check_finite(replace(GOOD, **{name: spoiled}))


def test_forces_add_up_to_zero():
    forces = np.random.default_rng(0).normal(size=(4, 3))
    forces -= forces.mean(axis=0)
    check_net_force(replace(GOOD, forces=forces), 1e-12)
    forces[1] += [0.0, 0.3, 0.4]  # 0.125 eV/A for each of four atoms
    check_net_force(replace(GOOD, forces=forces), 0.126)
    with pytest.raises(LabelError, match=r"0\.125 eV/A per atom.*net_force_tolerance = 0\.124.*off"):
        check_net_force(replace(GOOD, forces=forces), 0.124)
    check_label(crystal(), replace(GOOD, forces=forces), net_force_tolerance=None)
    with pytest.raises(LabelError, match="net force"):
        check_label(crystal(), replace(GOOD, forces=forces))


def test_a_geometry_may_be_wrapped_and_rounded():
    atoms = crystal()
    for change in (atoms.wrap, lambda: atoms.translate(atoms.cell[0] - atoms.cell[2]), lambda: atoms.rattle(1e-5)):
        change()
        check_geometry(crystal(), atoms, "output")
    molecule_ = molecule("H2O")
    check_geometry(molecule_, molecule("H2O"), "output")


@pytest.mark.parametrize("change", ["positions", "order", "cell", "atoms", "no pbc", "nan"])
def test_another_geometry_is_refused(change):
    sent = crystal()
    sent.numbers[0] = 47
    found = sent.copy()
    if change == "positions":
        found.positions[1, 2] += 0.002
    elif change == "order":
        found = found[[1, 0, 2, 3]]
    elif change == "cell":
        found.set_cell(found.cell * 1.001)
    elif change == "atoms":
        found = found[:3]
    elif change == "nan":
        found.positions[0, 0] = np.nan
    else:
        sent.pbc = False
        found.translate(sent.cell[0])
    with pytest.raises(LabelError, match="output"):
        check_geometry(sent, found, "output")


def test_strange_energies():
    others = [-5.0 + 0.01 * k for k in range(OUTLIER_LEAST)]
    assert energy_doubt(-5.0 + OUTLIER_FLOOR, others) is None
    assert "-6.5 eV/atom" in energy_doubt(-6.5, others)
    assert "from the median of 10 labels" in energy_doubt(-3.0, others)
    assert energy_doubt(-3.0, others[1:]) is None
    # those that are spread widely allow more, and one that is far off already changes little
    wide = [-5.0 + 0.2 * k for k in range(OUTLIER_LEAST)]
    assert energy_doubt(1.0, wide) is None
    assert energy_doubt(-3.0, [*others, 1e6]) is not None
    assert same_energy(-3.0, -3.0005) and not same_energy(-3.0, -3.01)


@pytest.mark.parametrize(
    ("fault", "words"), [("moved", "up to 0.1 A"), ("sorted", "must not sort them"), ("net force", "net force 0")]
)
def test_a_calculation_of_something_else_is_a_label_error(tmp_path, fault, words):
    atoms = crystal()
    atoms.numbers[0] = 47
    with pytest.raises(LabelError, match=words):
        faulty(tmp_path, fail=[fault]).label(atoms)


def test_the_check_of_the_net_force_can_be_switched_off(tmp_path):
    labeller = replace(faulty(tmp_path, always="net force"), net_force_tolerance=None)
    assert np.linalg.norm(labeller.label(crystal()).forces.sum(axis=0)) > 1
    assert labeller.settings == faulty(tmp_path, always="net force").settings


def test_parameters_are_varied_name_by_name():
    labeller = CalculatorLabeller(LJ, {"a": 1, "table": {"b": 2, "c": {"d": 3}}, "list": [1, 2]})
    varied = labeller.varied({"table": {"b": 4, "e": 5}, "list": [3], "f": {"g": 6}})
    assert varied.parameters == {"a": 1, "table": {"b": 4, "c": {"d": 3}, "e": 5}, "list": [3], "f": {"g": 6}}
    assert labeller.parameters["table"] == {"b": 2, "c": {"d": 3}}


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
