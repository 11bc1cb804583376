"""Copies of HDF5 files without a checksum, made by a separate process.

HDF5 itself crashes on some damaged files and never finishes with others. A separate process reads the file and writes it again, so
that this process opens a file that HDF5 has just written. It takes half a second, and only files of versions without a seal need it.
"""

from __future__ import annotations

import io
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py

from ..errors import quoted
from .stored import harmless

CPU_SECONDS, BYTES_PER_SECOND = 20, 10_000_000
"""Processor time of a copy, and what it is extended by; reading takes a hundredth."""
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from mlpot.data.h5_copy import main; main(sys.argv[2])"
REFUSED = 3
"""Exit code where the file was read and is no file of mlpot: the reason is on standard error."""


def clean_copy(file: Path) -> bytes:
    """The data sets of a file, and its attributes, as the bytes of a new one.

    Raises
    ------
    ValueError
        If HDF5 crashes on the file or never ends, or it holds entries that mlpot does not write.
    """
    done = copied_by_a_process(file)
    if done.returncode == REFUSED:
        raise ValueError(done.stderr.decode(errors="replace"))
    if done.returncode < 0:
        raise ValueError(f"HDF5 fails to read it and ends with {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise ValueError(f"it could not be copied: {quoted(done.stderr.decode(errors='replace').strip()[-200:])}")
    return done.stdout


def copied_by_a_process(file: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", COMMAND, str(ROOT), str(file)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def main(file: str) -> None:
    """In the process: the copy on standard output, or what is wrong on standard error."""
    limit = CPU_SECONDS + Path(file).stat().st_size // BYTES_PER_SECOND
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    try:
        content = copied(Path(file))
    except Exception as error:  # h5py raises whatever HDF5's many errors happen to become
        sys.stderr.write(str(error) or type(error).__name__)
        sys.exit(REFUSED)
    sys.stdout.buffer.write(content)


def copied(file: Path) -> bytes:
    """As `clean_copy`, in this process."""
    content = io.BytesIO()
    with h5py.File(file, "r") as old, h5py.File(content, "w") as new:
        for name, item in harmless(old, file.stat().st_size).items():
            new.create_dataset(name, data=item[()], dtype=item.dtype)
        for name, value in old.attrs.items():
            new.attrs[name] = value
    return content.getvalue()
