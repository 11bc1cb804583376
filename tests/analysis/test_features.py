"""`mlpot features`: rows, names and derivatives, in files that h5py and NumPy read alone."""

import json

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from typer.testing import CliRunner

import mlpot
from mlpot import describe
from mlpot.analysis.feature_table import feature_rows
from mlpot.analysis.sources import source_of_settings
from mlpot.commands.main import app
from mlpot.errors import ConfigError, StructureError, UnknownSpeciesError
from mlpot.settings.fit import ModelSettings

SOAP = {"type": "soap", "n_max": 3, "l_max": 2, "cutoff": 3.5}
ACSF = {"type": "acsf", "cutoff": 3.5, "functions": [["G2", 0.5, 1.0], ["G5", 0.1, 2.0, 1.0]]}
TERMS = """
[model]
[[model.terms]]
type = "pair"
[[model.terms]]
type = "soap"
n_max = 3
l_max = 2
cutoff = 3.5
[[model.terms]]
type = "acsf"
cutoff = 3.5
functions = [["G2", 0.5, 1.0], ["G5", 0.1, 2.0, 1.0]]
"""


def crystal():
    """Periodic images of one atom are neighbours of the same centre."""
    atoms = bulk("NaCl", "rocksalt", a=4.2) * (1, 1, 2)
    atoms.rattle(0.1, seed=1)
    return atoms


def run(tmp_path, *arguments, terms=TERMS, code=0):
    file = tmp_path / "terms.toml"
    file.write_text(terms)
    found = CliRunner().invoke(app, ["features", *map(str, arguments), "--terms", str(file)])
    assert found.exit_code == code, found.output
    return found.output


def source(*terms, frames):
    return source_of_settings(ModelSettings(terms=terms), [z for atoms in frames for z in atoms.numbers], frames)


