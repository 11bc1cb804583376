"""Model files that are damaged, truncated or made to harm end in one line of text, never in a crash."""

import struct

import numpy as np
import pytest
from core_models import made
from core_programs import CHECKED, harmful, objects_of, program, run
from mlpot._ext.core import CoreModel

pytestmark = pytest.mark.slow

MODELS = ("two elements", "order 4", "three bodies", "glue", "pairs alone", "two many-body terms")
CHECKS = {
    "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=2000:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The program under AddressSanitizer and UBSan."""
    folder = tmp_path_factory.mktemp("checked")
    return program("gcc", "c", objects_of("gcc", folder, CHECKED), folder, CHECKED)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contents")

    def content(name):
        file = folder / f"{name}.mlpot"
        if not file.exists():
            made(name).export_core(file)
        return file.read_bytes()

    return content


def refused(content, file, match):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        CoreModel(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("where", "what", "match"), [
    (slice(0, 4), b"HDF5", "is not a model file"), (slice(8, 12), struct.pack("=I", 99), "format version 99.*version 3"),
    (slice(12, 16), b"\x01\x02\x03\x04", "another order of bytes"), (slice(16, 17), b"\x07", "truncated or damaged"),
    (slice(24, 28), struct.pack("=I", 2**31), "checksum"),
])  # fmt: skip
def test_another_header(contents, tmp_path, where, what, match):
    content = bytearray(contents("glue"))
    content[where] = what
    refused(content, tmp_path / "m.mlpot", match)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"none\.mlpot: cannot be opened"):
        CoreModel(tmp_path / "none.mlpot")


def test_truncated_files_are_refused(contents, tmp_path):
    content = contents("glue")
    for size in [0, 1, 63, 64, *np.linspace(65, len(content) - 1, 40).astype(int)]:
        refused(content[:size], tmp_path / "m.mlpot", "truncated|is not a model file")


def test_no_flipped_byte_passes(contents, tmp_path):
    content, rng = contents("two elements"), np.random.default_rng(0)
    places = [*range(0, 64), *rng.integers(64, len(content), 60)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        refused(damaged, tmp_path / "m.mlpot", "damaged|truncated|is not|version|another order")


@pytest.mark.parametrize("name", MODELS)
def test_files_made_to_harm(checked, contents, tmp_path, name):
    """Sealed again, so that the checks of sizes and indices are reached; every file that loads is evaluated too."""
    rng, content = np.random.default_rng(MODELS.index(name)), contents(name)
    files = []
    for k in range(100):
        files.append(tmp_path / f"{k}.mlpot")
        files[-1].write_bytes(harmful(content, rng))
    lines = run([checked, 0, *files], env=CHECKS).splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "std", "refused"}
    assert sum(line.startswith("refused") for line in lines) > 20
