"""Labelled data as files have them: which key is taken for which label, what is not used, and what there is in all."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os.path import abspath

import numpy as np
from ase import Atoms

from ..errors import ConfigError, DataError, counted
from ..structures import DEFAULT_CONFIG_TYPE, is_isolated_atom, name_of
from .files import Files, StructureFile, read_files
from .formats import UNCONVERGED
from .label_keys import KINDS, OWN, LabelKeys, Taken, keys_of, take_labels

log = logging.getLogger(__name__)
MOST_NAMED = 12


@dataclass(frozen=True)
class FileContents:
    """Summary of a file: numbers of structures and of structures with each label, by config_type and element."""

    name: str
    structures: int
    energies: int
    forces: int
    stresses: int
    config_types: dict[str, int]
    elements: list[str]


@dataclass(frozen=True)
class DataSource:
    """Files whose labels have the same names.

    Parameters
    ----------
    files : str, Path or sequence of them
        As for `read`.
    keys : LabelKeys
    config_type : str or None
        The family of all their structures, in place of their own; isolated atoms keep theirs.
    where : str
        For messages: what a user calls it, such as "data.sets[0]".
    used : frozenset of str
        Keys that are used as labels of targets, so that they need no remark.
    """

    files: Files
    keys: LabelKeys = field(default_factory=LabelKeys)
    config_type: str | None = None
    where: str = ""
    used: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LabelledData:
    """Structures with their labels under ASE's names.

    Parameters
    ----------
    frames : list of ase.Atoms
        `info["frame"]` says file and number of each.
    files : list of FileContents
        For a table.
    notes : list of str
        Which keys were taken where they are not ASE's own, and numbers that look like labels and are not used.
    """

    frames: list[Atoms]
    files: list[FileContents]
    notes: list[str]


def read(
    files: Files,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
) -> list[Atoms]:
    """Structures with their labels attached by a SinglePointCalculator, whatever the labels are called in the file.

    Well-known names are found by themselves (energy, REF_energy, dft_energy, TotEnergy, ...). What was taken under other names
    than ASE's, and arrays that look like unused labels, are reported as warnings of the logger "mlpot.data.reading".

    Parameters
    ----------
    files : str, Path or sequence of them
        A file, a glob, a folder, or some frames of a file: "data.xyz@0:100:5".
    energy_key, forces_key : str
        Keys of total energies (eV) and forces (eV/A), where well-known names are not enough.
    stress_key : str
        Of stresses in ASE's sign, eV/A^3: 6 (xx yy zz yz xz xy), 9 or 3x3 numbers.
    virial_key : str
        Of virials = -stress * volume, eV, likewise.

    Raises
    ------
    DataError
        A file that cannot be read, a label that is no number or of a wrong shape, labels of a kind under two names that differ.
    ConfigError
        A key that no structure has.
    """
    return read_and_warn([DataSource(files, LabelKeys(energy_key, forces_key, stress_key, virial_key))])


def read_and_warn(sources: Sequence[DataSource]) -> list[Atoms]:
    """As `read`, of several sources."""
    data = read_sources(sources)
    for note in data.notes:
        log.warning("%s", note)
    return data.frames


def read_labelled(files: Files, keys: LabelKeys = LabelKeys()) -> LabelledData:  # noqa: B008 (immutable)
    """As `read`, with a table of what there is and notes of what was taken."""
    return read_sources([DataSource(files, keys)])


def read_sources(sources: Sequence[DataSource]) -> LabelledData:
    """As `read_labelled`, of files that differ in the names of their labels.

    Raises
    ------
    ConfigError
        If two of them name the same structure; also all errors of `read`.
    """
    frames, contents, notes = list[Atoms](), list[FileContents](), list[tuple[str, str]]()
    seen: dict[str, str] = {}
    left_out: dict[str, Counter[str]] = {}
    for source in sources:
        for found in _read_source(source):
            file, own = found.name, _converged(found, left_out)
            if source.where:
                _check_they_are_new(own, source, seen)
            taken = [take_labels(atoms, source.keys, name_of(atoms, f"{file}[{k}]")) for k, atoms in enumerate(own)]
            if source.config_type is not None:
                _name_family(own, source.config_type)
            frames += own
            contents.append(contents_of(file, own))
            notes += [(file, note) for note in _notes(taken, source.keys, source.used)]
    said = _said_of(left_out)
    if sources and not frames:
        raise DataError(f"no structure is left: {'; '.join(said)}")
    return LabelledData(frames, contents, said + _merged(notes))


def _converged(file: StructureFile, left_out: dict[str, Counter[str]]) -> list[Atoms]:
    """The frames of a file whose electronic steps have converged; `left_out` counts the others by reason and file."""
    kept = [atoms for atoms in file.frames if UNCONVERGED not in atoms.info]
    counts = Counter({"steps without electronic convergence": len(file.frames) - len(kept)}) + file.skipped
    for reason, n in counts.items():
        left_out.setdefault(reason, Counter())[file.name] += n
    return kept


def _said_of(left_out: dict[str, Counter[str]]) -> list[str]:
    """A line for every reason."""
    counts = {reason: files.total() for reason, files in left_out.items()}
    words = {reason: reason.replace("steps", "step", 1) if n == 1 else reason for reason, n in counts.items()}
    return [f"{_named(list(files))}: left out: {counts[reason]} {words[reason]}" for reason, files in left_out.items()]


def _read_source(source: DataSource) -> list[StructureFile]:
    """The files of a source with their frames; errors name the source."""
    try:
        found = read_files(source.files)
        _check_keys([atoms for file in found for atoms in file.frames], source.keys)
    except (ConfigError, DataError) as error:
        if not source.where:
            raise
        raise type(error)(f"{source.where}: {error}") from error
    return found


def _check_they_are_new(frames: Sequence[Atoms], source: DataSource, seen: dict[str, str]) -> None:
    """ConfigError for a structure of a file that another source has named; `seen` has their names, and gets these."""
    own = {abspath(name): name for atoms in frames if isinstance(name := atoms.info.get("frame"), str)}
    for absolute, name in own.items():
        if absolute in seen:
            raise ConfigError(f"{source.where}: {name} was named in {seen[absolute]} already; name it once")
    seen |= dict.fromkeys(own, source.where)


def _name_family(frames: Iterable[Atoms], config_type: str) -> None:
    for atoms in frames:
        if not is_isolated_atom(atoms):
            atoms.info["config_type"] = config_type


def contents_of(name: str, frames: Iterable[Atoms]) -> FileContents:
    """A row of the table for structures with their labels attached."""
    frames = list(frames)
    results = [atoms.calc.results if atoms.calc is not None else {} for atoms in frames]
    families = Counter(str(atoms.info.get("config_type", DEFAULT_CONFIG_TYPE)) for atoms in frames)
    return FileContents(
        name=name,
        structures=len(frames),
        energies=sum("energy" in r or "free_energy" in r for r in results),
        forces=sum("forces" in r for r in results),
        stresses=sum("stress" in r and atoms.cell.rank == 3 for r, atoms in zip(results, frames, strict=True)),
        config_types=dict(sorted(families.items())),
        elements=sorted({symbol for atoms in frames for symbol in atoms.symbols}),
    )


def _check_keys(frames: Sequence[Atoms], keys: LabelKeys) -> None:
    """ConfigError for a key that no structure has."""
    there = sorted({key for atoms in frames for key in keys_of(atoms)})
    for kind, key in keys.given().items():
        if key in there:
            continue
        near = difflib.get_close_matches(key, there, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there[:MOST_NAMED]) or 'none'}"
        raise ConfigError(f"{kind}_key = {key!r}: no structure has such a key; {remedy}")


def _notes(taken: Sequence[Taken], keys: LabelKeys, used: frozenset[str]) -> list[str]:
    """Remarks on a file."""
    notes = []
    counts = {kind: Counter(t.keys[kind] for t in taken if kind in t.keys) for kind in ("energy", "forces", "stress")}
    strange = [
        f"{kind} from {key!r} ({n} of {len(taken)})"
        for kind, found in counts.items()
        for key, n in found.items()
        if key not in OWN[kind]
    ]
    if strange:
        notes.append(", ".join(strange))
    without = [
        f"{len(taken) - counts[kind][key]} of {len(taken)} structures have no {key!r}"
        for kind, key in keys.given().items()
        if kind in counts and counts[kind][key] < len(taken)
    ]
    notes += without
    unused = {key: text for t in taken for key, text in t.unused.items() if key not in used}
    if unused:
        named = [f"{key!r} ({text})" for key, text in sorted(unused.items())]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        remedy = ", ".join(f"{kind}_key" for kind in KINDS)
        notes.append(f"not used: {', '.join(named[:MOST_NAMED])}{more}; if one is a label say so with {remedy}")
    flat = sum(t.atoms.cell.rank < 3 and "stress" in t.keys and not np.any(t.atoms.calc.results["stress"]) for t in taken)
    if flat:
        notes.append(f"the stress, zero, of {counted(flat, 'structure')} without three cell vectors is not used")
    return notes


def _merged(notes: Iterable[tuple[str, str]]) -> list[str]:
    """One line for what is to be said of several files."""
    files: dict[str, list[str]] = {}
    for file, note in notes:
        files.setdefault(note, []).append(file)
    return [f"{_named(names)}: {note}" for note, names in files.items()]


def _named(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
