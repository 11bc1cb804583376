"""Labellers: what a calculator must deliver, the process it runs in, the inbox that its result lands in."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from mlpot.durable import atomic_write, create_text, remove_leftovers, write_text
from mlpot.errors import ConfigError, LabelError, RunFolderError
from mlpot.labellers import claims, inbox, scratch
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.executor import BOOT, SubprocessExecutor
from mlpot.labellers.faulty import FaultyCalculator, calls, fingerprint
from mlpot.labellers.inbox import label_into
from mlpot.labellers.protocol import Label, check_label, key_of
from mlpot.processes import identity

LJ = "ase.calculators.lj.LennardJones"
FAULTY = "mlpot.labellers.faulty.FaultyCalculator"


def crystal(seed=0):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def faulty(folder, **plan):
    return CalculatorLabeller(FAULTY, {"calls_file": str(folder / "calls.txt"), **plan})


def emt_with(scale):
    """A function that makes a calculator, as users write them."""
    return LennardJones(epsilon=scale)


def print_and_exit(status):
    sys.stdout.write("these are my last words\n")
    sys.stdout.flush()
    os.system("echo and those of a program that I started")
    os._exit(status)


def pid_and_threads():
    return os.getpid(), threading.active_count()


class UnpicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def raise_unpicklable():
    raise UnpicklableError("one", "two")


def leave_a_program_behind():
    os.system("sleep 30 &")
    os._exit(1)


def start_a_child(file):
    process = subprocess.Popen(["sleep", "600"])
    Path(file).write_text(str(process.pid))
    time.sleep(600)


def has_ended(pid, seconds=5.0):
    """Whether a process is gone (or a zombie) within a few seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


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


@pytest.mark.parametrize("path", [f"{__name__}:emt_with", f"{__name__}.emt_with"])
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
        (f"{__name__}.emt_with", {"scales": 1}, "scales"),
        (f"{__name__}.emt_with", {}, "does not take"),
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


def test_tasks_run_in_other_processes_at_most_so_many_at_a_time():
    with SubprocessExecutor(max_workers=2) as executor:
        answers = list(executor.map(pow, range(6), [2] * 6))
        pids = {executor.submit(os.getpid).result() for _ in range(3)}
    assert answers == [0, 1, 4, 9, 16, 25]
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert all(has_ended(pid) for pid in pids)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "self-consistency"),
        ("crash", "SIGKILL"),
        ("exit", "status 3"),
        ("hang", "longer than 2.0 s"),
    ],
)
def test_a_fault_costs_its_own_task_only(tmp_path, monkeypatch, fault, words):
    local_disk = tmp_path / "local"
    local_disk.mkdir()
    monkeypatch.setenv("TMPDIR", str(local_disk))
    monkeypatch.setattr(tempfile, "tempdir", None)
    labeller = faulty(tmp_path, fail=[fault])
    with SubprocessExecutor(timeout=2.0) as executor:
        with pytest.raises(LabelError, match=words):
            executor.submit(label_into, labeller, crystal(), tmp_path / "inbox").result()
        assert executor.submit(label_into, labeller, crystal(), tmp_path / "inbox").result()
    assert len(calls(tmp_path / "calls.txt", "start")) == 2
    assert [file.suffix for file in (tmp_path / "inbox").iterdir()] == [".json"]
    assert not list(local_disk.iterdir())


def test_output_goes_to_the_error_and_not_to_the_terminal(capfd):
    with (
        SubprocessExecutor() as executor,
        pytest.raises(LabelError, match=r"status 7[\s\S]*last words[\s\S]*started"),
    ):
        executor.submit(print_and_exit, 7).result()
    captured = capfd.readouterr()
    assert not captured.out
    assert not captured.err


def test_what_a_failed_label_left_can_be_kept(tmp_path):
    labeller = faulty(tmp_path, fail=["crash", "raise"])
    with SubprocessExecutor(keep_failed=tmp_path / "failed") as executor:
        for _ in range(2):
            with pytest.raises(LabelError):
                executor.submit(label_into, labeller, crystal(), tmp_path / "inbox").result()
    kept = list((tmp_path / "failed").iterdir())
    assert len(kept) == 2
    for folder in kept:
        assert {"output.log", "error.txt"} < {file.name for file in folder.iterdir()}
        assert len(list(folder.glob(f"{scratch.PREFIX}-*"))) == 1
    assert any("Traceback" in (folder / "error.txt").read_text() for folder in kept)


