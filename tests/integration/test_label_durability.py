"""Labels survive kill -9 of the simulation at any instant: none is lost, none is stored or paid for twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from ase.build import bulk

from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.faulty import calls, fingerprint
from mlpot.labels.arrivals import Arrivals
from mlpot.labels.store import LabelStore
from mlpot.learning.run_folder import RunFolder

N_LABELS, N_KILLS = 8, 6
CAMPAIGN = """
import sys
from ase.build import bulk
from mlpot.labels.plan import LabellingPlan
from mlpot.learning.run_folder import opened_source

path, calls_file, seconds, n_labels = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
plan = LabellingPlan("mlpot.labellers.faulty.FaultyCalculator", {"calls_file": calls_file, "seconds": seconds})
with opened_source(plan, path, resume=True) as (folder, source):
    state = folder.load_state() or {"step": 0}
    for step in range(state["step"], n_labels):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=step)
        outcome = source.obtain(atoms)
        assert outcome.failure is None, outcome.failure
        source.store.annotate(outcome.key, step=step)
        folder.save_state({"step": step + 1, "positions": atoms.positions})
print("complete")
"""


class Campaign:
    """A process that asks for labels, one after the other, and can be killed and started again."""

    def __init__(self, folder, seconds, n_labels=N_LABELS):
        self.folder, self.calls, self.n_labels = folder / "run", folder / "calls.txt", n_labels
        self._command = [sys.executable, "-c", CAMPAIGN, self.folder, self.calls, str(seconds), str(n_labels)]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder)}

    def start(self):
        return subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self):
        process = self.start()
        output, errors = process.communicate(timeout=60)
        assert output == "complete\n", errors

    def check(self):
        """Every label once, exact; nothing else left in the folder."""
        with RunFolder(self.folder, resume=True) as folder:
            assert folder.load_state()["step"] == self.n_labels
            store = Arrivals(LabelStore(self.folder)).store
            names = {file.name for file in self.folder.iterdir()}
            assert names - {"failed"} == {"inbox", "labels.db", "owner.json", "state.json"}
        assert not list(self.folder.glob("inbox/*")) and not list(self.folder.glob("failed/*"))
        rows = store.rows()
        assert [row.step for row in rows] == list(range(self.n_labels))
        assert len({row.label_key for row in rows}) == self.n_labels
        for row, frame in zip(rows, store.frames(), strict=True):
            expected = CalculatorLabeller("ase.calculators.lj.LennardJones").label(structure(row.step))
            assert frame.positions.tobytes() == structure(row.step).positions.tobytes()
            assert frame.get_forces().tobytes() == expected.forces.tobytes()
            assert frame.get_potential_energy() == expected.energy


def structure(seed):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_lost_or_paid_twice_when_the_simulation_is_killed(tmp_path, seed):
    campaign, rng = Campaign(tmp_path, seconds=0.1), random.Random(seed)
    for _ in range(N_KILLS):
        n_before = len(calls(campaign.calls, "start"))
        process = campaign.start()
        if rng.random() < 0.7:  # else it is killed somewhere in its start
            wait_for(lambda n=n_before, p=process: len(calls(campaign.calls, "start")) > n or p.poll() is not None)
        time.sleep(rng.uniform(0.0, 0.4))
        kill(process)
    campaign.finish()
    campaign.check()
    assert Counter(calls(campaign.calls, "start")) == {fingerprint(structure(k)): 1 for k in range(N_LABELS)}
    assert Counter(calls(campaign.calls, "end")) == {fingerprint(structure(k)): 1 for k in range(N_LABELS)}


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 2.5])
def test_a_calculation_outlives_the_simulation_that_asked_for_it(tmp_path, pause):
    """The resumed simulation waits for the worker that is still computing, or finds what it has left."""
    campaign = Campaign(tmp_path, seconds=2.0, n_labels=1)
    process = campaign.start()
    wait_for(lambda: calls(campaign.calls, "start"))
    kill(process)
    time.sleep(pause)
    campaign.finish()
    campaign.check()
    assert len(calls(campaign.calls, "start")) == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_calculation_only(tmp_path):
    campaign = Campaign(tmp_path, seconds=0.5, n_labels=3)
    process = campaign.start()
    wait_for(lambda: len(calls(campaign.calls, "start")) == 2)
    worker = int(campaign.calls.read_text().splitlines()[-1].split()[2])
    os.killpg(worker, signal.SIGKILL)
    output, errors = process.communicate(timeout=30)
    assert output == "complete\n" and "killed by SIGKILL" in errors
    campaign.check()
    assert sorted(Counter(calls(campaign.calls, "end")).values()) == [1, 1, 1]


@pytest.mark.slow
def test_when_everything_is_killed_only_the_running_calculation_is_repeated(tmp_path):
    campaign = Campaign(tmp_path, seconds=1.0, n_labels=3)
    process = campaign.start()
    wait_for(lambda: len(calls(campaign.calls, "start")) == 2)
    kill(process)
    worker = int(campaign.calls.read_text().splitlines()[-1].split()[2])
    os.killpg(worker, signal.SIGKILL)
    campaign.finish()
    campaign.check()
    assert sorted(Counter(calls(campaign.calls, "start")).values()) == [1, 1, 2]
