"""labels.db: exact, one row per key, on the disk before anyone hears of it."""

import json

import ase.db
import ase.db.sqlite
import numpy as np
import pytest
from labelling import LJ_LABELLER, key, other_process, random_label, structure

from mlpot.errors import RunFolderError
from mlpot.labellers.protocol import key_of
from mlpot.labels import inbox
from mlpot.labels.arrivals import Arrivals
from mlpot.labels.inbox import label_into
from mlpot.labels.store import FILE, LabelStore
from mlpot.processes import identity
from mlpot.structures import stress_voigt

# ---------------------------------------------------------------- labels.db


@pytest.mark.parametrize("reopened", [False, True])
def test_labels_come_back_bit_for_bit(tmp_path, reopened):
    store = LabelStore(tmp_path)
    atoms = [structure(k, pbc=(True, True, k % 2 == 0)) for k in range(5)]
    atoms[3].positions[0] = (1 / 3, -0.0, 1e-310)
    atoms[2].set_initial_magnetic_moments([1.5, 0, 0, 0])
    labels = [random_label(k, stress=k % 2 == 0) for k in range(5)]
    ids = [store.add(key(k), atoms[k], labels[k], step=k) for k in range(5)]
    if reopened:
        store = LabelStore(tmp_path)
    assert len(store) == 5
    assert store.keys == [key(k) for k in range(5)]
    for k, frame in enumerate(store.frames()):
        assert store.find(key(k)).id == ids[k]
        for found in (frame, store.find(key(k)).atoms):
            assert found.positions.tobytes() == atoms[k].positions.tobytes()
            assert found.cell.array.tobytes() == atoms[k].cell.array.tobytes()
            assert np.array_equal(found.pbc, atoms[k].pbc)
            assert np.array_equal(found.numbers, atoms[k].numbers)
            assert np.array_equal(found.get_initial_magnetic_moments(), atoms[k].get_initial_magnetic_moments())
            assert found.get_potential_energy() == labels[k].energy
            assert found.get_forces().tobytes() == labels[k].forces.tobytes()
            if labels[k].stress is None:
                assert "stress" not in found.calc.results
            else:
                assert found.get_stress().tobytes() == stress_voigt(labels[k].stress).tobytes()


def test_a_row_says_where_it_comes_from(tmp_path):
    store = LabelStore(tmp_path)
    forces = np.random.default_rng(1).normal(size=(4, 3))
    store.add(key(1), structure(1), random_label(1), data={"predicted_forces": forces}, step=17, force_error=0.25)
    store.annotate(key(1), data={"predicted_energy": 1 / 3}, std_after=0.5)
    row = next(ase.db.connect(tmp_path / FILE).select(step=17))
    assert row.label_seconds == random_label(1).seconds
    assert row.label_key == key(1)
    assert row.calculator == "code"
    assert row.calculator_path == "package.Code"
    assert (row.force_error, row.std_after) == (0.25, 0.5)
    assert row.data["settings"] == random_label(1).settings
    assert row.data["predicted_forces"].tobytes() == forces.tobytes()
    assert row.data["predicted_energy"] == 1 / 3
    assert store.rows()[0].get("step") == 17


def test_a_key_has_one_row(tmp_path):
    store, second = LabelStore(tmp_path), LabelStore(tmp_path)
    first = store.add(key(1), structure(1), random_label(1))
    assert store.add(key(1), structure(1), random_label(2)) == first
    # another process that opened the folder before the row was there
    assert second.add(key(1), structure(1), random_label(2)) == first
    assert len(LabelStore(tmp_path).rows()) == 1
    assert store.frames()[0].get_potential_energy() == random_label(1).energy


def test_an_added_label_is_there_for_others_at_once(tmp_path):
    store = LabelStore(tmp_path)
    code = "import ase.db, sys; print(len(list(ase.db.connect(sys.argv[1], use_lock_file=False).select())))"
    for n in (1, 2):
        store.add(key(n), structure(n), random_label(n))
        assert other_process(code, tmp_path / FILE).strip() == str(n)
    assert not list(tmp_path.glob("*-journal"))
    assert not list(tmp_path.glob("*-wal"))


def test_reading_creates_nothing(tmp_path):
    store = LabelStore(tmp_path)
    assert (len(store), store.rows(), store.frames(), store.find("x"), Arrivals(store).collect("x")) == (
        0,
        [],
        [],
        None,
        None,
    )
    assert not list(tmp_path.iterdir())


