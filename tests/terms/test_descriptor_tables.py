"""Tables of a descriptor in files."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from mlpot.data.stored import Stored, harmless
from mlpot.descriptors.contractions import Contractions
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.terms.channel_tables import read_tables, tables_of

BASIS = GapRadialBasis(n_max=3, l_max=2, cutoff=3.0, cutoff_width=1.0, atom_sigma=0.5)


def tables_through(file, contractions):
    """Tables of a descriptor with these contractions, read back from a file."""
    with h5py.File(file, "w") as h5:
        for name, array in tables_of(SoapDescriptor((1, 8), BASIS, contractions=contractions)).items():
            h5[f"terms/0/{name}"] = array
    with h5py.File(file) as h5:
        return read_tables(Stored(harmless(h5, 2**20), h5.attrs, 0), "terms/0", (1, 8), 3, 2)


def test_chosen_contractions_travel_through_files(tmp_path):
    """Also the first of them; in their order alone."""
    rng = np.random.default_rng(0)
    everything = Contractions(3, rng.normal(size=(3, 2, 6)), np.array([0.4]))
    chosen = everything.only(np.array([0, 1, everything.n_features - 1]))
    assert tables_through(tmp_path / "tables.h5", chosen)["contractions"] == chosen
    for wrong in ([1, 0, 2], [0, 2, 2], []):
        with pytest.raises(ValueError, match="terms/0/contractions/kept: must be ascending without duplicates, and not empty"):
            tables_through(tmp_path / "wrong.h5", replace(everything, kept=np.array(wrong, int)))
