"""Where labels are computed: local processes, Dask and batch queues."""
