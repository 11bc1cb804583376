"""Some frames of a trajectory of any length, without reading the others."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import ase.io
import numpy as np
from ase import Atoms

from ..structures import read_structures

XYZ = (".xyz", ".extxyz")
LOOKS = 5
"""Steps that are looked at in one place for one of which all beads are there."""
STEP = re.compile(r"\bstep=(\d+)")


def sampled_frames(file: Path, number: int) -> list[Atoms]:
    """Evenly spaced frames, `number` at most; an extended XYZ file may be growing, and only what is wanted of it is read.

    Raises
    ------
    DataError
        If a file of another format cannot be read.
    """
    if file.suffix not in XYZ:
        frames = read_structures(file)
        return [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, number).astype(int))]
    if not file.is_file():
        read_structures(file)  # raises a clear error
    found = {begin: text for begin, text in _texts(file, number)}
    return [frame for _, text in sorted(found.items()) for frame in ase.io.iread(io.StringIO(text), format="extxyz")]


def sampled_steps(file: Path, number: int, n_beads: int) -> dict[int, list[Atoms]]:
    """All beads of evenly spaced steps, `number` at most, by step; of steps of which all beads are there."""
    found: dict[int, str] = {}
    with open(file, "rb") as handle:
        for _ in _places(handle, number):
            for step, texts in islice(_steps(handle), LOOKS):
                if len(texts) == n_beads:
                    found[step] = "".join(texts)
                    break
    return {step: list(ase.io.iread(io.StringIO(text), format="extxyz")) for step, text in sorted(found.items())}


def _steps(handle: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Steps from here on with the texts of their beads; of the first one some may be missing."""
    step, texts = -1, list[str]()
    while (frame := _next_frame(handle)) is not None:
        now = STEP.search(frame[1])
        if now is None:
            return
        if texts and int(now[1]) != step:
            yield step, texts
            texts = []
        step = int(now[1])
        texts.append(frame[1])
    if texts:
        yield step, texts


def _places(handle: BinaryIO, number: int) -> Iterator[None]:
    """Stand at the beginnings of lines that are evenly spaced in a file, one after the other."""
    size = handle.seek(0, io.SEEK_END)
    for place in np.linspace(0, size, number, endpoint=False).astype(int).tolist():
        handle.seek(place)
        if place:
            handle.readline()  # the rest of a line
        yield


def _texts(file: Path, number: int) -> Iterator[tuple[int, str]]:
    """Place and text of the first whole frame after each of evenly spaced places."""
    with open(file, "rb") as handle:
        for _ in _places(handle, number):
            if (frame := _next_frame(handle)) is not None:
                yield frame


def _next_frame(handle: BinaryIO) -> tuple[int, str] | None:
    """Place and text of the first whole frame from here on: a number, a comment with the columns, that number of lines."""
    begin, line = handle.tell(), handle.readline()
    while line:
        following, comment = handle.tell(), handle.readline()
        if line.strip().isdigit() and b"Properties=" in comment:
            lines = [line, comment, *(handle.readline() for _ in range(int(line)))]
            return (begin, b"".join(lines).decode()) if lines[-1].endswith(b"\n") else None
        begin, line = following, comment
    return None
