"""Computation of labels: local processes, Dask and batch queues."""
