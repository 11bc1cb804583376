"""Some hundred damaged inputs of every kind; `python benchmarks/fuzz.py` tries as many as one likes."""

import pytest
from fuzzing import fuzz, targets

N_INPUTS = {"extended XYZ": 30, "fit.h5 structure": 25, "fit.h5 bytes, unsealed": 25}


@pytest.mark.parametrize("name", targets())
def test_damage_is_noticed_or_does_no_harm(name, tmp_path):
    counts, findings = fuzz(name, tmp_path / "input", N_INPUTS.get(name, 60))
    assert not findings, findings
    assert counts.total() == N_INPUTS.get(name, 60) and counts["error"] > 0
