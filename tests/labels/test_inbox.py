"""The inbox that labels land in, claims, and files that are written whole."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ase.constraints import FixAtoms, FixBondLength
from labelling import LJ, crystal, faulty

from mlpot.durable import atomic_write, create_text, remove_leftovers, write_text
from mlpot.errors import RunFolderError
from mlpot.labellers import scratch
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.faulty import calls, fingerprint
from mlpot.labellers.protocol import key_of
from mlpot.labels import claims, inbox
from mlpot.labels.inbox import label_into
from mlpot.learning.campaign import Query
from mlpot.processes import host, identity
from mlpot.structure_encoding import decode, encode, plain
from mlpot.workers.local import SubprocessExecutor

# ---------------------------------------------------------------- calculator


def test_a_result_in_the_inbox_is_exact(tmp_path):
    atoms = crystal()
    atoms.positions[0] = (1 / 3, 1e-300, -0.0)
    atoms.set_initial_magnetic_moments([0.1, 0, 0, 0])
    labeller = CalculatorLabeller(LJ)
    key = label_into(labeller, atoms, tmp_path / "inbox")
    assert inbox.waiting(tmp_path / "inbox") == [key] == [key_of(labeller, atoms)]
    found, label = inbox.take(tmp_path / "inbox", key)
    expected = labeller.label(atoms)
    assert found.positions.tobytes() == atoms.positions.tobytes()
    assert found.cell.array.tobytes() == atoms.cell.array.tobytes()
    assert np.array_equal(found.pbc, atoms.pbc)
    assert np.array_equal(found.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())
    assert not found.has("initial_charges")
    assert label.energy == expected.energy
    assert label.forces.tobytes() == expected.forces.tobytes()
    assert label.stress.tobytes() == expected.stress.tobytes()
    assert label.settings == labeller.settings


def test_a_result_is_on_the_disk_before_scratch_files_are_removed(tmp_path, monkeypatch):
    """Removing the big files of a calculation takes its time, in which a kill must not cost a label."""
    seen, remove = [], shutil.rmtree
    monkeypatch.setattr(
        scratch.shutil, "rmtree", lambda folder, **how: (seen.append(inbox.waiting(box)), remove(folder, **how))
    )
    monkeypatch.chdir(tmp_path)
    box = tmp_path / "inbox"
    key = label_into(CalculatorLabeller(LJ), crystal(), Path("inbox"))
    assert seen == [[key]]
    assert Path.cwd() == tmp_path
    assert not scratch.left_by(os.getpid())


def test_what_cannot_be_read_is_kept(tmp_path, caplog):
    (tmp_path / "abc.json").write_text('{"structure": {')
    with caplog.at_level(logging.WARNING):
        assert inbox.take(tmp_path, "abc") is None
    assert "abc.json" in caplog.text
    assert (tmp_path / "abc.json.unreadable").read_text() == '{"structure": {'
    assert inbox.take(tmp_path, "abc") is None


def test_two_workers_at_one_label_pay_once(tmp_path):
    labeller = faulty(tmp_path, seconds=0.5)
    with SubprocessExecutor(max_workers=3) as executor:
        futures = [executor.submit(label_into, labeller, crystal(), tmp_path / "inbox") for _ in range(3)]
        assert len({future.result() for future in futures}) == 1
    assert calls(tmp_path / "calls.txt", "start") == [fingerprint(crystal())]
    assert not list((tmp_path / "inbox").glob("*.claim"))


def test_the_claim_of_a_dead_process_is_nothing(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    claim = tmp_path / "key.claim"
    for text in (
        json.dumps({**identity(), "pid": dead.pid}),
        json.dumps({**identity(), "started": "0"}),
        "",
        "{}",
        "[1]",
    ):
        claim.write_text(text)
        assert claims.Watch(claim).is_free()
        assert not claim.exists()
        claim.write_text(text)
        assert claims.take(claim) is None
        claims.release(claim)
        assert not claim.exists()


def test_the_claim_of_a_living_process_counts(tmp_path):
    claim = tmp_path / "key.claim"
    create_text(claim, json.dumps(identity()))
    assert claims.take(claim) == identity()
    watch = claims.Watch(claim)
    assert not watch.is_free() and claim.exists()
    claim.unlink()
    assert watch.is_free()


@pytest.mark.slow
def test_a_claim_from_another_host_counts_while_it_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 2.0)  # a beat may be late on a busy machine
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.1)
    claim = tmp_path / "key.claim"
    claim.write_text(json.dumps({**identity(), "host": "elsewhere"}))
    watch = claims.Watch(claim)
    with claims.beating(claim):
        for _ in range(25):
            assert not watch.is_free()
            time.sleep(0.1)
    end = time.monotonic() + 20.0
    while not watch.is_free():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not claim.exists()


def test_a_claim_that_has_changed_hands_is_not_removed(tmp_path):
    claim = tmp_path / "key.claim"
    claim.write_text(json.dumps(identity()))
    claims.remove(claim, {**identity(), "pid": 1})
    assert claims.read(claim) == identity()
    claim.write_text(json.dumps({**identity(), "pid": 1}))
    claims.release(claim)
    assert claim.exists()


def test_a_label_that_the_inbox_does_not_take_is_rescued(tmp_path, monkeypatch):
    def full(file, text):
        if Path(file).parent == tmp_path:
            raise OSError(28, "No space left on device", str(file))
        write_text(file, text)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    labeller = CalculatorLabeller(LJ)
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "write_text", full)
        with pytest.raises(RunFolderError, match=r"No space left[\s\S]*local"):
            label_into(labeller, crystal(), tmp_path)
    (rescued,) = (tmp_path / "local").glob("*.json")
    assert not inbox.waiting(tmp_path)
    inbox.recover(tmp_path, key_of(labeller, crystal()))
    assert not rescued.exists()
    assert inbox.take(tmp_path, key_of(labeller, crystal()))[1].energy == labeller.label(crystal()).energy


def test_a_label_waits_for_room_when_every_disk_is_full(tmp_path, monkeypatch):
    """And the claim is kept alive meanwhile: nobody else begins the same."""
    attempts = []

    def full(file, text):
        attempts.append(file)
        if len(attempts) < 5:
            raise OSError(28, "No space left on device", str(file))
        write_text(file, text)

    monkeypatch.setattr(inbox, "write_text", full)
    monkeypatch.setattr(inbox, "PAUSE_SECONDS", 0.01)
    key = label_into(CalculatorLabeller(LJ), crystal(), tmp_path)
    assert [file.parent == tmp_path for file in attempts] == [True, False, True, False, True]
    assert inbox.waiting(tmp_path) == [key]
    assert not list(tmp_path.glob("*.claim"))


def test_a_label_that_finds_no_room_for_long_is_said_to_be_lost(tmp_path, monkeypatch):
    def full(file, text):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(inbox, "write_text", full)
    monkeypatch.setattr(inbox, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(inbox, "PAUSE_SECONDS", 0.01)
    with pytest.raises(RunFolderError, match="lost"):
        label_into(CalculatorLabeller(LJ), crystal(), tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks")
@pytest.mark.parametrize("problem", ["full", "read-only"])
def test_a_real_disk_that_takes_nothing_more(tmp_path, monkeypatch, problem):
    """The disk gets full, or read-only, while the label is calculated."""
    disk, local = tmp_path / "disk", tmp_path / "local"
    disk.mkdir()
    local.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(local))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    labeller = CalculatorLabeller(LJ)

    class Slow(CalculatorLabeller):
        def label(self, atoms):
            if problem == "full":
                with suppress(OSError):
                    (disk / "ballast").write_bytes(b"x" * 100_000)
            else:
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            return super().label(atoms)

    try:
        with pytest.raises(RunFolderError, match=str(local)):
            label_into(Slow(LJ), crystal(), disk / "inbox")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        (disk / "ballast").unlink(missing_ok=True)
        inbox.recover(disk / "inbox", key_of(labeller, crystal()))
        assert inbox.take(disk / "inbox", key_of(labeller, crystal()))[1].energy == labeller.label(crystal()).energy
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_inbox_that_cannot_be_made_costs_nothing(tmp_path):
    (tmp_path / "inbox").write_text("a file")
    with pytest.raises(RunFolderError, match="inbox"):
        label_into(faulty(tmp_path), crystal(), tmp_path / "inbox")
    assert not calls(tmp_path / "calls.txt", "start")


# ---------------------------------------------------------------- durable files


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "state"
    write_text(file, "old")

    def fail():
        with atomic_write(file) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert file.read_text() == "old"
    write_text(file, "nëw")
    assert file.read_text(encoding="utf-8") == "nëw"
    assert [f.name for f in tmp_path.iterdir()] == ["state"]
    (tmp_path / "plain").write_text("")
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_leftovers_are_told_by_their_process_and_not_by_their_age(tmp_path):
    """A clock that jumps makes files look old, or come from the future; other hosts have clocks of their own."""
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    names = {
        "mine": f".label.json.{os.getpid()}-0a@{host()}.tmp",
        "dead": f".label.json.{dead.pid}-0a@{host()}.tmp",
        "journal": f".labels.db.{dead.pid}-0a@{host()}.tmp-journal",
        "elsewhere": f".label.json.{dead.pid}-0a@elsewhere.tmp",
    }
    for name in names.values():
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path, shared=True)
    assert {f.name for f in tmp_path.iterdir()} == {names["mine"], names["elsewhere"]}
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_clock_that_jumps_ends_no_claim(tmp_path, monkeypatch):
    """Neither into the past nor into the future: only silence counts, by this process's own measure."""
    claim = tmp_path / "key.claim"
    claim.write_text(json.dumps({**identity(), "host": "elsewhere"}))
    now = 0.0
    monkeypatch.setattr(claims.time, "monotonic", lambda: now)
    watch = claims.Watch(claim)
    for touched in (1e9, 3e9, 1.0, 2e9):
        os.utime(claim, (touched, touched))
        assert not watch.is_free()
        now += claims.SILENCE_SECONDS
    now += 1.0
    assert watch.is_free() and not claim.exists()


