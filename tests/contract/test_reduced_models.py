"""Every option of the channels of a density, through every door: fit, contract, compiled form, files, growth."""

import numpy as np
import pytest
from ase import Atoms
from conftest import SMALL_TERMS, make_frames
from finite_differences import position_gradient

import mlpot
from mlpot.errors import UnknownSpeciesError
from mlpot.fitting.batch import fit_terms
from mlpot.fitting.incremental import Fit
from mlpot.neighbours import find_pairs

SOAP = {**SMALL_TERMS[1], "n_sparse": 25}
MIX = {"mix": "both", "n_channels": 12, "coupling": "element-wise"}
OPTIONS = {
    "both": {**MIX, "symmetric": True},
    "both, two mixings": MIX,
    "both, full coupling": {**MIX, "n_channels": 5, "coupling": "full"},
    "species": {"mix": "species", "n_channels": 3, "symmetric": True},
    "radial": {"mix": "radial", "n_channels": 5, "coupling": "full", "symmetric": True},
    "nu_S = 1": {"nu_S": 1},
    "nu_R = 1, nu_S = 0": {"nu_R": 1, "nu_S": 0},
    "nu_R = 0": {"nu_R": 0},
    "diagonal_radial": {"diagonal_radial": True},
    "z_map": {"z_map": [["C", "Si"]]},
    "order 3": {"order": 3, "order_channels": 4},
    "order 4": {"order": 4, "order_channels": 2, "order_l_max": 2, "n_max": 3},
    "order 3 of mixed channels": {**MIX, "symmetric": True, "order": 3},
}


@pytest.fixture(scope="module", params=OPTIONS)
def fitted(request, two_species_frames):
    terms = [SMALL_TERMS[0], {**SOAP, **OPTIONS[request.param]}]
    return mlpot.fit(two_species_frames[:4], mlpot.FitConfig(terms=terms, check_labels=False, jitter=1e-6))


def test_contract(fitted):
    atoms = make_frames(1, numbers=(6, 14), seed=11)[0][:10]
    assert not [check for check in mlpot.validate_model(fitted, atoms) if not check.passed]


def test_compiled_says_what_the_formulas_say(fitted, two_species_frames):
    compiled = fitted.compile()
    atoms = two_species_frames[5].copy()
    atoms.rattle(0.1, seed=1)
    for structure in (atoms, Atoms("C2Si", positions=[[0, 0, 0], [0, 0, 2.5], [0, 2.0, 0.3]]), Atoms("C")):
        ours, exact = compiled.predict(structure, True), fitted.predict_directly(structure, True)
        np.testing.assert_allclose(ours.energies, exact.energies, rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours.forces, exact.forces, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.energies_std, exact.energies_std, rtol=1e-4, atol=1e-7)
        size = np.linalg.norm(exact.forces_std, axis=1, keepdims=True)
        assert (np.abs(ours.forces_std - exact.forces_std) <= 0.1 * size).all()
    single = fitted.compile(precision="float32").predict(atoms)
    np.testing.assert_allclose(single.forces, fitted.predict(atoms).forces, atol=2e-3)


def test_rows_are_derivatives_of_covariances(fitted, two_species_frames):
    """What the fit is made of, by finite differences."""
    atoms, term = two_species_frames[4][:12], fitted.terms[1]
    pairs = find_pairs(atoms, term.cutoff)
    energy, forces, virial = np.zeros(term.n_sparse), np.zeros((36, term.n_sparse)), np.zeros((9, term.n_sparse))
    term.add_rows(pairs, energy, forces, virial)
    np.testing.assert_allclose(energy, term.covariances(pairs).sum(axis=0), rtol=1e-9, atol=1e-12)
    weights = np.random.default_rng(0).normal(size=term.n_sparse)

    def total(moved):
        return float(term.covariances(find_pairs(moved, term.cutoff)).sum(axis=0) @ weights)

    exact = -position_gradient(total, atoms)
    np.testing.assert_allclose((forces @ weights).reshape(-1, 3), exact, atol=1e-6 * np.abs(exact).max())


def test_files_hold_everything(fitted, two_species_frames, tmp_path):
    fitted.save(tmp_path / "model.h5")
    again = mlpot.load_model(tmp_path / "model.h5")
    assert again.terms[1].descriptor == fitted.terms[1].descriptor
    ours, saved = (m.predict(two_species_frames[5], True) for m in (fitted, again))
    np.testing.assert_array_equal(ours.forces, saved.forces)
    np.testing.assert_array_equal(ours.forces_std, saved.forces_std)


def test_a_growing_fit_equals_one_from_scratch(fitted, two_species_frames):
    fit = Fit(fitted.config, (6, 14))
    for k, frame in enumerate(two_species_frames[:4]):
        found = {(1, z): f[k::4] for z, f in zip((6, 14), fitted.terms[1].sparse_features, strict=True)}
        fit.update([frame], found)
    model = fit.model
    other = fit_terms(fit.structures, fit.species, model.terms, model.baseline, fit.config, fit.levels.noises)
    a, b = (m.predict(two_species_frames[5], True) for m in (model, other))
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-6)
    np.testing.assert_allclose(a.energies_std, b.energies_std, rtol=1e-5, atol=1e-6)


def test_unknown_elements_are_told(fitted):
    with pytest.raises(UnknownSpeciesError, match="Ge"):
        fitted.predict(Atoms("GeSi", positions=[[0, 0, 0], [0, 0, 2.4]]))
