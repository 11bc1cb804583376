"""i-PI, and ASE's server, with the client and the shim: the same numbers as the ASE calculator."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.socketio import SocketIOCalculator
from conftest import make_frames
from ipi_runs import I_PI, LONGEST, PYTHON_DRIVER, Process, client, results, server, socket_forcefield, write_input

import mlpot
from mlpot.neighbours import find_pairs
from mlpot.structures import volume_of
from mlpot.units import HARTREE

pytestmark = pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed")
NAMES = itertools.count()
SAME = 1e-6
"""i-PI's bohr and hartree have eight digits."""


@pytest.fixture
def work(tmp_path, model):
    """A folder with a model and a start, in a cell as i-PI wants it."""
    model.save(tmp_path / "model.h5")
    atoms = make_frames(1, seed=5)[0]
    atoms.calc = None
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    ase.io.write(tmp_path / "init.xyz", atoms)
    return tmp_path


@pytest.fixture
def name():
    """Of a UNIX socket that is nobody else's."""
    own = f"mlpot_{os.getpid()}_{next(NAMES)}"
    yield own
    Path(f"/tmp/ipi_{own}").unlink(missing_ok=True)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def run(work, name, n_clients=1, port=None, options=()):
    """A run of i-PI with clients, all of which end well."""
    with server(work) as ipi:
        clients = [client(work, name, *options, log=f"client{k}.log", port=port) for k in range(n_clients)]
        try:
            assert ipi.wait() == 0, ipi.text
            assert [own.wait(20) for own in clients] == [0] * n_clients, clients[0].text
        finally:
            for own in clients:
                own.__exit__()
    return results(work)


def check(work, found, beads=1):
    """Energies, forces and virials are the calculator's."""
    calculator, atoms = mlpot.MlpotCalculator(work / "model.h5"), ase.io.read(work / "init.xyz")
    for k in range(len(found["step"])):
        energies, virials = [], []
        for positions, forces in zip(found["positions"][k], found["forces"][k], strict=True):
            atoms.set_cell(found["cells"][k])
            atoms.positions[:] = positions
            p = calculator.predict(atoms)
            energies.append(p.energy)
            virials.append(-p.stress)
            np.testing.assert_allclose(forces, p.forces, atol=SAME * 10)
        assert found["potential"][k] == pytest.approx(np.mean(energies), rel=SAME)
        mean = np.sum(virials, axis=0)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(found["virial"][k], mean, atol=SAME * np.abs(mean).max() * 10)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
@pytest.mark.parametrize("consolidated", [True, False])
def test_dynamics(work, name, ensemble, consolidated):
    options = f"<consolidate_messages>{consolidated}</consolidate_messages>"
    write_input(work / "input.xml", socket_forcefield(name, options), ensemble=ensemble)
    found = run(work, name)
    assert len(found["step"]) == 7
    assert np.ptp(found["volume"]) > 0.1 if ensemble == "npt" else np.ptp(found["volume"]) < 1e-6
    check(work, found)
    for what in ("energy_uncertainty", "max_force_uncertainty"):
        assert what in (work / "out.x_0").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8, 3])
def test_path_integrals(work, name, batch):
    """Eight beads: one at a time, all at once, and in batches that do not fit."""
    write_input(work / "input.xml", socket_forcefield(name, f"<batch_size>{batch}</batch_size>"), beads=8)
    found = run(work, name)
    assert found["forces"].shape[1] == 8
    check(work, found, beads=8)


@pytest.mark.slow
def test_several_clients_over_tcp(work, name, port):
    write_input(work / "input.xml", socket_forcefield(name, port=port), beads=8)
    check(work, run(work, name, n_clients=2, port=port), beads=8)


ASE_DRIVER = """
import ipi.pes._ase as base
import mlpot
__DRIVER_NAME__ = "peer"
__DRIVER_CLASS__ = "Peer"
class Peer(base.ASEDriver):
    def check_parameters(self):
        super().check_parameters()
        self.ase_calculator = mlpot.MlpotCalculator("model.h5")
"""


