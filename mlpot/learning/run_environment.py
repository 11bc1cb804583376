"""Environment of a run: its configuration and the versions of all programs, saved in its folder."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from ..durable import as_run_folder_error, write_text
from ..errors import RunFolderError

CONFIG, ENVIRONMENT = "config.toml", "environment.json"
PACKAGES = ("numpy", "scipy", "ase", "h5py")
log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]


def keep_origin(folder: Path, text: str, calculator: str) -> None:
    """Save the configuration and the program versions with which a run is started or continued.

    A configuration that differs from the previous one is saved as config_2.toml, config_3.toml, ...

    Parameters
    ----------
    folder : Path
        Folder of the run, owned by this process.
    text : str
        Content of the configuration file.
    calculator : str
        Import path of the calculator that makes labels.

    Raises
    ------
    RunFolderError
        If the folder cannot be written.
    """
    with as_run_folder_error(folder):
        kept = configurations(folder)
        if not kept or kept[-1].read_text(encoding="utf-8") != text:
            write_text(folder / _config_name(len(kept) + 1), text)
        starts = _known_starts(folder)
        now = environment([calculator])
        if not starts or {**starts[-1], "at": None} != {**now, "at": None}:
            write_text(folder / ENVIRONMENT, json.dumps([*starts, now], indent=1))


def _known_starts(folder: Path) -> list[dict[str, Any]]:
    """`environments`; a file that cannot be read is renamed, since a run can continue without it."""
    try:
        return environments(folder)
    except RunFolderError as error:
        aside = folder / f"{ENVIRONMENT}.unreadable"
        log.warning("%s; kept as %s", error, aside)
        os.replace(folder / ENVIRONMENT, aside)
        return []


def configurations(folder: Path) -> list[Path]:
    """Configuration files of a run, in order."""
    found: list[Path] = []
    while (file := folder / _config_name(len(found) + 1)).exists():
        found.append(file)
    return found


def environments(folder: Path) -> list[dict[str, Any]]:
    """Versions with which the run of a folder was started and continued; empty if it was not started by `mlpot learn`.

    Raises
    ------
    RunFolderError
        If the file cannot be read, or is not a list of tables.
    """
    file = folder / ENVIRONMENT
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{file}: cannot be read: {error}; delete it: the run does not need it") from error
    if not isinstance(found, list) or not all(isinstance(start, dict) for start in found):
        raise RunFolderError(f"{file}: is not a list of tables; delete it, the run does not need it")
    return found


def environment(calculators: Iterable[str]) -> dict[str, Any]:
    """Versions of mlpot, its dependencies, and the packages of these calculators (import paths); None where unknown."""
    from .. import __version__

    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "mlpot": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "calculators": {path: _package_of(path) for path in sorted(set(calculators))},
    }


def _config_name(number: int) -> str:
    return CONFIG if number == 1 else CONFIG.replace(".", f"_{number}.")


def _package_of(path: str) -> dict[str, str] | None:
    """Name and version of the package that provides an import path."""
    module = path.replace(":", ".").partition(".")[0]
    names = metadata.packages_distributions().get(module)
    return {"name": names[0], "version": metadata.version(names[0])} if names else None


def _git_commit() -> str | None:
    """The git commit of this package if it is run from a checkout, with "-dirty" if files have been changed."""
    if not (ROOT / ".git").exists():
        return None
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changed is None else commit + ("-dirty" if changed else "")


def _git(*words: str) -> str | None:
    """Output of a git command, or None. It takes no lock, since a lock would be left behind if the command is killed."""
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