@pytest.mark.parametrize("links", [True, False])
def test_create_never_replaces(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    create_text(tmp_path / "claim", "one")
    with pytest.raises(FileExistsError):
        create_text(tmp_path / "claim", "two")
    assert (tmp_path / "claim").read_text() == "one"
    assert [f.name for f in tmp_path.iterdir()] == ["claim"]


# ---------------------------------------------------------------- faulty calculator


# ---------------------------------------------------------------- structures as they are written


def test_an_encoded_structure_comes_back_bit_for_bit():
    atoms = crystal()
    atoms.positions[0] = (1 / 3, 1e-300, -0.0)
    atoms.pbc = (True, False, True)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(4, 3)), apply_constraint=False)
    atoms.set_tags([3, 0, 1, 2])
    atoms.set_initial_charges([0.1, -0.1, 0.3, 0.0])
    atoms.set_initial_magnetic_moments([[0.0, 0.0, 0.1]] * 4)
    atoms.set_constraint([FixAtoms([1]), FixBondLength(0, 2)])
    found = decode(json.loads(json.dumps(plain(encode(atoms)))))
    assert found.arrays.keys() == atoms.arrays.keys()
    for name, array in atoms.arrays.items():
        assert found.arrays[name].tobytes() == array.tobytes() and found.arrays[name].dtype == array.dtype, name
    assert found.cell.array.tobytes() == atoms.cell.array.tobytes() and found.pbc.tolist() == [True, False, True]
    assert [c.todict() for c in found.constraints] == [c.todict() for c in atoms.constraints]


