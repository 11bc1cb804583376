"""The constant behind the features of a soap term, in rows, energies, forces and uncertainties, against the formulas."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import mlpot
from mlpot.neighbours import find_pairs
from mlpot.terms.environments import EnvironmentTerm

TERM = {
    "type": "soap", "n_max": 4, "l_max": 3, "cutoff": 4.0, "cutoff_width": 2.0, "n_sparse": 40, "zeta": 2, "constant": 0.6,
    "order": 3, "order_channels": 4, "order_l_max": 2, "order_weight": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def frames():
    found = []
    for seed in range(5):
        atoms = bulk("Cu", cubic=True)
        atoms.symbols[0] = "Au"
        atoms.rattle(0.15, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def model(frames):
    return mlpot.fit(frames[:4], mlpot.FitConfig(terms=[TERM], check_labels=False))


def test_the_kernel_is_a_sum_of_powers(model, frames):
    """(p.p' + c^2)^2 = (p.p')^2 + 2 c^2 p.p' + c^4."""
    term, pairs = model.terms[0], find_pairs(frames[4], 4.0)
    own = term.descriptor.compute(pairs)
    assert np.allclose(own[:, -1], 0.6)
    overlaps = own[pairs.numbers == 29][:, :-1] @ term.sparse_features[0][:, :-1].T
    powers = overlaps**2 + 2 * 0.36 * overlaps + 0.36**2
    expected = term.energy_scales[0] ** 2 * powers
    np.testing.assert_allclose(term.covariances(pairs)[pairs.numbers == 29][:, : len(term.sparse_features[0])], expected)


def test_rows_are_those_of_the_formulas(model, frames):
    """The slow rows through the Jacobian of the features."""
    term, pairs = model.terms[0], find_pairs(frames[4], 4.0)
    n, m = pairs.n_atoms, term.n_sparse
    ours, theirs = ((np.zeros(m), np.zeros((3 * n, m)), np.zeros((9, m))) for _ in range(2))
    term.add_rows(pairs, *ours)
    step, numeric = 1e-5, np.zeros((3 * n, m))
    EnvironmentTerm.add_rows(term, pairs, *theirs)
    for atom, x in ((0, 0), (1, 2), (3, 1)):
        ends = []
        for sign in (1, -1):
            moved = frames[4].copy()
            moved.positions[atom, x] += sign * step
            ends.append(term.covariances(find_pairs(moved, 4.0)).sum(axis=0))
        numeric[3 * atom + x] = -(ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(ours[1][3 * atom + x], numeric[3 * atom + x], atol=1e-6)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-9)


def test_predictions_are_those_of_the_formulas(model, frames, tmp_path):
    """Energies, forces and uncertainties, also from a file."""
    model.save(tmp_path / "model.h5")
    found = mlpot.load_model(tmp_path / "model.h5").predict(frames[4], uncertainty=True)
    direct = model.predict_directly(frames[4], uncertainty=True)
    np.testing.assert_allclose(found.forces, direct.forces, atol=1e-6)
    assert found.energy == pytest.approx(direct.energy, abs=1e-6)
    assert found.energy_std == pytest.approx(direct.energy_std, rel=1e-6)
    np.testing.assert_allclose(found.forces_std, direct.forces_std, rtol=0.1, atol=1e-3)


def test_a_negative_constant_is_refused():
    with pytest.raises(mlpot.errors.ConfigError, match="constant"):
        mlpot.FitConfig(terms=[{**TERM, "constant": -0.1}])
