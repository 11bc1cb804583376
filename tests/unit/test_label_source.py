"""Labels as a run gets them: exact, paid for once, tried again, doubted, recorded when they fail."""

import json
import logging
import os
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import FAULTY, LENNARD_JONES, lennard_jones, make_frames

from mlpot.durable import create_text, write_text
from mlpot.errors import ConfigError, LabelError, RunFolderError
from mlpot.labellers import failures, inbox
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.executor import SubprocessExecutor
from mlpot.labellers.faulty import calls
from mlpot.labellers.inbox import claim_of, label_into
from mlpot.labellers.plan import LabellingPlan
from mlpot.labellers.protocol import OUTLIER_LEAST, key_of
from mlpot.learning.source import LOSSES, LabelSource, opened_source
from mlpot.learning.store import LabelStore
from mlpot.processes import identity


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
    with SubprocessExecutor(keep_failed=tmp_path_factory.mktemp("kept")) as executor:
        yield executor


class HereAndNow(Executor):
    """Does the work at once, in this process: for tests of what a source makes of it."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def structure(seed=0):
    atoms = make_frames(1, seed=seed)[0]
    atoms.calc = None
    return atoms


def labeller_of(folder, **plan):
    return CalculatorLabeller(FAULTY, {"parameters": LENNARD_JONES, "calls_file": str(folder / "calls"), **plan})


def source(folder, executor=None, tries=2, fallback=None, **plan):
    labeller = labeller_of(folder, **plan)
    other = labeller.varied(fallback) if fallback else None
    return LabelSource(labeller, LabelStore(folder), executor or HereAndNow(), tries, fallback=other)


def n_calls(folder, event="start"):
    return len(calls(folder / "calls", event))


# ---------------------------------------------------------------- good labels


def test_labels_are_exact_and_paid_once(tmp_path, executor):
    first = source(tmp_path, executor).obtain(structure())
    direct = structure()
    direct.calc = lennard_jones()
    assert first.paid and first.failure is None
    np.testing.assert_array_equal(first.atoms.get_forces(), direct.get_forces())
    np.testing.assert_array_equal(first.atoms.get_stress(), direct.get_stress())
    np.testing.assert_array_equal(first.atoms.positions, direct.positions)
    assert first.atoms.get_potential_energy() == direct.get_potential_energy()
    again = source(tmp_path, executor).obtain(structure())
    assert again.key == first.key and not again.paid
    assert n_calls(tmp_path, "end") == 1
    source(tmp_path, executor).obtain(structure(1))
    assert len(LabelStore(tmp_path)) == 2


def test_charges_and_moments_stay_with_the_structure(tmp_path):
    plain = source(tmp_path).obtain(structure()).atoms
    assert not plain.has("initial_charges") and not plain.has("initial_magmoms")
    charged = structure()
    charged.set_initial_charges(np.linspace(-0.1, 0.1, len(charged)))
    found = source(tmp_path).obtain(charged).atoms
    np.testing.assert_array_equal(found.get_initial_charges(), charged.get_initial_charges())


def test_requests_do_not_wait(tmp_path):
    """Several labels under way at a time, asked after without waiting, each paid for once."""
    with SubprocessExecutor(max_workers=2) as executor:
        labels = source(tmp_path, executor, seconds=1.0)
        started = time.monotonic()
        keys = [labels.request(structure(k)) for k in (0, 1, 0)]
        assert keys[0] == keys[2]
        assert labels.pending == keys[:2]
        assert labels.outcome(keys[0]) is None
        assert time.monotonic() - started < 0.9
        while labels.pending:
            outcomes = [labels.outcome(key) for key in keys]
            time.sleep(0.02)
        outcomes = [labels.outcome(key) for key in keys]
    assert all(outcome.atoms is not None and outcome.paid for outcome in outcomes)
    assert labels.request(structure()) == keys[0]
    assert not labels.outcome(keys[0]).paid
    assert n_calls(tmp_path) == 2
    with pytest.raises(KeyError, match="never requested"):
        labels.outcome("0" * 64)


# ---------------------------------------------------------------- labels under way elsewhere


def test_a_label_that_another_process_is_at_is_not_begun_again(tmp_path):
    labels = source(tmp_path)
    key = key_of(labels.labeller, structure())
    box = labels.store.inbox
    box.mkdir()
    create_text(
        claim_of(box, key),
        json.dumps({**identity(), "pid": os.getppid(), "started": identity(os.getppid())["started"]}),
    )
    assert labels.request(structure()) == key
    assert labels.outcome(key) is None and labels.pending == [key] and not n_calls(tmp_path)
    claim_of(box, key).unlink()
    label_into(labels.labeller, structure(), box)
    outcome = labels.outcome(key)
    assert outcome.atoms is not None and not outcome.paid
    assert n_calls(tmp_path) == 1


def test_a_label_whose_process_has_died_is_begun_again(tmp_path):
    labels = source(tmp_path)
    key, box = key_of(labels.labeller, structure()), labels.store.inbox
    box.mkdir()
    create_text(claim_of(box, key), json.dumps({**identity(), "started": "0"}))
    assert labels.obtain(structure()).paid
    assert n_calls(tmp_path) == 1


def test_a_label_that_is_never_delivered_fails_in_the_end(tmp_path):
    """Each time another process seems to hold it, and each time that vanishes."""

    class Idle(HereAndNow):
        def submit(self, fn, /, *args, **kwargs):
            submitted.append(fn)
            return super().submit(str)

    submitted = []
    outcome = source(tmp_path, Idle()).obtain(structure())
    assert "vanished" in outcome.failure
    assert LOSSES < len(submitted) <= LOSSES + 3


def test_the_claim_of_a_process_known_to_be_dead_does_not_hold_up_the_next_try(tmp_path):
    """From another host only silence would tell; the executor has seen its end."""
    dead = {"host": "elsewhere", "pid": 7, "started": "7"}

    class Remote(HereAndNow):
        def submit(self, fn, labeller, atoms, box, key):
            if not n_calls(tmp_path):
                box.mkdir()
                create_text(claim_of(box, key), json.dumps(dead))
                (tmp_path / "calls").write_text("start x 7\n")
                error = LabelError("the labelling process was killed")
                failures.note_process(error, dead)
                future = Future()
                future.set_exception(error)
                return future
            return super().submit(fn, labeller, atoms, box, key)

    assert source(tmp_path, Remote()).obtain(structure()).atoms is not None


# ---------------------------------------------------------------- failures


def test_a_second_try(tmp_path, executor):
    """The plan of faults counts calculations: the first crashes, the second delivers."""
    assert source(tmp_path, executor, fail=["crash"]).obtain(structure()).paid
    assert n_calls(tmp_path) == 2
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("fault", ["nan", "shape", "net force", "moved", "sorted", "raise"])
def test_garbage_is_not_believed(tmp_path, fault):
    outcome = source(tmp_path, fail=[fault]).obtain(structure())
    direct = structure()
    direct.calc = lennard_jones()
    np.testing.assert_array_equal(outcome.atoms.get_forces(), direct.get_forces())
    assert len(LabelStore(tmp_path)) == 1


def test_a_failure_is_recorded_and_not_paid_again(tmp_path, caplog):
    with SubprocessExecutor(keep_failed=tmp_path / "failed") as executor:
        labels = source(tmp_path, executor, always="crash", fail=["raise"])
        outcome = labels.obtain(structure())
    assert outcome.atoms is None and outcome.paid and "SIGKILL" in outcome.failure
    file = tmp_path / "failed" / f"{outcome.key}.json"
    assert f"{file}: delete it" in caplog.text
    record = json.loads(file.read_text())
    assert record["settings"] == labels.labeller.settings
    np.testing.assert_array_equal(record["structure"]["positions"], structure().positions)
    assert [one["error"].splitlines()[0].split(" (")[0] for one in record["tries"]] == [
        "mlpot.labellers.faulty.FaultyCalculator failed: RuntimeError: self-consistency was not reached",
        "the labelling process was killed by SIGKILL",
    ]
    assert "Traceback" in record["tries"][0]["log"]
    for one in record["tries"]:
        assert (tmp_path / "failed" / one["files"] / "error.txt").exists()
    assert len(LabelStore(tmp_path)) == 0 and not list((tmp_path / "inbox").iterdir())
    again = source(tmp_path, always="crash", fail=["raise"]).obtain(structure())
    assert (again.atoms, again.paid, again.failure) == (None, False, outcome.failure)
    assert n_calls(tmp_path) == 2
    file.unlink()
    with SubprocessExecutor() as executor:
        assert source(tmp_path, executor, always="crash", fail=["raise"], tries=1).obtain(structure()).paid
    assert n_calls(tmp_path) == 3


def test_a_record_that_cannot_be_read_is_still_one(tmp_path):
    labels = source(tmp_path)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / f"{key_of(labels.labeller, structure())}.json").write_text("{")
    assert "cannot be read" in labels.obtain(structure()).failure
    assert not n_calls(tmp_path)


def test_what_a_failed_try_leaves_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "KEPT_BYTES", 1000)
    scratch = tmp_path / "scratch"
    (scratch / "deep").mkdir(parents=True)
    (scratch / "wavefunction").write_bytes(b"x" * 990)
    (scratch / "deep" / "output").write_text("not converged")
    (scratch / "link").symlink_to("/etc/passwd")
    kept = failures.keep(tmp_path / "failed", [scratch], "printed", LabelError("why"))
    files = sorted(file.relative_to(kept).as_posix() for file in kept.rglob("*") if file.is_file())
    assert files == ["error.txt", "left_out.txt", "output.log", "scratch/deep/output"]
    assert "990 scratch/wavefunction" in (kept / "left_out.txt").read_text()


def test_fallback_parameters_make_the_second_try(tmp_path):
    """The key stays that of the parameters asked for; the settings are those that were used."""
    labels = source(tmp_path, always="raise", fallback={"always": "", "parameters": {"sigma": 2.21}})
    outcome = labels.obtain(structure())
    assert outcome.key == key_of(labels.labeller, structure()) in labels.store
    direct = structure()
    direct.calc = type(lennard_jones())(**{**LENNARD_JONES, "sigma": 2.21})
    np.testing.assert_array_equal(outcome.atoms.get_forces(), direct.get_forces())
    settings = labels.store.rows()[0].data["settings"]
    assert settings["parameters"]["parameters"] == {**LENNARD_JONES, "sigma": 2.21}
    assert not source(tmp_path, always="raise").obtain(structure()).paid


def test_what_cannot_work_is_not_tried_again(tmp_path):
    labels = LabelSource(CalculatorLabeller("no_such_package.Code"), LabelStore(tmp_path), HereAndNow())
    key = labels.request(structure())
    with pytest.raises(ConfigError, match="no_such_package"):
        labels.outcome(key)
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("how", ["refused", "cancelled", "not importable"])
def test_an_executor_that_is_gone_is_no_failure_of_the_label(tmp_path, how):
    class Broken(HereAndNow):
        def submit(self, fn, /, *args, **kwargs):
            if how == "refused":
                raise RuntimeError("closed")
            future = Future()
            if how == "cancelled":
                future.cancel()
                future.set_running_or_notify_cancel()
            else:
                future.set_exception(ModuleNotFoundError("No module named 'mlpot'"))
            return future

    with pytest.raises((LabelError, ConfigError), match=r"executor"):
        source(tmp_path, Broken()).obtain(structure())
    assert not (tmp_path / "failed").exists()
    assert source(tmp_path).obtain(structure()).atoms is not None


# ---------------------------------------------------------------- strange energies


def crowd(folder, n_labels=OUTLIER_LEAST):
    """A store with so many labels of one composition."""
    for seed in range(n_labels):
        source(folder).obtain(structure(100 + seed))
    (folder / "calls").unlink()


def test_an_energy_that_does_not_come_again_is_not_believed(tmp_path, caplog):
    crowd(tmp_path)
    outcome = source(tmp_path, fail=["outlier"]).obtain(structure())
    direct = structure()
    direct.calc = lennard_jones()
    assert outcome.atoms.get_potential_energy() == direct.get_potential_energy()
    assert "from the median of 10 labels" in caplog.text
    assert n_calls(tmp_path) == 2 and not list((tmp_path / "inbox").iterdir())


def test_an_energy_that_comes_again_is_believed(tmp_path, caplog):
    """That of the first try, whose parameters are those asked for."""
    crowd(tmp_path)
    labels = source(tmp_path, always="strange", fallback={"seconds": 0.01})
    outcome = labels.obtain(structure())
    direct = structure()
    direct.calc = lennard_jones()
    assert outcome.atoms.get_potential_energy() == direct.get_potential_energy() + 50 * len(direct)
    assert "two calculations agree" in caplog.text
    assert "seconds" not in labels.store.rows()[-1].data["settings"]["parameters"]
    assert n_calls(tmp_path) == 2 and not list((tmp_path / "inbox").iterdir())


@pytest.mark.parametrize("tries", [1, 2])
def test_energies_that_all_differ_are_a_failure(tmp_path, tries):
    """There is one try more, for otherwise a single try could never be confirmed."""
    crowd(tmp_path)
    labels = source(tmp_path, always="outlier", tries=tries)
    outcome = labels.obtain(structure())
    assert outcome.atoms is None and "not believed" in outcome.failure
    assert n_calls(tmp_path) == tries + 1
    assert len(labels.store) == OUTLIER_LEAST and not list((tmp_path / "inbox").iterdir())


def test_doubts_survive_the_process(tmp_path):
    """A strange result that arrives while nobody looks is neither believed at the next start nor lost."""
    crowd(tmp_path)
    label_into(labeller_of(tmp_path, always="strange"), structure(), tmp_path / "inbox")
    labels = source(tmp_path, always="strange")
    assert len(labels.store) == OUTLIER_LEAST
    outcome = labels.obtain(structure())
    assert outcome.atoms is not None and n_calls(tmp_path) == 2
    (tmp_path / "calls").unlink()
    label_into(labeller_of(tmp_path, always="strange"), structure(7), tmp_path / "inbox")
    inbox.set_aside(tmp_path / "inbox", key_of(labels.labeller, structure(7)))
    assert source(tmp_path, always="strange").obtain(structure(7)).atoms is not None
    assert n_calls(tmp_path) == 2


def test_few_labels_judge_nobody(tmp_path):
    crowd(tmp_path, OUTLIER_LEAST - 1)
    assert source(tmp_path, always="strange").obtain(structure()).atoms is not None
    assert n_calls(tmp_path) == 1


# ---------------------------------------------------------------- disks


def full_disk(folder):
    def write(file, text):
        if Path(file).parent == folder and file.suffix == ".json":
            raise OSError(28, "No space left on device", str(file))
        write_text(file, text)

    return write


@pytest.mark.parametrize("resumed", [False, True])
def test_a_label_that_found_no_room_is_found_again(tmp_path, monkeypatch, resumed):
    """Written to the local disk, it is moved in as soon as there is room, by this process or the next."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    labels = source(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "write_text", full_disk(labels.store.inbox))
        key = labels.request(structure())
        with pytest.raises(RunFolderError, match="No space left"):
            labels.outcome(key)
        with pytest.raises(RunFolderError, match="No space left"):
            labels.outcome(key)
    assert (source(tmp_path) if resumed else labels).obtain(structure()).atoms is not None
    assert n_calls(tmp_path) == 1
    assert not list((tmp_path / "local").iterdir()) and not list((tmp_path / "inbox").iterdir())


