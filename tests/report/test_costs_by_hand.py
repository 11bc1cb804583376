"""Costs of a run by hand, with labels on three cores."""

import pytest

from mlpot.report.costs import Costs


def test_labels_cost_the_time_of_all_their_cores():
    """Twenty labels of half an hour, in a run of 200 steps with four beads."""
    costs = Costs(
        wall=9 * 3600, dynamics=3600, waiting=4 * 3600, refit=1800, cpu=2 * 3600, labels=10 * 3600, n_labels=20, n_steps=200,
        n_structures=800, cores_per_label=3,
    )  # fmt: skip
    assert costs.core_hours == 32 and costs.per_label == 1800 and costs.rest == 3.5 * 3600
    assert costs.plain_core_hours == 1200 and costs.factor == pytest.approx(37.5)
