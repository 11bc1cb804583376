"""Labels that have failed for good: FAILED/KEY.json describes the request and each try, FAILED/KEY/ has the files.

A label with a record is not calculated again. Delete the record to request it again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ..durable import write_text
from ..structure_encoding import encode, plain
from . import last_words

KEPT_BYTES = 20_000_000
"""Size limit for the saved scratch files of a try: inputs, outputs and logs; wave functions and densities are larger."""
UNNAMED = "failed-"
FILES, PROCESS, OUTPUT = "files: ", "process: ", "output of the labelling process:\n"
"""Prefixes of notes that are added to an error and travel with it between hosts."""
LOG_BYTES = 6000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Try:
    """One try that failed.

    Parameters
    ----------
    error : str
        The error that was raised, or what is wrong with the result.
    settings : dict
        Calculator and parameters that were used.
    log : str
        The end of the output, and the traceback.
    files : str or None
        Folder with the files of the try.
    """

    error: str
    settings: dict[str, Any]
    log: str = ""
    files: str | None = None

    @classmethod
    def of(cls, error: BaseException, settings: dict[str, Any]) -> Try:
        """From the exception of an executor's future."""
        files = files_of(error)
        notes = [note for note in getattr(error, "__notes__", ()) if not note.startswith((FILES, PROCESS))]
        said = str(error) or type(error).__name__
        printed = last_words.tail(_note(error, OUTPUT) or "")
        said += f"; it printed: {printed}" if printed else ""
        return cls(said, settings, "\n".join(notes)[-LOG_BYTES:], None if files is None else str(files))


def keep(folder: Path, scratch: Iterable[Path], output: str, error: BaseException) -> Path:
    """Move the files of a failed task into a new folder inside `folder`.

    Small files first, up to `KEPT_BYTES` in total; the other files are listed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(prefix=UNNAMED, dir=folder))
    (target / "output.log").write_text(output, encoding="utf-8")
    (target / "error.txt").write_text("\n".join([str(error), *getattr(error, "__notes__", ())]), encoding="utf-8")
    room, left_out = KEPT_BYTES, []
    for source in scratch:
        files = [file for file in source.rglob("*") if file.is_file() and not file.is_symlink()]
        (target / source.name).mkdir()
        for file in sorted(files, key=lambda file: file.stat().st_size):
            size = file.stat().st_size
            if size > room:
                left_out.append(f"{size:15d} {file.relative_to(source.parent)}")
                continue
            room -= size
            copy = target / file.relative_to(source.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, copy)
    if left_out:
        (target / "left_out.txt").write_text("\n".join(["          bytes file", *left_out]) + "\n", encoding="utf-8")
    return target


def note_files(error: BaseException, folder: Path) -> None:
    """Add a note with the place of the files to an error."""
    error.add_note(f"{FILES}{folder}")


def files_of(error: BaseException) -> Path | None:
    """Location of the files of a failed task, if they were saved."""
    note = _note(error, FILES)
    return None if note is None else Path(note)


def note_output(error: BaseException, output: str) -> None:
    """Add a note with the output of the process to an error."""
    error.add_note(f"{OUTPUT}{output}")


def note_process(error: BaseException, process: dict) -> None:
    """Add a note with the `identity` of the process that has ended to an error."""
    error.add_note(f"{PROCESS}{json.dumps(process)}")


def process_of(error: BaseException) -> dict | None:
    """The identity of the process that has ended with an error, if it is known."""
    note = _note(error, PROCESS)
    return None if note is None else json.loads(note)


def _note(error: BaseException, kind: str) -> str | None:
    notes = (note for note in getattr(error, "__notes__", ()) if note.startswith(kind))
    return next((note.removeprefix(kind) for note in notes), None)


def record(folder: Path, key: str, atoms: Atoms, settings: dict[str, Any], tries: list[Try]) -> str:
    """Record that a label has failed for good; returns the reason in one line.

    Parameters
    ----------
    folder : Path
        FAILED; created if it does not exist.
    key : str
    atoms : ase.Atoms
    settings : dict
        The requested calculator and parameters.
    tries : list of Try

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    home = folder / key
    shutil.rmtree(home, ignore_errors=True)  # of an earlier request, whose record was deleted
    kept = []
    for number, one in enumerate(tries, start=1):
        if one.files is not None and Path(one.files).exists():
            home.mkdir(exist_ok=True)
            os.replace(one.files, home / f"try-{number}")
            one = Try(one.error, one.settings, one.log, f"{key}/try-{number}")
        kept.append(asdict(one))
    structure = {"symbols": str(atoms.symbols), **plain(encode(atoms))}
    line = _line(tries)
    values = {"key": key, "failure": line, "settings": settings, "structure": structure, "tries": kept}
    write_text(folder / f"{key}.json", json.dumps(values, indent=1))
    log.warning("%s; recorded in %s: delete it to request this label again", line, folder / f"{key}.json")
    return line


def _line(tries: list[Try]) -> str:
    first = next((text for text in tries[-1].error.splitlines() if text.strip()), "no reason given")
    return f"no label in {len(tries)} tr{'y' if len(tries) == 1 else 'ies'}: {first}"


def find(folder: Path, key: str) -> str | None:
    """Why a label has failed for good, or None if it has not.

    A record that cannot be read counts as a failure, since it was written because of one.
    """
    file = folder / f"{key}.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["failure"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        return f"recorded as failed in {file}, which cannot be read ({error}); delete it to request the label again"


def forget(tries: Iterable[Try]) -> None:
    """Delete the files of failed tries of a label that has succeeded."""
    for one in tries:
        if one.files is not None:
            shutil.rmtree(one.files, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Delete files of tries without a record, which a killed simulation has left."""
    for left in folder.glob(f"{UNNAMED}*"):
        with suppress(OSError):
            shutil.rmtree(left)