def test_a_result_of_another_structure_is_not_believed(tmp_path, caplog):
    """A file moved in by hand under the wrong name."""
    labels = source(tmp_path)
    key = label_into(labels.labeller, structure(1), labels.store.inbox)
    wrong = key_of(labels.labeller, structure())
    (labels.store.inbox / f"{key}.json").rename(labels.store.inbox / f"{wrong}.json")
    with caplog.at_level(logging.WARNING):
        outcome = labels.obtain(structure())
    np.testing.assert_array_equal(outcome.atoms.positions, structure().positions)
    assert "refused" in caplog.text
    assert (labels.store.inbox / f"{wrong}.json.refused").exists()


# ---------------------------------------------------------------- from a plan


def test_a_plan_becomes_a_source(tmp_path):
    plan = LabellingPlan(FAULTY, {"calls_file": str(tmp_path / "calls"), "fail": ["crash"]}, fallback={"seconds": 0.01})
    with opened_source(plan, tmp_path / "run", resume=False) as (folder, labels):
        assert folder.path == tmp_path / "run"
        assert labels.obtain(structure()).paid
    assert LabelStore(tmp_path / "run").rows()[0].data["settings"]["parameters"]["seconds"] == 0.01


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fallback": {"sigmas": 1}}, "sigmas"),
        ({"executor": "dask"}, "labeller.scheduler"),
        (
            {"executor": "slurm", "slurm": {"que": "main", "memory": "1GB"}},
            "labeller.slurm.que: unknown key; did you mean 'queue'",
        ),
        ({"executor": "slurm", "slurm": {"queue": "main"}}, "labeller.slurm.memory"),
        ({"executor": "dask", "scheduler": "nonsense"}, "labeller.scheduler = 'nonsense'"),
    ],
)
def test_plans_that_cannot_work_are_refused(tmp_path, wrong, words):
    if wrong.get("executor"):
        pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    plan = LabellingPlan("labelling.emt_with", {"scale": 1.0}, **wrong)
    with pytest.raises(ConfigError, match=words), opened_source(plan, tmp_path / "run", resume=False):
        pass
    assert not (tmp_path / "run" / "labels.db").exists()


def test_threads_may_make_labels_too(tmp_path):
    """Any executor will do, with fewer guarantees."""
    plan = {"calculator": "ase.calculators.lj.LennardJones", "parameters": LENNARD_JONES}
    with ThreadPoolExecutor(1) as threads:
        labels = LabelSource(CalculatorLabeller(**plan), LabelStore(tmp_path), threads)
        assert labels.obtain(structure()).atoms is not None
