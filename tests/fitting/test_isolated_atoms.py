"""Isolated atoms: an energy that was given is what a lone atom gets."""

import json
import logging
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames
from h5_edits import edited

import mlpot
from mlpot.errors import ModelFileError
from mlpot.fitting import incremental_files as fit_files
from mlpot.fitting.batch import adapted_fit, fit_terms
from mlpot.fitting.label_check import LeaveOut
from mlpot.fitting.task import FitTask
from mlpot.neighbours import find_pairs
from mlpot.structures import all_labelled

GIVEN = {"C": -3.25, "Si": 1.75}
PRESETS = [{"preset": name, "cutoff": 4.5} for name in ("fast", "balanced", "accurate")]
EXACT = 1e-9


@pytest.fixture(scope="module")
def frames():
    return make_frames(4, numbers=(6, 14), seed=1)


def small(given=GIVEN, **settings):
    return mlpot.FitConfig(terms=SMALL_TERMS, isolated_atom_energies=given, **settings)


@pytest.fixture(scope="module")
def model(frames):
    return mlpot.fit(frames, small())


def lone(symbol, energy, **cell):
    atoms = Atoms(symbol, **cell)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((1, 3)))
    return atoms


def assert_lone(predict, given=GIVEN):
    """In a cell, in a vacuum, and beside another lone atom."""
    for symbol, energy in given.items():
        for cell in (None, [30.0, 30.0, 30.0]):
            prediction = predict(Atoms(symbol, cell=cell, pbc=cell is not None))
            assert prediction.energy == pytest.approx(energy, abs=EXACT)
            np.testing.assert_array_equal(prediction.forces, 0.0)
    far = Atoms(list(given), [[0, 0, 20.0 * k] for k in range(len(given))])
    assert predict(far).energy == pytest.approx(sum(given.values()), abs=EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{"terms": SMALL_TERMS}, *PRESETS], ids=["terms", "fast", "balanced", "accurate"])
def test_a_given_energy_is_that_of_a_lone_atom(config):
    frames = [bulk("SiC", "zincblende", a=4.4, cubic=True) for _ in range(2)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
        atoms.calc = SinglePointCalculator(atoms, energy=-30.0 - k, forces=np.zeros((8, 3)))
    model = mlpot.fit(frames, mlpot.FitConfig(**config, isolated_atom_energies=GIVEN, check_labels=False))
    for predict in (model.predict, model.predict_directly):
        assert_lone(predict)
    assert model.baseline.isolated_atom_energies == model.report.isolated_atom_energies == {6: -3.25, 14: 1.75}


@pytest.mark.parametrize("options", [{"tolerance": 1e-3}, {"precision": "float32"}])
def test_compilation_changes_nothing_of_it(model, options):
    """However much it may change of other energies; also after a journey to another process."""
    compiled = model.compile(**options)
    for same in (compiled, pickle.loads(pickle.dumps(compiled))):
        assert_lone(same.predict)
        assert same.source.baseline == model.baseline
    assert_lone(lambda atoms: compiled.predict(atoms, True))


def test_compiled_energies_are_those_of_the_formulas(model, frames):
    for atoms in frames[:2]:
        direct, compiled = model.predict_directly(atoms, True), model.predict(atoms, True)
        assert compiled.energy == pytest.approx(direct.energy, abs=1e-8 * len(atoms))
        np.testing.assert_allclose(compiled.energies_std, direct.energies_std, rtol=1e-5)
        assert compiled.energy_std == pytest.approx(direct.energy_std, rel=1e-5)


def test_saved_models_say_what_was_given(model, tmp_path):
    model.save(tmp_path / "model.h5")
    back = mlpot.load_model(tmp_path / "model.h5")
    for same in (back, pickle.loads(pickle.dumps(model))):
        assert same.baseline == model.baseline
        assert_lone(same.predict)
    with edited(tmp_path / "model.h5") as h5:
        header = json.loads(h5.attrs["header"])
        header["baseline"]["lone_atoms"]["26"] = 1.0
        h5.attrs["header"] = json.dumps(header)
    with pytest.raises(ModelFileError, match="lone_atoms: atomic number 26"):
        mlpot.load_model(tmp_path / "model.h5")


def test_a_model_of_an_older_version_predicts_as_it_did(model, frames, tmp_path):
    """Its weights are those of local energies, not of differences."""
    model.save(tmp_path / "model.h5")
    with edited(tmp_path / "model.h5") as h5:
        h5.attrs["format_version"] = 4
        header = json.loads(h5.attrs["header"])
        lone_atoms = header["baseline"].pop("lone_atoms")
        h5.attrs["header"] = json.dumps(header)
    back = mlpot.load_model(tmp_path / "model.h5")
    added = sum(lone_atoms[str(z)] for z in frames[0].numbers)
    assert back.predict(frames[0]).energy == pytest.approx(model.predict(frames[0]).energy + added, abs=1e-6)


def test_energies_that_are_fitted_are_no_differences(frames):
    """Where none is given nothing is subtracted, also beside an element whose isolated atom is in the data."""
    fitted = mlpot.fit(frames, small(None))
    assert fitted.baseline.lone_atoms == {} and fitted.report.isolated_atom_energies_fitted
    mixed = mlpot.fit([*frames, lone("C", -3.25)], small(None))
    assert set(mixed.baseline.lone_atoms) == {6} and set(mixed.baseline.isolated_atom_energies) == {6, 14}
    assert_lone(mixed.predict, {"C": -3.25})
    assert mlpot.fit([*frames, lone("C", -3.25)], mixed.config).baseline.lone_atoms == mixed.baseline.lone_atoms
    assert mixed.predict(Atoms("Si")).energy != pytest.approx(mixed.baseline.isolated_atom_energies[14], abs=1e-6)


def test_isolated_atoms_in_the_data_are_exact(frames):
    model = mlpot.fit([*frames, *(lone(symbol, energy, cell=[20] * 3) for symbol, energy in GIVEN.items())], small(None))
    assert_lone(model.predict)


def test_a_fit_that_goes_on(frames, tmp_path):
    """With every update, and after it was saved and loaded."""
    fit = mlpot.Fit(small(), (6, 14))
    for frame in frames[:3]:
        fit.update([frame], fit.propose([frame]))
        assert_lone(fit.model.predict)
    fit.save(tmp_path / "fit.h5")
    again = mlpot.Fit.load(tmp_path / "fit.h5")
    assert_lone(again.model.predict)
    np.testing.assert_array_equal(again.model.weights, fit.model.weights)


def test_rows_of_older_files_are_made_again(frames, tmp_path, caplog):
    """Rows that are no differences are never beside others: those of an older fit.h5 are made from its labels."""
    config, plain = small(**NOISES), small(None, **NOISES)
    fit, old = mlpot.Fit(config, (6, 14)), mlpot.Fit(plain, (6, 14))
    points = old.propose(frames[:2])
    for each in (fit, old):
        each.update(frames[:2], points)
    old.levels = fit.levels
    old.config = config  # an older version took the same rows for given energies
    old.save(tmp_path / "fit.h5")
    with edited(tmp_path / "fit.h5") as h5:
        h5.attrs["format_version"] = fit_files.OF_DIFFERENCES - 1
    with caplog.at_level(logging.INFO):
        back = mlpot.Fit.load(tmp_path / "fit.h5")
    assert "recomputed from the labels" in caplog.text
    for own, other in zip(back.structures, fit.structures, strict=True):
        assert own.energy == other.energy
        np.testing.assert_array_equal(own.forces, other.forces)
    np.testing.assert_allclose(back.system.rows(), fit.system.rows(), atol=1e-6 * np.abs(fit.system.rows()).max())
    for each in (fit, back):
        each.update(frames[2:3])
        assert_lone(each.model.predict)
    a, b = (each.model.predict(frames[3]) for each in (fit, back))
    assert a.energy == pytest.approx(b.energy, abs=1e-4)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-4)


