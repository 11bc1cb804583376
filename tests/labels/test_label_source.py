"""Labels as a run gets them: exact, paid for once, tried again, doubted, recorded when they fail."""

import json
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from conftest import FAULTY, LENNARD_JONES, lennard_jones
from labelling import HereAndNow, bare, n_calls, source

from mlpot.durable import create_text
from mlpot.errors import ConfigError, LabelError
from mlpot.labellers import failures
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.protocol import key_of
from mlpot.labels.arrivals import Arrivals
from mlpot.labels.inbox import claim_of, label_into
from mlpot.labels.plan import LabellingPlan
from mlpot.labels.requests import LOSSES, LabelSource
from mlpot.labels.store import LabelStore
from mlpot.learning.run_folder import opened_source
from mlpot.processes import identity
from mlpot.workers.local import SubprocessExecutor


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
    with SubprocessExecutor(keep_failed=tmp_path_factory.mktemp("kept")) as executor:
        yield executor


# ---------------------------------------------------------------- good labels


def test_labels_are_exact_and_paid_once(tmp_path, executor):
    first = source(tmp_path, executor).obtain(bare())
    direct = bare()
    direct.calc = lennard_jones()
    assert first.paid and first.failure is None
    np.testing.assert_array_equal(first.atoms.get_forces(), direct.get_forces())
    np.testing.assert_array_equal(first.atoms.get_stress(), direct.get_stress())
    np.testing.assert_array_equal(first.atoms.positions, direct.positions)
    assert first.atoms.get_potential_energy() == direct.get_potential_energy()
    again = source(tmp_path, executor).obtain(bare())
    assert again.key == first.key and not again.paid
    assert n_calls(tmp_path, "end") == 1
    source(tmp_path, executor).obtain(bare(1))
    assert len(LabelStore(tmp_path)) == 2


def test_charges_and_moments_stay_with_the_structure(tmp_path):
    plain = source(tmp_path).obtain(bare()).atoms
    assert not plain.has("initial_charges") and not plain.has("initial_magmoms")
    charged = bare()
    charged.set_initial_charges(np.linspace(-0.1, 0.1, len(charged)))
    found = source(tmp_path).obtain(charged).atoms
    np.testing.assert_array_equal(found.get_initial_charges(), charged.get_initial_charges())


@pytest.mark.slow
def test_requests_do_not_wait(tmp_path):
    """Several labels under way at a time, asked after without waiting, each paid for once."""
    with SubprocessExecutor(max_workers=2) as executor:
        labels = source(tmp_path, executor, seconds=3.0)
        keys = [labels.request(bare(k)) for k in (0, 1, 0)]
        assert keys[0] == keys[2]
        assert labels.pending == keys[:2]
        assert labels.outcome(keys[0]) is None
        while labels.pending:
            outcomes = [labels.outcome(key) for key in keys]
            time.sleep(0.02)
        outcomes = [labels.outcome(key) for key in keys]
    assert all(outcome.atoms is not None and outcome.paid for outcome in outcomes)
    assert labels.request(bare()) == keys[0]
    assert not labels.outcome(keys[0]).paid
    assert n_calls(tmp_path) == 2
    with pytest.raises(KeyError, match="never requested"):
        labels.outcome("0" * 64)


# ---------------------------------------------------------------- labels under way elsewhere


def test_a_label_that_another_process_is_at_is_not_begun_again(tmp_path):
    labels = source(tmp_path)
    key = key_of(labels.labeller, bare())
    box = labels.inbox
    box.mkdir()
    create_text(
        claim_of(box, key),
        json.dumps({**identity(), "pid": os.getppid(), "started": identity(os.getppid())["started"]}),
    )
    assert labels.request(bare()) == key
    assert labels.outcome(key) is None and labels.pending == [key] and not n_calls(tmp_path)
    claim_of(box, key).unlink()
    label_into(labels.labeller, bare(), box)
    outcome = labels.outcome(key)
    assert outcome.atoms is not None and not outcome.paid
    assert n_calls(tmp_path) == 1


def test_a_label_whose_process_has_died_is_begun_again(tmp_path):
    labels = source(tmp_path)
    key, box = key_of(labels.labeller, bare()), labels.inbox
    box.mkdir()
    create_text(claim_of(box, key), json.dumps({**identity(), "started": "0"}))
    assert labels.obtain(bare()).paid
    assert n_calls(tmp_path) == 1


def test_a_result_that_shows_late_is_waited_for(tmp_path):
    """On a network file system a file may be there for its writer some time before others see it."""

    class Slow(HereAndNow):
        def submit(self, fn, /, *args, **kwargs):
            future = super().submit(fn, *args, **kwargs)
            (result,) = (tmp_path / "inbox").glob("*.json")
            result.rename(tmp_path / result.name)
            return future

    labels = source(tmp_path, Slow())
    key = labels.request(bare())
    assert labels.outcome(key) is None and labels.outcome(key) is None
    (tmp_path / f"{key}.json").rename(tmp_path / "inbox" / f"{key}.json")
    assert labels.outcome(key).atoms is not None
    assert n_calls(tmp_path) == 1