@pytest.mark.slow
def test_volumes_are_those_of_the_ase_driver_of_ipi(work, name):
    write_input(work / "input.xml", socket_forcefield(name), ensemble="npt", steps=40, extras="")
    own = run(work, name)
    peer = work / "peer"
    peer.mkdir()
    for file in ("model.h5", "init.xyz", "input.xml"):
        (peer / file).write_bytes((work / file).read_bytes())
    (peer / "peer.py").write_text(ASE_DRIVER)
    words = [
        sys.executable,
        PYTHON_DRIVER,
        "-u",
        "-a",
        name,
        "-m",
        "custom",
        "-P",
        "peer.py",
        "-o",
        "template=init.xyz",
    ]
    with server(peer) as ipi:
        ipi.until("Starting")
        with Process(words, peer, "driver.log") as driver:
            assert ipi.wait() == 0, ipi.text
            assert driver.wait(20) == 0, driver.text
    theirs = results(peer)
    assert np.ptp(own["volume"]) > 1.0
    np.testing.assert_allclose(own["volume"], theirs["volume"], rtol=1e-5)
    np.testing.assert_allclose(own["potential"], theirs["potential"], rtol=1e-5)


def path_of_shim():
    words = [sys.executable, "-m", "mlpot", "ipi-pes"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=LONGEST).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["driver", "batches", "ffdirect"])
def test_the_shim_gives_the_numbers_of_the_client(work, name, form):
    batch = f"<batch_size>{4 if form == 'batches' else 1}</batch_size>"
    write_input(work / "input.xml", socket_forcefield(name, batch), beads=4, ensemble="npt")
    own = run(work, name)
    shim = path_of_shim()
    parameters = "model=model.h5,template=init.xyz"
    if form == "ffdirect":
        forcefield = f"""<ffdirect name='f'><pes>custom</pes><pes_path>{shim}</pes_path>
            <parameters>{{ model: model.h5, template: init.xyz }}</parameters></ffdirect>"""
        write_input(work / "input.xml", forcefield, beads=4, ensemble="npt")
    for file in work.glob("out.*"):
        file.unlink()
    words = [sys.executable, PYTHON_DRIVER, "-u", "-a", name, "-m", "custom", "-P", shim, "-o", parameters]
    with server(work) as ipi:
        if form != "ffdirect":
            ipi.until("Starting")
            with Process(words, work, "driver.log") as driver:
                assert ipi.wait() == 0, ipi.text
                assert driver.wait(20) == 0, driver.text
        assert ipi.wait() == 0, ipi.text
    theirs = results(work)
    for what in ("potential", "volume", "virial", "forces"):
        np.testing.assert_array_equal(own[what], theirs[what])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["std", "members"])
def test_a_committee(work, name, model, form):
    """<ffcommittee> runs on the model's energies, forces and virials and finds the deviation that the members have."""
    inner = socket_forcefield(name).replace("name='f'", "name='inner'")
    forcefield = f"<ffcommittee name='f'>{inner}<parse_json>True</parse_json></ffcommittee>"
    write_input(work / "input.xml", forcefield, ensemble="npt", extras="committee_uncertainty")
    found = run(work, name, options=("--committee", form))
    check(work, found)
    atoms, deviations = ase.io.read(work / "init.xyz"), np.loadtxt(work / "out.x_0").reshape(-1)
    for positions, cell, deviation in zip(found["positions"][:, 0], found["cells"], deviations, strict=True):
        atoms.positions[:] = positions
        atoms.set_cell(cell)
        p, members = model.compiled.predict_members(find_pairs(atoms, model.cutoff), volume_of(atoms))
        expected = p.energy_std if form == "std" else members.energies.std(ddof=1)
        assert deviation * HARTREE == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tcp", [False, True])
def test_ase_is_a_server(work, name, port, tcp, model):
    """It says no EXIT: with a UNIX socket, whose file is gone, or with --once the driver leaves all the same."""
    atoms = ase.io.read(work / "init.xyz")
    where = {"port": port} if tcp else {"unixsocket": name}
    with (
        client(work, name, *(["--once"] if tcp else []), port=port if tcp else None) as driver,
        SocketIOCalculator(timeout=LONGEST, **where) as calculator,
    ):
        atoms.calc = calculator
        for seed in range(3):
            atoms.rattle(0.03, seed=seed)
            atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
            judge = atoms.copy()
            judge.calc = mlpot.MlpotCalculator(model)
            assert atoms.get_potential_energy() == pytest.approx(judge.get_potential_energy(), abs=1e-10)
            np.testing.assert_allclose(atoms.get_forces(), judge.get_forces(), atol=1e-10)
            np.testing.assert_allclose(atoms.get_stress(), judge.get_stress(), atol=1e-10)
        calculator.close()
        assert driver.wait(20) == 0, driver.text