def test_an_element_that_no_data_had():
    """What was given for it, or else what was given for the element that stands in for it."""
    soap = {**SMALL_TERMS[1], "mix": "both", "n_channels": 4, "embedding": "periodic"}
    frames = make_frames(3, numbers=(6, 14))
    for given in (GIVEN, {**GIVEN, "Ge": -7.0}):
        model = mlpot.fit(frames, mlpot.FitConfig(terms=[soap], extrapolate=True, isolated_atom_energies=given))
        guessed = {"Ge": given.get("Ge", GIVEN["Si"])}
        for predict in (model.predict, model.predict_directly):
            assert_lone(predict, GIVEN | guessed)


@pytest.mark.parametrize("direct", [False, True])
def test_a_lone_atom_is_as_uncertain_as_the_prior_leaves_it(model, direct):
    """The data leave nothing open of an energy that is given."""
    pairs = find_pairs(Atoms("CSi", [[0, 0, 0], [0, 0, 20.0]]), model.cutoff)
    if direct:
        variances = model.representatives.variances(pairs)
    else:
        variances = model.compiled._spread.predict(model.compiled._observing, pairs)[2]
    assert variances.total < 1e-12
    np.testing.assert_allclose(variances.posterior, 0.0, atol=1e-8)


def test_left_out_deviations_are_those_of_predictions(frames):
    """Errors of structures left out are compared with deviations of differences, as predictions state them."""
    structures = all_labelled(frames)
    terms = [{**term, "energy_scale": 2.0} for term in SMALL_TERMS]
    model = mlpot.fit(frames, mlpot.FitConfig(terms=terms, isolated_atom_energies=GIVEN, **NOISES))
    task = FitTask(structures, model.species, model.baseline, model.config)
    found = LeaveOut.of(task.design(model.terms), adapted_fit(task, model.terms)).compare(structures[:1])[0].alone
    without = fit_terms(structures[1:], model.species, model.terms, model.baseline, model.config)
    assert_lone(without.predict)
    stated = without.predict_directly(frames[0], True)
    assert found.energy_per_atom * 32 == pytest.approx(stated.energy - structures[0].energy, abs=1e-4)
    variances = without.representatives.variances(find_pairs(frames[0], without.cutoff))
    expected = np.sqrt(variances.total + 32 * NOISES["energy_noise"] ** 2)
    assert found.energy_std == pytest.approx(expected, rel=1e-4)