def test_a_label_that_is_never_delivered_fails_in_the_end(tmp_path, monkeypatch):
    """Each time another process seems to hold it, and each time that vanishes."""

    class Idle(HereAndNow):
        def submit(self, fn, /, *args, **kwargs):
            submitted.append(fn)
            return super().submit(str)

    submitted = []
    monkeypatch.setattr("mlpot.labels.requests.LATE_SECONDS", 0.0)
    outcome = source(tmp_path, Idle()).obtain(bare())
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
                (tmp_path / "calls").write_text("start x 7 0.0\n")
                error = LabelError("the labelling process was killed")
                failures.note_process(error, dead)
                future = Future()
                future.set_exception(error)
                return future
            return super().submit(fn, labeller, atoms, box, key)

    assert source(tmp_path, Remote()).obtain(bare()).atoms is not None


# ---------------------------------------------------------------- failures


def test_a_second_try(tmp_path, executor):
    """The plan of faults counts calculations: the first crashes, the second delivers."""
    assert source(tmp_path, executor, fail=["crash"]).obtain(bare()).paid
    assert n_calls(tmp_path) == 2
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("fault", ["nan", "shape", "net force", "moved", "sorted", "raise"])
def test_garbage_is_not_believed(tmp_path, fault):
    outcome = source(tmp_path, fail=[fault]).obtain(bare())
    direct = bare()
    direct.calc = lennard_jones()
    np.testing.assert_array_equal(outcome.atoms.get_forces(), direct.get_forces())
    assert len(LabelStore(tmp_path)) == 1


def test_a_failure_is_recorded_and_not_paid_again(tmp_path, caplog):
    with SubprocessExecutor(keep_failed=tmp_path / "failed") as executor:
        labels = source(tmp_path, executor, always="crash", fail=["raise"])
        outcome = labels.obtain(bare())
    assert outcome.atoms is None and outcome.paid and "SIGKILL" in outcome.failure
    file = tmp_path / "failed" / f"{outcome.key}.json"
    assert f"{file}: delete it" in caplog.text
    record = json.loads(file.read_text())
    assert record["settings"] == labels.labeller.settings
    np.testing.assert_array_equal(record["structure"]["positions"], bare().positions)
    assert [one["error"].splitlines()[0].split(" (")[0] for one in record["tries"]] == [
        "mlpot.labellers.faulty.FaultyCalculator failed: RuntimeError: self-consistency was not reached",
        "the labelling process was killed by SIGKILL",
    ]
    assert "Traceback" in record["tries"][0]["log"]
    for one in record["tries"]:
        assert (tmp_path / "failed" / one["files"] / "error.txt").exists()
    assert len(Arrivals(LabelStore(tmp_path)).store) == 0 and not list((tmp_path / "inbox").iterdir())
    again = source(tmp_path, always="crash", fail=["raise"]).obtain(bare())
    assert (again.atoms, again.paid, again.failure) == (None, False, outcome.failure)
    assert n_calls(tmp_path) == 2
    file.unlink()
    with SubprocessExecutor() as executor:
        assert source(tmp_path, executor, always="crash", fail=["raise"], tries=1).obtain(bare()).paid
    assert n_calls(tmp_path) == 3


def test_a_record_that_cannot_be_read_is_still_one(tmp_path):
    labels = source(tmp_path)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / f"{key_of(labels.labeller, bare())}.json").write_text("{")
    assert "cannot be read" in labels.obtain(bare()).failure
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
    outcome = labels.obtain(bare())
    assert outcome.key == key_of(labels.labeller, bare()) in labels.store
    direct = bare()
    direct.calc = type(lennard_jones())(**{**LENNARD_JONES, "sigma": 2.21})
    np.testing.assert_array_equal(outcome.atoms.get_forces(), direct.get_forces())
    settings = labels.store.rows()[0].data["settings"]
    assert settings["parameters"]["parameters"] == {**LENNARD_JONES, "sigma": 2.21}
    assert not source(tmp_path, always="raise").obtain(bare()).paid


def test_what_cannot_work_is_not_tried_again(tmp_path):
    labels = LabelSource(CalculatorLabeller("no_such_package.Code"), LabelStore(tmp_path), HereAndNow())
    key = labels.request(bare())
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
        source(tmp_path, Broken()).obtain(bare())
    assert not (tmp_path / "failed").exists()
    assert source(tmp_path).obtain(bare()).atoms is not None


# ---------------------------------------------------------------- from a plan


def test_a_plan_becomes_a_source(tmp_path):
    plan = LabellingPlan(FAULTY, {"calls_file": str(tmp_path / "calls"), "fail": ["crash"]}, fallback={"seconds": 0.01})
    with opened_source(plan, tmp_path / "run", resume=False) as (folder, labels):
        assert folder.path == tmp_path / "run"
        assert labels.obtain(bare()).paid
    assert LabelStore(tmp_path / "run").rows()[0].data["settings"]["parameters"]["seconds"] == 0.01


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fallback": {"sigmas": 1}}, "sigmas"),
        ({"executor": "dask"}, "scheduler: missing"),
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
    with pytest.raises(ConfigError, match=words):
        plan = LabellingPlan("labelling.emt_with", {"scale": 1.0}, **wrong)
        with opened_source(plan, tmp_path / "run", resume=False):
            pass
    assert not (tmp_path / "run" / "labels.db").exists()


def test_threads_may_make_labels_too(tmp_path):
    """Any executor will do, with fewer guarantees."""
    plan = {"calculator": "ase.calculators.lj.LennardJones", "parameters": LENNARD_JONES}
    with ThreadPoolExecutor(1) as threads:
        labels = LabelSource(CalculatorLabeller(**plan), LabelStore(tmp_path), threads)
        assert labels.obtain(bare()).atoms is not None
