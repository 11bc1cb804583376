"""Imported SNAP potentials in every door, and what may be wrong with their files. Numbers: tests/peers/test_snap_potentials.py."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from core_models import ghosted
from mlpot._ext.core import CoreModel
from snap_potentials import write_snap
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.drivers.ipi_evaluator import ModelEvaluator
from mlpot.errors import ConfigError, ModelFileError, UnknownSpeciesError, UnsupportedPotentialError
from mlpot.interop import snap_references
from mlpot.settings.learning import NOVEL


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
    with pytest.raises(ConfigError, match=r"has no uncertainty.*or export it without uncertainty"):
        model.export_core(tmp_path / "m.mlpot")
    with pytest.raises(UnknownSpeciesError):
        model.predict(Atoms("O"))


def test_programs_without_python(files, alloy, tmp_path):
    model = mlpot.read_snap(*files)
    model.export_core(tmp_path / "m.mlpot", uncertainty=False)
    g, expected = ghosted(alloy, model.cutoff), model.predict_directly(alloy)
    found = CoreModel(tmp_path / "m.mlpot").evaluate(*g.arrays)
    np.testing.assert_allclose(found["energies"], expected.energies, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(g.returned(found["forces"]), expected.forces, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Files of a potential, structures it knows, and the model."""
    files = write_snap(tmp_path_factory.mktemp("snap"), ["W", "Mo"], 4, 4.2)
    frames = []
    for k in range(6):
        atoms = bulk("W", cubic=True, a=3.17) * 2
        atoms.symbols[::2] = "Mo"
        atoms.rattle(0.08, seed=k)
        frames.append(atoms)
    return files, frames, mlpot.read_snap(*files, frames[:5])


def test_novelty_from_reference_structures(known):
    files, frames, model = known
    bare = mlpot.read_snap(*files).predict(frames[5], uncertainty=True)
    p, q = model.predict(frames[5], uncertainty=True), model.predict_directly(frames[5], uncertainty=True)
    np.testing.assert_array_equal(p.forces, bare.forces)
    np.testing.assert_allclose(p.novelty, q.novelty, rtol=1e-6)
    assert bare.novelty is None and (p.energy_std, p.energies_std, p.forces_std, p.stress_std) == (None,) * 4
    assert 0.1 < p.novelty.max() < NOVEL
    strange = frames[5].copy()
    strange.positions[3] += 0.9
    far = model.predict(strange, uncertainty=True).novelty
    assert far[3] > 2 * NOVEL
    assert model.predict(Atoms("W"), uncertainty=True).novelty[0] > NOVEL


def test_novelty_is_what_the_points_leave_unexplained(known, monkeypatch):
    """Twin: 1 - k K^-1 k of a Gaussian kernel of standardised components, relative to a bound that is the same everywhere."""
    files, frames, _ = known
    every = snap_references.SETTINGS.model_copy(update={"sparse_tolerance": 1e-9})
    monkeypatch.setattr(snap_references, "SETTINGS", every)
    model = mlpot.read_snap(*files, frames[:5])
    components = [mlpot.describe(atoms, model.terms[0].descriptor) for atoms in frames]
    symbols = np.array(frames[0].symbols)
    for symbol in ("Mo", "W"):
        mine = np.concatenate([c[symbols == symbol] for c in components[:5]])
        deviation = np.maximum(mine.std(axis=0), 0.05 * np.sqrt(np.mean(mine**2, axis=0)))
        x, points = ((c - mine.mean(axis=0)) / deviation / np.sqrt(mine.shape[1]) for c in (components[5][symbols == symbol], mine))
        x, points = (np.hstack([c, np.full((len(c), 1), 3.0)]) for c in (x, points))
        x, points = (c / np.linalg.norm(c, axis=1, keepdims=True) for c in (x, points))
        k, inner = (np.exp(-((a[:, None] - points) ** 2).sum(axis=2) / 2) for a in (x, points))
        left = 1 - np.einsum("as,as->a", k, np.linalg.solve(inner + 1e-10 * np.eye(len(points)), k.T).T)
        own = model.predict(frames[5], uncertainty=True).novelty[symbols == symbol]
        ratio = own**2 / left
        assert np.ptp(ratio) < 1e-3 * ratio.mean(), symbol


def test_novelty_in_files_and_programs(known, tmp_path):
    files, frames, model = known
    write(tmp_path / "known.xyz", frames[:5])
    words = ["import-snap", *map(str, files), "--structures", str(tmp_path / "known.xyz"), "-o", str(tmp_path / "m.h5")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "states novelty" in result.output, result.output
    expected = model.predict(frames[5], uncertainty=True)
    loaded = mlpot.load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(loaded.predict(frames[5], uncertainty=True).novelty, expected.novelty, rtol=1e-6)
    atoms = frames[5].copy()
    atoms.calc = mlpot.MlpotCalculator(tmp_path / "m.h5")
    np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
    assert list(atoms.calc.uncertainty) == ["novelty"]
    evaluation = ModelEvaluator(loaded).evaluate([frames[5]])[0]
    assert evaluation.extras["max_novelty"] == pytest.approx(expected.novelty.max(), rel=1e-6)
    write(tmp_path / "known.xyz", Atoms("Fe"))
    result = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "none.h5")])
    assert result.exit_code != 0 and not (tmp_path / "none.h5").exists()
    assert "contain ['Fe'], but the potential knows ['Mo', 'W']" in " ".join(result.output.split())


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
