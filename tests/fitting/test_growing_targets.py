"""Targets of fits that grow: as a fit from scratch, also after saving and loading."""

import numpy as np
import pytest
from target_data import TERMS, waters

import mlpot
from mlpot.errors import DataError

TARGETS = [
    {"name": "dipole", "unit": "debye", "terms": TERMS, "origin": "center_of_mass"},
    {"name": "charges_of_atoms", "rank": 0, "per_atom": True, "unit": "e", "terms": TERMS},
]
CONFIG = mlpot.FitConfig(terms=[{"type": "pair", "cutoff": 3.0}], targets=TARGETS, check_labels=False)


def test_targets_of_a_growing_fit(tmp_path):
    frames = waters(9)
    for atoms in frames:
        atoms.info["charge"] = 1
    del frames[4].arrays["charges_of_atoms"]
    fit = mlpot.Fit(CONFIG, (1, 8))
    fit.update(frames[:4])
    assert fit.model.targets["dipole"].left_out.n == 4
    fit.update(frames[4:6])
    fit.save(tmp_path / "fit.h5")
    again = mlpot.Fit.load(tmp_path / "fit.h5")
    whole = mlpot.fit(frames, CONFIG)
    for one in (fit, again):
        one.update(frames[6:])
        assert one.model.targets["charges_of_atoms"].notes == whole.targets["charges_of_atoms"].notes
        for name in ("dipole", "charges_of_atoms"):
            found, expected = (m.predict(frames[0], uncertainty=True).targets[name] for m in (one.model, whole))
            assert np.allclose(found.value, expected.value, rtol=1e-8, atol=1e-10)
            assert np.allclose(found.std, expected.std, rtol=1e-5)


def test_structures_without_a_target_change_nothing():
    fit = mlpot.Fit(CONFIG, (1, 8))
    frames = waters(2)
    for atoms in frames:
        del atoms.calc.results["dipole"]
    with pytest.raises(DataError, match="no structure has 'dipole'"):
        fit.update(frames)
    assert not fit.structures
    frames = waters(2)
    frames[1].calc.results["dipole"] = np.zeros(2)
    with pytest.raises(DataError, match="rank = 1 needs"):
        fit.update(frames)
    assert not fit.structures