def test_rows_are_those_of_describe(tmp_path):
    frames = [molecule("H2O"), molecule("CH4"), Atoms("O")]
    frames[1].info["config_type"] = "methane"
    frames[2].info["energy"] = 1.0
    write(tmp_path / "data.xyz", frames, write_info=True)
    run(tmp_path, tmp_path / "data.xyz", "-o", tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as h5:
        assert json.loads(h5.attrs["elements"]) == ["H", "C", "O"]
        assert json.loads(h5.attrs["terms"]) == ["soap", "acsf"]
        assert h5["offsets"][:].tolist() == [0, 3, 8, 9]
        assert h5["numbers"][:].tolist() == [8, 1, 1, 6, 1, 1, 1, 1, 8]
        features, term = h5["features"][:], h5["term"][:]
        names = h5["names"].asstr()[:].tolist()
    assert len(set(names)) == features.shape[1]
    for k, settings in enumerate((SOAP, ACSF)):
        expected = np.concatenate([describe(atoms, settings, species=[1, 6, 8]) for atoms in frames])
        np.testing.assert_allclose(features[:, term == k], expected, atol=1e-7)  # positions in files have 8 digits


def test_npz_has_the_same_as_hdf5(tmp_path):
    write(tmp_path / "data.xyz", [crystal(), crystal()])
    for name in ("f.h5", "f.npz"):
        run(tmp_path, tmp_path / "data.xyz", "-o", tmp_path / name, "--jacobian", "--average")
    with h5py.File(tmp_path / "f.h5") as h5, np.load(tmp_path / "f.npz") as npz:
        assert h5["features"].shape[0] == 2
        jacobian = [f"jacobian/{name}" for name in ("row", "atom", "values", "strain", "offsets")]
        for name in ("features", "offsets", *jacobian):
            np.testing.assert_array_equal(h5[name][:], npz[name.replace("/", "_")])
        assert h5["jacobian/row"][:].tolist() == [0] * 4 + [1] * 4
        assert h5["jacobian/atom"][:].tolist() == list(range(8))
        assert json.loads(str(npz["header"]))["per"] == "mean"


def displaced(atoms, atom, axis, shift):
    moved = atoms.copy()
    moved.positions[atom, axis] += shift
    return moved


def strained(atoms, k, l, shift):
    strain = np.eye(3)
    strain[k, l] += 0.5 * shift
    strain[l, k] += 0.5 * shift
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return moved


@pytest.mark.parametrize("per", ["atom", "mean", "sum"])
def test_derivatives_are_those_of_finite_differences(per):
    atoms, h = crystal(), 1e-4
    own = source(SOAP, ACSF, frames=[atoms])

    def rows(moved):
        return next(feature_rows(own, [moved], per)).features

    (found,) = feature_rows(own, [atoms], per, jacobian=True)
    slopes = np.zeros((len(found.features), len(atoms), 3, own.n_features))
    slopes[found.jacobian.row, found.jacobian.atom] = found.jacobian.values
    for atom in (0, 3):
        for axis in range(3):
            expected = (rows(displaced(atoms, atom, axis, h)) - rows(displaced(atoms, atom, axis, -h))) / (2 * h)
            np.testing.assert_allclose(slopes[:, atom, axis], expected, atol=2e-6)
    for k, l in ((0, 0), (1, 2)):
        expected = (rows(strained(atoms, k, l, h)) - rows(strained(atoms, k, l, -h))) / (2 * h)
        np.testing.assert_allclose(found.jacobian.strain[:, k, l], expected, atol=2e-5)


def test_names_say_which_elements_count():
    """Features named after oxygen vanish where there is none, and the others do not change with its number."""
    methane = molecule("CH4")
    own = source({**SOAP, "central_weight": 0.0}, ACSF, frames=[methane, molecule("H2O")])
    (rows,) = feature_rows(own, [methane])
    assert own.n_features == len(own.names) == len(set(own.names))
    for name, column in zip(own.names, rows.features.T, strict=True):
        of_soap = " l=" in name
        elements = (
            {part.rstrip("0123456789") for part in name.split()[:2]} if of_soap else set(name.split()[-1].split("-"))
        )
        assert elements <= {"H", "C", "O"}
        if "O" in elements:
            assert not np.any(column), name
        elif of_soap:
            assert np.any(column), name


def test_a_model_gives_the_features_it_was_fitted_with(tmp_path):
    frames = []
    for seed in range(3):
        atoms = bulk("Cu") * (2, 1, 1)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    model = mlpot.fit(
        frames, mlpot.FitConfig(terms=({"type": "acsf", "cutoff": 4.0, "n_functions": 6, "n_sparse": 4},))
    )
    model.save(tmp_path / "m.h5")
    write(tmp_path / "data.xyz", frames)
    found = CliRunner().invoke(
        app, ["features", str(tmp_path / "data.xyz"), "--model", str(tmp_path / "m.h5"), "-o", str(tmp_path / "f.h5")]
    )
    assert found.exit_code == 0, found.output
    with h5py.File(tmp_path / "f.h5") as h5:
        assert h5["features"].shape == (6, 6)
        assert h5["energies"].shape == (3,)
        assert h5["forces"].shape == (6, 3)
        assert json.loads(h5.attrs["settings"])[0]["n_functions"] == 6


def test_wrong_inputs_are_one_clear_line(tmp_path):
    write(tmp_path / "data.xyz", molecule("H2O"))
    data, out = tmp_path / "data.xyz", tmp_path / "f.h5"
    assert "end its name with one of .h5" in run(tmp_path, data, "-o", tmp_path / "f.csv", code=2)
    assert "give one of them" in run(tmp_path, data, "-o", out, "--average", "--sum", code=2)
    assert "no chemical symbol" in run(tmp_path, data, "-o", out, "--elements", "Qq", code=2)
    assert "no [[model.terms]]" in run(tmp_path, data, "-o", out, terms="[fit]\nseed = 0\n", code=2)
    assert "did you mean 'n_max'" in run(tmp_path, data, "-o", out, terms=TERMS.replace("n_max", "nmax"), code=2)
    assert "hold ['O'] too" in run(tmp_path, data, "-o", out, "--elements", "H", code=2)
    assert "none.xyz" in run(tmp_path, tmp_path / "none.xyz", "-o", out, code=1)
    assert not out.exists()


def test_errors_name_the_structure():
    apart = [molecule("H2O"), Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.01]])]
    own = source(SOAP, frames=apart)
    with pytest.raises(StructureError, match="structure 1: "):
        list(feature_rows(own, apart))
    with pytest.raises(UnknownSpeciesError, match="structure 0: "):
        list(feature_rows(own, [molecule("CH4")]))
    with pytest.raises(ConfigError, match="chosen on data"):
        source_of_settings(ModelSettings(terms=({"type": "acsf"},)), [1], [])
    with pytest.raises(ConfigError, match="learned"):
        source_of_settings(
            ModelSettings(terms=({**SOAP, "mix": "both", "n_channels": 4, "embedding": "learned"},)), [1], []
        )
