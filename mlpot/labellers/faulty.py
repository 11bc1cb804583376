"""An ASE calculator that fails as planned, for tests of everything that must survive a failed label."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

HANG_SECONDS = 3600.0
EXIT_STATUS = 3
RESULTS = ("energy", "free_energy", "forces", "stress")
FAULTS = (
    "", "raise", "crash", "exit", "hang", "nan", "shape", "wrong", "net force", "moved", "sorted", "outlier", "strange", "worker",
)  # fmt: skip
OUTLIER = 50.0
"""Energy shift of a faulty label, eV/atom."""


class FaultyCalculator(Calculator):
    """The results of another calculator, made wrong according to a plan.

    Parameters
    ----------
    calculator : str
        Import path "package.module.Class" of the calculator that makes the results.
    parameters : dict
        Its keyword arguments.
    fail : sequence of str
        Fault of the first calculation, the second, ...: "" none; "raise" RuntimeError; "crash" SIGKILL to this process; "exit" exit
        with status 3; "hang" for an hour; "nan" a force is NaN; "shape" one force too few; "wrong" forces twice as large; "net
        force" an additional force on one atom; "moved" the calculation is of a structure with its first atom displaced, "sorted"
        with its atoms in reverse order; "strange" the energy is 50 eV/atom too high, "outlier" 50 eV/atom plus 1 for each earlier
        calculation; "worker" SIGKILL to this process and its parent. No faults after the end of the list. Calculations are counted
        by the lines of `calls_file`, over all processes, or without one by this object.
    calls_file : str
        Text file to which a line "start FINGERPRINT PID TIME" is written, durably, when a calculation begins, and one with "end" when
        it has finished; see `Note`.
    always : str
        Fault of every calculation without a fault in `fail`.
    seconds : float
        Additional duration of a calculation.

    Raises
    ------
    ValueError
        If `fail` holds an unknown word.
    """

    atoms: Atoms  # from the first calculation on

    def __init__(
        self,
        calculator: str = "ase.calculators.lj.LennardJones",
        parameters: dict[str, Any] | None = None,
        fail: Sequence[str] = (),
        calls_file: str | None = None,
        seconds: float = 0.0,
        always: str = "",
        **kwargs,
    ):
        super().__init__(**kwargs)
        unknown = [word for word in [*fail, always] if word not in FAULTS]
        if unknown:
            raise ValueError(
                f"fail = {list(fail)!r}, always = {always!r}: unknown fault {unknown[0]!r}; known are {FAULTS}"
            )
        module, _, name = calculator.rpartition(".")
        self._calculator = getattr(import_module(module), name)(**(parameters or {}))
        self._fail, self._always, self._seconds = list(fail), always, seconds
        self._calls_file = None if calls_file is None else Path(calls_file)
        self._n_calls = 0
        self.implemented_properties = [name for name in RESULTS if name in self._calculator.implemented_properties]

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Calculate, with the fault planned for this calculation."""
        super().calculate(atoms, list(properties), system_changes)
        n_before = self._n_calls if self._calls_file is None else len(calls(self._calls_file, "start"))
        self._n_calls += 1
        self._note("start")
        time.sleep(self._seconds)
        fault = (self._fail[n_before] if n_before < len(self._fail) else "") or self._always
        _interrupt(fault)
        work = self.atoms.copy()
        work.calc = self._calculator
        results = {"energy": work.get_potential_energy(), "forces": work.get_forces()}
        if "free_energy" in self.implemented_properties:
            results["free_energy"] = work.get_potential_energy(force_consistent=True)
        if "stress" in self.implemented_properties and work.pbc.any() and work.cell.rank == 3:
            results["stress"] = work.get_stress()
        self.results = {**results, "forces": _spoiled(results["forces"], fault)}
        if fault in ("strange", "outlier"):
            self._raise_energies(n_before if fault == "outlier" else 0)
        self._displace(fault)
        self._note("end")

    def _raise_energies(self, more: float) -> None:
        for name in {"energy", "free_energy"} & set(self.results):
            self.results[name] += (OUTLIER + more) * len(self.atoms)

    def _displace(self, fault: str) -> None:
        """Pretend that another structure was calculated."""
        if fault == "moved":
            self.atoms.positions[0] += 0.1
        if fault == "sorted":
            self.atoms = self.atoms[::-1]

    def _note(self, event: str) -> None:
        if self._calls_file is None:
            return
        descriptor = os.open(self._calls_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"{event} {fingerprint(self.atoms)} {os.getpid()} {time.time():.6f}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def fingerprint(atoms: Atoms) -> str:
    """Short hash of a structure's positions."""
    return hashlib.sha256(np.ascontiguousarray(atoms.positions).tobytes()).hexdigest()[:16]


class Note(NamedTuple):
    """A line of `calls_file`: "start" or "end", the structure, the process, and the time in seconds since the epoch."""

    event: str
    fingerprint: str
    pid: int
    time: float


def notes(file: str | Path) -> list[Note]:
    """All lines of a `calls_file`."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Note(event, of, int(pid), float(when)) for event, of, pid, when in map(str.split, lines)]


def calls(file: str | Path, event: str) -> list[str]:
    """Fingerprints of the structures whose calculations have begun (`event` "start") or finished ("end")."""
    return [note.fingerprint for note in notes(file) if note.event == event]


def _interrupt(fault: str) -> None:
    if fault == "raise":
        raise RuntimeError("self-consistency was not reached (injected)")
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "worker":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        os._exit(EXIT_STATUS)
    if fault == "hang":
        time.sleep(HANG_SECONDS)


def _spoiled(forces: np.ndarray, fault: str) -> np.ndarray:
    forces = forces.copy()
    if fault == "nan":
        forces[-1, 1] = np.nan
    if fault == "shape":
        return forces[:-1]
    if fault == "net force":
        forces[0] += 1.0
    return 2.0 * forces if fault == "wrong" else forces
