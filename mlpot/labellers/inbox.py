"""Labels on their way: written by the worker itself, before anyone hears of them.

A worker that has begun finishes even when the simulation that asked was killed: its claim tells the resumed simulation
to wait for the result instead of paying twice.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ..durable import write_text
from ..processes import identity, is_alive
from .protocol import Label, Labeller, key_of

POLL_SECONDS = 0.2
log = logging.getLogger(__name__)


def label_into(labeller: Labeller, atoms: Atoms, inbox: Path) -> str:
    """Label a structure and leave the result in the inbox; runs in the worker. Returns the key.

    Raises
    ------
    LabelError
        If the labeller does not deliver; nothing is left in the inbox.
    """
    key = key_of(labeller, atoms)
    claim = inbox / f"{key}.claim"
    write_text(claim, json.dumps(identity()))
    try:
        write_text(inbox / f"{key}.json", json.dumps(_to_dict(atoms, labeller.label(atoms))))
    finally:
        claim.unlink(missing_ok=True)
    return key


def wait_for_claim(inbox: Path, key: str) -> None:
    """Return when no living worker is at this label; a dead one's claim is removed."""
    claim = inbox / f"{key}.claim"
    while True:
        try:
            owner = json.loads(claim.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        if not is_alive(owner):
            claim.unlink(missing_ok=True)
            return
        log.info("a worker (pid %s) is still at this label; waiting for it", owner["pid"])
        time.sleep(POLL_SECONDS)


def take(inbox: Path, key: str) -> tuple[Atoms, Label] | None:
    """The structure and label under a key, or None."""
    file = inbox / f"{key}.json"
    try:
        values = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError:
        # cannot happen to a file that was renamed into place; never delete what may be a label
        log.warning("%s cannot be read; it is kept as %s.unreadable", file, file)
        file.rename(f"{file}.unreadable")
        return None
    return _from_dict(values)


def discard(inbox: Path, key: str) -> None:
    """Remove a result that has been stored elsewhere."""
    (inbox / f"{key}.json").unlink(missing_ok=True)


def waiting(inbox: Path) -> list[str]:
    """Keys of the results in the inbox, in the order in which they were written."""
    files = sorted(inbox.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    return [file.stem for file in files]


def _to_dict(atoms: Atoms, label: Label) -> dict:
    structure = {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "charges": atoms.get_initial_charges().tolist(),
        "magmoms": atoms.get_initial_magnetic_moments().tolist(),
    }
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(label).items()}
    return {"structure": structure, "label": plain}


def _from_dict(values: dict) -> tuple[Atoms, Label]:
    label = Label(**values["label"])
    stress = None if label.stress is None else np.array(label.stress)
    return Atoms(**values["structure"]), replace(label, forces=np.array(label.forces).reshape(-1, 3), stress=stress)
