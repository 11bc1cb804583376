"""Dask's executor makes the blocks of a fit as any other does."""

import numpy as np
import pytest
from conftest import SMALL_TERMS

import mlpot
from mlpot.fitting import accumulate as gather
from mlpot.settings.fit import FitConfig


@pytest.mark.slow
def test_a_fit_on_a_dask_cluster(frames, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(gather, "ROWS_AT_ONCE", 100)
    config = FitConfig(terms=SMALL_TERMS)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        model = mlpot.fit(frames, config, executor=client.get_executor(pure=False))
    np.testing.assert_array_equal(model.weights, mlpot.fit(frames, config).weights)
