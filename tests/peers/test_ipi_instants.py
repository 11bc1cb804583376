"""A client that is killed between any two steps of the protocol, and what i-PI's own sockets make of it: another one goes on."""

import multiprocessing
import socket
import time

import dying_ipi_client
import numpy as np
import pytest

from mlpot.units import BOHR, HARTREE

forcefields = pytest.importorskip("ipi.engine.forcefields", reason="i-PI is not installed")
from ipi.engine.atoms import Atoms  # noqa: E402
from ipi.engine.cell import Cell  # noqa: E402
from ipi.interfaces.sockets import InterfaceSocket  # noqa: E402

pytestmark = pytest.mark.slow
KINDS = {"in turn": {"consolidate_messages": False}, "consolidated": {}, "batches": {"batch_size": 2}}
SECONDS = 20
N_STRUCTURES = 2
MOST = 100
"""Steps of the protocol in a run of these, at most."""


@pytest.fixture(scope="module")
def clients():
    """Processes that need not import everything again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ase.build", "mlpot.drivers.ipi"])
    return context


@pytest.fixture
def place(mode, tmp_path):
    """Where the server is: for i-PI, and for a client."""
    if mode == "unix":
        prefix = f"{tmp_path}/"
        return {"address": "s", "mode": "unix", "sockets_prefix": prefix}, {"path": prefix + "s"}
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    return {"address": "localhost", "port": port, "mode": "inet"}, {"host": "localhost", "port": port}


def structures():
    """i-PI's atoms and cell, of different positions."""
    template = dying_ipi_client.TEMPLATE
    for k in range(N_STRUCTURES):
        atoms, cell = Atoms(len(template)), Cell()
        atoms.q[:] = (template.positions + 0.01 * k).ravel() / BOHR
        cell.h[:] = template.cell.array.T / BOHR
        yield atoms, cell


def run(place, kind, clients, dies_before):
    """The exit code of the client that is to die, once all forces have come, some perhaps from a second one."""
    server, address = place
    field = forcefields.FFSocket(interface=InterfaceSocket(**server, **KINDS[kind], timeout=0.0), dopbc=False)
    field.start()
    first = clients.Process(target=dying_ipi_client.serve, args=(address, dies_before))
    second = clients.Process(target=dying_ipi_client.serve, args=(address,))
    first.start()
    try:
        requests = [field.queue(atoms, cell, reqid=k) for k, (atoms, cell) in enumerate(structures())]
        end = time.monotonic() + SECONDS
        while any(r["status"] != "Done" for r in requests):
            if not first.is_alive() and second.pid is None:
                second.start()
            assert time.monotonic() < end, f"killed before {dies_before}: {[r['status'] for r in requests]}"
            time.sleep(0.002)
    finally:
        field.stop()
        for process in (first, second):
            if process.pid is not None:
                process.join(SECONDS)
    for k, request in enumerate(requests):
        positions = dying_ipi_client.TEMPLATE.positions + 0.01 * k
        assert request["result"][0] == pytest.approx(positions.sum() / HARTREE)
        np.testing.assert_allclose(request["result"][1].reshape(-1, 3), positions * BOHR / HARTREE, atol=1e-10)
    return first.exitcode


@pytest.mark.parametrize(("kind", "mode"), [(kind, "tcp" if kind == "in turn" else "unix") for kind in KINDS])
def test_killed_before_every_step(place, kind, clients):
    for dies_before in range(MOST):
        if run(place, kind, clients, dies_before) == 0:  # it had no such step
            assert dies_before > 2
            return
    pytest.fail("the run has more steps than are looked at")
