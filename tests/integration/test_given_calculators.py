"""Calculators given to `LearningCalculator` as scripts have them: an instance, a class, a function, a path."""

import logging
import os

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

import mlpot
from mlpot.errors import ConfigError
from mlpot.labels.store import LabelStore

CONFIG = mlpot.FitConfig(preset="fast", cutoff=4.5)


class Own(Calculator):
    """EMT, and the process that it ran in; it can be neither pickled nor copied."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self):
        super().__init__()
        self.handle = open(os.devnull)
        self.pids = []

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.pids.append(os.getpid())
        work = self.atoms.copy()
        work.calc = EMT()
        work.get_stress()
        self.results = {name: work.calc.results[name] for name in self.implemented_properties}


def make_EMT():
    return EMT()


def forces(folder, calculator, **more):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    with mlpot.LearningCalculator(folder, calculator, config=CONFIG, **more) as calc:
        atoms.calc = calc
        found = atoms.get_forces()
        calc.confirm(atoms)
    return found


@pytest.mark.parametrize("calculator", [EMT(), EMT, make_EMT, "ase.calculators.emt.EMT", lambda: EMT()],
                         ids=["instance", "class", "function", "path", "lambda"])  # fmt: skip
def test_labels_are_those_of_the_calculator(tmp_path, calculator):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    np.testing.assert_allclose(forces(tmp_path / "run", calculator), atoms.get_forces(), atol=1e-10)
    (row,) = LabelStore(tmp_path / "run").rows()
    assert "EMT" in str(row.data) + str(row.key_value_pairs)


def test_one_that_has_results_gives_them_to_nobody(tmp_path):
    calculator, other = EMT(), bulk("Cu", a=3.0)
    calculator.get_potential_energy(other)
    forces(tmp_path / "run", calculator)
    assert calculator.results and np.array_equal(calculator.atoms.positions, other.positions)


def test_one_that_cannot_be_pickled_labels_here(tmp_path, caplog):
    own = Own()
    with caplog.at_level(logging.WARNING):
        forces(tmp_path / "run", own)
    assert set(own.pids) == {os.getpid()}
    assert "labels are made in this process" in caplog.text


@pytest.mark.parametrize(("calculator", "more", "words"), [
    (3.0, {}, "calculator = 3.0: must be an ASE calculator"),
    (bulk("Cu"), {}, "calculator = Atoms.*: must be an ASE calculator"),
    (EMT(), {"parameters": {"asap_cutoff": True}}, "parameters: cannot be given for an existing calculator"),
    ("ase.calculators.emt.EMTT", {}, "check the spelling"),
])  # fmt: skip
def test_what_is_no_calculator(tmp_path, calculator, more, words):
    with pytest.raises(ConfigError, match=words):
        forces(tmp_path / "run", calculator, **more)


class Outer:
    class Nested(EMT):
        """Found by a dotted name in its module."""


@pytest.mark.slow
def test_a_nested_class_is_found_by_other_processes(tmp_path):
    forces(tmp_path / "run", Outer.Nested)
    (row,) = LabelStore(tmp_path / "run").rows()
    assert row.data["settings"]["calculator"].endswith(":Outer.Nested")
