"""labels.db, damaged byte by byte and cell by cell."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
from fuzzing import Target, flipped
from labelling import key, random_label, structure

from mlpot.labels.store import FILE, LabelStore

CELLS = [None, 0, -1, 2**40, 1e308, float("nan"), float("inf"), "", "x", "\x1b[31m", b"", b"\x00" * 7, b"\xff" * 48, "[1, 2]", "{}",
         "null", '{"label_key": 3}', "[" * 5000]  # fmt: skip
COLUMNS = ("id", "unique_id", "ctime", "numbers", "positions", "cell", "pbc", "initial_magmoms", "constraints", "calculator",
           "calculator_parameters", "energy", "free_energy", "forces", "stress", "key_value_pairs", "data", "natoms")  # fmt: skip


def make(folder: Path, variant: int) -> None:
    store = LabelStore(folder)
    for seed in range(3):
        store.add(key(seed), structure(seed), random_label(seed), data={"known": np.arange(3.0)})


def read(folder: Path) -> tuple:
    """All that a run that resumes, and a report, take from it."""
    store = LabelStore(folder)
    found = [store.get(name) for name in store.keys]
    rows = store.rows()
    kept = [(label.key, label.atoms.positions, label.atoms.get_forces(), label.atoms.get_potential_energy()) for label in found]
    seconds = [store.seconds(name) for name in store.keys]
    return tuple(kept), tuple(seconds), tuple((row.id, row.positions) for row in rows)


def damage_bytes(folder: Path, rng: np.random.Generator) -> str:
    file = folder / FILE
    data, what = flipped(file.read_bytes(), rng)
    file.write_bytes(data)
    return what


def damage_cell(folder: Path, rng: np.random.Generator) -> str:
    """Another value, half of it, or a part of the text, in a cell; or a table that is gone."""
    database = sqlite3.connect(folder / FILE)
    database.text_factory = bytes
    try:
        if rng.random() < 0.05:
            table = str(rng.choice(["systems", "text_key_values", "number_key_values", "keys", "species", "information"]))
            database.execute(f"DROP TABLE {table}")
            return f"{table} dropped"
        column, number = str(rng.choice(COLUMNS)), int(rng.integers(1, 4))
        (old,) = database.execute(f"SELECT {column} FROM systems WHERE id = ?", (number,)).fetchone()
        new = CELLS[int(rng.integers(len(CELLS)))]
        if isinstance(old, bytes) and rng.random() < 0.6:
            new = flipped(old, rng)[0] if old else b"x"
            new = new.decode("latin-1") if column in ("key_value_pairs", "data") and rng.random() < 0.5 else new
        database.execute(f"UPDATE OR REPLACE systems SET {column} = ? WHERE id = ?", (new, number))
        return f"{column} of {number}: {json.dumps(repr(new)[:60])}"
    except (sqlite3.Error, OverflowError) as error:
        return f"nothing: {error}"
    finally:
        database.commit()
        database.close()


TARGETS = {
    "labels.db bytes": Target(make, damage_bytes, read, same=False),
    "labels.db cells": Target(make, damage_cell, read, same=False),
}
