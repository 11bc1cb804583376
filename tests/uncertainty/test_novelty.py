"""Which environments count as known."""

import numpy as np
import pytest

from mlpot.uncertainty import representatives


def test_nine_of_ten_points_are_known_to_the_others(model, monkeypatch):
    """The scale of novelty: a point's variance given all others is 1 / (K^-1)_ii; here from K itself and by counting."""
    monkeypatch.setattr(representatives, "RESOLUTION", 0.0)
    monkeypatch.setattr(representatives, "STRANGE", 1e9)
    term = model.terms[1]
    points, scale = term.sparse_features[0], term.energy_scales[0]
    covariances = scale**2 * ((points @ points.T) ** term.zeta + model.jitter * np.eye(len(points)))
    left = np.sort(1.0 / np.diag(np.linalg.inv(covariances)))
    n = len(points)
    assert n == 40
    ours = representatives.Representatives(model.choice, model.factor, model.jitter, model.noises).known[14]
    assert left[35] < ours < left[36]
    assert ours == pytest.approx(0.9 * left[35] + 0.1 * left[36], rel=1e-6)
