"""Labels on their way: written by the worker itself, before anyone hears of them.

A worker that has begun finishes even when the simulation that asked was killed: its claim tells the resumed
simulation to wait for the result instead of paying twice.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ..durable import remove_leftovers, write_text
from ..errors import LabelError, RunFolderError
from ..processes import is_alive
from . import claims
from .protocol import Label, Labeller, key_of

LEFTOVER_SECONDS = 3600.0
log = logging.getLogger(__name__)


def label_into(labeller: Labeller, atoms: Atoms, inbox: Path) -> str:
    """Label a structure and leave the result in the inbox; runs in the worker. Returns the key.

    When another process is at the same label, this one waits for that result instead of making its own.

    Raises
    ------
    LabelError
        If the labeller does not deliver; nothing is left in the inbox. If the result cannot be written there,
        it is in the file that the message names.
    RunFolderError
        If the inbox cannot be written; nothing has been calculated then.
    """
    key = key_of(labeller, atoms)
    claim = inbox / f"{key}.claim"
    try:
        inbox.mkdir(exist_ok=True)
        while claims.take(claim) is not None:
            claims.wait_until_free(claim)
    except OSError as error:
        raise RunFolderError(f"{inbox}: cannot be written: {error}; make room or permission and --resume") from error
    try:
        if not (inbox / f"{key}.json").exists():
            with claims.beating(claim):
                label = labeller.label(atoms)
            deliver(inbox, key, atoms, label)
    finally:
        claims.release(claim)
    return key


def deliver(inbox: Path, key: str, atoms: Atoms, label: Label) -> None:
    """Write a result into the inbox, durably; elsewhere when the inbox does not take it.

    Raises
    ------
    LabelError
        If the inbox cannot be written.
    """
    text = json.dumps(_to_dict(atoms, label))
    try:
        write_text(inbox / f"{key}.json", text)
    except OSError as error:
        # an hour of computing must not be lost to a full disk
        rescued = Path(tempfile.gettempdir()) / f"mlpot-{key}.json"
        write_text(rescued, text)
        raise LabelError(
            f"{inbox}: a finished label cannot be written there: {error}; it is in {rescued}: "
            f"move it to {inbox / (key + '.json')} and --resume"
        ) from error


def wait_for_claim(inbox: Path, key: str) -> None:
    """Return when no living worker is at this label; a dead one's claim is removed."""
    claims.wait_until_free(inbox / f"{key}.claim")


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
    """Remove a result that has been stored elsewhere."""
    (inbox / f"{key}.json").unlink(missing_ok=True)


def waiting(inbox: Path) -> list[str]:
    """Keys of the results in the inbox, in the order in which they were written."""
    files = sorted(inbox.glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return [file.stem for file in files]


def tidy(inbox: Path) -> None:
    """Remove what killed processes left behind: claims of the dead, half-written files."""
    for claim in inbox.glob("*.claim"):
        holder = claims.read(claim)
        if holder is not None and not (holder and is_alive(holder)):
            claims.remove(claim, holder)
    remove_leftovers(inbox, LEFTOVER_SECONDS)


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
