"""Targets: physics of fitted dipoles and polarisabilities, exact left-out errors, labels that cannot be right."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation
from target_data import TERMS, waters

import mlpot
from mlpot.data.target_labels import DIPOLE as DIPOLES
from mlpot.data.target_labels import TargetLabels, label_of
from mlpot.descriptors.couplings import components
from mlpot.errors import ConfigError, DataError, FitError, UnknownSpeciesError
from mlpot.fitting.target_check import mended
from mlpot.fitting.target_posterior import TargetPosterior, block_scales
from mlpot.fitting.tensors import fit_targets
from mlpot.models.files import load_any
from mlpot.models.saving import save_targets
from mlpot.models.target_errors import evaluate_targets
from mlpot.models.tensors import TargetModels
from mlpot.neighbours import find_pairs
from mlpot.settings.targets import TargetSettings, TargetsSettings
from mlpot.terms.covariant import Surroundings

DIPOLE = {"name": "dipole", "unit": "e*A", "terms": TERMS}
POLARIZABILITY = {"name": "polarizability", "unit": "A^3", "terms": TERMS}
LOGARITHMIC = {
    "radial_basis": "logarithmic", "n_max": 4, "l_max": 3, "cutoff": 3.0, "n_invariants": 12, "n_covariants": 24, "decay": 1.0
}  # fmt: skip


def fitted(frames, **target):
    """The only target."""
    (model,) = fit_targets(frames, TargetsSettings(targets=[target])).values()
    return model


@pytest.fixture(scope="module")
def models():
    settings = TargetsSettings(targets=[DIPOLE, {**POLARIZABILITY, "terms": [{**LOGARITHMIC, "zeta": 3}, {**TERMS[0], "zeta": 1}]}])
    return fit_targets(waters(40), settings)


def test_progress_counts_every_structure():
    seen = []
    fit_targets(waters(6), TargetsSettings(targets=[DIPOLE]), progress=lambda *found: seen.append(found))
    assert seen == [("dipole", k, 6) for k in range(1, 7)]


def dimer():
    """Two molecules near each other, so that environments are unlike those of the data and no symmetry hides anything."""
    first, second = waters(2, seed=9)
    second.positions += first.positions[0] - second.positions[0] + [2.4, 0.3, -0.5]
    return Atoms("OHHOHH", positions=np.concatenate([first.positions, second.positions]))


def test_errors_are_small_and_known(models):
    for errors in evaluate_targets(models, waters(40, seed=1)).values():
        assert max(errors.parts.values()) < 3.0 and 0.45 < errors.coverage <= 0.95
    assert 0.6 < models["dipole"].left_out.coverage < 0.75


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("name", ["dipole", "polarizability"])
def test_rotation_and_inversion(models, name, periodic):
    turn = Rotation.from_euler("zyz", [0.3, 1.1, -0.7]).as_matrix()
    atoms = dimer()
    if periodic:
        atoms.set_cell([[5.0, 0.3, 0.0], [0.0, 5.5, 0.2], [0.4, 0.0, 6.0]])
        atoms.pbc = True
    before = models[name].predict(atoms, uncertainty=True, gradients=False)
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.set_cell(sign * atoms.cell.array @ turn.T)
        moved.positions = sign * atoms.positions @ turn.T
        after = models[name].predict(moved, uncertainty=True, gradients=False)
        expected = sign * turn @ before.value if name == "dipole" else turn @ before.value @ turn.T
        assert np.abs(after.value - expected).max() < 1e-10 * np.abs(before.value).max()
        if name == "dipole":
            assert np.sum(after.std**2) == pytest.approx(np.sum(before.std**2), rel=1e-6)


@pytest.mark.parametrize("name", ["dipole", "polarizability"])
def test_derivatives_and_sum_rule(models, name):
    atoms, model = dimer(), models[name]
    found = model.predict(atoms)
    for atom, axis in [(0, 0), (1, 2), (4, 1)]:
        slope = 0.0
        for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = atoms.copy()
            moved.positions[atom, axis] += 1e-3 * shift
            slope = slope + weight * model.predict(moved, gradients=False).value / 12e-3
        assert np.abs(found.gradients[atom, axis] - slope).max() < 1e-6 * np.abs(found.gradients).max()
    assert np.abs(found.gradients.sum(axis=0)).max() < 1e-10
    assert found.sum_rule is None if name == "polarizability" else found.sum_rule < 1e-10


def test_left_out_errors_are_those_of_fits_without_the_structure():
    """For given noise and scales; deviations too."""
    rng = np.random.default_rng(2)
    rows, values, offsets, noise = rng.standard_normal((20, 7)), rng.standard_normal(20), np.array([0, 3, 6, 12, 20]), 0.3
    found, deviations = TargetPosterior(rows, values, noise).left_out(offsets)
    for a, b in pairwise(offsets):
        kept = np.r_[0:a, b:20]
        covariance = np.linalg.inv(rows[kept].T @ rows[kept] / noise**2 + np.eye(7))
        assert np.allclose(found[a:b], rows[a:b] @ covariance @ rows[kept].T @ values[kept] / noise**2 - values[a:b], rtol=1e-9)
        expected = np.sqrt(np.diagonal(rows[a:b] @ covariance @ rows[a:b].T) + noise**2)
        assert np.allclose(deviations[a:b], expected, rtol=1e-9)


def test_predictions_and_deviations_are_those_of_kernels_between_all_environments():
    """The Gaussian process in the space of the labels, without features, spans and truncations, from the kernel in its definition."""
    train, zeta = waters(9), 2
    terms = [{**TERMS[0], "n_max": 2, "l_max": 2, "n_invariants": 500, "n_covariants": 500}]
    model = fitted(train, **DIPOLE | {"terms": terms, "noise": 0.1})
    part, atoms = model.parts[1], waters(1, seed=4)[0]
    (term,) = part.terms

    def kernel(one, other):
        total = np.zeros((3, 3))
        for k, number in enumerate(term.descriptor.species):
            a, b = (term.environments(Surroundings(find_pairs(x, term.descriptor.cutoff)), number) for x in (one, other))
            size = part.scales[0, k] ** 2 / term.directions[k].size ** zeta
            norms = np.sum(a.p**2, axis=1)[:, None] * np.sum(b.p**2, axis=1)
            total += size * np.einsum("ab,ap,bp,amf,bnf->mn", norms ** (-zeta / 4), a.p, b.p, a.q, b.q, optimize=True)
        return total

    labels = np.concatenate([components(a.calc.results["dipole"], 1, 1) for a in train])
    inside = np.block([[kernel(a, b) for b in train] for a in train]) + 0.1**2 * np.eye(27)
    across = np.concatenate([kernel(atoms, b) for b in train], axis=1)
    found = model.predict(atoms, uncertainty=True)
    assert np.allclose(components(found.value, 1, 1), across @ np.linalg.solve(inside, labels), atol=1e-5)
    covariance = kernel(atoms, atoms) - across @ np.linalg.solve(inside, across.T) + 0.1**2 * np.eye(3)
    wanted = part.calibration * np.sqrt(np.diagonal(covariance))[[2, 0, 1]]  # components are y, z, x
    assert np.all(found.std >= wanted * (1 - 1e-6)) and np.all(found.std < 1.05 * wanted)


def test_scalars_of_atoms():
    model = fitted(waters(25), name="charges_of_atoms", rank=0, per_atom=True, unit="e", terms=TERMS)
    (other,) = waters(1, seed=4)
    found = model.predict(other, uncertainty=True)
    assert found.value.shape == found.std.shape == (3,) and found.gradients is None
    assert np.allclose(found.value, other.arrays["charges_of_atoms"], atol=0.02)


def test_scales_are_found_where_covariances_are_nearly_singular():
    """Labels without noise, which features of the first kernel explain entirely: the second gets hardly any share."""
    rng = np.random.default_rng(1)
    features, others = rng.standard_normal((150, 6)) * np.geomspace(1, 1e-2, 6), rng.standard_normal((150, 2))
    found = block_scales([features @ features.T, others @ others.T], features @ rng.standard_normal(6), None)
    assert found[1] < 0.1 * found[0]


def test_units():
    debye = waters(25)
    for atoms in debye:
        atoms.calc.results["dipole"] = atoms.calc.results["dipole"] / 0.20819433442
    one, other = fitted(waters(25), **DIPOLE), fitted(debye, **DIPOLE | {"unit": "debye"})
    assert np.allclose(one.predict(dimer()).value, other.predict(dimer()).value, rtol=1e-5)
    volume = label_of(waters(1)[0], "polarizability", POLARIZABILITY_TARGET, "bohr^3", "x")
    assert np.allclose(volume, waters(1)[0].info["polarizability"] * 0.529177210903**3, rtol=1e-8)


POLARIZABILITY_TARGET = TargetSettings(**POLARIZABILITY).target


def test_mixed_units_are_refused():
    frames = waters(30)
    for atoms in frames[::8]:
        atoms.calc.results["dipole"] = atoms.calc.results["dipole"] / 0.20819433442
    with pytest.raises(DataError, match=r"4 structures .* only in another unit"):
        fitted(frames, **DIPOLE)


def test_branches_of_periodic_dipoles_are_mended():
    frames = waters(30)
    for atoms in frames:
        atoms.set_cell([9.0, 10.0, 11.0])
        atoms.pbc = True
    plain = fitted(frames, **DIPOLE)
    for k, step in ((3, [9.0, 0, 0]), (11, [0, -20.0, 0]), (20, [-9.0, 10.0, 11.0])):
        frames[k].calc.results["dipole"] = frames[k].calc.results["dipole"] + step
    model = fitted(frames, **DIPOLE)
    assert len(model.notes) == 1 and "3 dipoles were on another branch" in model.notes[0] and "structure 11" in model.notes[0]
    assert np.allclose(model.predict(frames[3]).value, plain.predict(frames[3]).value, atol=1e-3)
    assert evaluate_targets({"dipole": model}, frames)["dipole"].rmse < 0.02


@pytest.mark.parametrize(("rest", "is_moved"), [(0.7, True), (1.3, False)])
def test_a_branch_may_leave_an_error_like_those_of_others(rest, is_moved):
    """A model that is 0.4 e A off: 0.7 beside a lattice vector of 3 A is another branch, 1.3 may be anything."""
    frames = [Atoms("H", cell=[3.0, 3.0, 3.0], pbc=True)] * 20
    errors = [np.full(3, 0.4 * 0.6745)] * 19 + [np.array([0.0, 3.0, rest])]
    labels = TargetLabels(frames, [f"structure {k}" for k in range(20)], [np.zeros(3)] * 20, 0)
    better, notes = mended(labels, errors, DIPOLES)
    assert (better is not None) == is_moved == bool(notes)
    if is_moved:
        np.testing.assert_allclose(better.values, [[0.0] * 3] * 19 + [[0.0, 3.0, 0.0]], atol=1e-12)


def crystals(n):
    """Molecules in cells of different volume, with a permittivity of 1 + 4 pi (polarisability) / volume."""
    frames = waters(n)
    for k, atoms in enumerate(frames):
        atoms.set_cell(np.eye(3) * (7.0 + 0.1 * k))
        atoms.pbc = True
        atoms.info["dielectric"] = np.eye(3) + 4 * np.pi * atoms.info["polarizability"] / atoms.get_volume()
    return frames


def test_permittivities_are_properties_of_a_volume(tmp_path):
    frames = crystals(30)
    model = fitted(frames, name="dielectric", terms=TERMS)
    volumes = fitted(frames, **POLARIZABILITY)
    found, expected = (m.predict(frames[3], uncertainty=True, members=True) for m in (model, volumes))
    scale = 4 * np.pi / frames[3].get_volume()
    assert np.allclose(found.value - np.eye(3), scale * expected.value, atol=1e-5)
    for name in ("std", "gradients"):
        assert np.allclose(getattr(found, name), scale * getattr(expected, name), rtol=1e-2, atol=1e-5)
    assert np.allclose(found.members.mean(axis=0), found.value, atol=1e-9)
    assert model.left_out.rmse < 0.3 * fitted(frames, name="epsilon", key="dielectric", rank=2, unit="", terms=TERMS).left_out.rmse
    assert evaluate_targets({"dielectric": model}, frames)["dielectric"].rmse == pytest.approx(model.training.rmse, rel=1e-6)
    save_targets(TargetModels({"dielectric": model}), tmp_path / "t.h5")
    again = load_any(tmp_path / "t.h5")["dielectric"]
    assert np.array_equal(again.predict(frames[3]).value, found.value)
    frames[0].pbc = [True, True, False]
    with pytest.raises(DataError, match=r"structure 0: dielectric is a property per volume.*per_volume = false"):
        fitted(frames, name="dielectric", terms=TERMS)


def test_charged_systems_need_an_origin():
    frames = waters(25)
    for atoms in frames:
        atoms.info["charge"] = 1
        atoms.calc.results["dipole"] = atoms.calc.results["dipole"] + atoms.get_center_of_mass() - [1.0, 2.0, 3.0]
    with pytest.raises(DataError, match=r"charge of 1 e.*origin = "):
        fitted(frames, **DIPOLE)
    model = fitted(frames, **DIPOLE, origin=[1.0, 2.0, 3.0])
    neutral = fitted(waters(25), **DIPOLE)
    found = model.predict(frames[3])
    expected = neutral.predict(waters(25)[3]).value + frames[3].get_center_of_mass() - [1.0, 2.0, 3.0]
    assert np.allclose(found.value, expected, atol=1e-6)
    assert np.allclose(found.gradients.sum(axis=0), np.eye(3), atol=1e-10) and found.sum_rule < 1e-10
    moved = frames[3].copy()
    moved.positions[1, 2] += 1e-3
    assert np.allclose((model.predict(moved).value - found.value) / 1e-3, found.gradients[1, 2], atol=5e-3)
    with pytest.raises(DataError, match="periodic"):
        frames[0].pbc = True
        frames[0].cell = [9, 9, 9]
        model.predict(frames[0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"info": {"polarizability": np.arange(9.0).reshape(3, 3)}}, "not symmetric"),
        ({"info": {"polarizability": [1.0, 2.0]}}, "rank = 2 needs"),
        ({"info": {"polarizability": np.full((3, 3), np.nan)}}, "not finite"),
        ({"info": {"polarizability": "none"}}, "does not hold numbers"),
        ({"info": {"polarizability": np.ones((3, 3, 3))}}, "per_atom = false; set per_atom = true"),
    ],
)
def test_wrong_labels(change, message):
    frames = waters(4)
    frames[2].info.update(change["info"])
    with pytest.raises(DataError, match=f"structure 2: polarizability.*{message}"):
        fitted(frames, **POLARIZABILITY)


def test_labels_that_are_missing_or_vanish():
    with pytest.raises(DataError, match=r"no structure has 'dip'; there are .*dipole"):
        fitted(waters(3), **DIPOLE, key="dip")
    frames = waters(4)
    for atoms in frames:
        atoms.calc.results["dipole"] = np.zeros(3)
    with pytest.raises(FitError, match="nothing to learn"):
        fitted(frames, **DIPOLE)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "polarizability"}, r"unit: missing for polarizability; choose from A\^3, bohr\^3"),
        ({"name": "dipole", "unit": "Debye"}, "must be one of e"),
        ({"name": "dipole", "rank": 2}, "a dipole has rank 1"),
        ({"name": "gap", "unit": "eV"}, "rank: missing"),
        ({"name": "gap", "rank": 0}, "unit: missing for gap"),
        ({"name": "energy"}, "learned by the potential itself"),
        ({"name": "magnetic_dipole", "rank": 1, "unit": "mu_B"}, "pseudovector"),
        ({"name": "gap", "rank": 0, "unit": "eV", "origin": "center_of_mass"}, "only dipoles"),
        ({"name": "dipole", "terms": [{"cutoff": 3.0, "cutoff_width": 4.0}]}, "exceeds cutoff"),
        ({"name": "dipole", "terms": [{"radial_basis": "logarithmic", "atom_sigma": 0.4}]}, "atom_sigma: radial_basis = "),
        ({"name": "dipole", "terms": [{"radial_basis": "gap", "decay": 1.0}]}, 'decay: radial_basis = "gap" has no such parameter'),
        ({"name": "dipole", "terms": [{"atom_sigma": 0.5, "decay": 1.0}]}, 'decay: radial_basis = "gap" has no such parameter'),
        ({"name": "dipole", "terms": [{"radial_basis": "logarithmic", "n_max": 1}]}, "n_max = 1: .*needs at least 2"),
        ({"name": "dipole", "rang": 1}, "rang"),
        ({"name": "x", "rank": 0, "unit": "", "per_atom": True, "per_volume": True}, "per_volume: a value of an atom"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        TargetSettings(**settings)


def test_twice_the_same():
    with pytest.raises(ConfigError, match="'dipole' occurs twice"):
        TargetsSettings(targets=[DIPOLE, DIPOLE])


def test_unknown_elements(models):
    with pytest.raises(UnknownSpeciesError):
        models["dipole"].predict(Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]]))


def test_beside_a_potential_and_in_its_file(tmp_path):
    """One fit, one file, predictions and results of a calculator."""
    frames, targets = waters(12), [DIPOLE, {**POLARIZABILITY, "terms": [*TERMS, LOGARITHMIC]}]
    config = mlpot.FitConfig(terms=[{"type": "pair", "cutoff": 3.0}], targets=targets, check_labels=False)
    model = mlpot.fit(frames, config)
    model.save(tmp_path / "m.h5")
    again = mlpot.load_model(tmp_path / "m.h5")
    atoms = dimer()
    one, other = model.predict(atoms, uncertainty=True), again.predict(atoms, uncertainty=True)
    names = ("energy", "dipole", "dipole_std", "born_charges", "polarizability", "polarizability_std", "polarizability_gradients")
    for name in names:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert list(again.targets) == ["dipole", "polarizability"]
    assert again.targets["dipole"].left_out == model.targets["dipole"].left_out
    atoms.calc = mlpot.MlpotCalculator(again)
    assert np.array_equal(atoms.get_dipole_moment(), one.dipole)
    assert np.array_equal(atoms.calc.get_property("polarizability", atoms), one.polarizability)
    assert np.array_equal(atoms.calc.get_property("born_effective_charges", atoms)[2, 1], one.born_charges[2, :, 1])
    assert "polarizability" not in atoms.calc.results and set(atoms.get_properties(["dipole"]))
    with pytest.raises(AttributeError, match="dipole, polarizability"):
        _ = one.quadrupole
