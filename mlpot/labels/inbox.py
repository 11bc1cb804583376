"""The inbox: finished labels, written by the worker itself before it reports them.

A worker that has started a label finishes it even if the simulation that requested it is killed. Its claim tells the resumed
simulation to wait for the result instead of calculating it again.

A label with a doubtful energy stays here, as KEY.doubt-N, until another calculation confirms it or it is given up.
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
from ..structure_encoding import decode, encode, plain
from ..structures import bare_structure
from . import claims

INBOX = "inbox"
"""Name of the folder, inside the run folder."""
PATIENCE_SECONDS, PAUSE_SECONDS = 600.0, 5.0
"""Time for which a finished label waits for disk space, and interval between two attempts to write it."""
LASTING = (errno.EFBIG, errno.EMFILE)
"""Errors that waiting does not resolve: limits of the process (ulimit -f, ulimit -n)."""
log = logging.getLogger(__name__)


def label_into(labeller: Labeller, atoms: Atoms, inbox: Path, key: str | None = None) -> str:
    """Label a structure and write the result into the inbox; runs in the worker. Returns the key.

    Nothing is calculated if the result exists already, or if another living process is calculating the same label: then the result
    is not there yet, and `claims.Watch` tells when that process has finished.

    Parameters
    ----------
    labeller : Labeller
    atoms : ase.Atoms
    inbox : Path
        Created if it does not exist.
    key : str or None
        Name of the result; by default `key_of` this labeller and these atoms. A different one if the labeller replaces the
        requested one with other parameters.

    Raises
    ------
    LabelError
        If the labeller fails; nothing is left in the inbox.
    RunFolderError
        If the inbox cannot be written. Either nothing has been calculated, or the result is in the file named in the message.
    """
    key, inbox = key or key_of(labeller, atoms), inbox.absolute()
    claim = claim_of(inbox, key)
    try:
        inbox.mkdir(exist_ok=True)
        if claims.take(claim) is not None:
            return key
    except OSError as error:
        raise RunFolderError(
            f"{inbox}: cannot be written: {error}; free disk space or correct the permissions, then continue with --resume"
        ) from error
    try:
        if not (inbox / f"{key}.json").exists():
            # large files of a calculation are removed after its result is on disk
            with claims.beating(claim), scratch_folder():
                deliver(inbox, key, atoms, labeller.label(atoms))
    finally:
        try:
            claims.release(claim)
        except OSError as error:  # the claim ends with this process; the result of the label matters more
            log.warning("%s: cannot be removed: %s", claim, error)
    return key


def deliver(inbox: Path, key: str, atoms: Atoms, label: Label) -> None:
    """Write a result into the inbox, durably; or to the local disk if the inbox cannot be written.

    Raises
    ------
    RunFolderError
        If the inbox cannot be written: the result is then on the local disk of this host, where `recover` finds it. If that disk
        is full as well, the function waits for space before it gives up.
    """
    text = json.dumps(_encoded(atoms, label))
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
            log.warning("a finished label cannot be written: %s; %s", error, problem)
            if time.monotonic() > deadline or {error.errno, problem.errno} <= set(LASTING):
                remedy = REMEDIES.get(error.errno or 0, "; free disk space or correct the permissions, then continue with --resume")
                raise RunFolderError(
                    f"{inbox}: a finished label is lost: it can be written neither here ({error}) nor elsewhere ({problem}){remedy}"
                ) from error
            time.sleep(PAUSE_SECONDS)
    raise RunFolderError(
        f"{inbox}: a finished label cannot be written here: {error}; it is in {rescued} on {host()}: free disk space or correct the "
        f"permissions, then continue with --resume on that host, or first move the file to {inbox / (key + '.json')}"
    ) from error


def recover(inbox: Path, key: str) -> None:
    """Move a result that a worker of this host had to write to the local disk into the inbox, if there is one."""
    rescued = _rescued(inbox, key)
    if not rescued.exists() or rescued.stat().st_uid != os.getuid():  # anybody may write into a temporary folder
        return
    write_text(inbox / f"{key}.json", rescued.read_text(encoding="utf-8"))
    rescued.unlink()
    log.info("recovered a label for %s from %s", inbox, rescued)


def _rescued(inbox: Path, key: str) -> Path:
    return Path(tempfile.gettempdir()) / f"mlpot-{os.getuid()}-{key}.json"


def claim_of(inbox: Path, key: str) -> Path:
    """The claim of a worker on a label."""
    return inbox / f"{key}.claim"


def take(inbox: Path, key: str) -> tuple[Atoms, Label] | None:
    """The structure and label under a key, or None."""
    file = inbox / f"{key}.json"
    try:
        return _decoded(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        # cannot happen to a file that was renamed into place; never delete what may be a label
        log.warning("%s cannot be read (%s); it is kept as %s.unreadable", file, error, file.name)
        file.rename(f"{file}.unreadable")
        return None


def discard(inbox: Path, key: str) -> None:
    """Remove a result that has been stored in labels.db, and the doubted results under its key."""
    (inbox / f"{key}.json").unlink(missing_ok=True)
    for file in doubts(inbox, key):
        file.unlink(missing_ok=True)


def set_aside(inbox: Path, key: str) -> None:
    """Mark a result as doubted: it no longer counts as a result, but is kept."""
    number = len(doubts(inbox, key)) + 1
    os.replace(inbox / f"{key}.json", inbox / f"{key}.doubt-{number}")
    flush(inbox)


def doubts(inbox: Path, key: str) -> list[Path]:
    """Files of the doubted results under a key, in order."""
    return sorted(inbox.glob(f"{key}.doubt-*"), key=lambda file: int(file.suffix.rpartition("-")[2]))


def read_doubt(file: Path) -> tuple[Atoms, Label]:
    """The structure and label in the file of a doubted result."""
    return _decoded(json.loads(file.read_text(encoding="utf-8")))


def refuse(inbox: Path, key: str) -> None:
    """Set aside a result whose structure or parameters do not belong to its key."""
    file = inbox / f"{key}.json"
    log.warning(
        "%s: its structure or parameters do not match its name; it is kept as %s.refused", file, file
    )
    os.replace(file, f"{file}.refused")


def waiting(inbox: Path) -> list[str]:
    """Keys of the results in the inbox, in the order of writing."""
    files = sorted(inbox.glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return [file.stem for file in files]


def claimed(inbox: Path) -> list[str]:
    """Keys on which a process works, or worked when it was killed."""
    return sorted(claim.stem for claim in inbox.glob("*.claim"))


def tidy(inbox: Path) -> None:
    """Remove claims and incomplete files of processes that have ended."""
    for claim in inbox.glob("*.claim"):
        holder = claims.read(claim)
        if holder is not None and not (holder and is_alive(holder)):
            claims.remove(claim, holder)
    remove_leftovers(inbox, shared=True)


def _encoded(atoms: Atoms, label: Label) -> dict:
    return plain({"structure": encode(bare_structure(atoms)), "label": asdict(label)})


def _decoded(values: dict) -> tuple[Atoms, Label]:
    label = Label(**values["label"])
    stress = None if label.stress is None else np.array(label.stress)
    others = {name: np.array(value) for name, value in label.others.items()}
    return decode(values["structure"]), replace(label, forces=np.array(label.forces).reshape(-1, 3), stress=stress, others=others)
