"""Electronic-structure codes that misbehave, as ASE calculators: they complain, crash, hang, spew, and start programs that stay."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

STAYER = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
os.setsid()
if os.fork():
    os._exit(0)
os.setsid()
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()} ")
time.sleep(600)
"""
"""Leaves its session, its parent and its process group, and does not listen."""


def start_stayer(file):
    """A program that does not want to end; its pid goes to a file."""
    subprocess.Popen([sys.executable, "-c", STAYER, str(file)])
    while not (Path(file).exists() and Path(file).read_text().endswith(" ")):
        time.sleep(0.02)


class HostileCode(Calculator):
    """Lennard-Jones energies, if it comes to that.

    `how` is a method of this class without its underscore; `file` is where it may leave pids.
    """

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, how, file=None, **kwargs):
        super().__init__(**kwargs)
        self.how, self.file = how, file

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        work = self.atoms.copy()
        work.calc = LennardJones(sigma=2.0)
        self.results = {"energy": work.get_potential_energy(), "forces": work.get_forces(), "stress": work.get_stress()}
        getattr(self, f"_{self.how}")()

    def _complains(self):
        """As a code of ASE whose command fails: the reason is in a file beside its input."""
        Path("code.out").write_text("iteration 1\n")
        Path("code.err").write_text("first line\n" * 1000 + "\x1b[31mbasis set for Cu is missing\x1b[0m\n\n")
        raise subprocess.CalledProcessError(3, "code.x")

    def _prints(self):
        """Its reason is on stderr, and so in the output of the labelling process."""
        os.system("echo 'license server \033]0;x\007 is down' >&2")
        raise RuntimeError("code.x failed")

    def _stays_and_hangs(self):
        start_stayer(self.file)
        time.sleep(600)

    def _stays_and_crashes(self):
        start_stayer(self.file)
        os.kill(os.getpid(), signal.SIGSEGV)

    def _stays_and_succeeds(self):
        start_stayer(self.file)

    def _spews(self):
        line = b"\xff\x00garbage \x1b[2J" * 1000 + b"\n"
        for _ in range(300):
            os.write(1, line)
            os.write(2, line)
        raise RuntimeError("enough")

    def _closes_everything(self):
        os.closerange(0, 256)

    def _stops_itself(self):
        os.kill(0, signal.SIGSTOP)

    def _kills_its_group(self):
        os.kill(0, signal.SIGTERM)
        time.sleep(60)

    def _removes_its_folder(self):
        import shutil

        shutil.rmtree(os.getcwd())

    def _forks(self):
        """A copy of the worker goes on as if it were the worker."""
        os.fork()

    def _exits(self):
        sys.exit("leaving")

    def _ignores_signals(self):
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
        time.sleep(600)

    def _interrupts(self):
        raise KeyboardInterrupt

    def _recurses(self):
        self._recurses()

    def _is_complex(self):
        self.results["forces"] = self.results["forces"] + 0.1j

    def _has_a_complex_stress(self):
        self.results["stress"] = self.results["stress"] + 0.1j

    def _is_nan(self):
        self.results["forces"] = np.full_like(self.results["forces"], np.nan)

    def _says_text(self):
        self.results["energy"] = "-1.0 eV"

    def _is_an_error_with_control_characters(self):
        raise RuntimeError("\x1b]0;owned\x07\x9b2J\u202e\nsecond line")
