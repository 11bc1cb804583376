"""Quantum ESPRESSO's pw.x from plain parameters: calculator = "mlpot.labellers.espresso:espresso"."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.espresso import Espresso, EspressoProfile, EspressoTemplate
from ase.io import read

from ..errors import ConfigError, LabelError
from .protocol import check_geometry

PROMISED = {"calculation": "scf", "tprnfor": True, "tstress": True}
NOT_CONVERGED = "convergence NOT achieved"
DONE = "JOB DONE."
THRESHOLD = re.compile(r"scf convergence threshold\s*=\s*(\S+)")
ACCURACY = re.compile(r"estimated scf accuracy\s*<\s*(\S+)")
ROUNDING = 5e-9
"""Ry, of an accuracy in the output."""
VERSION = re.compile(r"Program PWSCF (v\S+)")


def espresso(
    *,
    pseudo_dir: str,
    pseudopotentials: Mapping[str, str],
    kpts: Sequence[int] | Sequence[Sequence[float]] | None = None,
    koffset: Sequence[int] = (0, 0, 0),
    input_data: Mapping[str, Any] | None = None,
    command: str = "pw.x",
) -> Espresso:
    """An ASE calculator of energy, forces and stress, with nothing left to configuration files or the environment.

    Parameters
    ----------
    pseudo_dir : str
        Absolute path of the folder with the pseudopotentials.
    pseudopotentials : dict
        File name by chemical symbol.
    kpts : list
        [n1, n2, n3], a Monkhorst-Pack grid; or a list of [k1, k2, k3, weight] in crystal coordinates. There is no default:
        which is right depends on the cell.
    koffset : list
        0 or 1 for each direction: whether a grid is shifted by half a step.
    input_data : dict
        Of the namelists of pw.x, flat or by section: ecutwfc (Ry) at least.
    command : str
        One process by default; "mpiexec -n 4 pw.x" for more.

    Raises
    ------
    ConfigError
        For a parameter that is missing or cannot be right.
    """
    data = _flat(input_data or {})
    if kpts is None:
        raise ConfigError(
            "labeller.parameters.kpts: missing; add a grid such as [3, 3, 3], or a list of [k1, k2, k3, weight]: energies and "
            "forces depend on it"
        )
    if "ecutwfc" not in data:
        raise ConfigError("labeller.parameters.input_data.ecutwfc: missing; add the cutoff of the plane waves, Ry")
    for name, value in PROMISED.items():
        if data.get(name, value) != value:
            raise ConfigError(f"labeller.parameters.input_data.{name} = {data[name]!r}: must be {value!r} for a label")
    _check_files(command, pseudo_dir, pseudopotentials)
    grid, offset = _kpoints(kpts, koffset)
    return _Espresso(
        profile=EspressoProfile(command, pseudo_dir),
        pseudopotentials=dict(pseudopotentials),
        input_data={**data, **PROMISED},
        kpts=grid,
        koffset=offset,
    )


class _Template(EspressoTemplate):
    """pw.x that is believed only when it says that it has converged."""

    def execute(self, directory, profile) -> None:
        try:
            super().execute(directory, profile)
        except Exception as error:
            raise LabelError(f"{profile.command}: {_last_words(Path(directory, self.outputname))} ({error})") from error

    def read_results(self, directory) -> dict[str, Any]:
        output = Path(directory, self.outputname)
        text = output.read_text(errors="replace")
        if NOT_CONVERGED in text or DONE not in text:
            raise LabelError(f"pw.x: {_last_words(output)}")
        _check_accuracy(text)
        found = read(output, index=-1, format="espresso-out")
        if not isinstance(found, Atoms):
            raise LabelError("pw.x: its output holds no structure")
        results = dict(found.calc.properties())
        missing = {"energy", "forces", "stress"} - {name for name, value in results.items() if value is not None}
        if missing:
            raise LabelError(f"pw.x: no {', '.join(sorted(missing))} in its output")
        results.update(structure=found, code=_code(text))
        return results


class _Espresso(Espresso):
    """ASE's calculator, which remembers what pw.x says that it has calculated, and its version."""

    code: str | None = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.template = _Template()

    def calculate(self, atoms: Atoms, properties, system_changes) -> None:
        """As ASE does, and compare the structure in the output with the one that was sent."""
        super().calculate(atoms, properties, system_changes)
        check_geometry(atoms, self.results.pop("structure"), "the output of pw.x")
        self.code = self.results.pop("code")


def _check_accuracy(text: str) -> None:
    """LabelError when the density is not what was asked for: with scf_must_converge = false pw.x claims that it is."""
    threshold, accuracies = THRESHOLD.search(text), ACCURACY.findall(text)
    if threshold is None or not accuracies:
        raise LabelError("pw.x: its output does not say how well it has converged")
    if float(accuracies[-1]) > float(threshold[1]) + ROUNDING:
        raise LabelError(f"pw.x: {NOT_CONVERGED}: accuracy {accuracies[-1]} Ry, threshold {threshold[1]} Ry")


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Namelists without their sections."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= {k.lower(): v for k, v in value.items()} if isinstance(value, Mapping) else {name.lower(): value}
    return flat


def _check_files(command: str, pseudo_dir: str, pseudopotentials: Mapping[str, str]) -> None:
    program = command.split()[0] if command.strip() else ""
    if not program or shutil.which(program) is None:
        raise ConfigError(
            f"labeller.parameters.command = {command!r}: no such program; install Quantum ESPRESSO (apt-get install "
            "quantum-espresso), or give the path of pw.x"
        )
    if not Path(pseudo_dir).is_absolute():
        raise ConfigError(f"labeller.parameters.pseudo_dir = {pseudo_dir!r}: must be an absolute path")
    for symbol, name in pseudopotentials.items():
        if not Path(pseudo_dir, name).is_file():
            raise ConfigError(f"labeller.parameters.pseudopotentials.{symbol} = {name!r}: no such file in {pseudo_dir}")


def _kpoints(kpts: Any, koffset: Sequence[int]) -> tuple[Any, tuple[int, ...] | None]:
    """Grid or list as ASE's writer takes them."""
    grid = np.asarray(kpts, float)
    if grid.shape == (3,) and np.all(grid == grid.astype(int)) and np.all(grid > 0):
        return tuple(int(n) for n in grid), tuple(int(n) for n in koffset)
    if grid.ndim == 2 and grid.shape[1] == 4 and len(grid) and np.all(grid[:, 3] > 0):
        return grid, None
    raise ConfigError(
        f"labeller.parameters.kpts = {kpts!r}: must be three positive integers, or a list of [k1, k2, k3, weight]"
    )


def _code(text: str) -> str:
    found = VERSION.search(text)
    return f"PWSCF {found[1]}" if found else "PWSCF"


def _last_words(output: Path) -> str:
    """What pw.x says of its end: its error, that it did not converge, or the last line."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines()] if output.exists() else []
    said = [line for line in lines if line and not line.startswith("%%")]
    for k, line in enumerate(said):
        if NOT_CONVERGED in line:
            return line
        if line.startswith("Error in routine"):
            return " ".join(said[k : k + 2])
    return said[-1] if said else "no output"
