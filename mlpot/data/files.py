"""Structure files as people name them: one, several, a glob, a folder, some frames of one; whatever ase.io reads, and i-PI's xyz."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import ase.db
import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, open_with_compression, string2index

from ..errors import DataError, counted, quoted
from .extended_xyz import read_extended_xyz
from .formats import is_deepmd, reader_of
from .ipi_xyz import is_ipi_xyz, read_ipi_xyz

Files = str | Path | Sequence[str | Path]
DATABASES = ("db", "json", "aselmdb")
COMPRESSED = (".gz", ".bz2", ".xz")
ENDINGS = (
    ".xyz",
    ".extxyz",
    ".traj",
    ".db",
    ".aselmdb",
    ".json",
    ".xml",
    ".out",
    ".cif",
    ".vasp",
    *COMPRESSED,
)
"""Names of files that are read from a folder, in addition to names that begin with one of `BEGINNINGS`."""
UNKNOWN_FORMAT = (
    "cannot be read as a structure file: its format is not known; write what it holds as extended XYZ, with labels, by ase.io.write"
)
BEGINNINGS = ("OUTCAR", "XDATCAR", "vasprun")
VASP_RUN = ("vasprun.xml", "OUTCAR", "XDATCAR")


@dataclass(frozen=True)
class StructureFile:
    """A file with its frames, and a count of steps by what they are instead of frames."""

    name: str
    frames: list[Atoms]
    skipped: Counter[str]


def read_files(files: Files) -> list[StructureFile]:
    """Every file that `files` names, and its frames; `info["frame"]` says where a frame is from.

    Frames whose electronic steps have not converged have the key `UNCONVERGED` in info.

    Parameters
    ----------
    files : str, Path or sequence of them
        A file, a glob ("runs/*/OUTCAR"), a folder (its structure files, without subfolders), some frames of a file
        in ASE's way ("file.xyz@0:100:5"), or the folder of a DeePMD system, which counts as a file.

    Raises
    ------
    DataError
        A name without a file, a file that cannot be read (with the frame, where that can be told), or no structure at all.
    """
    names = [files] if isinstance(files, str | Path) else files
    if not isinstance(names, Sequence) or not all(isinstance(name, str | Path) for name in names):
        raise DataError(f"{quoted(files)} names no file; give a path, a glob, or a list of them")
    found: list[StructureFile] = []
    for name in names:
        found += [_read(file, index) for file, index in _named(str(name))]
    if not any(file.frames for file in found):
        instead = sum((file.skipped for file in found), Counter[str]())
        said = " and ".join(f"{n} {what}" for what, n in instead.items())
        raise DataError(f"{files}: holds no structures" + (f" but {said}" if said else ""))
    return found


def _named(name: str) -> list[tuple[str, int | slice]]:
    """As `_expanded`; names that cannot be those of files are errors."""
    if not name.strip():
        raise DataError(f"{name!r} names no file; give a path, a glob, or a list of them")
    try:
        return _expanded(name)
    except OSError as error:
        raise DataError(f"{quoted(name)}: {error.strerror}; give the path of a file that can be read") from error


def _expanded(name: str) -> list[tuple[str, int | slice]]:
    """The files behind one name, sorted, and which of their frames are meant."""
    path, index = name, cast("int | slice", slice(None))
    if "@" in Path(name).name and not Path(name).exists():
        path, text = name.rsplit("@", 1)
        index = _index(name, text)
    if Path(path).is_file() or is_deepmd(Path(path)):
        return [(path, index)]
    if Path(path).is_dir():
        names = {file.name for file in Path(path).iterdir() if file.is_file() and _is_of_structures(file)}
        files = sorted(str(Path(path) / name) for name in names - _repeated(names))
        if not files:
            raise DataError(f"{name}: no structure file in this folder; name files, or a glob such as {path}/*.xyz")
    else:
        found = glob.glob(path, recursive=True)
        files = sorted(file for file in found if Path(file).is_file() or is_deepmd(Path(file)))
        if not files and glob.has_magic(path):
            raise DataError(f"{name}: no file matches; give a glob relative to the working directory")
        if not files:
            raise DataError(
                f"{name}: no such file; give the path of a structure file relative to the working directory"
            )
    return [(file, index) for file in files]


def _index(name: str, text: str) -> int | slice:
    """The frames behind an @."""
    index: int | slice | str = text
    with suppress(ValueError):
        index = string2index(text)
    if isinstance(index, str) or (isinstance(index, slice) and index.step == 0):
        raise DataError(f"{name}: {text!r} does not say which frames; write file@start:stop:step, such as file@0:100:5")
    return index


def _repeated(names: set[str]) -> set[str]:
    """Files of one VASP run that repeat, with fewer digits or compressed, what another one holds."""
    there = [run + end for run in VASP_RUN for end in ("", *COMPRESSED) if run + end in names]
    return set(there[1:])


def _is_of_structures(file: Path) -> bool:
    return not file.name.startswith(".") and (file.suffix.lower() in ENDINGS or file.name.startswith(BEGINNINGS))


def _read(file: str, index: int | slice) -> StructureFile:
    """The frames of one file that an index means, numbered as in the whole file."""
    skipped = Counter[str]()
    frames = _frames(file, skipped)
    if isinstance(index, slice) and _counts_from_the_start(index):
        numbered = list(islice(enumerate(frames), index.start, index.stop, index.step))
    else:
        numbered = list(enumerate(frames))
        try:
            numbered = numbered[index] if isinstance(index, slice) else [numbered[index]]
        except IndexError as error:
            raise DataError(f"{file}@{index}: the file has {counted(len(numbered), 'frame')}; choose one of them") from error
    for k, atoms in numbered:
        if isinstance(atoms.info.get("frame", ""), str):  # a number of the user's own stays
            atoms.info["frame"] = f"{file}[{k}]"
    return StructureFile(file, [atoms for _, atoms in numbered], skipped)


def _counts_from_the_start(index: slice) -> bool:
    """Whether frames behind the last one meant need not be read."""
    return (index.start or 0) >= 0 and (index.stop is None or index.stop >= 0) and (index.step or 1) > 0


def _frames(file: str, skipped: Counter[str]) -> Iterator[Atoms]:
    """Frame by frame, so that an error says where it is."""
    k, kind = 0, ""
    try:
        kind = _kind(file)
        reader = reader_of(file, kind)
        for atoms in reader(file, skipped) if reader else _database(file) if kind in DATABASES else _plain(file, kind):
            yield atoms
            k += 1
    except Exception as error:  # ase.io raises whatever its many parsers happen to
        is_by_frames = k > 0 or kind == "extxyz"
        where = f"{file}[{k}]" if is_by_frames else file  # the first one tells nothing of a file that is no structure file
        if isinstance(error, DataError):
            raise DataError(f"{where}: {error}") from error
        if isinstance(error, UnknownFileTypeError):
            raise DataError(f"{where}: {UNKNOWN_FORMAT}") from error
        raise DataError(f"{where}: cannot be read as a structure file: {_said(error)}; repair or remove it") from error


def _said(error: Exception) -> str:
    """Message of an error, on one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no text in {error.encoding}"
    if isinstance(error, KeyError):
        return f"{error} is not known there (a chemical symbol?)"
    return " ".join(str(error).split())[:300] or type(error).__name__


