"""labels.db: all labels of a run in an ASE database; a label is on disk before it is used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.db
import ase.db.core
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.db.row import AtomsRow

from ..durable import as_run_folder_error, atomic_write
from ..errors import MlpotError, RunFolderError, quoted
from ..labellers.protocol import Label, energy_doubt
from ..structures import stress_voigt

FILE, OTHERS = "labels.db", "other_results"
"""The database, and the name in the data of a row of what a label has besides energy, forces and stress."""


@dataclass(frozen=True)
class StoredLabel:
    """A row of labels.db: its id, the key of the label, and the structure with its results attached."""

    id: int
    key: str
    atoms: Atoms


class LabelStore:
    """The labels of a run folder, in the order in which they were added.

    A label is added once: adding the same key again returns the row that is there. Nothing is created before the first label;
    several processes may read while one adds. Results that workers have left in the inbox are not here yet, see `Arrivals`.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Raises
    ------
    RunFolderError
        If labels.db cannot be read; in any method that writes, if it cannot be written.
    """

    def __init__(self, folder: str | Path):
        self.folder, self.file = Path(folder), Path(folder) / FILE
        self._db = _connect(self.file)
        self._ids: dict[str, int] = {}
        self._energies: dict[bytes, list[float]] = {}
        self._load()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: str) -> bool:
        return key in self._ids

    @property
    def keys(self) -> list[str]:
        """Keys of the labels, in the order of the rows."""
        return list(self._ids)

    def add(
        self,
        key: str,
        atoms: Atoms,
        label: Label,
        data: dict[str, Any] | None = None,
        **values: float | int | str,
    ) -> int:
        """Store a label durably; returns the id of its row. A key that exists keeps its row.

        Parameters
        ----------
        key : str
            `key_of` the labeller and the structure.
        atoms : ase.Atoms
            The structure as it was labelled.
        label : Label
        data : dict
            Arrays to store with it.
        **values
            Numbers and strings to store with it, as ASE's key-value pairs.
        """
        if key in self._ids:
            return self._ids[key]
        values |= {"label_key": key, "label_seconds": label.seconds}
        values |= {"calculator_path": str(label.settings.get("calculator"))}
        with as_run_folder_error(self.file):
            if not self.file.exists():
                self._create()
            try:
                with self._durable():
                    number = self._db.write(
                        _row(key, atoms, label), data={**(data or {}), "settings": label.settings, OTHERS: label.others}, **values
                    )
            except sqlite3.IntegrityError:  # the key exists: another process has added the label
                self._load()
                if key not in self._ids:
                    raise
            else:
                self._ids[key] = number  # not before the commit, which may still fail
                self._note_energy(atoms.numbers, label.energy)
        return self._ids[key]

    def find(self, key: str) -> StoredLabel | None:
        """The label under a key, or None."""
        return self.get(key) if key in self._ids else None

    def get(self, key: str) -> StoredLabel:
        """The label under a key that is in the database."""
        with _reading(self.file):
            row = self._db.get(id=self._ids[key])
            return StoredLabel(row.id, key, _whole(row))

    def seconds(self, key: str) -> float:
        """Wall time of the calculation of a label, s."""
        with _reading(self.file):
            return float(self._db.get(id=self._ids[key]).key_value_pairs["label_seconds"])

    def frames(self) -> list[Atoms]:
        """All structures with their results, in order."""
        return [_whole(row) for row in self.rows()]

    def rows(self) -> list[AtomsRow]:
        """All rows as ASE's AtomsRow, in order: for reports."""
        return read_rows(self.file.parent)

    def annotate(self, key: str, data: dict[str, Any] | None = None, **values: float | int | str) -> None:
        """Add information to a row: numbers and strings as ASE's key-value pairs, arrays as data."""
        with as_run_folder_error(self.file), self._durable():
            self._db.update(self._ids[key], data=data, **values)

    def doubt(self, atoms: Atoms, label: Label) -> str | None:
        """Why an energy is implausible among those of the same composition, or None: see `protocol.energy_doubt`."""
        others = self._energies.get(_composition(atoms.numbers), [])
        return energy_doubt(label.energy / len(atoms), others)

    def _note_energy(self, numbers: np.ndarray, energy: float) -> None:
        self._energies.setdefault(_composition(numbers), []).append(energy / len(numbers))

    def _load(self) -> None:
        if not self.file.exists():
            return
        with _reading(self.file):
            rows = list(self._db.select(columns=["id", "key_value_pairs", "numbers", "energy"], sort="id"))
            self._ids = {str(row.key_value_pairs["label_key"]): int(row.id) for row in rows}
            if len(self._ids) < len(rows):
                raise ValueError("two rows have the same label_key")
            self._energies.clear()
            for row in rows:
                self._note_energy(np.array(row.numbers, int), float(row.energy))

    def _create(self) -> None:
        """Create an empty database atomically: ASE commits each table separately, and a part of them cannot be opened."""
        with atomic_write(self.file) as temporary:
            _connect(temporary).count()

    @contextmanager
    def _durable(self) -> Iterator[None]:
        """A transaction that is on disk at the end: by default SQLite does not flush the folder."""
        with self._db:
            self._db.connection.execute("PRAGMA synchronous = EXTRA")
            yield


