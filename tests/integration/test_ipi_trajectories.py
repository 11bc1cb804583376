"""Trajectories that the shipped inputs of i-PI, and those of `mlpot template ipi`, write: read back, they are the atoms."""

import os
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ipi_runs import I_PI, server
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.drivers.ipi import IpiClient
from mlpot.drivers.ipi_input import read_ipi_input
from mlpot.drivers.ipi_protocol import Evaluation
from mlpot.structures import read_structures

pytestmark = pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed")
INPUTS = Path(__file__).resolve().parents[2] / "inputs" / "ipi"
FILES = [file.stem for file in sorted(INPUTS.glob("*.xml")) if "filename='pos'" in file.read_text()]
PATIENCE, STEPS = 60, 4


class Springs:
    """Ties atoms to where they started; says all that a driver may say."""

    identify = False

    def __init__(self, atoms):
        self.start, n = atoms.positions.copy(), len(atoms)
        self.extras = dict.fromkeys(("energy_uncertainty", "max_force_uncertainty"), 0.1)
        self.extras |= {"model_version": 0, "n_labelled": 0, "learned": False, "dipole": [0.0] * 3, "dipole_uncertainty": [0.1] * 3}
        self.extras |= {
            "committee_pot": [0.0, 0.1],
            "committee_force": [[0.0] * 3 * n] * 2,
            "committee_virial": [[0.0] * 9] * 2,
        }

    def evaluate(self, beads, request=None):
        moved = [atoms.positions - self.start for atoms in beads]
        return [Evaluation(0.5 * float((d**2).sum()), -d, np.zeros((3, 3)), self.extras) for d in moved]


@contextmanager
def clients_of(told):
    """One for every socket of an input, in threads of this process."""
    atoms = told.structure()
    addresses = [told.socket(socket.name).where("") for socket in told.sockets]
    clients = [IpiClient(address, atoms, Springs(atoms), PATIENCE, once=True) for address in addresses]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    yield atoms
    for thread in threads:
        thread.join(PATIENCE)


def check_trajectories(work, file):
    """Run the input for a few steps and read what it wrote with ASE and with mlpot."""
    text = re.sub(r"<total_steps>\d+", f"<total_steps>{STEPS}", (work / file).read_text())
    text = re.sub(r"(filename='pos' stride=)'\d+'", rf"\1'{STEPS}'", text)
    (work / file).write_text(re.sub(r"<address>(\w+)<", rf"<address>\1_{os.getpid()}<", text))
    with server(work, file) as ipi, clients_of(read_ipi_input(work / file)) as start:
        assert ipi.wait() == 0, ipi.text
    written = sorted(work.glob("*.pos*xyz"))
    assert written
    for trajectory in written:
        for frames in (read_structures(trajectory), ase.io.read(trajectory, ":")):
            assert len(frames) == 2
            for atoms in frames:
                np.testing.assert_array_equal(atoms.numbers, start.numbers)
                assert np.abs(atoms.positions - start.positions).max() < 1.0
        assert read_structures(trajectory)[-1].cell.lengths() == pytest.approx(start.cell.lengths(), rel=0.1)
    return len(written)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_of_a_shipped_input(name, tmp_path):
    shutil.copytree(INPUTS, tmp_path / "ipi", ignore=shutil.ignore_patterns("*.h5", "labels"))
    assert check_trajectories(tmp_path / "ipi", f"{name}.xml") == (4 if name == "remd" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("beads", [1, 4])
def test_of_a_template(beads, tmp_path):
    words = ["template", "ipi", INPUTS / "water8.xyz", "--beads", beads, "--output", tmp_path]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    assert check_trajectories(tmp_path, "input.xml") == 1
