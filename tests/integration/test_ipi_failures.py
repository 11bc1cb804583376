"""Whoever of an i-PI run is killed, stops or errs: the others neither hang nor end, and the run completes."""

import os
import signal
import socket
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import test_ipi
from ipi_runs import I_PI, client, is_whole, results, server, socket_forcefield, wait_for, write_input
from test_ipi import check

work, name, port = test_ipi.work, test_ipi.name, test_ipi.port
pytestmark = [pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed"), pytest.mark.slow]
SERVERS = {
    "plain": {},
    "in turn": {"options": "<consolidate_messages>False</consolidate_messages>"},
    "batches": {"options": "<batch_size>4</batch_size>"},
}
LEAVING = 20
"""Seconds that an end may take on a busy machine; forces that do not end by themselves take 60."""


def faulty(work, name, fault, seconds=60, after=3, **options):
    """A client whose force call `after` + 1 goes wrong, waited for until that begins, or ends if it cannot be slow."""
    says = work / "fault"
    says.unlink(missing_ok=True)
    environment = {"MLPOT_FAULT": fault, "MLPOT_FAULT_SECONDS": str(seconds), "MLPOT_FAULT_FROM": str(after)}
    process = client(work, name, log="faulty.log", MLPOT_FAULT_SAYS=str(says), **environment, **options)
    try:
        wait_for(says.exists, explain=lambda: process.text)
    except BaseException:
        process.__exit__()
        raise
    time.sleep(0.2)
    return process


def completes(work, name, ipi, **options):
    """A healthy client finishes the run that a faulty one left."""
    with client(work, name, **options) as second:
        assert ipi.wait() == 0, ipi.text
        assert second.wait(20) == 0, second.text
    check(work, results(work))


@pytest.mark.parametrize(
    ("number", "fault", "kind", "tcp"),
    [
        (signal.SIGKILL, "sleep", "plain", False),
        (signal.SIGKILL, "sleep", "in turn", True),
        (signal.SIGKILL, "sleep", "batches", True),
        (signal.SIGTERM, "sleep", "plain", False),
        (signal.SIGTERM, "compute", "in turn", False),
        (signal.SIGTERM, "compute", "batches", True),
        (signal.SIGINT, "compute", "plain", False),
    ],
)
def test_a_client_ends_during_a_force(work, name, port, number, fault, kind, tcp):
    where = {"port": port} if tcp else {}
    write_input(work / "input.xml", socket_forcefield(name, **SERVERS[kind], **where), beads=4)
    with server(work) as ipi, faulty(work, name, fault, after=2 if kind == "batches" else 6, **where) as first:
        first.send(number)
        code = first.wait(LEAVING)
        assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number], first.text
        completes(work, name, ipi, **where)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_client_ends_while_it_waits(work, name, number):
    """The server is stopped for a while, so that the client has nothing to do."""
    write_input(work / "input.xml", socket_forcefield(name), steps=200)
    with server(work) as ipi, client(work, name, log="first.log") as first:
        wait_for(lambda: (work / "out.md").exists() and len((work / "out.md").read_text()) > 2000)
        ipi.send(signal.SIGSTOP)
        time.sleep(0.5)
        first.send(number)
        first.wait(LEAVING)
        ipi.send(signal.SIGCONT)
        completes(work, name, ipi)


@pytest.mark.parametrize(("kind", "tcp"), [("plain", True), ("in turn", False), ("batches", False), ("batches", True)])
def test_a_client_is_killed_with_a_message_on_the_line(work, name, port, kind, tcp):
    """Stopped when it has nothing to do, so that i-PI's next request is never read; without a guard this hangs i-PI."""
    where = {"port": port} if tcp else {}
    write_input(work / "input.xml", socket_forcefield(name, **SERVERS[kind], **where), steps=100, beads=4)
    with server(work) as ipi, client(work, name, log="first.log", **where) as first:
        wait_for(lambda: (work / "out.md").exists() and len((work / "out.md").read_text()) > 2000)
        first.send(signal.SIGSTOP)
        time.sleep(0.5)
        first.send(signal.SIGKILL)
        first.wait(LEAVING)
        completes(work, name, ipi, **where)


