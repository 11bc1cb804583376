"""Networks as features: values and derivatives of a small one by hand, and of CHGNet; `.ci/nightly` installs what they need."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from mlpot.config import read_terms
from mlpot.errors import ConfigError
from mlpot.interop.torch_features import TorchFeatures

STEP = 1e-4


class Gaussians(TorchFeatures):
    """f_i = sum_j exp(-r_ij^2) over neighbours within a cutoff where they have vanished; nearest images suffice here."""

    species, cutoff, n_features = (14,), 6.0, 1

    def features(self, atoms, positions, cell):
        torch = self._torch
        total = torch.zeros(len(atoms), dtype=torch.float64)
        for shift in np.ndindex(3, 3, 3):
            moved = positions + torch.tensor(np.array(shift) - 1.0) @ cell
            squared = ((moved[None, :] - positions[:, None]) ** 2).sum(-1)
            total = total + torch.where(squared > 0, torch.exp(-squared), 0.0 * squared).sum(1)
        return total[:, None]


def by_differences(model, atoms, cotangent):
    """Derivatives by the first atom's x and by the strain xy, of central differences."""
    found = []
    for change in ("position", "strain"):
        values = []
        for sign in (1, -1):
            moved = atoms.copy()
            if change == "position":
                moved.positions[0, 0] += sign * STEP
            else:
                shear = np.eye(3) + sign * STEP / 2 * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
                moved.set_cell(moved.cell.array @ shear)
                moved.positions = moved.positions @ shear
            values.append(np.sum(cotangent * model.compute(moved)))
        found.append((values[0] - values[1]) / (2 * STEP))
    return found


def check_derivatives(model, atoms):
    features = model.compute(atoms)
    assert features.shape == (len(atoms), model.n_features) and features.dtype == np.float64
    cotangent = np.random.default_rng(0).normal(size=features.shape)
    gradients, strain = model.vjp(atoms, cotangent)
    position, shear = by_differences(model, atoms, cotangent)
    assert gradients[0, 0] == pytest.approx(position, rel=1e-4, abs=1e-6)
    assert strain[0, 1] == pytest.approx(shear, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(gradients.sum(axis=0), 0, atol=1e-9)


def test_without_torch_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    file = tmp_path / "terms.toml"
    file.write_text('[[model.terms]]\ntype = "features"\nmodel = "mlpot.interop.chgnet:ChgnetFeatures"\n')
    with pytest.raises(ConfigError, match=r"torch cannot be imported .*pip install torch chgnet"):
        read_terms(file)


def test_derivatives_of_a_network_are_exact():
    pytest.importorskip("torch", reason="torch is not installed")
    atoms = bulk("Si", "fcc", a=3.0, cubic=True)
    atoms.rattle(0.1, seed=1)
    model = Gaussians()
    centres, distances = neighbor_list("id", atoms, 2.9)  # beyond, each neighbour adds less than 3e-4
    expected = np.bincount(centres, np.exp(-(distances**2)))
    np.testing.assert_allclose(model.compute(atoms)[:, 0], expected, atol=6e-3)
    check_derivatives(model, atoms)


@pytest.mark.parametrize("kind", ["crystal", "molecule", "slab"])
def test_chgnet_keeps_the_contract(kind):
    pytest.importorskip("chgnet", reason="chgnet is not installed")
    from mlpot.interop.chgnet import ChgnetFeatures

    atoms = molecule("CH3CH2OH") if kind == "molecule" else bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    if kind == "slab":
        atoms.pbc = (True, True, False)
    atoms.rattle(0.1, seed=2)
    model = ChgnetFeatures()
    if kind != "molecule":
        check_derivatives(model, atoms)
    features = model.compute(atoms)
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += [0.3, 5.0, -2.0]
    np.testing.assert_allclose(model.compute(turned), features, atol=1e-10)
    several = [atoms.copy() for _ in range(4)]
    for k, other in enumerate(several):
        other.rattle(0.05, seed=k)
    one_by_one = [model.compute(other) for other in several]
    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_array_equal(list(threads.map(model.compute, several)), one_by_one)
    if kind == "slab":
        np.testing.assert_allclose(model.compute(atoms.repeat((2, 1, 1)))[: len(atoms)], features, atol=1e-10)