def _kind(file: str) -> str:
    """ASE's name of the format; extended XYZ also where atoms of a lone frame are none."""
    if Path(file).is_dir():
        return ""
    try:
        kind = filetype(file)
    except UnknownFileTypeError:
        kind = "extxyz" if file.endswith(("xyz", ".xyz.gz")) else ""
    return "extxyz" if _begins_as_extended_xyz(file) else kind


def _begins_as_extended_xyz(file: str) -> bool:
    """A number of atoms, and a comment that names columns or a cell: whatever the name of the file."""
    with open_with_compression(file, "rb") as handle:
        return re.match(rb"\s*[0-9]+[ \t]*\r?\n[^\r\n]*\b(Properties|Lattice)[ \t]*=", handle.read(10_000)) is not None


def _plain(file: str, kind: str) -> Iterator[Atoms]:
    if kind in ("xyz", "extxyz") and is_ipi_xyz(file):
        return read_ipi_xyz(file)
    if kind == "extxyz":
        return read_extended_xyz(file)
    return ase.io.iread(file, index=":", do_not_split_by_at_sign=True)


def _database(file: str) -> Iterator[Atoms]:
    """Rows of an ASE database; key-value pairs and data, which ase.io leaves out, are in info."""
    with ase.db.connect(file, serial=True) as rows:
        for row in rows.select():
            atoms = row.toatoms()
            atoms.info.update({**_flat(row.get("data", {})), **row.key_value_pairs})
            yield atoms


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables in tables as one: {"dft": {"energy": 1}} has the key "dft_energy"."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        inner = _flat(value) if isinstance(value, Mapping) else {}
        flat |= {f"{key}_{name}": below for name, below in inner.items()} if inner else {key: value}
    return flat
