"""Runs of i-PI in small: input files, server and clients as processes that cannot outlive a test."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np

from mlpot.units import BOHR, HARTREE

HERE = Path(__file__).resolve().parent
I_PI = Path(sys.executable).with_name("i-pi")
PYTHON_DRIVER = Path(sys.executable).with_name("i-pi-driver-py")
FAULTY_DRIVER = HERE / "faulty_ipi_driver.py"
LONGEST = 100
"""Seconds that a process of a test may take, on a machine that does other things too."""
NPT = """<barostat mode='isotropic'><tau units='femtosecond'>100</tau>
<thermostat mode='langevin'><tau units='femtosecond'>50</tau></thermostat></barostat>"""
EXTRAS = "energy_uncertainty,max_force_uncertainty,model_version,n_labelled,learned"
INPUT = """<simulation verbosity='low' floatformat='%22.14e'>
<output prefix='out'>
<properties stride='1' filename='md'>
[ step, potential{{electronvolt}}, volume{{angstrom3}}, virial_md, kinetic_cv{{electronvolt}} ]
</properties>
<trajectory filename='q' stride='1' format='bin'> positions </trajectory>
<trajectory filename='f' stride='1' format='bin'> forces </trajectory>
{extras}
<checkpoint stride='20' filename='RESTART' overwrite='true'/>
</output>
<total_steps>{steps}</total_steps>
<prng><seed>1</seed></prng>
{forcefield}
<system>
<initialize nbeads='{beads}'><file mode='ase'>init.xyz</file><velocities mode='thermal' units='kelvin'>300</velocities></initialize>
<forces><force forcefield='f'/></forces>
<motion mode='dynamics'><dynamics mode='{ensemble}'><timestep units='femtosecond'>1</timestep>
<thermostat mode='{thermostat}'><tau units='femtosecond'>50</tau></thermostat>{barostat}</dynamics></motion>
<ensemble><temperature units='kelvin'>300</temperature>{pressure}</ensemble>
</system>
</simulation>
"""


def socket_forcefield(name, options="", port=None):
    """An <ffsocket>: of a UNIX socket, or of TCP when there is a port."""
    where = (
        f"mode='inet'><address>localhost</address><port>{port}</port>"
        if port
        else f"mode='unix'><address>{name}</address>"
    )
    return f"<ffsocket name='f' pbc='false' {where}{options}</ffsocket>"


def write_input(file, forcefield, steps=6, beads=1, ensemble="nvt", extras=EXTRAS):
    """An input of i-PI for the structure in init.xyz; the extras are printed."""
    npt = ensemble == "npt"
    printed = f"<trajectory filename='x' stride='1' extra_type='{extras}'> extras </trajectory>"
    file.write_text(
        INPUT.format(
            steps=steps,
            beads=beads,
            ensemble=ensemble,
            extras=printed if extras else "",
            forcefield=forcefield,
            thermostat="langevin" if beads == 1 else "pile_l",
            barostat=NPT if npt else "",
            pressure="<pressure units='gigapascal'>0</pressure>" if npt else "",
        )
    )


def is_whole(restart):
    """Whether a RESTART can be begun from: i-PI writes over the last one, so it may be half of one."""
    text = restart.read_text() if restart.exists() else ""
    return "<step>" in text and text.rstrip().endswith("</simulation>")


class Process:
    """A process with its output in a file; killed, with all its children, at the end of the block."""

    def __init__(self, words, cwd, log, **environment):
        self.log = Path(cwd) / log
        self.started = time.monotonic()
        with self.log.open("w") as output:
            self.popen = subprocess.Popen(
                [str(word) for word in words],
                cwd=cwd,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
                    **environment,
                },
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def wait(self, seconds=LONGEST):
        """Its exit code; its output is shown when it does not end in time."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.popen.args} still runs after {seconds} s:\n{self.text}") from None

    def send(self, number):
        os.kill(self.popen.pid, number)

    @property
    def text(self):
        return self.log.read_text()

    def until(self, words, seconds=LONGEST):
        """Wait for words in its output."""
        wait_for(lambda: words in self.text or self.popen.poll() is not None, seconds, lambda: self.text)
        assert words in self.text, self.text


