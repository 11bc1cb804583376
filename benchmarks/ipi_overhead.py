"""What an i-PI client costs beside the model: processor time of a step when forces cost nothing.

    python benchmarks/ipi_overhead.py [--atoms 1000] [--beads 8] [--steps 2000]

One server, made here so that its own cost does not count, asks as i-PI does (everything of a step in one message, beads
batched) and is served in turn by `IpiClient`, with a fixed model and with one that learns, by i-PI's Python driver, and by i-PI's
ASE driver with an ASE calculator.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

from mlpot.units import BOHR

MLPOT = """
import sys
import ase.io, numpy as np
from mlpot.drivers.ipi import IpiClient
from mlpot.drivers.ipi_protocol import Evaluation
from mlpot.drivers.ipi_socket import Address
template = ase.io.read("init.xyz")
told = {"energy_uncertainty": 1.5e-3, "max_force_uncertainty": 2.5e-3, "model_version": 0, "n_labelled": 0, "learned": False}
class Nothing:
    identify = False
    result = Evaluation(0.0, np.zeros((len(template), 3)), np.zeros((3, 3)), told)
    def evaluate(self, beads, request=None):
        return [self.result] * len(beads)
IpiClient(Address(path=sys.argv[1]), template, Nothing()).run()
"""
LEARNING = """
import sys
import ase.io
import mlpot.learning.served_run as beads
from mlpot.config import learning_evaluator, read_config
from mlpot.drivers.ipi import IpiClient
from mlpot.settings.files import DriverFile
file = "learn.toml"
open(file, "w").write('''
[structure]
file = "init.xyz"
[driver]
unix = "unused"
[labeller]
calculator = "ase.calculators.lj.LennardJones"
parameters = { sigma = 2.2, epsilon = 0.3, rc = 4.0, smooth = true }
[model]
preset = "fast"
[output]
folder = "run_folder"
''')
settings = read_config(file, DriverFile)
predict, kept = beads.predict_bead, []
def predict_once(*arguments):
    kept[:] = kept or [predict(*arguments)]
    return kept[0]
beads.predict_bead = predict_once
beads.BeadNeighbours.update = lambda self, atoms, update=beads.BeadNeighbours.update: None if kept else update(self, atoms)
with learning_evaluator(settings, resume=False) as evaluator, evaluator.serving():
    evaluator.campaign.learner.rules = evaluator.campaign.learner.rules.__class__(
        threshold=1e9, target_energy=1e9, novelty=1e9, check_interval="off"
    )
    from mlpot.drivers.ipi_socket import Address
    IpiClient(Address(path=sys.argv[1]), evaluator.template, evaluator).run()
"""
PYTHON_DRIVER = """
import numpy as np
__DRIVER_NAME__, __DRIVER_CLASS__ = "nothing", "Nothing"
from ipi.pes.dummy import Dummy_driver
class Nothing(Dummy_driver):
    pass
"""
ASE_DRIVER = """
import numpy as np
__DRIVER_NAME__, __DRIVER_CLASS__ = "nothing", "Nothing"
from ase.calculators.calculator import Calculator, all_changes
from ipi.pes._ase import ASEDriver
class Zero(Calculator):
    implemented_properties = ["energy", "forces", "stress"]
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}
class Nothing(ASEDriver):
    def check_parameters(self):
        super().check_parameters()
        self.ase_calculator = Zero()
"""


WARM_UP = 60
"""Steps; the first model of a run that learns is looked at after 40."""


def header(name: str) -> bytes:
    return name.encode().ljust(12)


def count(number: int) -> bytes:
    return np.int32(number).tobytes()


def read(connection: socket.socket, n_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < n_bytes:
        piece = connection.recv(n_bytes - len(data))
        if not piece:
            raise EOFError("the client left")
        data += piece
    return bytes(data)


def init(n_beads: int) -> bytes:
    text = f" batch_size:{n_beads}".encode()
    return header("INIT") + count(0) + count(len(text)) + text


def step(connection: socket.socket, request: bytes, n_beads: int, n_atoms: int) -> None:
    connection.sendall(request)
    read(connection, 12 + 8 * n_beads + 4 + (24 * n_atoms + 72) * n_beads)
    for _ in range(n_beads):
        read(connection, int.from_bytes(read(connection, 4), sys.byteorder))
    connection.sendall(header("STATUS"))
    status = read(connection, 12)
    if status == header("NEEDINIT"):
        connection.sendall(init(n_beads) + header("STATUS"))
        status = read(connection, 12)
    if status != header("READY"):
        raise ValueError("the client is not ready")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(words: list[str], folder: Path, atoms: Atoms, n_beads: int, n_steps: int) -> tuple[float, float]:
    """Processor time of the client and time on the clock, ms/step."""
    path, rng = folder / "socket", np.random.default_rng(0)
    path.unlink(missing_ok=True)
    shutil.rmtree(folder / "run_folder", ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(300)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    client = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        connection, _ = listener.accept()
        connection.settimeout(300)
        connection.sendall(init(n_beads))
        cell = (atoms.cell.array.T / BOHR).tobytes() + (np.linalg.inv(atoms.cell.array.T) * BOHR).tobytes()
        positions = (atoms.positions + rng.normal(scale=0.1, size=(n_beads, len(atoms), 3))) / BOHR
        request = header("POSDATA") + count(len(atoms)) + cell * n_beads + positions.tobytes() + header("GETFORCE")
        for _ in range(WARM_UP):
            step(connection, request, n_beads, len(atoms))
        cpu, clock = cpu_seconds(client.pid), time.perf_counter()
        for _ in range(n_steps):
            step(connection, request, n_beads, len(atoms))
        cpu, clock = cpu_seconds(client.pid) - cpu, time.perf_counter() - clock
        connection.sendall(header("EXIT"))
        return 1e3 * cpu / n_steps, 1e3 * clock / n_steps
    finally:
        listener.close()
        client.kill()
        client.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=1000)
    parser.add_argument("--beads", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2000)
    asked = parser.parse_args()
    side = round((asked.atoms / 8) ** (1 / 3))
    atoms = bulk("Si", cubic=True) * (side, side, side)
    script = str(Path(sys.executable).with_name("i-pi-driver-py"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ase.io.write(folder / "init.xyz", atoms)
        for file, text in (
            ("mlpot.py", MLPOT),
            ("learning.py", LEARNING),
            ("python.py", PYTHON_DRIVER),
            ("ase_driver.py", ASE_DRIVER),
        ):
            (folder / f"run_{file}").write_text(text)
        driver = [sys.executable, script, "-u", "-S", str(folder) + "/", "-a", "socket", "-m", "custom", "-P"]
        clients = {
            "mlpot": [sys.executable, "run_mlpot.py", str(folder / "socket")],
            "mlpot, learning": [sys.executable, "run_learning.py", str(folder / "socket")],
            "i-PI's Python driver": [*driver, "run_python.py"],
            "i-PI's ASE driver": [*driver, "run_ase_driver.py", "-o", "template=init.xyz"],
        }
        print(f"{len(atoms)} atoms, {asked.beads} beads in one batch, ms/step, median of three rounds in turns")
        rounds = [
            {name: measure(words, folder, atoms, asked.beads, asked.steps) for name, words in clients.items()}
            for _ in range(3)
        ]
    print(f"{'':24s}{'client CPU':>12s}{'clock':>10s}")
    for name in clients:
        cpu, clock = np.median([found[name] for found in rounds], axis=0)
        print(f"{name:24s}{cpu:12.3f}{clock:10.3f}")


if __name__ == "__main__":
    main()