def test_structures_written_by_earlier_versions_are_read(tmp_path):
    """A result in an inbox with its own names of arrays, and a queued structure as ASE's table."""
    atoms = crystal()
    atoms.set_initial_charges([0.1, -0.1, 0.3, 0.0])
    atoms.set_initial_magnetic_moments([1.0, 0.0, 0.0, -1.0])
    structure = {
        "numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(), "charges": [0.1, -0.1, 0.3, 0.0], "magmoms": [1.0, 0.0, 0.0, -1.0],
    }  # fmt: skip
    label = {"energy": 1 / 3, "forces": [[0.1, 0, 0]] * 4, "stress": None, "seconds": 1.0, "settings": {}}
    (tmp_path / "key.json").write_text(json.dumps({"structure": structure, "label": label}))
    found, read = inbox.take(tmp_path, "key")
    assert (found, read.energy, read.forces.shape) == (atoms, 1 / 3, (4, 3))
    assert key_of(CalculatorLabeller(LJ), found) == key_of(CalculatorLabeller(LJ), atoms)
    assert decode(atoms.todict()) == atoms
    query = Query.restore({"key": "k", "atoms": atoms.todict(), "before": None, "reason": "soft", "walker": "w", "step": 3})
    assert query.atoms == atoms and query.state()["atoms"].keys() == atoms.todict().keys()
