"""The compiled model says what the formulas say: energies, forces and uncertainty, for every kind of term and precision."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from conftest import SMALL_TERMS, make_frames

import mlpot
from mlpot.errors import ConfigError
from mlpot.settings.fit import FitConfig
from mlpot.terms.soap_compiled import CompiledSoapTerm

SOAP = SMALL_TERMS[1]
TERMS = {
    "pair and soap": SMALL_TERMS,
    "pair": SMALL_TERMS[:1],
    "zeta 1": [{**SOAP, "zeta": 1}],
    "zeta 2, more points than features": [{**SOAP, "n_max": 2, "l_max": 1, "n_sparse": 40}],
    "zeta 2.5": [{**SOAP, "zeta": 2.5}],
    "zeta 4, two soaps": [{**SOAP, "zeta": 4}, {**SOAP, "zeta": 3, "cutoff": 3.0, "n_sparse": 15}, SMALL_TERMS[0]],
}


@pytest.fixture(scope="module", params=TERMS)
def fitted(request, frames):
    return mlpot.fit(frames[:5], mlpot.FitConfig(terms=TERMS[request.param], jitter=1e-6))


def agree(ours, exact, atol=1e-8):
    np.testing.assert_allclose(ours.energies, exact.energies, rtol=0, atol=atol)
    np.testing.assert_allclose(ours.forces, exact.forces, rtol=0, atol=100 * atol)
    np.testing.assert_allclose(ours.virial, exact.virial, rtol=0, atol=1e4 * atol)
    np.testing.assert_allclose(ours.energies_std, exact.energies_std, rtol=1e-4, atol=1e-7)
    assert ours.energy_std == pytest.approx(exact.energy_std, rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(ours.novelty, exact.novelty, rtol=1e-4, atol=1e-6)
    assert (ours.stress_std is None) == (exact.stress_std is None)
    if ours.stress_std is not None:
        np.testing.assert_allclose(ours.stress_std, exact.stress_std, rtol=0.05, atol=0.05 * exact.stress_std.max())
    # the ensemble sees the features that give its gradients to 2 %
    close = np.abs(ours.forces_std - exact.forces_std) <= 0.05 * np.linalg.norm(exact.forces_std, axis=1, keepdims=True)
    assert close.all()


@pytest.mark.usefixtures("instructions")
def test_equals_the_formulas(fitted, frames):
    """With every instruction set that this processor has."""
    atoms = frames[6].copy()
    atoms.rattle(0.2, seed=1)
    for structure in (atoms, Atoms("Si3", positions=[[0, 0, 0], [0, 0, 2.5], [0, 2.0, 0.3]]), Atoms("Si")):
        agree(fitted.predict(structure, True), fitted.predict_directly(structure, True))


def test_elements_have_features_of_their_own(two_species_model, two_species_frames):
    for atoms in two_species_frames:
        agree(two_species_model.predict(atoms, True), two_species_model.predict_directly(atoms, True))
    agree(two_species_model.predict(Atoms("CSi", positions=np.diag([0, 0, 2.0])[1:]), True),
          two_species_model.predict_directly(Atoms("CSi", positions=np.diag([0, 0, 2.0])[1:]), True))  # fmt: skip


def soap_part(compiled):
    return next(term for term in compiled.terms if isinstance(term, CompiledSoapTerm)).parts[0]


def test_sums_collapse_where_that_is_cheaper(frames):
    def points(zeta):
        model = mlpot.fit(frames[:4], mlpot.FitConfig(terms=[{**SOAP, "n_max": 2, "l_max": 1, "zeta": zeta}]))
        part = soap_part(model.compile())
        return part.energy.n, part.known.n

    assert points(1) == (1, 40)
    quadratic, known = points(2)
    assert quadratic <= 6 < known == 40  # no more than there are features
    assert points(3) == (40, 40)


def test_features_are_left_out_to_the_tolerance(model, frames):
    every = mlpot.fit(frames[:4], mlpot.FitConfig(terms=[{**SOAP, "n_max": 8, "l_max": 6}]))
    n_kept = [soap_part(every.compile(tolerance)).core.n_features for tolerance in (1e-4, 1e-8)]
    assert n_kept[0] < n_kept[1] < every.terms[0].descriptor.n_features
    for tolerance in (1e-4, 1e-6):
        exact, ours = every.predict_directly(frames[7]), every.compile(tolerance).predict(frames[7])
        error = np.abs(ours.energies - exact.energies).max()
        assert error < tolerance


def test_single_precision(frames):
    model = mlpot.fit(frames[:4], mlpot.FitConfig(terms=[{**SOAP, "n_max": 8, "l_max": 6, "zeta": 4}]))
    single = model.compile(precision="float32")
    part = soap_part(single)
    assert part.energy.n_double < part.core.n_features
    exact, ours = model.predict_directly(frames[6], True), single.predict(frames[6], True)
    error = np.abs(ours.forces - exact.forces).max()
    assert 0 < error < 1e-4
    np.testing.assert_allclose(ours.energies_std, exact.energies_std, rtol=1e-4)


def test_a_compiled_model_travels(model, frames):
    compiled = model.compile(1e-6)
    copy = pickle.loads(pickle.dumps(compiled))
    assert copy.tolerance == 1e-6
    np.testing.assert_array_equal(copy.predict(frames[0]).forces, compiled.predict(frames[0]).forces)
    atoms = frames[0].copy()
    atoms.calc = mlpot.MlpotCalculator(compiled)
    np.testing.assert_array_equal(atoms.get_forces(), compiled.predict(atoms).forces)


def test_a_calculation_is_repeated_only_when_something_changed(model, frames):
    atoms = frames[0].copy()
    atoms.calc = mlpot.MlpotCalculator(model)
    assert set(atoms.calc.uncertainty) == set()
    forces = atoms.get_forces()
    assert atoms.calc.check_state(atoms) == []
    atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
    assert atoms.calc.check_state(atoms) == []
    assert set(atoms.calc.uncertainty) == {"energies_std", "energy_std", "forces_std", "stress_std", "novelty"}
    atoms.positions[0, 0] += 1e-14 + np.spacing(atoms.positions[0, 0])
    assert atoms.calc.check_state(atoms) == ["positions"]
    assert np.abs(atoms.get_forces() - forces).max() < 1e-9
    atoms.set_cell(atoms.cell * 1.01)
    assert atoms.calc.check_state(atoms) == ["cell"]


def test_the_calculator_holds_a_copy_of_what_it_calculated(model, frames):
    atoms, other = frames[0].copy(), frames[1].copy()
    calculator = mlpot.MlpotCalculator(model, uncertainty=False)
    for structure in (atoms, other, atoms):
        for shift in (0.0, 0.01, 0.02):
            structure.positions[0, 0] += shift
            forces = calculator.get_property("forces", structure)
            np.testing.assert_array_equal(forces, model.predict(structure).forces)
            assert calculator.atoms is not structure
            np.testing.assert_array_equal(calculator.atoms.positions, structure.positions)
            calculator.atoms = None if shift else other.copy()  # whatever others do to it


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"tolerance": -1.0}, {"precision": "half"}])
def test_wrong_options(model, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        model.compile(**options)


def test_alloys_of_elements_that_the_model_knows_only_pure():
    """Sparse points without any mixed feature: an alloy has them all the same, in the norm of its environments."""
    pure = [*make_frames(3, numbers=(6,), seed=6), *make_frames(3, numbers=(14,), seed=14)]
    model = mlpot.fit(pure, FitConfig(terms=SMALL_TERMS, check_labels=False))
    alloy = make_frames(1, numbers=(6, 14), seed=3)[0]
    fast, slow = model.predict(alloy, True), model.predict_directly(alloy, True)
    np.testing.assert_allclose(fast.energies, slow.energies, atol=1e-8)
    np.testing.assert_allclose(fast.forces, slow.forces, atol=1e-6)
    np.testing.assert_allclose(fast.energies_std, slow.energies_std, rtol=1e-4)
