"""What the tests of learning runs share: a crystal, its dynamics, runs that can be broken off."""

import multiprocessing
import os
import signal
from contextlib import contextmanager
from unittest.mock import patch

from ase.build import bulk
from conftest import FAULTY, SMALL_TERMS, faulty_parameters

from mlpot.labellers.given import InThisProcess
from mlpot.labels.plan import LabellingPlan, local_executor
from mlpot.learning import run_folder
from mlpot.learning.calculator import LearningCalculator
from mlpot.learning.campaign import Campaign
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.policy import Rules
from mlpot.learning.runner import LearningRun
from mlpot.learning.walker import Walker
from mlpot.settings.dynamics import DynamicsPlan
from mlpot.settings.fit import FitConfig

TERMS = [SMALL_TERMS[0], {**SMALL_TERMS[1], "n_sparse": 100}]
CONFIG = FitConfig(terms=TERMS)
LEARN = """
[structure]
file = "start.xyz"
[dynamics]
steps = 15
timestep_fs = 2.0
temperature_K = 100
[labeller]
calculator = "mlpot.labellers.faulty.FaultyCalculator"
parameters = { calls_file = "CALLS", parameters = { sigma = 2.2, epsilon = 0.3, rc = 4.0, smooth = true } }
[model]
preset = "fast"
cutoff = 4.0
[output]
folder = "run"
"""
"""A configuration for the command line; CALLS is the file in which labels are counted."""
STRICT = Rules(target=0.01, check_interval="off")
"""A potential as smooth as that of the tests is soon known to a few hundredths of an eV/A."""


@contextmanager
def in_this_process():
    """Runs that begin in the block make their labels at once, without processes whose start takes longer than all else."""
    with patch.object(run_folder, "local_executor", lambda plan, folder: InThisProcess()):
        yield


@contextmanager
def in_processes():
    """As users' runs do it, also inside of `in_this_process`: for what concerns the workers."""
    with patch.object(run_folder, "local_executor", local_executor):
        yield


def crystal(seed=1):
    atoms = bulk("Si", "fcc", a=3.6, cubic=True) * (2, 2, 2)
    atoms.rattle(0.02, seed=seed)
    return atoms


def plan(steps=60, ensemble="nvt", seed=4, ramp=(100.0, 500.0), whole_cell=False, **kwargs):
    shape = "cell" if whole_cell else "volume"
    return DynamicsPlan(
        ensemble=ensemble, temperature_K=ramp, timestep_fs=2.0, steps=steps, seed=seed, shape=shape, **kwargs
    )


def relaxing(steps, fmax=0.02, whole_cell=False):
    return DynamicsPlan(ensemble="relax", steps=steps, fmax=fmax, relax="cell" if whole_cell else "positions")


def calculator(folder, calls_file, **kwargs):
    """A LearningCalculator whose labels cost nothing."""
    return LearningCalculator(
        folder, FAULTY, faulty_parameters(calls_file), **{"config": CONFIG, "rules": STRICT, **kwargs}
    )


def campaign(folder, calls_file, rules=None, plan_of_faults=None, resume=False, config=CONFIG, **labelling):
    parameters = {**faulty_parameters(calls_file), **(plan_of_faults or {})}
    the_plan = LabellingPlan(FAULTY, parameters, **labelling)
    return Campaign(folder, the_plan, config=config, rules=rules or STRICT, resume=resume)


def run_and_die(*args, where=in_this_process, **kwargs):
    """As `do_run` in a process of its own, which a real `kill -9` ends after `stop_after` steps."""
    process = multiprocessing.get_context("spawn").Process(target=run_and_die_in, args=(where, *args), kwargs=kwargs)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def run_and_die_in(where, *args, **kwargs):
    """As `do_run`, with its labels made where the context manager `where` says, for a process that has begun with nothing."""
    with where():
        do_run(*args, **kwargs, die=True)


def do_run(folder, calls_file, plans, resume=False, stop_after=None, starts=None, settings=None, die=False, deadline=None, **kwargs):
    """Run walkers; `stop_after` steps of this call they are broken off in the middle by an exception."""
    plans = plans if isinstance(plans, list) else [plans]
    with campaign(folder, calls_file, resume=resume, **kwargs) as shared:
        seen = []

        def observe(step):
            seen.append(step)
            if stop_after and len(seen) > stop_after:
                if die:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise InterruptedError

        walkers = [
            Walker(shared, f"w{k}", crystal(1 + k) if starts is None else starts[k].copy(), p)
            for k, p in enumerate(plans)
        ]
        settings = settings or RunSettings(interval=5, checkpoint_s=0.05)
        run = LearningRun(shared, walkers, settings, observe, deadline)
        try:
            return run.run(), run
        except InterruptedError:
            return "interrupted", run


def without_seconds(folder):
    """Rows of log.csv without the wall time."""
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    at = rows[0].index("seconds")
    return [row[:at] + row[at + 1 :] for row in rows]
