"""A compiled model is a handle on tables in the core; terms that exist in Python only are added to it."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from conftest import NOISES, SMALL_TERMS, make_frames
from core_models import ISOLATED, fewer_elements, made, structures

import mlpot
from mlpot.errors import ConfigError, StructureError, UnknownSpeciesError
from mlpot.models.core_file import handle_tables
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.terms.core_terms import kept

PAIR, SOAP = SMALL_TERMS
SOAP = {**SOAP, "zeta": 4}
ACSF = {
    "type": "acsf", "cutoff": 4.0, "functions": [["G2", 0.5, 0.0], ["G2", 1.0, 2.0], ["G4", 0.05, 1.0, 1.0]], "n_sparse": 15,
}  # fmt: skip
MIXED = {
    "in Python alone": {"terms": [ACSF]}, "in Python last": {"terms": [PAIR, SOAP, ACSF]},
    "in Python first": {"terms": [ACSF, PAIR, SOAP], **ISOLATED}, "pairs and Python": {"terms": [PAIR, ACSF]},
}  # fmt: skip


def agree(model):
    """With the formulas; members see only the features that give their gradients to some percent."""
    for atoms in structures(model.species).values():
        ours, exact = model.predict(atoms, True), model.predict_directly(atoms, True)
        np.testing.assert_allclose(ours.energies, exact.energies, rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours.forces, exact.forces, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.energies_std, exact.energies_std, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(ours.novelty, exact.novelty, rtol=1e-4, atol=1e-6)
        assert ours.energy_std == pytest.approx(exact.energy_std, rel=1e-4, abs=1e-7)
        assert np.all(np.abs(ours.forces_std - exact.forces_std) <= 0.05 * np.linalg.norm(exact.forces_std, axis=1, keepdims=True))


@pytest.mark.parametrize("name", MIXED)
def test_terms_in_the_core_beside_terms_in_python(name):
    """In every order: the last term applies its triangles to the covariances of all."""
    agree(mlpot.fit(make_frames(4, numbers=(6, 14), seed=1), FitConfig(check_labels=False, jitter=1e-6, **NOISES, **MIXED[name])))


def test_an_element_that_the_last_term_has_no_points_for():
    agree(fewer_elements(made("two elements")))


def test_the_core_computes_with_the_tables_of_the_terms():
    """Large tables are where the core can use them; the handles with and without uncertainty have the same."""
    compiled = made("balanced").compile()
    tables = [handle_tables(compiled.source, compiled.terms, compiled._baseline, spread) for spread in (None, compiled._spread)]
    large = {name for name, array in tables[0].items() if array.nbytes > 2**10}
    assert {"t0.features", "t1.p0.e.packed", "t1.p1.d.table", "t1.p1.d.coupling"} <= large
    for name in large:
        assert kept(tables[0])[name] is tables[0][name] is tables[1][name]


def test_copies_and_threads():
    atoms, compiled = structures((6, 14))["crystal"], made("balanced").compile()
    expected = compiled.predict(atoms, True)
    twin = copy.deepcopy(compiled)
    del compiled
    with ThreadPoolExecutor(4) as pool:
        for found in [expected, *pool.map(lambda _: twin.predict(atoms, True), range(8))]:
            np.testing.assert_array_equal(found.forces, expected.forces)
            np.testing.assert_array_equal(found.forces_std, expected.forces_std)


def test_a_recalibrated_model_shares_its_handles():
    model, atoms = made("two elements"), structures((6, 14))["crystal"]
    before = [model.predict(atoms, uncertainty) for uncertainty in (False, True)][1]
    other = model.calibrated(replace(model.calibration, energy_scale=3.0 * model.calibration.energy_scale))
    assert other.compiled._observing is model.compiled._observing and other.compiled._core is model.compiled._core
    after = other.predict(atoms, True)
    np.testing.assert_array_equal(after.forces, before.forces)
    assert after.energy_std > 1.5 * before.energy_std


def test_numbers_that_are_not_finite_are_refused():
    model = made("no pairs")
    broken = replace(model, weights=np.where(np.arange(len(model.weights)) == len(model.weights) - 1, np.nan, model.weights))
    with pytest.raises(ConfigError, match=r"tables of a model: .*; fit the model again"):
        broken.predict(structures((6, 14))["crystal"])


def test_energies_that_need_no_point():
    """Weights of zero leave no axis of a square form."""
    model, atoms = made("two elements"), structures((6, 14))["crystal"]
    nothing = replace(model, weights=np.zeros_like(model.weights))
    assert all(part.energy.n == 0 for part in nothing.compiled.terms[1].parts)
    for found in (nothing.predict(atoms), nothing.predict(atoms, True)):
        np.testing.assert_allclose(found.energies, nothing.predict_directly(atoms).energies, atol=1e-12)


def test_structures_that_the_core_refuses():
    model, atoms = made("one element"), structures((14,))["crystal"]
    pairs = find_pairs(atoms, model.cutoff)
    with pytest.raises(StructureError, match="pair 0: atoms are 0 A apart"):
        model.predict_pairs(pairs.with_vectors(np.zeros_like(pairs.vectors)), None)
    with pytest.raises(UnknownSpeciesError, match="Ge"):
        model.predict_pairs(replace(pairs, numbers=np.full(len(atoms), 32, np.int32)), None, uncertainty=True)
