"""Imported SNAP potentials in every door, and what may be wrong with their files. Numbers: tests/peers/test_snap_potentials.py."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from snap_potentials import write_snap
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.drivers.ipi_evaluator import ModelEvaluator
from mlpot.errors import ConfigError, ModelFileError, UnknownSpeciesError, UnsupportedPotentialError


@pytest.fixture
def alloy():
    atoms = bulk("NaCl", "rocksalt", a=5.0)
    atoms.symbols = "MoW"
    atoms = atoms * (2, 1, 1)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.fixture(params=[{}, {"quadraticflag": 1, "bzeroflag": 0}, {"chemflag": 1}], ids=["linear", "quadratic", "chem"])
def files(request, tmp_path):
    return write_snap(tmp_path, ["W", "Mo"], 2, 3.4, **request.param)


def test_compiled_as_from_the_formulas(files, alloy):
    model = mlpot.read_snap(*files)
    p, q = model.predict(alloy), model.predict_directly(alloy)
    assert np.abs(p.forces).max() > 1e-3
    for name in ("energies", "forces", "virial"):
        np.testing.assert_allclose(getattr(p, name), getattr(q, name), rtol=1e-12, atol=1e-12)


def test_derivatives(files, alloy):
    checks = mlpot.validate_model(mlpot.read_snap(*files), alloy)
    failed = [f"{check.name}: {check.value:.1e} > {check.tolerance:.1e}" for check in checks if not check.passed]
    assert not failed, failed


def test_files_and_calculators(files, alloy, tmp_path):
    output = tmp_path / "m.h5"
    result = CliRunner().invoke(app, ["import-snap", *map(str, files), "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "no uncertainty, since the training data are not known" in result.output
    expected = mlpot.read_snap(*files).predict(alloy)
    model = mlpot.load_model(output)
    for other in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(alloy).forces, expected.forces)
    alloy.calc = mlpot.MlpotCalculator(output)
    np.testing.assert_array_equal(alloy.get_forces(), expected.forces)
    assert alloy.calc.uncertainty == {}
    evaluation = ModelEvaluator(model).evaluate([alloy])[0]
    np.testing.assert_array_equal(evaluation.forces, expected.forces)
    assert evaluation.extras["energy_uncertainty"] is None


def test_there_is_no_uncertainty(files, alloy, tmp_path):
    model = mlpot.read_snap(*files)
    for predict in (model.predict, model.predict_directly):
        p = predict(alloy, uncertainty=True)
        assert (p.energy_std, p.energies_std, p.forces_std, p.novelty) == (None,) * 4
    with pytest.raises(ConfigError, match="states no uncertainty; use committee = 'none'"):
        ModelEvaluator(model, "std")
    with pytest.raises(ConfigError, match="use committee = 'none' in place of 'members'"):
        ModelEvaluator(model, "members")
    with pytest.raises(ConfigError, match="Bispectrum term is evaluated in Python"):
        model.export_core(tmp_path / "m.mlpot", uncertainty=False)
    with pytest.raises(UnknownSpeciesError):
        model.predict(Atoms("O"))


def test_elements_may_be_in_any_order(tmp_path, alloy):
    """The same numbers for the same element wherever it stands in the file."""
    files = write_snap(tmp_path, ["W", "Mo"], 2, 3.4)
    expected = mlpot.read_snap(*files).predict(alloy).forces
    lines = files[0].read_text().splitlines()
    head, rest = lines[:3], lines[3:]
    half = len(rest) // 2
    files[0].write_text("\n".join(head + rest[half:] + rest[:half]) + "\n")
    np.testing.assert_array_equal(mlpot.read_snap(*files).predict(alloy).forces, expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("switchflag", "0", "line 5: switchflag = '0': without a cutoff function energies jump"),
        ("switchinnerflag", "1", "switchinnerflag = '1': the inner cutoff function is not computed"),
        ("sinner", "1.5 1.5", "sinner = '1.5 1.5'"),
        ("qeqflag", "1", "'qeqflag': is no key of pair_style snap"),
        ("quadraticflag", "2", "line 5: quadraticflag = '2': must be 0 or 1"),
        ("rfac0", "much", "rfac0 = 'much': must be a finite number"),
        ("rfac0", "1.2", "rfac0 = 1.2: must lie between 0 and 1"),
        ("rmin0", "", "rmin0: must be followed by one value, not 0"),
        ("twojmax", "3", "twojmax: is given twice"),
        ("quadraticflag", "1", "6 coefficients for each element, but twojmax = 2 in .* needs 21"),
    ],
)
def test_parameters_that_are_wrong(tmp_path, key, value, message):
    files = write_snap(tmp_path, ["W", "Mo"], 2, 3.4)
    with files[1].open("a") as file:
        file.write(f"{key} {value}\n")
    with pytest.raises(ModelFileError, match=message) as caught:
        mlpot.read_snap(*files)
    assert "\n" not in str(caught.value) and files[1].name in str(caught.value)


def test_an_option_that_is_not_computed_has_its_own_error(tmp_path):
    files = write_snap(tmp_path, ["W"], 2, 3.4, switchflag=0)
    with pytest.raises(UnsupportedPotentialError):
        mlpot.read_snap(*files)


@pytest.mark.parametrize("key", ["rcutfac", "twojmax"])
def test_parameters_that_are_missing(tmp_path, key):
    files = write_snap(tmp_path, ["W"], 2, 3.4)
    kept = [line for line in files[1].read_text().splitlines() if key not in line]
    files[1].write_text("\n".join(kept))
    with pytest.raises(ModelFileError, match=f"made.snapparam: {key}: is missing"):
        mlpot.read_snap(*files)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 6", "2", "line 3: '2': must be the numbers of elements and of coefficients"),
        ("2 6", "3 6", "ends before an element"),
        ("2 6", "1 6", "line 11: .* follows the last of 1 x 6 coefficients"),
        ("2 6", "2 5", "must be a chemical symbol"),
        ("2 6", "2 -6", "must be positive"),
        ("2 6", "2 six", "number of coefficients = 'six'"),
        ("W 0.5", "Wo 0.5", "line 4: 'Wo 0.5 1.0': must be a chemical symbol, a radius and a weight"),
        ("W 0.5", "W -0.5", "line 4: radius = -0.5: must be positive"),
        ("W 0.5", "Mo 0.5", "element 2 of 2: occurs twice"),
        ("# of 74", "nan # of 74", "coefficient 1 of W: must be one number, not"),
    ],
)
def test_coefficients_that_are_wrong(tmp_path, old, new, message):
    files = write_snap(tmp_path, ["W", "Mo"], 2, 3.4)
    text = files[0].read_text()
    assert old in text
    files[0].write_text(text.replace(old, new, 1))
    with pytest.raises(ModelFileError, match=message) as caught:
        mlpot.read_snap(*files)
    assert "\n" not in str(caught.value) and files[0].name in str(caught.value)


def test_files_that_are_cut_swapped_or_missing(tmp_path):
    coefficients, parameters = write_snap(tmp_path, ["W"], 2, 3.4)
    for pair in ((coefficients, coefficients), (parameters, coefficients), (tmp_path / "no", parameters), (coefficients, tmp_path)):
        with pytest.raises(ModelFileError):
            mlpot.read_snap(*pair)
    lines = coefficients.read_text().splitlines()
    for n in range(len(lines)):
        coefficients.write_text("\n".join(lines[:n]))
        with pytest.raises(ModelFileError, match=r"ends before|numbers of elements"):
            mlpot.read_snap(coefficients, parameters)
    coefficients.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelFileError, match="is not a text file"):
        mlpot.read_snap(coefficients, parameters)
    result = CliRunner().invoke(app, ["import-snap", str(coefficients), str(parameters), "-o", str(tmp_path / "m.h5")])
    assert result.exit_code != 0 and not (tmp_path / "m.h5").exists()
