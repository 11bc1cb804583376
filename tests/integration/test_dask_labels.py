"""Labels on a Dask cluster: each in a process of its own, none paid twice, none that hangs the run."""

import json
import time

import pytest
from labelling import FAULTY, LJ, crystal, has_ended

from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.faulty import calls
from mlpot.labels.inbox import label_into
from mlpot.labels.plan import LabellingPlan, labeller_of
from mlpot.learning.run_folder import opened_source

distributed = pytest.importorskip("distributed", reason="Dask is not installed")


@pytest.fixture(scope="module")
def address():
    """A cluster of two workers with nannies; a task at which two workers have died is given up."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


def plan(folder, address, timeout=None, tries=2, **faults):
    parameters = {"calls_file": str(folder / "calls"), **faults}
    return LabellingPlan(FAULTY, parameters, timeout, tries, executor="dask", scheduler=address)


def pids(file):
    return [int(line.split()[2]) for line in file.read_text().splitlines() if line.startswith("start")]


@pytest.mark.slow
def test_labels_from_a_cluster(tmp_path, address):
    with opened_source(plan(tmp_path, address), tmp_path / "run", resume=False) as (_, source):
        outcomes = [source.wait(key) for key in [source.request(crystal(k)) for k in range(4)]]
        assert [o.atoms.get_potential_energy() for o in outcomes] == [
            CalculatorLabeller(LJ).label(crystal(k)).energy for k in range(4)
        ]
    assert len(set(pids(tmp_path / "calls"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "timeout", "words"),
    [("crash", None, "SIGKILL"), ("hang", 20.0, "longer than the limit of 20 s"), ("raise", None, "self-con")],
)
def test_a_fault_costs_its_label_only(tmp_path, address, fault, timeout, words):
    """Neither the worker of the cluster nor the other labels; what it left is kept."""
    faulty = plan(tmp_path, address, timeout=timeout, tries=1, fail=[fault])
    with opened_source(faulty, tmp_path / "run", resume=False) as (_, source):
        outcome = source.obtain(crystal())
        assert words in outcome.failure
        assert source.obtain(crystal(1)).atoms is not None
        record = json.loads((source.failed / f"{outcome.key}.json").read_text())
    assert (source.failed / record["tries"][0]["files"] / "error.txt").exists()
    assert all(has_ended(pid) for pid in pids(tmp_path / "calls"))
    assert not list((tmp_path / "run" / "inbox").iterdir())


@pytest.mark.slow
def test_a_label_that_always_kills_its_worker_fails(tmp_path, address):
    deadly = plan(tmp_path, address, tries=1, always="worker")
    with opened_source(deadly, tmp_path / "run", resume=False) as (_, source):
        outcome = source.obtain(crystal())
    assert outcome.atoms is None and "worker" in outcome.failure.lower()
    assert len(calls(tmp_path / "calls", "start")) == 2


@pytest.mark.slow
def test_a_task_that_is_done_again_does_not_pay_again(tmp_path, address):
    """Its worker died after the result was in the inbox; Dask, which knows nothing of that, gives it to another."""
    once = plan(tmp_path, address)
    with opened_source(once, tmp_path / "run", resume=False) as (_, source):
        key = source.request(crystal())
        while not (source.inbox / f"{key}.json").exists():
            time.sleep(0.02)
        again = source.executor.submit(label_into, labeller_of(once), crystal(), source.inbox.absolute(), key)
        assert again.result(30) == key
        assert source.wait(key).atoms is not None
        assert len(source.store) == 1
    assert len(calls(tmp_path / "calls", "start")) == 1
