"""A kernel cut in the metric of the data: forces change by less than the tolerance says, on environments it was not cut on."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

import mlpot
from mlpot.errors import ConfigError, ModelFileError
from mlpot.neighbours import find_pairs
from mlpot.structures import all_labelled
from mlpot.terms.soap_cut import Cut, Judge, data_axes
from mlpot.terms.witnesses import SHAKE, SHORTEST, Witnesses

TERMS = [
    {"type": "pair", "cutoff": 4.0, "n_sparse": 8},
    {"type": "soap", "n_max": 4, "l_max": 3, "cutoff": 4.0, "cutoff_width": 2.0, "n_sparse": 100, "zeta": 2, "atom_sigma": 0.5},
]


def shaken(symbol, amplitude, seed):
    atoms = bulk(symbol, cubic=True)
    atoms.rattle(amplitude, seed=seed)
    atoms.calc = EMT()
    atoms.get_forces()
    return atoms


@pytest.fixture(scope="module")
def frames():
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[1:3] = "Au"
    alloy.set_cell(alloy.cell * 1.05, scale_atoms=True)
    found = [shaken("Cu", amplitude, seed) for seed, amplitude in enumerate((0.05, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.15))]
    for seed in range(4):
        atoms = alloy.copy()
        atoms.rattle(0.15, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def model(frames):
    return mlpot.fit(frames, mlpot.FitConfig(terms=TERMS, force_tolerance=0.01, check_labels=False))


def n_points(compiled):
    return [part.energy.n for part in compiled.terms[1].parts]


def test_all_axes_are_the_whole_form():
    """On both sides of the square: fewer points than features, and more."""
    rng = np.random.default_rng(0)
    for shape in ((7, 12), (12, 7)):
        features, weights = rng.standard_normal(shape), rng.standard_normal(shape[0])
        vectors, strengths = data_axes(features, weights, features[:1])
        assert len(vectors) <= min(shape)
        np.testing.assert_allclose((vectors.T * strengths) @ vectors, (features.T * weights) @ features, atol=1e-9)


def test_axes_are_those_of_the_data():
    """Large coefficients in directions that environments hardly have are cut first, unlike by plain eigenvectors."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((40, 10)) * 10.0 ** -np.arange(10)
    weights = rng.standard_normal(40) * 10.0 ** rng.uniform(0, 6, 40)
    form = (features.T * weights) @ features + 0.0
    values, plain = np.linalg.eigh(form)
    order = np.argsort(-np.abs(values))[:4]
    vectors, strengths = data_axes(features, weights, features[:1])

    def error(approximate):
        return np.sqrt(np.mean(np.einsum("sf,fg,sg->s", features, approximate - form, features) ** 2))

    ours = error((vectors[:4].T * strengths[:4]) @ vectors[:4])
    assert ours < error((plain[:, order] * values[order]) @ plain[:, order].T)
    assert error((vectors.T * strengths) @ vectors) < 1e-9 * error(0 * form)


def test_a_judge_knows_energies_and_lone_atoms(model, frames):
    """(scale p.p_s)^2 w_s with the descriptor's features."""
    term, pairs = model.terms[1], find_pairs(frames[2], 4.0)
    descriptor, weights, scale = term.features, np.array([0.7, -0.2]), 0.3
    judge = Judge.on(descriptor.core, descriptor, Cut(0.01, pairs), 29)
    features = np.concatenate([descriptor.compute(pairs), descriptor.compute(find_pairs(Atoms("Cu"), 4.0))])
    points = features[:2] + 0.1
    energies, gradients = judge.evaluate(points, weights, scale)
    np.testing.assert_allclose(energies, scale**2 * (features @ points.T) ** 2 @ weights, rtol=1e-9)
    of_lone = np.append(np.zeros(len(energies) - 1), 2e-4)
    for change, force in ((of_lone, 2e-4 / 0.01), (2e-4 - of_lone, 2e-4 / 0.05)):  # eV over a reach in A
        assert judge.change((energies + change, gradients), (energies, gradients)) == pytest.approx(force)


def test_lone_atoms_keep_their_energy(model):
    """All other energies are counted from theirs, so an error would shift every structure."""
    lone, other = Atoms("Cu"), bulk("Cu", cubic=True)
    for atoms in (lone, other):
        exact = model.compile(force_tolerance=0).predict(atoms).energy / len(atoms)
        assert abs(model.compile(force_tolerance=0.01).predict(atoms).energy / len(atoms) - exact) < 0.01 * 0.01


