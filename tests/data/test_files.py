"""Model files: nothing is lost on the way, and a file that cannot be trusted is not read."""

import json
import os

import h5py
import numpy as np
import pytest
from conftest import SMALL_TERMS
from h5_edits import edited

import mlpot
from mlpot.durable import atomic_write
from mlpot.errors import ModelFileError


@pytest.mark.parametrize("name", ["model", "two_species_model"])
def test_a_model_comes_back_bit_for_bit(name, request, tmp_path, frames, two_species_frames):
    model = request.getfixturevalue(name)
    atoms = (frames if name == "model" else two_species_frames)[0]
    model.save(tmp_path / "m.h5")
    back = mlpot.load_model(tmp_path / "m.h5")
    old, new = model.predict(atoms, uncertainty=True), back.predict(atoms, uncertainty=True)
    for field in (
        "energy",
        "energies",
        "forces",
        "virial",
        "energies_std",
        "energy_std",
        "forces_std",
        "stress_std",
        "novelty",
    ):
        np.testing.assert_array_equal(getattr(old, field), getattr(new, field))
    assert back.noises == model.noises and back.calibration == model.calibration
    assert back.config == model.config
    assert back.report == model.report
    assert back.baseline == model.baseline
    assert back.provenance == model.provenance
    assert back.provenance["mlpot_version"] == mlpot.__version__
    assert len(back.provenance["data_sha256"]) == 64


def test_provenance_tells_data_apart(frames):
    hashes = {
        mlpot.fit(frames[begin : begin + 2], mlpot.FitConfig(preset="fast", cutoff=3.5)).provenance["data_sha256"]
        for begin in (0, 1, 0)
    }
    assert len(hashes) == 2


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_truncated_files(model, tmp_path, kept):
    file = tmp_path / "m.h5"
    model.save(file)
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ModelFileError, match=r"m\.h5"):
        mlpot.load_model(file)


def test_other_files(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        mlpot.load_model(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("a model, honestly")
    with pytest.raises(ModelFileError, match="not a readable model file"):
        mlpot.load_model(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["x"] = 1
    with pytest.raises(ModelFileError, match="not a model of mlpot"):
        mlpot.load_model(tmp_path / "other.h5")


def test_files_of_the_future(model, tmp_path):
    file = tmp_path / "m.h5"
    model.save(file)
    with edited(file) as h5:
        h5.attrs["format_version"] = 99
    with pytest.raises(ModelFileError, match="upgrade"):
        mlpot.load_model(file)


def test_files_of_format_3(two_species_frames, tmp_path):
    """One energy scale for all blocks, a floor of the calibration in place of noises."""
    terms = [{**term, "energy_scale": scale} for term, scale in zip(SMALL_TERMS, (1.5, 0.5), strict=True)]
    model = mlpot.fit(two_species_frames, mlpot.FitConfig(terms=terms, check_labels=False))
    file = tmp_path / "m.h5"
    model.save(file)
    with edited(file) as h5:
        h5.attrs["format_version"] = 3
        header = json.loads(h5.attrs["header"])
        for term, scale in zip(header["terms"], (1.5, 0.5), strict=True):
            assert set(term.pop("energy_scales")) == {scale}
            term["energy_scale"] = scale
        del header["noises"]
        header["calibration"] = {
            "force_scale": 2.0, "force_floor": 0.3, "energy_scale": 3.0, "n_forces": 500, "n_energies": 6
        }  # fmt: skip
        del header["config"]["adapt"], header["report"]["force_noises"]
        header["report"]["energy_scales"] = [1.5, 0.5]
        h5.attrs["header"] = json.dumps(header)
    back, atoms = mlpot.load_model(file), two_species_frames[1]
    assert [term.energy_scales for term in back.terms] == [(1.5,) * 3, (0.5,) * 2]
    old, new = model.predict(atoms, True), back.predict(atoms, True)
    np.testing.assert_array_equal(old.forces, new.forces)
    # sigma^2 = (2 s)^2 + 0.3^2, s of the ensemble alone
    own = old.forces_stated_std**2
    own -= (model.calibration.discrepancy_share * model.noises.of_forces(atoms.numbers)[:, None]) ** 2
    np.testing.assert_allclose(2.0 * new.forces_stated_std, np.sqrt(4 * own + 0.09), rtol=1e-6)
    back.save(tmp_path / "again.h5")
    np.testing.assert_array_equal(
        mlpot.load_model(tmp_path / "again.h5").predict(atoms, True).forces_std, new.forces_std
    )


def test_an_unknown_term_says_so(model, tmp_path):
    file = tmp_path / "m.h5"
    model.save(file)
    with edited(file) as h5:
        header = json.loads(h5.attrs["header"])
        header["terms"][0]["type"] = "bispectrum"
        h5.attrs["header"] = json.dumps(header)
    with pytest.raises(ModelFileError, match="bispectrum"):
        mlpot.load_model(file)


def test_a_write_that_fails_leaves_the_old_model(model, tmp_path, monkeypatch):
    file = tmp_path / "m.h5"
    model.save(file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelFileError, match="No space left"):
        model.save(file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.h5"]
    with pytest.raises(ModelFileError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "m.h5")


def test_nobody_sees_half_a_file(tmp_path):
    file = tmp_path / "x"
    file.write_text("old")
    with pytest.raises(InterruptedError), atomic_write(file) as temporary:
        temporary.write_text("ne")
        raise InterruptedError
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["x"]
