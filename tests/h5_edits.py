"""HDF5 files of mlpot changed on purpose, as somebody would who wants them read."""

from contextlib import contextmanager

import h5py

from mlpot.data.h5 import seal


@contextmanager
def edited(file):
    """The open file; sealed again afterwards."""
    with h5py.File(file, "r+") as h5:
        yield h5
    seal(file)
