"""Arguments of the wrong kind, from Python: one line that names the value, and what to give instead."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from conftest import make_frames

import mlpot
from mlpot.errors import ConfigError, ModelFileError, StructureError


@pytest.fixture(scope="module")
def model():
    return mlpot.fit(make_frames(2), mlpot.FitConfig(preset="fast", cutoff=3.5))


@pytest.mark.parametrize("value", [None, 3, "Cu", [bulk("Cu")], np.zeros((4, 3))], ids=str)
def test_what_is_no_structure_is_not_predicted(model, value):
    calls = [model.predict, model.predict_directly, model.compile().predict]
    if value is not None:  # to ASE: the atoms of the last calculation
        calls.append(mlpot.MlpotCalculator(model).get_potential_energy)
    for call in calls:
        with pytest.raises(StructureError, match=r"instead of a structure \(ase\.Atoms\); give one at a time"):
            call(value)


@pytest.mark.parametrize("species", ["Cu", ["Cu"], [], [0], [-1], [1000], 29, [True, None]], ids=str)
def test_what_are_no_elements(tmp_path, species):
    with pytest.raises(ConfigError, match=r"species = .*: must be atomic numbers, such as \[29\]"):
        mlpot.Fit(mlpot.FitConfig(preset="fast"), species=species)
    with pytest.raises(ConfigError, match=r"species = .*: must be atomic numbers"):
        mlpot.LearningCalculator(tmp_path / "run", EMT(), species=species)


def test_elements_are_sorted_and_there_once():
    assert mlpot.Fit(mlpot.FitConfig(preset="fast"), species=np.array([29, 8, 29])).species == (8, 29)


def test_what_is_no_run_folder_and_what_are_no_rules(tmp_path):
    for folder in (EMT(), None, 3):
        with pytest.raises(ConfigError, match=r"folder = .*: must be the path of a run folder, and come before the calculator"):
            mlpot.LearningCalculator(folder, str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="rules = 3: must be Rules"):
        mlpot.LearningCalculator(tmp_path / "run", EMT(), rules=3)
    assert not (tmp_path / "run").exists()


def test_names_that_no_file_can_have():
    with pytest.raises(ModelFileError, match="File name too long"):
        mlpot.load_model("a" * 5000)


@pytest.mark.parametrize("key", ["tolerance", "force_tolerance"])
def test_tolerances_are_numbers(model, key):
    with pytest.raises(ConfigError, match=f"{key} = 'x': must be a number"):
        model.compile(**{key: "x"})


def test_a_stress_without_a_cell_says_why(model):
    """ASE's own words are that it is not present."""
    calculator = mlpot.MlpotCalculator(model)
    symbol = model.species[0]
    for cell, rank in ((None, 0), ([3, 3, 0], 2)):
        atoms = Atoms([symbol] * 2, [[0, 0, 0], [0, 0, 2.5]], cell=cell, calculator=calculator)
        for ask in (atoms.get_stress, atoms.get_stresses):
            with pytest.raises(PropertyNotImplementedError, match=f"needs three cell vectors, the cell has {rank}"):
                ask()
        assert np.isfinite(atoms.get_potential_energy())
