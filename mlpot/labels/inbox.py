"""Labels on their way: written by the worker itself, before anyone hears of them.

A worker that has begun finishes even when the simulation that asked was killed: its claim tells the resumed
simulation to wait for the result instead of paying twice.

A label whose energy is doubted stays here, as KEY.doubt-N, until another calculation confirms it or it is given up.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ..durable import flush, remove_leftovers, write_text
from ..errors import REMEDIES, RunFolderError
from ..labellers.protocol import Label, Labeller, key_of
from ..labellers.scratch import scratch_folder
from ..processes import host, is_alive
from . import claims

PATIENCE_SECONDS, PAUSE_SECONDS = 600.0, 5.0
"""How long a finished label waits for room on a disk, and how often it looks."""
LASTING = (errno.EFBIG, errno.EMFILE)
"""What no waiting ends: limits of the process that writes (ulimit -f, ulimit -n)."""
log = logging.getLogger(__name__)


def label_into(labeller: Labeller, atoms: Atoms, inbox: Path, key: str | None = None) -> str:
    """Label a structure and leave the result in the inbox; runs in the worker. Returns the key.

    Nothing is calculated when the result is there already. When another living process is at the same label, this one
    leaves it to that: the result is not there yet then, and `claims.Watch` tells when it is.

    Parameters
    ----------
    labeller : Labeller
    atoms : ase.Atoms
    inbox : Path
        Made if it does not exist.
    key : str or None
        The name of the result; by default the `key_of` this labeller and these atoms. Another one when the labeller stands
        in for that which was asked for, with other parameters.

    Raises
    ------
    LabelError
        If the labeller does not deliver; nothing is left in the inbox.
    RunFolderError
        If the inbox cannot be written. Either nothing has been calculated, or the result is in the file that the message
        names.
    """
    key, inbox = key or key_of(labeller, atoms), inbox.absolute()
    claim = claim_of(inbox, key)
    try:
        inbox.mkdir(exist_ok=True)
        if claims.take(claim) is not None:
            return key
    except OSError as error:
        raise RunFolderError(f"{inbox}: cannot be written: {error}; make room or permission and --resume") from error
    try:
        if not (inbox / f"{key}.json").exists():
            # big files of a calculation are removed after its result is on the disk
            with claims.beating(claim), scratch_folder():
                deliver(inbox, key, atoms, labeller.label(atoms))
    finally:
        try:
            claims.release(claim)
        except OSError as error:  # it ends with this process; what the label came to is more important
            log.warning("%s: cannot be removed: %s", claim, error)
    return key


def deliver(inbox: Path, key: str, atoms: Atoms, label: Label) -> None:
    """Write a result into the inbox, durably; elsewhere when the inbox does not take it.

    Raises
    ------
    RunFolderError
        If the inbox cannot be written: the result is on this host's local disk then, where `recover` finds it. When that
        is full as well, it waits for room before it gives up; not for limits of the process, which do not change.
    """
    text = json.dumps(_to_dict(atoms, label))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return write_text(inbox / f"{key}.json", text)
        except OSError as problem:
            error = problem
        try:
            rescued = _rescued(inbox, key)
            write_text(rescued, text)
            break
        except OSError as problem:
            log.warning("a finished label finds no room: %s; %s", error, problem)
            if time.monotonic() > deadline or {error.errno, problem.errno} <= set(LASTING):
                remedy = REMEDIES.get(error.errno or 0, "; make room or permission and --resume")
                raise RunFolderError(
                    f"{inbox}: a finished label is lost, for it cannot be written: {error}, nor {problem}{remedy}"
                ) from error
            time.sleep(PAUSE_SECONDS)
    raise RunFolderError(
        f"{inbox}: a finished label cannot be written there: {error}; it is in {rescued} on {host()}: make room or "
        f"permission and --resume on that host, or move it to {inbox / (key + '.json')} first"
    ) from error


def recover(inbox: Path, key: str) -> None:
    """Move in a result that a worker of this host had to leave on the local disk, if there is one."""
    rescued = _rescued(inbox, key)
    if not rescued.exists() or rescued.stat().st_uid != os.getuid():  # anybody may write into a temporary folder
        return
    write_text(inbox / f"{key}.json", rescued.read_text(encoding="utf-8"))
    rescued.unlink()
    log.info("a label that had found no room in %s was found in %s", inbox, rescued)


def _rescued(inbox: Path, key: str) -> Path:
    return Path(tempfile.gettempdir()) / f"mlpot-{os.getuid()}-{key}.json"


def claim_of(inbox: Path, key: str) -> Path:
    """The file that says that a living worker is at a label."""
    return inbox / f"{key}.claim"


def take(inbox: Path, key: str) -> tuple[Atoms, Label] | None:
    """The structure and label under a key, or None."""
    file = inbox / f"{key}.json"
    try:
        return _from_dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        # cannot happen to a file that was renamed into place; never delete what may be a label
        log.warning("%s cannot be read (%s); it is kept as %s.unreadable", file, error, file.name)
        file.rename(f"{file}.unreadable")
        return None


def discard(inbox: Path, key: str) -> None:
    """Remove a result that has been stored elsewhere, and those that it was preferred to."""
    (inbox / f"{key}.json").unlink(missing_ok=True)
    for file in doubts(inbox, key):
        file.unlink(missing_ok=True)


def set_aside(inbox: Path, key: str) -> None:
    """Doubt a result: it no longer counts as one, and is not lost."""
    number = len(doubts(inbox, key)) + 1
    os.replace(inbox / f"{key}.json", inbox / f"{key}.doubt-{number}")
    flush(inbox)


def doubts(inbox: Path, key: str) -> list[Path]:
    """The files of doubted results under a key, the first one first."""
    return sorted(inbox.glob(f"{key}.doubt-*"), key=lambda file: int(file.suffix.rpartition("-")[2]))


def read_doubt(file: Path) -> tuple[Atoms, Label]:
    """The structure and label in one of them."""
    return _from_dict(json.loads(file.read_text(encoding="utf-8")))


def refuse(inbox: Path, key: str) -> None:
    """Put a result away that is not what its name says."""
    file = inbox / f"{key}.json"
    log.warning(
        "%s is of another structure, or other parameters, than its name says; it is kept as %s.refused", file, file
    )
    os.replace(file, f"{file}.refused")


def waiting(inbox: Path) -> list[str]:
    """Keys of the results in the inbox, in the order in which they were written."""
    files = sorted(inbox.glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return [file.stem for file in files]


def claimed(inbox: Path) -> list[str]:
    """Keys that a process works at, or did when it was killed."""
    return sorted(claim.stem for claim in inbox.glob("*.claim"))


def tidy(inbox: Path) -> None:
    """Remove what killed processes left behind: claims of the dead, half-written files."""
    for claim in inbox.glob("*.claim"):
        holder = claims.read(claim)
        if holder is not None and not (holder and is_alive(holder)):
            claims.remove(claim, holder)
    remove_leftovers(inbox, shared=True)


def _to_dict(atoms: Atoms, label: Label) -> dict:
    structure = {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
    }
    for name, array in (("charges", "initial_charges"), ("magmoms", "initial_magmoms")):
        if atoms.has(array):
            structure[name] = atoms.get_array(array).tolist()
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(label).items()}
    return {"structure": structure, "label": plain}


def _from_dict(values: dict) -> tuple[Atoms, Label]:
    label = Label(**values["label"])
    stress = None if label.stress is None else np.array(label.stress)
    return Atoms(**values["structure"]), replace(label, forces=np.array(label.forces).reshape(-1, 3), stress=stress)
