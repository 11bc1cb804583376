"""What is known of a kind of label: shape of a value, rows of a design matrix."""

import pytest

from mlpot.data.targets import FITTED, FORCES, VIRIAL, Target
from mlpot.settings.fit import NOISE_OF_LABEL


def test_noises_of_a_potential():
    assert NOISE_OF_LABEL == {"energy": "energy_noise", "forces": "force_noise", "virial": "virial_noise"}


@pytest.mark.parametrize("name, rows", [("energy", 1), ("forces", 15), ("virial", 6)])
def test_rows(name, rows):
    assert FITTED[name].n_rows(5) == rows


def test_shapes():
    assert (FORCES.shape, VIRIAL.shape) == ((3,), (3, 3))
    assert Target("charges", 0, True, "e").n_rows(4) == 4
    assert Target("polarizability", 2, False, "A^3").n_rows(4) == 6
