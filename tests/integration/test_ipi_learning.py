"""The driver that learns under the real i-PI, and everything that may end while it waits for a label."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import ase.db
import numpy as np
import pytest
import test_ipi
from conftest import lennard_jones
from ipi_runs import (
    I_PI,
    Process,
    is_whole,
    learner,
    results,
    server,
    socket_forcefield,
    wait_for,
    write_input,
    write_learning,
)

from mlpot.report.frames import sampled_steps
from mlpot.report.ring_polymers import kinetic_energies

name, port, work = test_ipi.name, test_ipi.port, test_ipi.work
pytestmark = [pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed"), pytest.mark.slow]
BATCH = "<batch_size>4</batch_size>"
BEADS, STEPS = 4, 30
LABEL = 0.7
"""Seconds of a label, where something is to happen meanwhile."""
LEAVING = 20
"""Seconds that an end may take on a busy machine."""
UNCHECKED = 'check_interval = "off"'
SAME = 1e-6
"""A; i-PI's RESTART rounds."""


def prepare(work, name, seconds=0.0, steps=STEPS, batch=True, clients=1, learning="", port=None):
    where = {"port": port} if port else {}
    write_input(work / "input.xml", socket_forcefield(name, BATCH if batch else "", **where), steps, BEADS)
    address = f"port = {port}" if port else f'unix = "{name}"'
    write_learning(work, address, clients, seconds, learning)


def calls(work, word="end"):
    """Structures whose calculation has ended, or begun."""
    file = work / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split()[1] for line in lines if line.startswith(word)]


def labelling(work, number=3):
    """Wait until calculation `number` (from 1) is under way."""
    wait_for(lambda: len(calls(work, "start")) >= number)
    time.sleep(0.2)


def check(work, steps=STEPS):
    """i-PI made all steps; all that was calculated is in labels.db, nothing twice; forces are those of the potential."""
    found = results(work)
    assert found["step"][-1] == steps
    rows = list(ase.db.connect(work / "run" / "labels.db").select())
    assert len(rows) == len(calls(work)) > 2
    assert max(Counter(calls(work)).values()) == 1
    assert all("reason" in row.key_value_pairs for row in rows), "a label was not learned"
    atoms = test_ipi.ase.io.read(work / "init.xyz")
    atoms.calc, errors = lennard_jones(), []
    for bead in range(BEADS):
        atoms.set_cell(found["cells"][-1])
        atoms.positions[:] = found["positions"][-1, bead]
        errors.append(atoms.get_forces() - found["forces"][-1, bead])
    assert np.sqrt(np.mean(np.square(errors))) < 0.05
    return found


def finishes(work, ipi, log="again.log"):
    """Another driver goes on with the run of the folder until i-PI is done."""
    with learner(work, resume=True, log=log) as second:
        assert ipi.wait() == 0, ipi.text + second.text
        assert second.wait(20) == 0, second.text


def test_a_ring_polymer_is_learned(work, name):
    prepare(work, name)
    with server(work) as ipi, learner(work) as only:
        assert ipi.wait() == 0, ipi.text
        assert only.wait(20) == 0, only.text
    check(work)
    extras = np.loadtxt(next(work.glob("out.x_0*")))
    assert (np.diff(extras[:, 2]) >= 0).all() and extras[-1, 2] == len(calls(work)) and set(extras[:, 4]) == {0, 1}
    rows = (work / "run" / "log.csv").read_text().splitlines()
    assert len(rows) == STEPS + 2
    found = results(work)
    steps = sampled_steps(work / "run" / "trajectory.xyz", 500, BEADS)
    assert list(steps) == list(range(1, STEPS + 1))  # at first all beads are one
    ours = [kinetic_energies(beads, 300.0).sum() for beads in steps.values()]
    np.testing.assert_allclose(ours, found["kinetic"][1:], rtol=1e-5)
    assert np.ptp(ours) > 0.1
    page = (work / "run" / "report.html").read_text()
    assert 'id="kinetic"' in page and "of a classical atom" in page
    verdict = json.loads((work / "run" / "state.json").read_text())["verdict"]
    assert f"INFO: {verdict}: " in only.text and "eV/A" in only.text.split(f"INFO: {verdict}: ")[1].splitlines()[0]


@pytest.mark.parametrize("clients", [1, 2])
def test_beads_one_at_a_time(work, name, port, clients):
    """All beads of a step see one version, however many connections they come over; but what a label of the step has taught answers
    a bead that would have needed one as well."""
    prepare(work, name, batch=False, clients=clients, port=port)
    with server(work) as ipi, learner(work) as only:
        assert ipi.wait() == 0, ipi.text
        assert only.wait(20) == 0, only.text
    check(work)
    extras = np.stack([np.loadtxt(file) for file in sorted(work.glob("out.x_*"))], axis=1)
    for step in extras[1:]:
        quiet, learned = step[step[:, 4] == 0], step[step[:, 4] == 1]
        first = quiet[:, 2].min() if len(quiet) else np.inf
        assert set(quiet[:, 2]) <= {first, *learned[:, 2]}