def test_forces_change_by_less_than_the_tolerance(model, frames):
    """On structures of the data, shaken otherwise than by the compiler."""
    for tolerance in (0.1, 0.01, 1e-4):
        cut, exact = model.compile(force_tolerance=tolerance), model.compile(force_tolerance=0)
        changes, rng = [], np.random.default_rng(3)
        for atoms in frames:
            atoms = Atoms(atoms.numbers, atoms.positions + 0.2 * rng.standard_normal((len(atoms), 3)), cell=atoms.cell, pbc=True)
            changes.append((cut.predict(atoms).forces - exact.predict(atoms).forces).ravel())
        change = np.sqrt(np.mean(np.concatenate(changes) ** 2))
        assert change < 1.5 * tolerance
        assert sum(n_points(cut)) < sum(n_points(exact)) if tolerance > 1e-3 else change < 1e-3


def test_a_larger_tolerance_leaves_fewer_points(model):
    counts = [sum(n_points(model.compile(force_tolerance=tolerance))) for tolerance in (0, 1e-5, 1e-3, 0.1)]
    assert counts == sorted(counts, reverse=True) and counts[-1] < counts[0]


def test_forces_of_a_cut_kernel_are_derivatives(model, frames):
    """It is a potential of its own: finite differences."""
    compiled, atoms, step = model.compile(force_tolerance=0.1), frames[-1].copy(), 1e-4
    forces = compiled.predict(atoms).forces
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        ends.append(compiled.predict(moved).energy)
    assert forces[1, 2] == pytest.approx((ends[1] - ends[0]) / (2 * step), abs=1e-6)


def test_the_same_from_a_file_and_again(model, frames, tmp_path):
    """Bit by bit; the uncertainty has the tables of the exact kernel."""
    model.save(tmp_path / "model.h5")
    ours, theirs = (m.predict(frames[-1], uncertainty=True) for m in (model, mlpot.load_model(tmp_path / "model.h5")))
    np.testing.assert_array_equal(ours.forces, theirs.forces)
    exact = model.compile(force_tolerance=0).predict(frames[-1], uncertainty=True)
    np.testing.assert_allclose(ours.forces_std, exact.forces_std, rtol=1e-5)
    assert ours.energy_std == pytest.approx(exact.energy_std, rel=1e-9)


def test_a_model_without_environments_is_exact(model, frames):
    bare = replace(model, witnesses=None)
    difference = bare.predict(frames[0]).forces - bare.predict_directly(frames[0]).forces
    assert np.abs(difference).max() < 1e-6


def test_terms_of_ones_own_are_exact(frames):
    assert mlpot.fit(frames[:3], mlpot.FitConfig(terms=TERMS, check_labels=False)).witnesses is None


def test_wrong_tolerances_are_refused(model):
    for wrong in (-1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match="force_tolerance"):
            model.compile(force_tolerance=wrong)


def test_witnesses_are_environments_of_the_data(frames):
    found = Witnesses.of(all_labelled(frames), 4.0)
    assert set(found.numbers.tolist()) == {29, 79}
    begin = 0
    known = [find_pairs(atoms, 4.0) for atoms in frames]
    for number, count in zip(found.numbers, found.counts, strict=True):
        own = found.vectors[begin : begin + count]
        begin += count
        assert any(
            pairs.numbers[i] == number and np.array_equal(pairs.vectors[pairs.i == i], own)
            for pairs in known
            for i in range(pairs.n_atoms)
        )


def test_shaken_witnesses_have_moved_but_do_not_meet(frames):
    found = Witnesses.of(all_labelled(frames), 4.0)
    pairs = found.shaken()
    before = np.linalg.norm(found.vectors, axis=1)
    moved = np.linalg.norm(pairs.vectors - found.vectors, axis=1)
    assert np.all(pairs.distances >= 0.999 * SHORTEST * before)
    assert 0.7 < np.sqrt(np.mean(moved**2) / 3) / (SHAKE * before.min()) < 1.6
    assert pairs.offsets[len(found.numbers)] == pairs.n_pairs


@pytest.mark.parametrize("change", [{"numbers": 99}, {"neighbours": 99}, {"counts": -1}, {"vectors": np.nan}, {"vectors": 0.0}])
def test_damaged_witnesses_are_refused(model, tmp_path, change):
    (name, value), own = *change.items(), model.witnesses
    array = getattr(own, name).copy()
    array[0] = value
    replace(model, witnesses=replace(own, **{name: array})).save(tmp_path / "model.h5")
    with pytest.raises(ModelFileError, match="witnesses"):
        mlpot.load_model(tmp_path / "model.h5")
