"""Words that messages share."""

import pytest

from mlpot.errors import counted


@pytest.mark.parametrize(("n", "noun", "text"), [
    (1, "structure", "1 structure"), (0, "label", "0 labels"), (2, "energy", "2 energies"), (3, "key", "3 keys"),
    (1, "energy", "1 energy"),
])  # fmt: skip
def test_one_and_many(n, noun, text):
    assert counted(n, noun) == text