def read_rows(folder: str | Path) -> list[AtomsRow]:
    """All rows of the labels.db in a run folder as ASE's AtomsRow, in order.

    Raises
    ------
    RunFolderError
        If labels.db cannot be read.
    """
    file = Path(folder) / FILE
    if not file.exists():
        return []
    with _reading(file):
        rows = list(_connect(file).select(sort="id"))
        for row in rows:
            _whole(row)
        return rows


def _composition(numbers: np.ndarray) -> bytes:
    return np.sort(numbers).astype(np.int64).tobytes()


def _connect(file: Path):
    # without ASE's lock file, which a killed process would leave behind permanently; SQLite locks by itself
    return ase.db.connect(file, type="db", use_lock_file=False)


def _row(key: str, atoms: Atoms, label: Label) -> AtomsRow:
    """The row for a label; the key is its unique id, so that no process can add the label twice."""
    results: dict[str, Any] = {"energy": label.energy, "free_energy": label.energy, "forces": label.forces}
    if label.stress is not None:
        results["stress"] = stress_voigt(label.stress)
    if (dipole := label.others.get("dipole")) is not None and dipole.shape == (3,):
        results["dipole"] = dipole  # where ASE and `mlpot fit labels.db` look for it
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.calc.name = str(label.settings.get("calculator")).rpartition(".")[2]  # shown by `ase db labels.db`
    row: Any = AtomsRow(atoms)
    row.unique_id, row.ctime, row.user = key, ase.db.core.now(), None
    return row


def _whole(row: AtomsRow) -> Atoms:
    """The structure of a row with its results; ValueError if the row is damaged."""
    if not isinstance(row.data, dict) or not isinstance(row.key_value_pairs, dict):
        raise ValueError(f"data or key_value_pairs of row {row.id} are not tables")
    atoms = row.toatoms()
    atoms.calc.results.update({name: np.asarray(value, float) for name, value in row.data.get(OTHERS, {}).items()})
    n = len(atoms)
    shapes: dict[str, tuple[int, ...]] = {"numbers": (n,), "positions": (n, 3), "cell": (3, 3), "pbc": (3,)}
    shapes |= {"forces": (n, 3), "energy": ()}
    values = {name: np.asarray(row[name], float) for name in shapes}
    if "stress" in row:
        shapes["stress"], values["stress"] = (6,), np.asarray(row["stress"], float)
    for name, value in values.items():
        if value.shape != shapes[name] or not np.all(np.isfinite(value)):
            raise ValueError(f"the {name} of row {row.id} are not finite numbers of shape {shapes[name]}")
    if not np.all((atoms.numbers > 0) & (atoms.numbers < len(chemical_symbols))):
        raise ValueError(f"the atomic numbers of row {row.id} are not chemical elements")
    return atoms


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise RunFolderError for any error while reading a database."""
    try:
        yield
    except MlpotError:
        raise
    except Exception as error:  # sqlite3 and ase.db raise many kinds
        why = quoted(f"{type(error).__name__}: {error}", 200)
        raise RunFolderError(f"{file}: cannot be read: {why}; restore it from a backup") from error
