"""A calculator that says, durably, when a calculation begins and when it is finished."""

import os
import time

from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones


def note(file, word):
    """Append a word to a file, on the disk before this returns."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{word}\n".encode())
    os.fsync(handle)
    os.close(handle)


class Counting(LennardJones):
    """Lennard-Jones that notes each calculation in `calls`, takes `seconds`, and misbehaves on request.

    `fail` is "raise", "crash", "hang" or "nan"; it happens once when `once` names a file that does not exist yet.
    """

    def __init__(self, calls, seconds=0.0, fail="", once="", **kwargs):
        super().__init__(sigma=2.2, epsilon=0.3, rc=4.0, smooth=True, **kwargs)
        self.calls, self.seconds, self.fail, self.once = calls, seconds, fail, once

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """As Lennard-Jones."""
        note(self.calls, "begin")
        time.sleep(self.seconds)
        if self.fail and not (self.once and os.path.exists(self.once)):
            if self.once:
                note(self.once, "failed")
            self.misbehave()
        super().calculate(atoms, list(properties), system_changes)
        if self.fail == "nan" and not self.once:
            self.results["forces"] = self.results["forces"] * float("nan")
        note(self.calls, "end")

    def misbehave(self):
        """Do what was asked for."""
        if self.fail == "raise":
            raise RuntimeError("SCF did not converge")
        if self.fail == "crash":
            os.write(1, b"last words of a code\n")
            os.kill(os.getpid(), 9)
        if self.fail == "hang":
            time.sleep(3600)
