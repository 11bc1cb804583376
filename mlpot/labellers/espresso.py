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

from ..durable import write_text
from ..errors import ConfigError, LabelError
from . import last_words
from .espresso_density import Densities
from .espresso_input import Setup, checked, checked_hubbard, input_text
from .protocol import check_geometry

PREFIX = "mlpot"
NOT_CONVERGED = "convergence NOT achieved"
DONE = "JOB DONE."
THRESHOLD = re.compile(r"scf convergence threshold\s*=\s*(\S+)")
ACCURACY = re.compile(r"estimated scf accuracy\s*<\s*(\S+)")
ROUNDING = 5e-9
"""Round-off of an accuracy in the output, Ry."""
VERSION = re.compile(r"Program PWSCF (v\S+)")


def espresso(
    *,
    pseudo_dir: str,
    pseudopotentials: Mapping[str, str],
    kpts: Sequence[int] | Sequence[Sequence[float]] | None = None,
    koffset: Sequence[int] = (0, 0, 0),
    input_data: Mapping[str, Any] | None = None,
    hubbard: Mapping[str, Any] | None = None,
    density_dir: str | None = None,
    command: str = "pw.x",
) -> Espresso:
    """An ASE calculator for energy, forces and stress that depends on its arguments only, not on configuration files or the
    environment.

    Parameters
    ----------
    pseudo_dir : str
        Absolute path of the folder with the pseudopotentials.
    pseudopotentials : dict
        File name by chemical symbol. Indices such as in `Hubbard_U(1)` refer to their order.
    kpts : list
        [n1, n2, n3], a Monkhorst-Pack grid; or a list of [k1, k2, k3, weight] in crystal coordinates. There is no default,
        since it depends on the cell.
    koffset : list
        0 or 1 for each direction: whether a grid is shifted by half a step.
    input_data : dict
        Keys of the namelists of pw.x, flat or by section; at least ecutwfc (Ry). Keys with an index for species may be tables by
        symbol: Hubbard_U = {"Fe": 4.6}, starting_magnetization = {"Fe": 0.5}. Every key is passed to pw.x, or is an error.
    hubbard : dict
        The card HUBBARD of pw.x 7.1 and later: {"projectors": "ortho-atomic", "lines": ["U Fe-3d 4.6"]}. Lines for elements
        that a structure does not have are left out.
    density_dir : str
        Absolute path of a folder for densities; the SCF of a label starts from the density of the nearest structure if there is one
        near enough to be useful (relaxations, strains, phonons).
    command : str
        One process by default; "mpiexec -n 4 pw.x" for more.

    Notes
    -----
    Initial spins are the moments of the structure (`initial_magmoms`, Bohr magnetons), or starting_magnetization.

    Raises
    ------
    ConfigError
        For a missing or wrong parameter; when a label is made, also for parameters that do not fit its structure.
    """
    symbols = list(pseudopotentials)
    data = checked(input_data or {}, symbols)
    _check_files(command, pseudo_dir, pseudopotentials)
    data["control"] |= {"outdir": "./", "prefix": PREFIX}  # otherwise ESPRESSO_TMPDIR, which all labels would share
    setup = Setup(pseudo_dir, dict(pseudopotentials), data, *_kpoints(kpts, koffset), checked_hubbard(hubbard, symbols))
    return _Espresso(EspressoProfile(command, pseudo_dir), setup, _densities(density_dir, data))


class _Template(EspressoTemplate):
    """pw.x, whose results are accepted only if it says that it has converged."""

    def __init__(self, setup: Setup, densities: Densities | None):
        super().__init__()
        self.setup, self.densities = setup, densities

    def write_input(self, profile, directory, atoms, parameters, properties) -> None:
        taken = self.densities is not None and self.densities.take(self.setup, atoms, Path(directory, f"{PREFIX}.save"))
        start = {"electrons": {"startingpot": "file"}} if taken else None
        write_text(Path(directory, self.inputname), input_text(atoms, self.setup, start))

    def execute(self, directory, profile) -> None:
        try:
            super().execute(directory, profile)
        except Exception as error:
            said = _last_words(Path(directory, self.outputname))
            complaint = last_words.of_file(Path(directory, self.errorname))
            complaint = f"; error output: {complaint}" if complaint else ""
            raise LabelError(f"{profile.command}: {said} ({error}){complaint}") from error

    def read_results(self, directory) -> dict[str, Any]:
        output = Path(directory, self.outputname)
        text = output.read_text(errors="replace")
        if NOT_CONVERGED in text or DONE not in text:
            raise LabelError(f"pw.x: {_last_words(output)}")
        _check_accuracy(text)
        found = read(output, index=-1, format="espresso-out")
        if not isinstance(found, Atoms):
            raise LabelError("pw.x: its output has no structure")
        results = dict(found.calc.properties())
        missing = {"energy", "forces", "stress"} - {name for name, value in results.items() if value is not None}
        if missing:
            raise LabelError(f"pw.x: no {', '.join(sorted(missing))} in its output")
        results.update(structure=found, code=_code(text))
        return results


class _Espresso(Espresso):
    """ASE's calculator, with a check of the calculated structure, and the version of pw.x."""

    code: str | None = None

    def __init__(self, profile: EspressoProfile, setup: Setup, densities: Densities | None):
        super().__init__(profile=profile)
        self.template = _Template(setup, densities)

    def calculate(self, atoms: Atoms, properties, system_changes) -> None:
        """As in ASE, then compare the structure in the output with the one that was sent."""
        super().calculate(atoms, properties, system_changes)
        check_geometry(atoms, self.results.pop("structure"), "the output of pw.x")
        self.code = self.results.pop("code")
        if self.template.densities is not None:
            self.template.densities.keep(self.template.setup, atoms, Path(self.directory, f"{PREFIX}.save"))


def _check_accuracy(text: str) -> None:
    """LabelError if the density has not converged: with scf_must_converge = false pw.x claims that it has."""
    threshold, accuracies = THRESHOLD.search(text), ACCURACY.findall(text)
    if threshold is None or not accuracies:
        raise LabelError("pw.x: its output does not say how well it has converged")
    if float(accuracies[-1]) > float(threshold[1]) + ROUNDING:
        raise LabelError(f"pw.x: {NOT_CONVERGED}: accuracy {accuracies[-1]} Ry, threshold {threshold[1]} Ry")


def _densities(folder: str | None, data: Mapping[str, Mapping[str, Any]]) -> Densities | None:
    if folder is None:
        return None
    here = f"labeller.parameters.density_dir = {folder!r}"
    if not Path(folder).is_absolute():
        raise ConfigError(f"{here}: must be an absolute path")
    if "startingpot" in data["electrons"]:
        raise ConfigError(f"{here}: excludes input_data.startingpot, since both set how the SCF starts; remove one")
    return Densities(Path(folder))


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
    """Grid and shift; or points and None."""
    if kpts is None:
        raise ConfigError(
            "labeller.parameters.kpts: missing; add a grid such as [3, 3, 3], or a list of [k1, k2, k3, weight]; energies and "
            "forces depend on the k-points"
        )
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
    """Why pw.x has ended: its error message, that it did not converge, or the last line of its output."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines()] if output.exists() else []
    said = [line for line in lines if line and not line.startswith("%%")]
    for k, line in enumerate(said):
        if NOT_CONVERGED in line:
            return line
        if line.startswith("Error in routine"):
            return " ".join(said[k : k + 2])
    return said[-1] if said else "no output"
