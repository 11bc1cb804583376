"""Labelled data as files have them: which key is taken for which label, what is not used, and what there is in all."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ase import Atoms

from .errors import ConfigError
from .label_keys import KINDS, OWN, LabelKeys, Taken, keys_of, take_labels
from .structure_files import Files, read_files
from .structures import DEFAULT_CONFIG_TYPE, name_of

log = logging.getLogger(__name__)
MOST_NAMED = 12


@dataclass(frozen=True)
class FileContents:
    """What a file has: numbers of structures and of structures with a label, and families and elements with theirs."""

    name: str
    structures: int
    energies: int
    forces: int
    stresses: int
    config_types: dict[str, int]
    elements: list[str]


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
    than ASE's, and what looks like a label and was not taken, is said by a warning of the logger "mlpot.reading".

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
    return read_and_warn(files, LabelKeys(energy_key, forces_key, stress_key, virial_key))


def read_and_warn(files: Files, keys: LabelKeys) -> list[Atoms]:
    """As `read`."""
    data = read_labelled(files, keys)
    for note in data.notes:
        log.warning("%s", note)
    return data.frames


def read_labelled(files: Files, keys: LabelKeys = LabelKeys()) -> LabelledData:  # noqa: B008 (immutable)
    """As `read`, with a table of what there is and notes of what was taken."""
    found = read_files(files)
    _check_keys([atoms for _, frames in found for atoms in frames], keys)
    contents, notes = [], list[tuple[str, str]]()
    for file, frames in found:
        taken = [take_labels(atoms, keys, name_of(atoms, f"{file}[{k}]")) for k, atoms in enumerate(frames)]
        contents.append(contents_of(file, frames))
        notes += [(file, note) for note in _notes(taken, keys)]
    return LabelledData([atoms for _, frames in found for atoms in frames], contents, _merged(notes))


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


def _notes(taken: Sequence[Taken], keys: LabelKeys) -> list[str]:
    """What is to be said of a file."""
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
    unused = {key: text for t in taken for key, text in t.unused.items()}
    if unused:
        named = [f"{key!r} ({text})" for key, text in sorted(unused.items())]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        remedy = ", ".join(f"{kind}_key" for kind in KINDS)
        notes.append(f"not used: {', '.join(named[:MOST_NAMED])}{more}; if one is a label say so with {remedy}")
    flat = sum(t.atoms.cell.rank < 3 and "stress" in t.keys for t in taken)
    if flat:
        notes.append(f"the stress of {flat} structures without three cell vectors is not used")
    return notes


def _merged(notes: Iterable[tuple[str, str]]) -> list[str]:
    """One line for what is to be said of several files."""
    files: dict[str, list[str]] = {}
    for file, note in notes:
        files.setdefault(note, []).append(file)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {note}" for note, names in files.items()
    ]
