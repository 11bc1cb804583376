"""Targets with a calculator beneath: what kernels cannot see, derivatives, files, and whom to trust."""

import h5py
import numpy as np
import pytest
from ase import Atoms
from polar_molecule import PolarMolecule
from scipy.spatial.transform import Rotation
from target_data import TERMS, waters

import mlpot
from mlpot.errors import BaselineError, ConfigError
from mlpot.fitting import target_features
from mlpot.fitting.growing_targets import GrowingTargets
from mlpot.fitting.tensors import fit_targets
from mlpot.models.files import load_any
from mlpot.models.saving import save_targets
from mlpot.models.target_errors import evaluate_targets
from mlpot.settings.targets import TargetSettings, TargetsSettings
from mlpot.structures import labelled

BASELINE = {"calculator": "polar_molecule.PolarMolecule"}
TARGETS = {
    name: {"name": name, "unit": unit, "terms": TERMS, "baseline": BASELINE}
    for name, unit in (("dipole", "e*A"), ("polarizability", "A^3"))
}
SHARE = 0.6


def calculated(atoms, name):
    bare = atoms.copy()
    bare.calc = PolarMolecule()
    bare.get_potential_energy()
    return bare.calc.results[name]


def dimers(n, seed=0):
    """Molecules beyond the reach of all kernels of each other; labels are sums over them, and a part of what a calculator says, which
    depends on the distance."""
    found, rng = [], np.random.default_rng(seed)
    for first, second in zip(waters(n, seed), waters(n, seed + 100), strict=True):
        second.positions += first.positions[0] - second.positions[0] + [rng.uniform(6.0, 8.0), 0, 0]
        atoms = Atoms("OHHOHH", positions=np.concatenate([first.positions, second.positions]))
        for name in TARGETS:
            of_molecules = sum(a.info["polarizability"] if name != "dipole" else a.calc.results["dipole"] for a in (first, second))
            atoms.info[name] = of_molecules + SHARE * calculated(atoms, name)
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def models():
    return fit_targets(dimers(40), TargetsSettings(targets=list(TARGETS.values())))


def test_what_kernels_cannot_see(models):
    alone = TargetsSettings(targets=[{**TARGETS["polarizability"], "baseline": None}])
    test = dimers(20, seed=1)
    without = evaluate_targets(fit_targets(dimers(40), alone), test)["polarizability"]
    found = evaluate_targets(models, test)["polarizability"]
    assert all(found.parts[k] < 0.03 * without.parts[k] for k in ("0", "2")), (found, without)
    left_out = models["polarizability"].left_out
    assert found.rmse == pytest.approx(left_out.rmse, rel=1.0) and 0.4 < found.coverage < 0.9
    assert [part.weights[-1] for part in models["polarizability"].parts.values()] == pytest.approx([SHARE] * 2, abs=0.03)


