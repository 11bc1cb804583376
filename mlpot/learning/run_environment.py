"""What a run was started with: its configuration and the versions of all programs, kept in its folder."""

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

from ..durable import write_text
from ..errors import RunFolderError
from ..labels.store import speaking

CONFIG, ENVIRONMENT = "config.toml", "environment.json"
PACKAGES = ("numpy", "scipy", "ase", "h5py")
log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]


def keep_origin(folder: Path, text: str, calculator: str) -> None:
    """Keep the configuration and the versions that a run starts, or goes on, with.

    A configuration that differs from the last one is kept beside it as config_2.toml, config_3.toml, ...

    Parameters
    ----------
    folder : Path
        Of the run, held by this process.
    text : str
        Of the configuration file.
    calculator : str
        Import path of the calculator that makes labels.

    Raises
    ------
    RunFolderError
        If the folder cannot be written.
    """
    with speaking(folder):
        kept = configurations(folder)
        if not kept or kept[-1].read_text(encoding="utf-8") != text:
            write_text(folder / _config_name(len(kept) + 1), text)
        starts = _known_starts(folder)
        now = environment([calculator])
        if not starts or {**starts[-1], "at": None} != {**now, "at": None}:
            write_text(folder / ENVIRONMENT, json.dumps([*starts, now], indent=1))


def _known_starts(folder: Path) -> list[dict[str, Any]]:
    """`environments`; a file that cannot be read is put aside, for a run does not need it to go on."""
    try:
        return environments(folder)
    except RunFolderError as error:
        aside = folder / f"{ENVIRONMENT}.unreadable"
        log.warning("%s; kept as %s", error, aside)
        os.replace(folder / ENVIRONMENT, aside)
        return []


def configurations(folder: Path) -> list[Path]:
    """Files of the configurations of a run, the first one first."""
    found: list[Path] = []
    while (file := folder / _config_name(len(found) + 1)).exists():
        found.append(file)
    return found


def environments(folder: Path) -> list[dict[str, Any]]:
    """Versions with which the run of a folder was started and continued; none where it was not by `mlpot learn`.

    Raises
    ------
    RunFolderError
        If the file cannot be read, or is no list of tables.
    """
    file = folder / ENVIRONMENT
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{file}: cannot be read: {error}; delete it, the run does not need it") from error
    if not isinstance(found, list) or not all(isinstance(start, dict) for start in found):
        raise RunFolderError(f"{file}: is not a list of tables; delete it, the run does not need it")
    return found


def environment(calculators: Iterable[str]) -> dict[str, Any]:
    """Versions of mlpot, of what it stands on, and of the packages of these calculators (import paths); None where unknown."""
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
    """Name and version of the package that an import path leads into."""
    module = path.replace(":", ".").partition(".")[0]
    names = metadata.packages_distributions().get(module)
    return {"name": names[0], "version": metadata.version(names[0])} if names else None


def _git_commit() -> str | None:
    """The commit of the checkout that this package is run from, marked when files differ from it."""
    if not (ROOT / ".git").exists():
        return None
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changed is None else commit + ("-dirty" if changed else "")


def _git(*words: str) -> str | None:
    """What git says of the checkout, or None; it takes no lock, which would stay behind when it takes too long."""
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