def test_a_client_ends_before_there_is_a_server(work, name):
    with client(work, name) as only:
        only.until("no server at")
        only.send(signal.SIGTERM)
        assert only.wait(LEAVING) == 143


def test_the_server_is_killed(work, name):
    """The client waits, without burning time, for the run to be continued from RESTART."""
    write_input(work / "input.xml", socket_forcefield(name), steps=400)
    with client(work, name) as only:
        with server(work) as ipi:
            wait_for(lambda: is_whole(work / "out.RESTART"))  # not atomic: i-PI writes over the last one
            ipi.send(signal.SIGKILL)
            ipi.wait()
        only.until("no server at")
        before = cpu_seconds(only)
        time.sleep(1.0)
        assert cpu_seconds(only) - before < 0.3
        Path(f"/tmp/ipi_{name}").unlink()  # i-PI itself refuses to start while the old file is there
        with server(work, "out.RESTART", "again.log") as ipi:
            assert ipi.wait() == 0, ipi.text
            assert only.wait(20) == 0, only.text
    # i-PI was killed while it wrote: lines and frames before may be halves
    assert float((work / "out.md").read_text().splitlines()[-1].split()[0]) == 400


def cpu_seconds(process):
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_server_is_asked_to_end_during_a_force(work, name):
    """It waits for the force, writes RESTART, and the client leaves with it."""
    write_input(work / "input.xml", socket_forcefield(name), steps=1000)
    with server(work) as ipi, faulty(work, name, "sleep", seconds=1.5) as only:
        ipi.send(signal.SIGTERM)
        ipi.wait(30)
        assert only.wait(20) == 0, only.text
    assert "<step>" in (work / "RESTART").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_of_two_clients_ends(work, name, number):
    """While the other one serves."""
    write_input(work / "input.xml", socket_forcefield(name), beads=8, steps=40)
    with server(work) as ipi, client(work, name, log="other.log") as other:
        with faulty(work, name, "compute", after=6) as first:
            first.send(number)
            first.wait(LEAVING)
        assert ipi.wait() == 0, ipi.text
        assert other.wait(20) == 0, other.text
    check(work, results(work))


def test_nan_is_not_sent(work, name):
    write_input(work / "input.xml", socket_forcefield(name))
    with server(work) as ipi, faulty(work, name, "nan") as first:
        assert first.wait(LEAVING) == 1
        assert "forces that came out are not finite" in first.text and "Traceback" not in first.text
        assert ipi.popen.poll() is None
        completes(work, name, ipi)
    assert np.isfinite(results(work)["forces"]).all()


def test_another_number_of_atoms(work, name):
    write_input(work / "input.xml", socket_forcefield(name))
    atoms = ase.io.read(work / "init.xyz")
    ase.io.write(work / "less.xyz", atoms[:-1])
    with server(work) as ipi:
        with client(work, name, "--template", "less.xyz", log="first.log") as first:
            assert first.wait(30) == 1
            assert "the server has 32 atoms, the template 31" in first.text and "Traceback" not in first.text
        completes(work, name, ipi)


def test_the_file_of_a_dead_socket(work, name):
    """The client waits until somebody listens."""
    write_input(work / "input.xml", socket_forcefield(name))
    path = Path(f"/tmp/ipi_{name}")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with client(work, name) as only:
        only.until("no server at")
        path.unlink()
        with server(work) as ipi:
            assert ipi.wait() == 0, ipi.text
            assert only.wait(20) == 0, only.text
    check(work, results(work))


def test_nobody_ever_comes(work, name):
    with client(work, name, "--patience", "0.5") as only:
        assert only.wait(20) == 1
        assert "no server for 0.5 s" in only.text and "Traceback" not in only.text
