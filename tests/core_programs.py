"""The core compiled into programs, by every compiler there is; model files taken apart and put together again."""

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "cython_ext" / "core"
PROGRAM = ROOT / "tests" / "core" / "evaluate.c"
QUIET = ["-Wno-psabi", "-Wno-unknown-pragmas", "-Wno-unknown-warning-option"]
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-DMLPOT_DISPATCH=0"]
LINE = 64
INTEGERS = (-(2**31), -1, 0, 1, 7, 8, 12, 127, 65536, 2**24, 2**28, 2**31 - 1)
REALS = (-1e300, -1.0, 0.0, 5e-324, 1e-9, 1e9, 1e300, float("inf"), float("nan"))


def run(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def objects_of(compiler, folder, flags=()):
    """The files of the core as objects, without optimisation: compiled in a fifth of the time."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    found = []
    for source in sorted(CORE.glob("*.c")):
        found.append(folder / f"{source.stem}.o")
        run([compiler, "-std=gnu11", "-O0", *QUIET, *flags, f"-I{CORE}", "-c", source, "-o", found[-1]])
    return found


def program(compiler, language, objects, folder, flags=()):
    """`evaluate.c` as C or C++, with every warning an error."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    standard = {"c": "-std=c11", "c++": "-std=c++17"}[language]
    name = folder / f"evaluate-{language}"
    caller = folder / f"caller-{language}.o"
    run([compiler, "-x", language, standard, *STRICT, *flags, f"-I{CORE}", "-c", PROGRAM, "-o", caller])
    run([compiler, *flags, caller, *objects, "-lm", "-o", name])
    return name


def sections(content):
    """Type, offset and count of every section of a model file, by name."""
    (n,) = struct.unpack_from("=I", content, 24)
    found = {}
    for k in range(n):
        name, kind, _, offset, count = struct.unpack_from("=40sIIQQ", content, LINE * (1 + k))
        found[name.rstrip(b"\0").decode()] = (kind, offset, count)
    return found


def sealed(content):
    """The bytes with the checksum that belongs to them."""
    content = bytearray(content)
    content[60:64] = struct.pack("=I", zlib.crc32(content[64:], zlib.crc32(content[:60])))
    return bytes(content)


def harmful(content, rng):
    """The file with one number, name, type, offset or count that does not belong there, and the checksum that does."""
    damaged, found = bytearray(content), sections(content)
    names = [name for name, (_, _, count) in found.items() if count]
    name = names[rng.integers(len(names))]
    kind, offset, count = found[name]
    record = 64 * (1 + list(found).index(name))
    choice = rng.integers(10)
    if choice < 7:
        width = 8 if kind == 1 else 4
        value = INTEGERS[rng.integers(len(INTEGERS))] if kind == 2 else REALS[rng.integers(len(REALS))]
        with np.errstate(over="ignore"):
            value = np.array(value, {1: np.float64, 2: np.int32, 3: np.float32}[kind]).tobytes()
        place = offset + width * int(rng.integers(count))
        damaged[place : place + width] = value
    elif choice == 7:
        damaged[record + int(rng.integers(64))] ^= 1 << int(rng.integers(8))
    elif choice == 8:
        damaged[record + 48 : record + 64] = struct.pack("=QQ", 64 * int(rng.integers(2**40)), int(rng.integers(2**62)))
    else:
        other = 64 * (1 + int(rng.integers(len(found))))
        damaged[record : record + 40], damaged[other : other + 40] = damaged[other : other + 40], damaged[record : record + 40]
    return sealed(damaged)
