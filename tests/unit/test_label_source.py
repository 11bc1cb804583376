"""Labels through worker processes: exact, durable, and errors that say what happened."""

import json
import os
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from counting import Counting

from mlpot.errors import ConfigError, LabelError, RunFolderError
from mlpot.labellers import inbox
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.executor import SubprocessExecutor
from mlpot.labellers.protocol import Label, check_label, key_of
from mlpot.learning.calculator import LabelSource
from mlpot.learning.folder import RunFolder
from mlpot.learning.store import LabelStore
from mlpot.processes import identity


@pytest.fixture(scope="module")
def executor():
    with SubprocessExecutor() as executor:
        yield executor


def structure(seed=0):
    atoms = bulk("Si", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def labeller(folder, **options):
    return CalculatorLabeller("counting.Counting", {"calls": str(folder / "calls"), **options})


def calls(folder):
    return (folder / "calls").read_text().split()


def test_labels_are_exact_and_paid_once(tmp_path, executor):
    store = LabelStore(tmp_path)
    source = LabelSource(labeller(tmp_path), store, executor)
    key, atoms, paid = source.obtain(structure())
    direct = structure()
    direct.calc = Counting(str(tmp_path / "direct"))
    assert paid
    np.testing.assert_array_equal(atoms.get_forces(), direct.get_forces())
    np.testing.assert_array_equal(atoms.get_stress(), direct.get_stress())
    np.testing.assert_array_equal(atoms.positions, direct.positions)
    assert atoms.get_potential_energy() == direct.get_potential_energy()
    assert source.obtain(structure())[2] is False
    assert LabelSource(labeller(tmp_path), LabelStore(tmp_path), executor).obtain(structure())[0] == key
    assert calls(tmp_path) == ["begin", "end"]
    assert not list(store.inbox.iterdir())
    source.obtain(structure(1))
    assert len(LabelStore(tmp_path)) == 2


def test_a_key_says_what_was_calculated(tmp_path):
    one = labeller(tmp_path)
    moved = structure()
    moved.positions[0, 0] = np.nextafter(moved.positions[0, 0], 9)
    charged = structure()
    charged.set_initial_charges([1.0] + [0.0] * (len(charged) - 1))
    keys = {key_of(one, atoms) for atoms in (structure(), moved, charged)}
    keys.add(key_of(labeller(tmp_path, seconds=0.1), structure()))
    assert len(keys) == 4
    assert key_of(one, structure()) == key_of(labeller(tmp_path), structure())


def test_no_stress_without_a_cell(tmp_path):
    cluster = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.4]])
    assert labeller(tmp_path).label(cluster).stress is None
    assert labeller(tmp_path).label(structure()).stress.shape == (3, 3)


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("raise", "SCF did not converge"),
        ("crash", "SIGKILL"),
        ("nan", "forces is not finite"),
        ("hang", "longer than 2"),
    ],
)
def test_failures_cost_one_label(tmp_path, fail, words):
    with SubprocessExecutor(timeout=2.0 if fail == "hang" else None) as executor:
        store = LabelStore(tmp_path)
        bad = LabelSource(labeller(tmp_path, fail=fail), store, executor, tries=1)
        with pytest.raises(LabelError, match=words) as caught:
            bad.obtain(structure())
        if fail == "crash":
            assert "last words of a code" in str(caught.value)
        assert len(store) == 0
        if fail != "hang":
            assert LabelSource(labeller(tmp_path), store, executor).obtain(structure())[2]
            assert len(store) == 1


def test_a_second_try_succeeds(tmp_path, executor):
    once = labeller(tmp_path, fail="crash", once=str(tmp_path / "once"))
    assert LabelSource(once, LabelStore(tmp_path), executor, tries=2).obtain(structure())[2]
    assert calls(tmp_path) == ["begin", "begin", "end"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("tblite.ase.TBLight", "TBLight"), ("no_such_code.Calculator", "no_such_code"), ("TBLite", "import path")],
)
def test_unknown_calculators(name, words):
    with pytest.raises(ConfigError, match=words):
        CalculatorLabeller(name).factory()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"energy": np.inf}, "energy is not finite"),
        ({"forces": np.zeros((3, 3))}, "forces has shape"),
        ({"stress": np.full((3, 3), np.nan)}, "stress is not finite"),
        ({"stress": np.zeros(6)}, "stress has shape"),
    ],
)
def test_labels_that_cannot_be_believed(changes, words):
    values = {"energy": 0.0, "forces": np.zeros((2, 3)), "stress": None, "seconds": 1.0, "settings": {}, **changes}
    with pytest.raises(LabelError, match=words):
        check_label(Atoms("Si2"), Label(**values))


def test_a_label_left_in_the_inbox_is_found(tmp_path):
    store = LabelStore(tmp_path)
    key = inbox.label_into(labeller(tmp_path), structure(), store.inbox)
    assert key not in store
    assert key in LabelStore(tmp_path)
    assert not list(store.inbox.iterdir())


def test_workers_run_at_once_and_none_stays():
    with SubprocessExecutor(max_workers=2) as executor:
        started = time.perf_counter()
        pids = {f.result() for f in [executor.submit(_slow_pid) for _ in range(2)]}
        assert len(pids) == 2 and os.getpid() not in pids
        assert time.perf_counter() - started < 60
        spare = executor._spare.process
    assert spare.poll() is not None
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(os.getpid)


def _slow_pid():
    time.sleep(0.2)
    return os.getpid()


def test_state_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(5)
    state = {
        "array": rng.normal(size=(4, 3)),
        "integers": np.arange(3),
        "rng": rng.bit_generator.state,
        "nested": [1, 2.5, None, {"x": np.float64(0.1)}],
        "results": {"energy": -1.0 / 3.0, "forces": rng.normal(size=(2, 3))},
    }
    with RunFolder(tmp_path / "run") as folder:
        folder.save_state(state)
        back = folder.load_state()
    np.testing.assert_array_equal(back["array"], state["array"])
    np.testing.assert_array_equal(back["results"]["forces"], state["results"]["forces"])
    assert back["rng"] == state["rng"] and back["results"]["energy"] == -1.0 / 3.0
    assert back["integers"].dtype == np.arange(3).dtype


def test_folders_have_one_owner(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path) as folder, SubprocessExecutor() as executor:
        (path / "labels.db").write_text("")
        with pytest.raises(RunFolderError, match=rf"process {os.getpid()}"):
            executor.submit(RunFolder, path, True).result()
        folder.save_state({})
    with pytest.raises(RunFolderError, match="--resume"):
        RunFolder(path)
    (path / "owner.json").write_text(json.dumps({**identity(), "started": "long ago"}))
    with RunFolder(path, resume=True):
        pass
