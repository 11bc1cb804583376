"""Terms on descriptors of the core: maps of its sums in C give what NumPy makes of features and their Jacobian."""

from dataclasses import fields, replace

import numpy as np
import pytest
from conftest import NOISES, make_frames
from core_models import ACSF, BISPECTRUM, FUNCTIONS, MBTR, ON, structures

import mlpot
from mlpot.descriptors import Chebyshev
from mlpot.errors import ConfigError
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig

TERMS = {
    "acsf": {**ACSF, "functions": FUNCTIONS},
    "acsf chosen": {**ACSF, "n_functions": 9},
    "acsf weighted": {**ACSF, "functions": "amp", "weighted": True, "zeta": 3},
    "chebyshev": {**ON, "type": "chebyshev", "radial_order": 5, "angular_order": 3, "angular_cutoff": 3.3},
    "zernike": {**ON, "type": "zernike", "n_max": 3, "kernel": "gaussian", "length_scale": 0.3},
    "bispectrum": {**BISPECTRUM, "two_j_max": 4, "radii": {"C": 0.4, "Si": 0.5}},
    "bispectrum chem": {**BISPECTRUM, "two_j_max": 2, "chem": True, "zeta": 1},
    "bispectrum amp": {**BISPECTRUM, "two_j_max": 3, "angle": "amp", "kernel": "gaussian"},
    "mbtr": MBTR,
    "mbtr weights": {**MBTR, "n_weights": 2, "standardise": False},
}


def fitted(keys):
    return mlpot.fit(make_frames(3, numbers=(6, 14), seed=3), FitConfig(terms=[keys], check_labels=False, jitter=1e-6, **NOISES))


@pytest.mark.parametrize("keys", TERMS.values(), ids=TERMS)
def test_as_from_the_formulas(keys):
    """Deviations are roots of differences that have lost digits; members are in single precision."""
    model = fitted(keys)
    assert model.compiled.terms[0].in_core
    for atoms in structures((6, 14)).values():
        p, q = model.predict(atoms, uncertainty=True), model.predict_directly(atoms, uncertainty=True)
        for name in ("energy", "energies", "forces", "virial", "energies_std", "energy_std", "novelty", "forces_std"):
            found, expected = getattr(p, name), getattr(q, name)
            tolerance = (1e-4 if name.endswith("_std") else 1e-7 if name == "novelty" else 1e-10) * max(np.abs(expected).max(), 1e-2)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", ["acsf", "zernike", "mbtr"])
def test_variances_of_instances(name):
    """Of a model whose data is not known."""
    imported = replace(fitted(TERMS[name]), factor=None, regularisation=0.02, config=None, report=None)
    for atoms in structures((6, 14)).values():
        p, q = imported.predict(atoms, uncertainty=True), imported.predict_directly(atoms, uncertainty=True)
        assert p.forces_std is None
        np.testing.assert_allclose(p.energies_std, q.energies_std, rtol=1e-6)


@pytest.mark.parametrize("keys", TERMS.values(), ids=TERMS)
def test_the_map_of_an_element(keys):
    """From sums to the features before normalisation."""
    unit = fitted(keys).terms[0].unit
    atoms = structures((6, 14))["crystal"]
    pairs = find_pairs(atoms, unit.cutoff)
    sums = unit.descriptor.in_core
    raw, expected = unit.descriptor.compute(pairs), unit.at(pairs)
    for kind, number in enumerate(unit.species):
        mine = pairs.numbers == number
        plain, shift = sums.map_of(kind)
        whole, moved = unit.map_of(sums, kind)
        values = np.linalg.lstsq(plain.toarray(), (raw[mine] - shift).T, rcond=None)[0]
        np.testing.assert_allclose(plain @ values, (raw[mine] - shift).T, atol=1e-9)
        found = (whole @ values).T + moved
        known = expected.features[mine] * expected.lengths[mine]
        np.testing.assert_allclose(found, known[:, : found.shape[1]], rtol=0, atol=1e-9 * np.abs(known).max())


class Halved(Chebyshev):
    def compute(self, pairs):
        return 0.5 * super().compute(pairs)


def test_a_class_that_computes_something_else_stays_in_python():
    """The core would compute the sums of the class that it derives from."""
    term = fitted(TERMS["chebyshev"]).terms[0]
    other = Halved(*(getattr(term.descriptor, field.name) for field in fields(Chebyshev)))
    compiled = replace(term, unit=replace(term.unit, descriptor=other)).compile(np.ones(term.n_sparse), 1e-9)
    assert not compiled.in_core
    with pytest.raises(ConfigError, match="a Halved term is evaluated in Python: programs that read exported models have no such"):
        compiled.core_tables()
