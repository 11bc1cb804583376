"""Deviations from raw variances: C, which files of `export_core` are evaluated with, and Python agree on random numbers."""

import numpy as np
import pytest
from core_models import ghosted, made, structures
from mlpot._ext.core import N_MEMBERS, CoreModel

from mlpot.neighbours import find_pairs
from mlpot.uncertainty.calibration import SYMMETRIC, Calibration
from mlpot.uncertainty.variances import Variances, force_variances

ENERGY, FORCE, VIRIAL = (10.0 ** np.arange(-8, 0), 10.0 ** np.arange(-9, 1), 10.0 ** np.arange(-3, 1))
"""Sizes that are drawn from: eV^2; eV/A, some below the round-off of a force that is zero by symmetry; eV."""


def laws():
    """Calibrations with and without values of their own for elements, floors and growths."""
    rng = np.random.default_rng(4)
    some = [{}, {6: 0.02}, {14: 0.3}, {6: 0.1, 14: 0.04}]
    for of_elements, floors, growths in (({}, {}, {}), ({6: 1.7}, some[1], some[2]), ({6: 0.8, 14: 3.1}, some[3], some[3])):
        force, energy, stress, share = rng.uniform(0.2, 4.0, 4)
        yield Calibration(force, energy, stress, of_elements, discrepancy_share=share, floors=floors, growths=growths)


def raw(rng, n_atoms, upper):
    """Random raw variances of a structure, by their names in `mlpot_uncertainty`; the force on an atom is zero by symmetry.

    `upper` is the factor R; the covariances R'z of the total energy have the posterior variance z.z, which is "total".
    """
    members = rng.normal(size=(n_atoms, 3, N_MEMBERS)) * rng.choice(FORCE, (n_atoms, 3, 1))
    members[0] = 0.0
    z = rng.normal(size=len(upper))
    return {
        "posterior": rng.choice(ENERGY, n_atoms) * rng.random(n_atoms), "unexplained": rng.choice(ENERGY, n_atoms),
        "strongest": rng.uniform(0.0, 5.0, n_atoms), "member_forces": members, "covariances": upper.T @ z, "total": z @ z,
        "member_virial": rng.normal(size=(9, N_MEMBERS)) * rng.choice(VIRIAL, (9, 1)),
    }  # fmt: skip


def in_python(model, pairs, parts):
    virial = np.mean(parts["member_virial"] ** 2, axis=1).reshape(3, 3)
    forces = force_variances(parts["member_forces"])
    raw_variances = Variances(parts["posterior"], parts["unexplained"], parts["total"], forces, virial, None, model.noises)
    return raw_variances.calibrated(model.calibration, pairs, parts["strongest"])


@pytest.mark.parametrize("law", list(laws()), ids=["factors", "one element", "both elements"])
def test_c_and_python_agree_on_random_variances(law, tmp_path):
    model, rng = made("two elements").calibrated(law), np.random.default_rng(8)
    model.export_core(tmp_path / "model.mlpot")
    loaded = CoreModel(tmp_path / "model.mlpot")
    for atoms in structures((6, 14)).values():
        pairs, g = find_pairs(atoms, model.cutoff), ghosted(atoms, model.cutoff)
        for _ in range(5):
            parts = raw(rng, len(atoms), model.representatives.upper)
            expected = in_python(model, pairs, parts)
            crowding = loaded.evaluate(*g.arrays, uncertainty=True)["crowding"]
            found = loaded.deviations(pairs.numbers, parts | {"crowding": crowding})
            loaded.share_deviations(*g.arrays, found["owed"][g.owner], found["forces_std"])
            np.testing.assert_allclose(found["energies_std"], expected.energies_std, rtol=1e-10)
            np.testing.assert_allclose(found["forces_std"], expected.forces_std, rtol=1e-10, atol=1e-15)
            virial = parts["member_virial"].ravel()
            total, virial_std = loaded.total_deviations(len(atoms), parts["covariances"], parts["unexplained"].sum(), virial)
            assert total == pytest.approx(expected.energy_std, rel=1e-8)
            np.testing.assert_allclose(virial_std, expected.virial_std, rtol=1e-10)
            if len(atoms) > 1:  # the case has what it is to show: forces that vanish by symmetry, and shares of neighbours
                assert not found["forces_std"][0].any() and np.any(found["forces_std"] > 100 * SYMMETRIC)
    crystal = find_pairs(structures((6, 14))["crystal"], model.cutoff)
    shared = [in_python(model, crystal, raw(rng, 13, model.representatives.upper)).borrowed.any() for _ in range(20)]
    assert any(shared)