@pytest.mark.parametrize("batch", [True, False])
def test_the_driver_is_killed_during_a_label(work, name, batch):
    """The worker finishes by itself, and the next driver finds what it made."""
    prepare(work, name, LABEL, batch=batch)
    with server(work) as ipi:
        with learner(work) as first:
            labelling(work)
            first.send(signal.SIGKILL)
            assert first.wait(LEAVING) == -9
        finishes(work, ipi)
    check(work)


def test_the_driver_is_told_to_leave_during_a_label(work, name):
    prepare(work, name, LABEL)
    with server(work) as ipi:
        with learner(work) as first:
            labelling(work)
            first.send(signal.SIGTERM)
            assert first.wait(LEAVING) == 143, first.text
        finishes(work, ipi)
    check(work)


def test_the_driver_is_killed_between_labels(work, name):
    prepare(work, name)
    with server(work) as ipi:
        with learner(work) as first:
            wait_for(lambda: (work / "out.md").exists() and len((work / "out.md").read_text().splitlines()) > 8)
            ipi.send(signal.SIGSTOP)
            time.sleep(0.5)
            first.send(signal.SIGKILL)
            first.wait(LEAVING)
        ipi.send(signal.SIGCONT)
        finishes(work, ipi)
    check(work)


def test_both_are_told_to_leave_during_a_label(work, name):
    """RESTART is written, and the run goes on as if nothing had been.

    Without check labels: nobody waits for one, so what RESTART asks again is answered by the model that has learned it."""
    whole = work / "whole"
    shutil.copytree(work, whole)
    prepare(whole, f"{name}_whole", LABEL, learning=UNCHECKED)
    with server(whole) as ipi, learner(whole) as only:
        assert ipi.wait() == 0, ipi.text
        assert only.wait(20) == 0, only.text
    prepare(work, name, LABEL, learning=UNCHECKED)
    with server(work) as ipi, learner(work) as first:
        labelling(work)
        (work / "RESTART").unlink(missing_ok=True)
        ipi.send(signal.SIGTERM)
        first.send(signal.SIGTERM)
        assert first.wait(LEAVING) == 143, first.text
        ipi.wait(LEAVING)
    assert "<step>" in (work / "RESTART").read_text()
    with server(work, "RESTART", "again_server.log") as ipi:
        finishes(work, ipi)
    found, reference = check(work), check(whole)
    np.testing.assert_allclose(found["positions"][-1], reference["positions"][-1], atol=SAME)
    assert len(calls(work)) == len(calls(whole))


@pytest.mark.parametrize("both", [True, False])
def test_the_server_is_killed_during_a_label(work, name, both):
    """The label is kept, and learned; the driver, or the next one, serves the run that goes on from RESTART."""
    prepare(work, name, LABEL, steps=60)
    with learner(work) as first:
        with server(work) as ipi:
            wait_for(lambda: is_whole(work / "out.RESTART"), explain=lambda: first.text)
            labelling(work, len(calls(work, "start")) + 1)
            ipi.send(signal.SIGKILL)
            ipi.wait()
            if both:
                first.send(signal.SIGKILL)
                first.wait(LEAVING)
        Path(f"/tmp/ipi_{name}").unlink()
        with server(work, "out.RESTART", "again_server.log") as ipi:
            if both:
                finishes(work, ipi)
            else:
                assert ipi.wait() == 0, ipi.text
                assert first.wait(20) == 0, first.text
    check(work, 60)


def test_the_budget_is_spent(work, name):
    """i-PI waits for a driver that may ask for more."""
    prepare(work, name, learning="max_labels = 2")
    with server(work) as ipi:
        with learner(work) as first:
            assert first.wait(60) == 1
            assert "max_labels = 2 allows have been used" in first.text and "Traceback" not in first.text
            assert "INFO: not converged: " in first.text or "INFO: stalled: " in first.text
            assert "the budget of labels" in (work / "run" / "report.html").read_text()
        prepare(work, name)
        finishes(work, ipi)
    check(work)


def test_a_folder_that_is_not_empty(work, name):
    prepare(work, name)
    (work / "run").mkdir()
    (work / "run" / "mine.txt").write_text("mine")
    with learner(work) as only:
        assert only.wait(30) == 1
        assert "the folder is not empty" in only.text and "--resume" in only.text


def test_words_that_do_not_belong(work, name):
    prepare(work, name)
    for words, said in (
        (["learn.toml", "--unix", "x"], "--unix: only with a model file"),
        (["model.h5", "--template", "init.xyz", "--unix", "x", "--resume"], "--resume is only for a TOML file"),
        (["model.h5", "--unix", "x"], "--template is missing"),
    ):
        with Process([test_ipi.sys.executable, "-m", "mlpot", "driver", *words], work, "wrong.log") as wrong:
            assert wrong.wait(30) == 2 and said in wrong.text
    assert not (work / "run").exists() and os.listdir(work)
