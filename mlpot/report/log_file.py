"""log.csv as arrays, of runs of any length, and what of them a figure can show."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import RunFolderError, quoted
from ..learning.log_format import LATER_COLUMNS, LOG_COLUMNS, WORDS

CHUNK = 2000
"""Rows that are text at a time: few enough for the processor's caches."""


def read_log(file: Path) -> dict[str, np.ndarray]:
    """Columns of log.csv, text as strings; nan where a cell is empty, an unfinished last line left out.

    Raises
    ------
    RunFolderError
        If there is no log, it lacks a column, holds no steps yet, or a cell that is no number.
    """
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            chunks = list(_chunks(handle, file))
    except FileNotFoundError as error:
        raise RunFolderError(f"{file.parent}: holds no {file.name}; name the folder of a learning run") from error
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(
            f"{file}: cannot be read: {quoted(error)}; restore it, or delete what follows the last whole line and --resume"
        ) from error
    if not chunks:
        raise RunFolderError(f"{file}: holds no steps yet; wait for the first label")
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in LOG_COLUMNS}


def _chunks(handle: TextIO, file: Path) -> Iterator[dict[str, np.ndarray]]:
    # a line without an end is being written right now
    reader = csv.reader(line for line in handle if line.endswith("\n"))
    heads = next(reader, list(LOG_COLUMNS))
    if missing := [name for name in LOG_COLUMNS if name not in heads and name not in LATER_COLUMNS]:
        raise RunFolderError(
            f"{file}: lacks the columns {missing}; it is of another version of mlpot, or no log of a run"
        )
    while rows := list(islice(reader, CHUNK)):
        columns = dict(zip(heads, zip(*rows, strict=True), strict=True))
        absent = ("",) * len(rows)
        yield {
            name: np.array(columns[name] if name in WORDS else [float(x or "nan") for x in columns.get(name, absent)])
            for name in LOG_COLUMNS
        }


def extremes(values: np.ndarray, n_stretches: int) -> np.ndarray:
    """Indices, in order, of the lowest and the highest value in each of `n` stretches: their line looks like the full one.

    All indices where there are no more than that anyway; a stretch without a number (nan) has none.
    """
    if len(values) <= 2 * n_stretches:
        return np.arange(len(values))
    ends = np.linspace(0, len(values), n_stretches + 1).astype(int)
    kept = [0, len(values) - 1]
    for begin, end in pairwise(ends):
        stretch = values[begin:end]
        if not np.all(np.isnan(stretch)):
            kept += [begin + int(np.nanargmin(stretch)), begin + int(np.nanargmax(stretch))]
    return np.unique(kept)
