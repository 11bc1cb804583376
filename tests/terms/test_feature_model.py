"""A term on features of a model of whole structures: the same as a local term where the model is local, and exact where it is not."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from feature_models import MessagePassing, labelled

import mlpot
from mlpot.descriptors.model_features import ModelFeatures
from mlpot.errors import ConfigError, DescriptorError, ModelFileError, StructureError
from mlpot.neighbours import find_pairs
from mlpot.settings.files import LearnFile

TERM = {"type": "features", "n_sparse": 6, "standardise": False}
MESSAGES = {**TERM, "model": "feature_model:MessagePassing", "parameters": {"cutoff": 3.5, "n_radial": 4}}


@pytest.fixture(scope="module")
def frames():
    return [labelled(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def learned(frames):
    return mlpot.fit(frames, mlpot.FitConfig(terms=[MESSAGES], check_labels=False))


def test_a_local_model_is_fitted_like_its_descriptor(frames):
    """Rows by one pullback for each sparse point, through positions and strain, against rows by the Jacobian of pairs."""
    terms = {"type": "own_descriptor:RadialFunctions", "cutoff": 4.0, "n_sparse": 6, "standardise": False}
    one, two = (
        mlpot.fit(frames, mlpot.FitConfig(terms=[t], check_labels=False))
        for t in (terms, {**TERM, "model": "feature_models:Local"})
    )
    for atoms in frames[:2]:
        p, q = (model.predict(atoms, uncertainty=True) for model in (one, two))
        assert p.energy == pytest.approx(q.energy, abs=1e-6)
        np.testing.assert_allclose(p.forces, q.forces, atol=1e-6)
        np.testing.assert_allclose(p.stress, q.stress, atol=1e-8)
        np.testing.assert_allclose(p.energies_std, q.energies_std, rtol=1e-4)
        np.testing.assert_allclose(p.forces_std, q.forces_std, rtol=1e-2)


def test_features_beyond_pairs_have_exact_forces_and_stress(learned, frames):
    checks = mlpot.validate_model(learned, frames[0])
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]


MOLECULE = Atoms("CuAuCu", [[0, 0, 0], [2.4, 0, 0], [2.6, 2.3, 0.4]])


@pytest.mark.parametrize("start", [fcc111("Cu", (1, 1, 2), vacuum=6.0), MOLECULE], ids=["slab", "molecule"])
def test_slabs_and_molecules(learned, start):
    """Derivatives of the energy by finite differences, where there is no volume, or one direction is open."""
    atoms, step = start.copy(), 1e-4
    atoms.rattle(0.1, seed=1)
    forces = learned.predict(atoms).forces
    for k in (0, len(atoms) - 1):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[k, axis] += sign * step
                energies.append(learned.predict(moved).energy)
            assert forces[k, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-5)


def test_a_lone_atom_has_features(learned):
    assert np.isfinite(learned.predict(Atoms("Cu"), uncertainty=True).energy_std)


def test_files_and_pickles_keep_it(learned, frames, tmp_path):
    learned.save(tmp_path / "model.h5")
    p, q = (model.predict(frames[0]) for model in (learned, mlpot.load_model(tmp_path / "model.h5")))
    np.testing.assert_array_equal(p.forces, q.forces)
    own = ModelFeatures((29, 79), "feature_model:MessagePassing", {"n_radial": 4})
    again = pickle.loads(pickle.dumps(own))
    assert again == own and hash(again) == hash(own) and again.n_features == 8


def test_programs_without_python_refuse_it(learned, tmp_path):
    with pytest.raises(ConfigError, match="evaluated in Python"):
        learned.export_core(tmp_path / "model.mlpot")
    assert not (tmp_path / "model.mlpot").exists()
    values = {"dynamics": {"engine": "lammps", "input": "in.lammps"}, "output": {"folder": "run"}, "model": {"terms": [MESSAGES]}}
    with pytest.raises(ConfigError, match='type = "features" is evaluated in Python, which LAMMPS cannot call'):
        LearnFile.checked(values)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raises", "compute failed: RuntimeError: no weights"),
        ("shape", "not an array of shape"),
        ("vjp shape", r"vjp: returned arrays of shapes \(\(8, 2\), \(3, 3\)\)"),
        ("moved", "pairs within cutoff = 4 A leave out a part"),
    ],
)
def test_models_that_break_the_contract_are_named(frames, fault, said):
    terms = [{**TERM, "model": "feature_models:Local", "parameters": {"fault": fault}}]
    with pytest.raises(DescriptorError, match=said):
        mlpot.fit(frames[:1], mlpot.FitConfig(terms=terms, check_labels=False))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"model": "feature_model:Missing"}, "cannot be imported"),
        ({"model": "os:system", "parameters": {"command": "true"}}, "derives from mlpot.FeatureModel"),
        ({"model": "feature_model:MessagePassing", "parameters": {"cutof": 3.0}}, "unexpected keyword argument 'cutof'"),
        ({}, "model"),
    ],
)
def test_wrong_settings_are_explained(keys, said):
    with pytest.raises(ConfigError, match=said):
        mlpot.FitConfig(terms=[{"type": "features", **keys}])


def test_unknown_elements_and_pairs_without_a_structure(frames):
    with pytest.raises(DescriptorError, match="does not know Si"):
        ModelFeatures((14,), "feature_model:MessagePassing")
    own = ModelFeatures((29, 79), "feature_model:MessagePassing")
    pairs = find_pairs(frames[0], own.cutoff)
    with pytest.raises(StructureError, match="find_pairs"):
        own.compute(pairs.with_vectors(pairs.vectors))
    with pytest.raises(DescriptorError, match="no jacobian"):
        own.jacobian(pairs)


def test_a_file_that_names_another_callable_is_refused(learned, tmp_path):
    """A model file must not start a program."""
    learned.save(tmp_path / "model.h5")
    raw = (tmp_path / "model.h5").read_bytes()
    (tmp_path / "bad.h5").write_bytes(raw.replace(b"feature_model:MessagePassing", b"subprocess:check_call______"[:28]))
    with pytest.raises(ModelFileError):
        mlpot.load_model(tmp_path / "bad.h5")


def test_the_example_is_not_local():
    """An atom beyond the cutoff changes the features."""
    own, chain = MessagePassing(), Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [5.0, 0, 0]])
    moved = chain.copy()
    moved.positions[2, 1] += 0.3
    assert np.abs(own.compute(chain)[0] - own.compute(moved)[0]).max() > 1e-3
