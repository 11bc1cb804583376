"""Extended XYZ, frame by frame: mistakes that ASE ignores, or reports without the frame, are errors here.

ASE looks for all frames before it reads the first, stops at an empty line, takes a negative number of atoms for none, and leaves out
columns that `Properties` does not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import StringIO, TextIOWrapper
from itertools import islice
from typing import cast

import ase.io
from ase import Atoms
from ase.io.formats import open_with_compression

from ..errors import DataError, quoted
from .comment_line import comment_line

MOST_COLUMNS = 10_000
"""Columns of a property."""
WITHOUT = "species:S:1:pos:R:3"
"""The columns of files that do not name them."""
NEEDED = {"an element": {"species", "symbols", "Z", "numbers"}, "positions": {"pos", "positions"}}
"""Names of columns, of which a structure needs one each."""


def read_extended_xyz(file: str) -> Iterator[Atoms]:
    """The frames of a file; empty lines between them, a byte-order mark and line ends of any system make no difference.

    Columns of numbers that `Properties` does not name are kept, three by three, as arrays called "columns_5_to_7" and so on.

    Raises
    ------
    DataError
        A number of atoms that is none or too large, lines with fewer columns than `Properties` says, `Properties` without elements or
        positions, a `pbc` that is not true or false, a label that is there twice. Other mistakes have the exceptions of ASE.
    """
    with open_with_compression(file, "rb") as handle, TextIOWrapper(handle, "utf-8-sig", "surrogateescape") as text:
        line = next(text, None)
        while line is not None:
            if not line.strip():
                line = next(text, None)
                continue
            frame = _lines_of_frame(line, text)
            vectors, line = _vectors(text)
            yield _parsed(frame, vectors)


def _lines_of_frame(first: str, lines: Iterator[str]) -> list[str]:
    """Count, comment and atoms."""
    if not re.fullmatch(r"[0-9]{1,12}", first.strip()):
        raise DataError(
            f"{quoted(first.strip())} is where the number of atoms should be; correct it, or the number of atoms of the frame before"
        )
    n_atoms = int(first)
    comment, rows = next(lines, ""), list(islice(lines, n_atoms))
    if len(rows) < n_atoms:
        raise DataError(f"the file ends within this frame, after {len(rows)} of {n_atoms} atoms; restore the file")
    frame = [first, comment, *rows]
    if strange := next((line for line in frame if re.search("[\udc80-\udcff]", line)), None):
        raise DataError(f"{quoted(strange.strip())} is no text in UTF-8; save the file in UTF-8")
    return frame


def _vectors(lines: Iterator[str]) -> tuple[list[str], str | None]:
    """Lines of cell vectors (ASE's VEC1 to VEC3) behind the atoms, and the next line."""
    vectors: list[str] = []
    for line in lines:
        if not line.lstrip().startswith("VEC"):
            return vectors, line
        vectors.append(line)
    return vectors, None


def _parsed(frame: list[str], vectors: list[str]) -> Atoms:
    """A structure from its lines and the lines of cell vectors behind them."""
    count, comment, *rows = frame
    values = comment_line(comment.strip())
    values["Properties"] = _all_columns(str(values.get("Properties", WITHOUT)), rows)
    text = StringIO("".join([count, comment if comment.strip() else "Properties\n", *rows, *vectors]))
    return cast(Atoms, ase.io.read(text, format="extxyz", properties_parser=lambda _: values))


def _all_columns(properties: str, rows: list[str]) -> str:
    """`Properties` completed by unnamed columns, if all lines have the same number of columns."""
    names, counts = properties.split(":")[::3], properties.split(":")[2::3]
    for what, known in NEEDED.items():
        if not known.intersection(names):
            raise DataError(f"Properties = {quoted(properties)} has no column for {what}; name it {' or '.join(sorted(known))}")
    if not all(count.isdecimal() and int(count) <= MOST_COLUMNS for count in counts):
        raise DataError(f"Properties: of one from 0 to {MOST_COLUMNS} columns are read; correct {quoted(properties)}")
    n_named, found = sum(map(int, counts)), [len(row.split()) for row in rows]
    short = next((k for k, n in enumerate(found) if n < n_named), None)
    if short is not None:
        line = quoted(rows[short].strip())
        raise DataError(f"atom {short} has {found[short]} columns instead of {n_named}: {line}; restore the line")
    if not found or len(set(found)) > 1 or found[0] == n_named or not _are_numbers(rows[0].split()[n_named:]):
        return properties
    return ":".join([properties, *_unnamed(n_named, found[0])])


def _unnamed(first: int, end: int) -> Iterator[str]:
    """Names of columns from `first` to `end`, counted from 0, by threes as vectors would be."""
    width = 3 if (end - first) % 3 == 0 else end - first
    for start in range(first, end, width):
        yield f"columns_{start + 1}_to_{start + width}:R:{width}"


def _are_numbers(words: Iterable[str]) -> bool:
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False
