"""Labels as the learning calculator gets them: exact, paid for once, and tried again."""

import numpy as np
import pytest
from conftest import FAULTY, faulty_parameters, lennard_jones, make_frames

from mlpot.errors import LabelError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.executor import SubprocessExecutor
from mlpot.labellers.faulty import calls
from mlpot.learning.source import LabelSource
from mlpot.learning.store import LabelStore


@pytest.fixture(scope="module")
def executor():
    with SubprocessExecutor() as executor:
        yield executor


def structure(seed=0):
    atoms = make_frames(1, seed=seed)[0]
    atoms.calc = None
    return atoms


def source(folder, executor, fail=(), tries=2):
    labeller = CalculatorLabeller(FAULTY, {**faulty_parameters(folder / "calls"), "fail": list(fail)})
    return LabelSource(labeller, LabelStore(folder), executor, tries)


def test_labels_are_exact_and_paid_once(tmp_path, executor):
    key, atoms, paid = source(tmp_path, executor).obtain(structure())
    direct = structure()
    direct.calc = lennard_jones()
    assert paid
    np.testing.assert_array_equal(atoms.get_forces(), direct.get_forces())
    np.testing.assert_array_equal(atoms.get_stress(), direct.get_stress())
    np.testing.assert_array_equal(atoms.positions, direct.positions)
    assert atoms.get_potential_energy() == direct.get_potential_energy()
    again = source(tmp_path, executor).obtain(structure())
    assert again[0] == key and not again[2]
    assert len(calls(tmp_path / "calls", "end")) == 1
    source(tmp_path, executor).obtain(structure(1))
    assert len(LabelStore(tmp_path)) == 2


def test_a_second_try(tmp_path, executor):
    """The plan of faults counts calculations: the first crashes, the second delivers."""
    assert source(tmp_path, executor, fail=["crash"]).obtain(structure())[2]
    assert len(calls(tmp_path / "calls", "start")) == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(LabelError, match="SIGKILL"):
        source(tmp_path / "other", executor, fail=["crash"], tries=1).obtain(structure())
    assert len(LabelStore(tmp_path / "other")) == 0


def test_charges_and_moments_stay_with_the_structure(tmp_path, executor):
    plain = source(tmp_path, executor).obtain(structure())[1]
    assert not plain.has("initial_charges") and not plain.has("initial_magmoms")
    charged = structure()
    charged.set_initial_charges(np.linspace(-0.1, 0.1, len(charged)))
    np.testing.assert_array_equal(
        source(tmp_path, executor).obtain(charged)[1].get_initial_charges(), charged.get_initial_charges()
    )