def test_a_database_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    store = LabelStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ase.db.sqlite, "index_statements", ["CREATE GARBAGE"])
        with pytest.raises(RunFolderError, match=r"labels\.db"):
            store.add(key(1), structure(1), random_label(1))
    assert not list(tmp_path.iterdir())
    store.add(key(1), structure(1), random_label(1))
    assert len(LabelStore(tmp_path)) == 1


def test_a_stale_lock_file_of_ase_does_not_block(tmp_path):
    (tmp_path / f"{FILE}.lock").write_text("")
    LabelStore(tmp_path).add(key(1), structure(1), random_label(1))
    assert len(LabelStore(tmp_path)) == 1


def test_the_inbox_is_taken_in_at_the_start(tmp_path):
    keys = [label_into(LJ_LABELLER, structure(k), tmp_path / "inbox") for k in range(3)]
    store = Arrivals(LabelStore(tmp_path)).store
    assert store.keys == keys == LabelStore(tmp_path).keys
    assert not list((tmp_path / "inbox").iterdir())
    for k, frame in enumerate(store.frames()):
        expected = LJ_LABELLER.label(structure(k))
        assert frame.positions.tobytes() == structure(k).positions.tobytes()
        assert frame.get_forces().tobytes() == expected.forces.tobytes()
        assert frame.get_potential_energy() == expected.energy


def test_a_crash_between_database_and_inbox_makes_no_duplicate(tmp_path, monkeypatch):
    arrivals = Arrivals(LabelStore(tmp_path))
    name = label_into(LJ_LABELLER, structure(0), tmp_path / "inbox")
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "discard", lambda *arguments: None)
        arrivals.collect(name)
    assert inbox.waiting(tmp_path / "inbox") == [name]
    again = Arrivals(LabelStore(tmp_path))
    assert len(again.store.rows()) == 1
    assert again.collect_all() == 0
    assert not inbox.waiting(tmp_path / "inbox")


def test_dead_claims_go_and_living_ones_stay(tmp_path):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "dead.claim").write_text(json.dumps({**identity(), "started": "0"}))
    (tmp_path / "inbox" / "living.claim").write_text(json.dumps(identity()))
    Arrivals(LabelStore(tmp_path))
    assert [file.name for file in (tmp_path / "inbox").iterdir()] == ["living.claim"]


@pytest.mark.parametrize(
    "damage", [b"this is not a database, for all that is known about databases", b"SQLite format 3\0"]
)
def test_an_unreadable_database_is_not_overwritten(tmp_path, damage):
    (tmp_path / FILE).write_bytes(damage * 50)
    with pytest.raises(RunFolderError, match=r"labels\.db.*cannot be"):
        LabelStore(tmp_path)
    assert (tmp_path / FILE).read_bytes() == damage * 50


@pytest.mark.parametrize("moment", ["write", "commit"])
def test_a_full_disk_is_said_and_costs_nothing(tmp_path, monkeypatch, moment):
    store = LabelStore(tmp_path)
    arrivals = Arrivals(store)
    store.add(key(1), structure(1), random_label(1))
    name = label_into(LJ_LABELLER, structure(0), tmp_path / "inbox")
    full = ase.db.sqlite.sqlite3.OperationalError("database or disk is full")
    write = store._db._write

    def failing_write(*arguments, **keywords):
        write(*arguments, **keywords)
        raise full

    def failing_commit(database, *exception):
        database.connection.rollback()
        database.connection.close()
        database.connection = None
        raise full

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr(store._db, "_write", failing_write)
        else:
            patch.setattr(type(store._db), "__exit__", failing_commit)
        with pytest.raises(RunFolderError, match=r"labels\.db.*disk is full"):
            arrivals.collect(name)
    assert inbox.waiting(tmp_path / "inbox") == [name]
    assert name not in store
    assert arrivals.collect(name).key == name
    assert LabelStore(tmp_path).keys == [key(1), name]


def test_every_label_in_the_store_has_the_key_of_its_structure(tmp_path):
    label_into(LJ_LABELLER, structure(0), tmp_path / "inbox")
    store = Arrivals(LabelStore(tmp_path)).store
    assert store.keys == [key_of(LJ_LABELLER, store.frames()[0])]