@pytest.mark.parametrize("name", ["dipole", "polarizability"])
def test_derivatives_rotation_and_members(models, name):
    atoms = dimers(1, seed=3)[0]
    p = models[name].predict(atoms, uncertainty=True, members=True)
    for i, k in ((0, 0), (2, 1), (4, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, k] += sign * 1e-3
            ends.append(models[name].predict(moved, gradients=False).value)
        np.testing.assert_allclose(p.gradients[i, k], (ends[0] - ends[1]) / 2e-3, atol=2e-6)
    assert np.abs(p.gradients.sum(axis=0)).max() < 1e-10
    assert np.all(p.std > 0) and np.all(p.members.std(axis=0) < 5 * p.std) and np.all(p.members.std(axis=0) > 0)
    turn, turned = Rotation.random(random_state=4).as_matrix(), atoms.copy()
    turned.positions = atoms.positions @ turn.T
    expected = turn @ p.value if name == "dipole" else turn @ p.value @ turn.T
    np.testing.assert_allclose(models[name].predict(turned, gradients=False).value, expected, atol=1e-9)


def test_more_rows_than_are_kept(models, monkeypatch):
    monkeypatch.setattr(target_features, "MOST_ROWS", 100)
    fewer, test = fit_targets(dimers(40), TargetsSettings(targets=[TARGETS["dipole"]])), dimers(10, seed=1)
    both = [np.array([own["dipole"].predict(a, gradients=False).value for a in test]) for own in (models, fewer)]
    np.testing.assert_allclose(both[1], both[0], atol=0.02 * both[0].std())


def test_dipoles_about_an_origin():
    """The calculator's dipole of an ion is moved to the centre of mass as labels are."""
    target, frames = {**TARGETS["dipole"], "origin": (0.0, 0.0, 0.0)}, waters(20)
    for atoms in frames:
        atoms.info = {"charge": 1, "dipole": calculated(atoms, "dipole") + atoms.get_center_of_mass()}
        atoms.calc = None
    (model,) = fit_targets(frames, TargetsSettings(targets=[target])).values()
    moved = frames[0].copy()
    moved.positions += [1.0, 2.0, 3.0]
    difference = model.predict(moved, gradients=False).value - model.predict(frames[0], gradients=False).value
    assert difference == pytest.approx([1.0, 2.0, 3.0], abs=0.01)


def test_a_file_and_whom_to_trust(tmp_path, models):
    file, atoms = tmp_path / "m.h5", dimers(1, seed=3)[0]
    save_targets(models, file)
    trusted = load_any(file, trust_baseline=True)
    for name in TARGETS:
        ours, theirs = (own[name].predict(atoms, uncertainty=True) for own in (models, trusted))
        assert np.array_equal(ours.value, theirs.value) and np.array_equal(ours.std, theirs.std)
        assert np.array_equal(ours.gradients, theirs.gradients)
    with pytest.raises(BaselineError, match="only if you trust the file"):
        load_any(file)["dipole"].predict(atoms)


def test_a_file_without_its_calculator_is_refused(tmp_path, models):
    save_targets(models, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as h5:
        text = h5["targets"][()].decode()
        del h5["targets"]
        h5["targets"] = text.replace('"calculator": "polar_molecule.PolarMolecule"', '"calculator": "polar molecule"')
    with pytest.raises(mlpot.errors.ModelFileError):
        load_any(tmp_path / "m.h5", trust_baseline=True)


def test_a_fit_that_grows_asks_whom_to_trust(tmp_path):
    frames = waters(6)
    for atoms in frames:
        atoms.calc.results["forces"] = np.zeros((3, 3))
    config = mlpot.FitConfig(terms=[{"type": "pair", "cutoff": 3.0, "n_sparse": 4}], targets=[TARGETS["dipole"]])
    fit = mlpot.Fit(config, [1, 8])
    fit.update(frames)
    fit.save(tmp_path / "fit.h5")
    assert fit.targets.models["dipole"].beneath is not None
    with pytest.raises(BaselineError, match="only if you trust"):
        mlpot.Fit.load(tmp_path / "fit.h5").targets.models  # noqa: B018
    again = mlpot.Fit.load(tmp_path / "fit.h5", trust_baseline=True).targets.models["dipole"]
    assert np.array_equal(again.predict(frames[0]).value, fit.targets.models["dipole"].predict(frames[0]).value)
    growing = GrowingTargets([TargetSettings(**TARGETS["dipole"])], 0, trust_baseline=False)
    growing.add([labelled(frames[0], "a")])
    with pytest.raises(BaselineError, match="only if you trust"):
        growing.models  # noqa: B018


def test_what_calculators_lack():
    for name, calculator, said in (
        ("dipole", "polar_molecule.NoDipole", "no dipole for OH2OH2"),
        ("dipole", "no_module.At.All", "cannot be imported"),
    ):
        target = {**TARGETS[name], "baseline": {"calculator": calculator}}
        with pytest.raises((BaselineError, ConfigError), match=said):
            fit_targets(dimers(4), TargetsSettings(targets=[target]))
    with pytest.raises(ConfigError, match="baseline: is for targets of whole structures"):
        TargetSettings(name="charges_of_atoms", rank=0, unit="e", per_atom=True, baseline=BASELINE)
