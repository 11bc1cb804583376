"""labels.db: every label ever paid for, an ASE database on the disk before anyone uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.db
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import RunFolderError
from ..labellers import inbox
from ..labellers.protocol import Label
from ..structures import stress_voigt

FILE = "labels.db"


@dataclass(frozen=True)
class StoredLabel:
    """A row of labels.db: its id, the key it was paid under, and the structure with results attached."""

    id: int
    key: str
    atoms: Atoms


class LabelStore:
    """The labels of a run folder, in the order in which they were added.

    A label is added once: the same key again returns the row that is there. Results that workers left in the inbox are
    moved in first, so a label that was paid for just before a crash is found.

    Parameters
    ----------
    folder : Path
        The run folder.

    Raises
    ------
    RunFolderError
        If labels.db cannot be read.
    """

    def __init__(self, folder: Path):
        self.file = folder / FILE
        self.inbox = folder / "inbox"
        self.inbox.mkdir(exist_ok=True)
        # Without ASE's lock file: one left by a killed process would block the next one for ever, and SQLite locks too.
        self._db = ase.db.connect(self.file, type="db", use_lock_file=False)
        try:
            rows = list(self._db.select(columns=["id", "key_value_pairs"])) if self.file.exists() else []
        except Exception as error:  # sqlite3 and ase.db raise many kinds
            raise RunFolderError(f"{self.file}: cannot be read: {error}; restore it from a backup") from error
        self._ids: dict[str, int] = {row.key_value_pairs["label_key"]: row.id for row in rows}
        for key in inbox.waiting(self.inbox):
            self.collect(key)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: str) -> bool:
        return key in self._ids

    @property
    def keys(self) -> list[str]:
        """Keys in the order of the rows."""
        return list(self._ids)

    def collect(self, key: str) -> StoredLabel | None:
        """The label under a key, from the database or else moved there from the inbox; None if it is in neither."""
        if key not in self._ids:
            found = inbox.take(self.inbox, key)
            if found is None:
                return None
            self._add(key, *found)
        inbox.discard(self.inbox, key)
        return self.get(key)

    def get(self, key: str) -> StoredLabel:
        """The label under a key that is in the database."""
        row = self._db.get(id=self._ids[key])
        return StoredLabel(row.id, key, row.toatoms())

    def annotate(self, key: str, data: dict[str, Any] | None = None, **values: float | int | str) -> None:
        """Add what the run knew when it asked: scalars as ASE's key-value pairs, arrays as data."""
        self._db.update(self._ids[key], data=data, **values)

    def _add(self, key: str, atoms: Atoms, label: Label) -> None:
        results: dict[str, Any] = {"energy": label.energy, "free_energy": label.energy, "forces": label.forces}
        if label.stress is not None:
            results["stress"] = stress_voigt(label.stress)
        atoms = atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, **results)
        self._ids[key] = self._db.write(
            atoms, label_key=key, label_seconds=label.seconds, calculator_path=str(label.settings.get("calculator")),
            data={"settings": label.settings},
        )  # fmt: skip

    def rows(self) -> list:
        """All rows as ASE's AtomsRow, in order: for reports."""
        return list(self._db.select(sort="id"))


