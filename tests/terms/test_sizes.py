"""Settings that would ask for tables without end are errors of whoever gives them: fits, files, and descriptions alike."""

import pytest
from conftest import make_frames

import mlpot
from mlpot.errors import ConfigError

SOAP = {"type": "soap", "cutoff": 4.0, "n_max": 3, "l_max": 2, "n_sparse": 10}


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"type": "pair", "cutoff": 4.0, "length_scale": 1e-6}, "term of type 'pair': length_scale = 1e-06 A: is too short"),
        ({"type": "pair", "cutoff": 4.0, "cutoff_width": 1e-6}, "cutoff_width"),
        ({**SOAP, "atom_sigma": 1e-6}, "term of type 'soap': atom_sigma = 1e-06 A: is too short for cutoff = 4.0 A"),
        ({**SOAP, "n_max": 500}, "n_max = 500: must be at most 128"),
        ({"type": "zernike", "cutoff": 4.0, "n_max": 4, "zeta": 1e9}, "zeta = 1000000000.0: must be at most"),
    ],
)
def test_a_fit_refuses_them(term, message):
    with pytest.raises(ConfigError, match=message):
        mlpot.fit(make_frames(2), mlpot.FitConfig(terms=[term]))