def test_exceptions_that_cannot_travel_arrive_as_label_errors():
    with SubprocessExecutor() as executor:
        with pytest.raises(LabelError, match="UnpicklableError: one"):
            executor.submit(raise_unpicklable).result()
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()
        with pytest.raises((TypeError, LabelError), match="pickle"):
            executor.submit(threading.Lock).result()


def test_a_timeout_ends_what_the_task_had_started(tmp_path):
    with SubprocessExecutor(timeout=1.5) as executor, pytest.raises(LabelError, match="longer than"):
        executor.submit(start_a_child, tmp_path / "pid").result()
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_a_program_left_behind_does_not_hold_up_the_news():
    started = time.monotonic()
    with SubprocessExecutor() as executor, pytest.raises(LabelError, match="status 1"):
        executor.submit(leave_a_program_behind).result()
    assert time.monotonic() - started < 25


def test_a_worker_whose_parent_is_gone_begins_nothing(tmp_path):
    for parent, begun in ((os.getpid(), True), (os.getppid(), False)):
        source, tasks = os.pipe()
        answers, sink = os.pipe()
        command = [sys.executable, "-c", BOOT, json.dumps(sys.path), str(parent), str(source), str(sink)]
        process = subprocess.Popen(command, pass_fds=(source, sink))
        with os.fdopen(tasks, "wb") as pipe:
            pipe.write(pickle.dumps((None, pickle.dumps((write_text, (tmp_path / "begun", "yes"), {})))))
        assert process.wait(30) == 0
        for descriptor in (source, sink, answers):
            os.close(descriptor)
        assert (tmp_path / "begun").exists() == begun
        (tmp_path / "begun").unlink(missing_ok=True)


def test_a_spare_that_died_is_replaced():
    with SubprocessExecutor() as executor:
        os.kill(executor._spare.process.pid, signal.SIGKILL)
        executor._spare.process.wait()
        assert executor.submit(pow, 2, 3).result() == 8


def test_shutdown_cancels_kills_and_refuses(tmp_path):
    executor = SubprocessExecutor()
    spare = executor._spare.process.pid
    running = executor.submit(start_a_child, tmp_path / "pid")
    waiting = executor.submit(pow, 2, 3)
    while not (tmp_path / "pid").exists():
        time.sleep(0.02)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(LabelError, match="stopped"):
        running.result()
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)
    assert has_ended(spare)
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_an_exception_in_the_block_leaves_no_process(tmp_path):
    with pytest.raises(KeyboardInterrupt), SubprocessExecutor() as executor:
        executor.submit(start_a_child, tmp_path / "pid")
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_an_idle_worker_leaves_with_its_parent():
    code = (
        "import os, signal; from mlpot.labellers.executor import SubprocessExecutor\n"
        "print(SubprocessExecutor()._spare.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert has_ended(int(done.stdout), 20.0)


# ---------------------------------------------------------------- inbox and claims


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
        inbox.wait_for_claim(tmp_path, "key")
        assert not claim.exists()
        claim.write_text(text)
        assert claims.take(claim) is None
        claims.release(claim)
        assert not claim.exists()


def test_the_claim_of_a_living_process_is_waited_for(tmp_path):
    claim = tmp_path / "key.claim"
    create_text(claim, json.dumps(identity()))
    assert claims.take(claim) == identity()
    timer = threading.Timer(0.5, claim.unlink)
    timer.start()
    started = time.monotonic()
    inbox.wait_for_claim(tmp_path, "key")
    assert time.monotonic() - started >= 0.4


def test_a_claim_from_another_host_counts_while_it_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.1)
    claim = tmp_path / "key.claim"
    claim.write_text(json.dumps({**identity(), "host": "elsewhere"}))
    done = threading.Event()
    waiter = threading.Thread(target=lambda: (inbox.wait_for_claim(tmp_path, "key"), done.set()))
    with claims.beating(claim):
        waiter.start()
        assert not done.wait(1.2)
    assert done.wait(5.0)
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

    monkeypatch.setattr(inbox, "write_text", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    labeller = CalculatorLabeller(LJ)
    with pytest.raises(LabelError, match="No space left"):
        label_into(labeller, crystal(), tmp_path)
    (rescued,) = (tmp_path / "local").glob("*.json")
    rescued.rename(tmp_path / f"{key_of(labeller, crystal())}.json")
    assert inbox.take(tmp_path, key_of(labeller, crystal()))[1].energy == labeller.label(crystal()).energy


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
    (tmp_path / ".state.1-2.tmp").write_text("half")
    remove_leftovers(tmp_path, older_than=60)
    assert (tmp_path / ".state.1-2.tmp").exists()
    remove_leftovers(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["plain", "state"]


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
