"""Fixtures that several kinds of tests share: structures made on the spot, a small fitted model."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import slurm
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from lammps_runs import engine, exported, lammps_library, plugin  # noqa: F401  fixtures

import mlpot
from mlpot._ext import core


def pytest_configure():
    """Interrupts reach what tests start also where the shell ignores them, as in `nohup make test &`: children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    """Failures in the log when they happen: many processes show them at the end alone, which a run that is ended never reaches."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        end_of_trace = report.longreprtext[-3000:]
        sys.stdout.write(f"\n{report.nodeid} failed ({report.when}, {report.duration:.0f} s):\n{end_of_trace}\n")
        sys.stdout.flush()


def pytest_addoption(parser):
    parser.addoption("--repeat", type=int, default=1, help="run every test so many times, to see what happens rarely")


def pytest_generate_tests(metafunc):
    if (times := metafunc.config.getoption("repeat")) > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(times))


DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data():
    """The folder of reference data."""
    if not DATA.is_dir():
        pytest.skip(f"reference data is not at {DATA}")
    return DATA


LENNARD_JONES = {"sigma": 2.2, "epsilon": 0.3, "rc": 4.0, "smooth": True}
FAULTY = "mlpot.labellers.faulty.FaultyCalculator"


def lennard_jones():
    """Smooth reference potential that costs nothing."""
    return LennardJones(**LENNARD_JONES)


def faulty_parameters(calls_file):
    """Of `FAULTY`: the same potential, with its calls counted."""
    return {"parameters": LENNARD_JONES, "calls_file": str(calls_file)}


def rattled_copper(seed):
    """Four atoms labelled by EMT."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def make_frames(n_frames, numbers=(14,), seed=0, stress=True):
    """Rattled crystals labelled by a Lennard-Jones potential."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n_frames):
        atoms = bulk("X", "fcc", a=3.6, cubic=True) * (2, 2, 2)
        atoms.numbers = rng.choice(numbers, len(atoms))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.06 * rng.normal(size=(len(atoms), 3))
        atoms.calc = lennard_jones()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if stress:
            results["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = "even" if k % 2 == 0 else "odd"
        frames.append(atoms)
    return frames


SMALL_TERMS = [
    {"type": "pair", "cutoff": 4.5, "n_sparse": 20},
    {"type": "soap", "cutoff": 4.0, "n_max": 4, "l_max": 3, "n_sparse": 40, "sparse_method": "cur", "zeta": 2},
]

NOISES = {"energy_noise": 0.002, "force_noise": 0.05, "virial_noise": 0.02}
"""Given, so that a fit leaves them alone."""

FIT_FILE = """
[data]
train = "train.xyz"
[[model.terms]]
type = "pair"
cutoff = 4.5
[[model.terms]]
type = "soap"
n_max = 4
l_max = 3
cutoff = 4.0
n_sparse = {n_sparse}
[output]
model = "{model}"
"""
"""A configuration of `mlpot fit` for frames like these."""


@pytest.fixture(scope="session")
def frames():
    """Eight labelled structures of 32 atoms, one element."""
    return make_frames(8)


@pytest.fixture(scope="session")
def two_species_frames():
    """Six labelled structures of two elements."""
    return make_frames(6, numbers=(6, 14), seed=1)


@pytest.fixture(scope="session")
def model(frames):
    """A small model of one element."""
    return mlpot.fit(frames, mlpot.FitConfig(terms=SMALL_TERMS))


@pytest.fixture(scope="session")
def two_species_model(two_species_frames):
    """A small model of two elements."""
    return mlpot.fit(two_species_frames, mlpot.FitConfig(terms=SMALL_TERMS))


@pytest.fixture(scope="module")
def labels_in_this_process():
    """For a module of learning runs, see `learning_runs.in_this_process`."""
    from learning_runs import in_this_process  # it imports from here

    with in_this_process():
        yield


@pytest.fixture
def labels_in_processes():
    """For a test in such a module that concerns the workers."""
    from learning_runs import in_processes

    with in_processes():
        yield


@pytest.fixture(params=range(3), ids=core.INSTRUCTION_SETS)
def instructions(request):
    """Every instruction set that this processor has, in all loops of the core."""
    try:
        if core.use_instructions(request.param) != request.param:
            pytest.skip(f"this processor has no {core.INSTRUCTION_SETS[request.param]}")
        yield request.param
    finally:
        core.use_instructions(-1)


@pytest.fixture
def crystal():
    """A small rattled crystal of one element, triclinic."""
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.1, 0], [0, 1, 0.05], [0.02, 0, 0.95]]), scale_atoms=True)
    atoms.rattle(0.1, seed=3)
    return atoms


@pytest.fixture
def cluster(monkeypatch):
    """The environment of a running Slurm, in this process too."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    if slurm.why_not():
        pytest.skip(slurm.why_not())
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's own paths may be too long for a socket
    try:
        with slurm.running(folder / "slurm") as environment:
            for name in ("PATH", "SLURM_CONF"):
                monkeypatch.setenv(name, environment[name])
            yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)
