"""Dipoles, Born charges and polarisabilities in the extras for i-PI: atomic units, shapes, the same keys every step."""

import json

import numpy as np
import pytest
from target_data import TERMS, waters

import mlpot
from mlpot.drivers.ipi_evaluator import ModelEvaluator
from mlpot.drivers.ipi_input import SENT, SENT_WITH_TARGETS

BOHR = 0.529177210903


@pytest.fixture(scope="module")
def model():
    config = mlpot.FitConfig(
        terms=[{"type": "pair", "cutoff": 3.0}],
        targets=[{"name": "dipole", "terms": TERMS}, {"name": "polarizability", "unit": "A^3", "terms": TERMS}],
        check_labels=False,
    )
    return mlpot.fit(waters(15), config)


@pytest.mark.parametrize("committee", ["none", "std", "members"])
def test_extras(model, committee):
    beads = waters(2, seed=3)
    answers = ModelEvaluator(model, committee).evaluate(beads)
    for atoms, answer in zip(beads, answers, strict=True):
        found = json.loads(answer.atomic(3)[3])
        p = model.predict(atoms, uncertainty=True)
        assert np.allclose(found["dipole"], p.dipole / BOHR, rtol=1e-7)
        assert np.allclose(found["dipole_uncertainty"], p.dipole_std / BOHR, rtol=1e-7)
        assert np.allclose(found["polarizability"], p.polarizability / BOHR**3, rtol=1e-7)
        charges = np.array(found["BEC"])
        assert charges.shape == (9, 3) and np.abs(charges.reshape(3, 3, 3).sum(axis=0)).max() < 1e-10
        moved = atoms.copy()
        moved.positions[1, 2] += 1e-4
        other = json.loads(ModelEvaluator(model).evaluate([moved])[0].atomic(3)[3])
        slope = (np.array(other["dipole"]) - found["dipole"]) / (1e-4 / BOHR)
        assert np.allclose(charges[3 * 1 + 2], slope, atol=1e-3)
        assert {key for key in found if not key.startswith("committee")} == SENT | SENT_WITH_TARGETS
