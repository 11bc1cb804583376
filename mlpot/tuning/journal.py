"""The journal of a search: an SQLite file in which every trial is written before it counts.

A row is written when a trial is asked for, and completed when its result is there; both are committed and on the disk before the
search goes on. Rows are replayed in their order when a search is resumed, so that the optimiser is where it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..durable import as_run_folder_error
from ..errors import RunFolderError

TABLES = """
create table if not exists search (key text primary key, value text not null);
create table if not exists trials (
    number integer primary key, step text not null, values_json text not null, asked integer not null, told integer unique,
    outcome_json text
);
"""
VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """Result of one trial.

    Parameters
    ----------
    forces, energies, cost : float or None
        Errors on left-out groups or test structures (eV/A and eV/atom), and us/atom; None without labels or without a measurement.
    seconds : float
        Processor time of the trial.
    n_fits : int
        Full fits that it took.
    failure : str or None
        Why these settings have no errors.
    details : dict
        More about the trial, as JSON can hold it.
    """

    forces: float | None = None
    energies: float | None = None
    cost: float | None = None
    seconds: float = 0.0
    n_fits: int = 0
    failure: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """Settings and what came of them.

    Parameters
    ----------
    number : int
        From 0, in the order in which trials were asked for.
    step : str
    values : dict
        Settings by their path.
    asked, told : int
        Positions among all events of the search; `told` is None while the trial is running.
    outcome : Outcome or None
    """

    number: int
    step: str
    values: dict[str, Any]
    asked: int
    told: int | None = None
    outcome: Outcome | None = None

    @property
    def key(self) -> str:
        """Text that is the same for the same step and settings."""
        return self.step + json.dumps(self.values, sort_keys=True)


class Journal:
    """Trials on the disk.

    Parameters
    ----------
    file : Path or ":memory:"
    search : mapping
        What identifies the search: settings, data and seed.
    resume : bool
        Continue the search in the file; otherwise it must not exist.

    Raises
    ------
    RunFolderError
        If the file exists without `resume`, is of another search, or is damaged.
    """

    def __init__(self, file: Path | str, search: Mapping[str, Any], resume: bool = False):
        self.file = file
        if file != ":memory:":
            exists = Path(file).exists()
            if exists and not resume:
                raise RunFolderError(f"{file}: is the journal of an earlier search; continue it with --resume, or delete it")
        with as_run_folder_error(Path(file)):
            self._db = sqlite3.connect(str(file), isolation_level=None, timeout=1.0)
            try:
                self._open(search)
            except BaseException:
                self._db.close()
                raise
        self._n_events = max([-1, *(e for t in self.trials for e in (t.asked, t.told) if e is not None)]) + 1

    def _open(self, search: Mapping[str, Any]) -> None:
        self._db.execute("pragma locking_mode = exclusive")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(TABLES)
        text = json.dumps({"version": VERSION, **search}, sort_keys=True)
        self._db.execute("begin exclusive")
        self._db.execute("insert or ignore into search values ('search', ?)", (text,))
        found = self._db.execute("select value from search where key = 'search'").fetchone()[0]
        self._db.execute("commit")
        if found != text:
            old, new = json.loads(found), json.loads(text)
            changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
            raise RunFolderError(
                f"{self.file}: was begun with other {', '.join(changed)}; restore them, or begin again without --resume and "
                "without this file"
            )
        self._trials = [_trial(row) for row in self._db.execute("select * from trials order by number")]

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        return list(self._trials)

    def events(self) -> list[tuple[str, Trial]]:
        """("asked" or "told", trial) in the order in which these happened."""
        found = [(t.asked, "asked", t) for t in self._trials]
        found += [(t.told, "told", t) for t in self._trials if t.told is not None]
        return [(kind, trial) for _, kind, trial in sorted(found, key=lambda event: event[0])]

    def ask(self, step: str, values: Mapping[str, Any]) -> Trial:
        """Write a new trial; it is on the disk afterwards."""
        trial = Trial(len(self._trials), step, dict(values), self._n_events)
        with as_run_folder_error(Path(self.file)):
            self._db.execute(
                "insert into trials values (?, ?, ?, ?, null, null)",
                (trial.number, step, json.dumps(trial.values, sort_keys=True), trial.asked),
            )
        self._n_events += 1
        self._trials.append(trial)
        return trial

    def tell(self, trial: Trial, outcome: Outcome) -> Trial:
        """Write the outcome of a trial; it is on the disk afterwards."""
        done = replace(trial, told=self._n_events, outcome=outcome)
        with as_run_folder_error(Path(self.file)):
            self._db.execute(
                "update trials set told = ?, outcome_json = ? where number = ? and told is null",
                (done.told, json.dumps(asdict(outcome), sort_keys=True), trial.number),
            )
        self._n_events += 1
        self._trials[trial.number] = done
        return done

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _trial(row: tuple[Any, ...]) -> Trial:
    number, step, values, asked, told, outcome = row
    try:
        return Trial(number, step, json.loads(values), asked, told, None if outcome is None else Outcome(**json.loads(outcome)))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"trial {number}: cannot be read ({error}); delete the journal and begin again") from error
