"""The last output of an electronic-structure code, short and without control characters, for messages."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from ..errors import printable

LINES, MOST = 3, 300
NEAR_END = 60
"""Lines at the end of a text: a complaint among them is quoted, as codes print a stack or timings after it."""
COMPLAINT = re.compile(
    r"\b(error|abort|fatal|severe|not found|not recogni[sz]ed|unknown|illegal|invalid|failed|exceeded|killed)", re.IGNORECASE
)
READ_BYTES = 20_000
MOST_FILES = 1000
COMPLAINTS = ("*.err", "*.stderr", "stderr*", "*.error", "CRASH")
OUTPUTS = ("*.out", "*.log", "*.pwo", "*.stdout", "stdout*", "OUTCAR", "*.txt")


def tail(text: str) -> str:
    """The last complaint of a text, or its last lines, as one line without control characters, its beginning cut."""
    lines = [printable(words) for line in text.splitlines() if (words := line.strip(" \t\r*%|#=-"))]
    end = max(len(lines) - LINES, 0)
    complaints = [k for k in range(max(len(lines) - NEAR_END, 0), len(lines)) if COMPLAINT.search(lines[k])]
    first = min(complaints[-1], end) if complaints else end
    said = " | ".join(lines[first : first + LINES])
    return said if len(said) <= MOST else "..." + said[3 - MOST :]


def of_file(file: Path) -> str:
    """The last lines of a file; "" if it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - READ_BYTES))
            return tail(stream.read(READ_BYTES).decode(errors="replace"))
    except OSError:
        return ""


def of_folder(folder: Path) -> str:
    """Name and last lines of the newest error file in a folder, or else of the newest output file; "" if there is none."""
    files = [file for file in islice(folder.rglob("*"), MOST_FILES) if file.is_file() and not file.is_symlink()]
    for patterns in (COMPLAINTS, OUTPUTS):
        named = [file for file in files if any(file.match(pattern) for pattern in patterns)]
        for file in sorted(named, key=lambda file: file.stat().st_mtime_ns, reverse=True):
            if said := of_file(file):
                return f"{printable(file.name)}: {said}"
    return ""
