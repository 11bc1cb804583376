"""The container of a model file for the core, byte by byte."""

import struct
import zlib

import numpy as np
import pytest

from mlpot.errors import ConfigError
from mlpot.models.core_file import packed

SECTIONS = {
    "a": np.arange(3.0), "b": np.array([7, -8]), "c": np.arange(3.0), "d": np.arange(5, dtype=np.float32), "e": np.zeros((2, 0)),
}  # fmt: skip


def test_layout():
    """As `model_file.h` says."""
    content = packed(SECTIONS)
    magic, version, order, size, n = struct.unpack_from("=8sIIQI", content)
    assert (magic, version, order, size, n) == (b"MLPOTCOR", 3, 0x01020304, len(content), 5)
    assert content[28:60] == bytes(32)
    assert struct.unpack_from("=I", content, 60) == (zlib.crc32(content[:60] + content[64:]),)
    found = {}
    for k, (name, array) in enumerate(SECTIONS.items()):
        written, kind, zero, offset, count = struct.unpack_from("=40sIIQQ", content, 64 * (1 + k))
        assert (written.rstrip(b"\0").decode(), zero, count, offset % 64) == (name, 0, array.size, 0)
        kinds = {1: np.float64, 2: np.int32, 3: np.float32}
        np.testing.assert_array_equal(np.frombuffer(content, kinds[kind], count, offset), array.ravel())
        found[name] = kind, offset
    assert [kind for kind, _ in found.values()] == [1, 2, 1, 3, 1]
    assert found["a"] == found["c"], "equal sections share their bytes"


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_must_be_finite(number):
    with pytest.raises(ConfigError, match=r"section t0\.x .* not finite"):
        packed({"t0.x": np.array([0.0, number])})


def test_names_must_fit():
    packed({39 * "n": np.zeros(1)})
    with pytest.raises(ConfigError, match="longer than 39"):
        packed({40 * "n": np.zeros(1)})