def wait_for(condition, seconds=LONGEST, explain=lambda: ""):
    """Poll until the condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing happened for {seconds} s: {explain()}"
        time.sleep(0.01)


def server(work, file="input.xml", log="server.log"):
    """i-PI."""
    return Process([I_PI, file], work, log)


def client(work, name, *options, log="client.log", port=None, **environment):
    """`mlpot driver`, with the faults that the environment asks for; see `FAULTY_DRIVER`."""
    where = ["--port", port] if port else ["--unix", name]
    words = [sys.executable, FAULTY_DRIVER, "driver", "model.h5", "--template", "init.xyz", *where, "--patience", 60]
    return Process([*words, *options], work, log, **environment)


def results(work):
    """What i-PI has printed: "potential" (n,) eV of a bead, "volume" (n,) A^3, "virial" (n, 6) of all beads over the volume,
    eV/A^3 (i-PI's gigapascal is wrong in the fifth digit), "kinetic" (n,) eV by the centroid virial estimator, "cells" (n, 3, 3)
    A, "positions" and "forces" (n, n_beads, n_atoms, 3) in A and eV/A."""
    rows = np.loadtxt(work / "out.md")
    n_atoms = len(ase.io.read(work / "init.xyz"))
    files = sorted(work.glob("out.q_*.bin"))
    cells, positions = zip(*(_binary(file, len(rows), n_atoms) for file in files), strict=True)
    forces = [_binary(Path(str(file).replace("out.q_", "out.f_")), len(rows), n_atoms)[1] for file in files]
    xx, yy, zz, xy, xz, yz = rows[:, 3:9].T
    return {
        "step": rows[:, 0],
        "potential": rows[:, 1],
        "volume": rows[:, 2],
        "kinetic": rows[:, 9],
        "virial": np.stack([xx, yy, zz, yz, xz, xy], axis=1) * HARTREE / BOHR**3,
        "cells": cells[0].transpose(0, 2, 1) * BOHR,
        "positions": np.stack(positions, axis=1) * BOHR,
        "forces": np.stack(forces, axis=1) * HARTREE / BOHR,
    }


def _binary(file, n_frames, n_atoms):
    """Cells (n, 3, 3) and vectors (n, n_atoms, 3) of i-PI's binary trajectories, whose frames have all the same size."""
    raw = file.read_bytes()
    assert len(raw) % n_frames == 0
    frames = np.frombuffer(raw, np.uint8).reshape(n_frames, -1)
    numbers = np.ascontiguousarray(frames[:, : 8 * (10 + 3 * n_atoms)]).view(float)
    return numbers[:, :9].reshape(-1, 3, 3), numbers[:, 10:].reshape(n_frames, n_atoms, 3)


LEARN = """[structure]
file = "init.xyz"
[driver]
{address}
patience_s = 60
temperature_K = 300
clients = {clients}
[labeller]
calculator = "mlpot.labellers.faulty.FaultyCalculator"
[labeller.parameters]
calls_file = "{work}/calls"
seconds = {seconds}
parameters = {{ sigma = 2.2, epsilon = 0.3, rc = 4.0, smooth = true }}
[learning]
target = 0.01
min_interval = 0
{learning}
[[model.terms]]
type = "pair"
cutoff = 4.5
n_sparse = 20
[[model.terms]]
type = "soap"
cutoff = 4.0
n_max = 4
l_max = 3
n_sparse = 100
zeta = 2
[output]
folder = "run"
interval = 1
"""


def write_learning(work, address, clients=1, seconds=0.0, learning=""):
    """A configuration for `mlpot driver` that learns a potential which costs nothing, its labels taking `seconds` each."""
    values = {"clients": clients, "seconds": seconds, "learning": learning}
    (work / "learn.toml").write_text(LEARN.format(work=work, address=address, **values))


def learner(work, resume=False, log="client.log", **environment):
    """`mlpot driver learn.toml`."""
    words = [sys.executable, "-m", "mlpot", "driver", "learn.toml", *(["--resume"] if resume else [])]
    return Process(words, work, log, **environment)
