"""A model file in C gives what the compiled model gives in Python: energies, forces, virials, with and without ghost atoms."""

import numpy as np
import pytest
from core_models import FITS, IMPORTED, ghosted, made, numbers_of, structures
from mlpot._ext.core import CoreModel

from mlpot.neighbours import find_pairs

NAMES = [*FITS, *IMPORTED]


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Model files as C has loaded them, by the name of the model."""
    folder, loaded = tmp_path_factory.mktemp("core"), {}

    def load(name):
        if name not in loaded:
            made(name).export_core(folder / "model.mlpot")
            loaded[name] = CoreModel(folder / "model.mlpot")
        return loaded[name]

    return load


ROUNDING = {"pairs alone": 1e-6, "pairs alone, lone atoms": 1e-6}
"""Radii of pair terms explain nearly all: what is left is the root of a difference that has lost most of its digits."""


def close(found, expected, tolerance=1e-10):
    size = max(float(np.abs(expected).max(initial=0.0)), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("with_ghosts", [False, True], ids=["images", "ghosts"])
@pytest.mark.parametrize("name", NAMES)
def test_energies_forces_virials(core, name, with_ghosts):
    model, loaded = made(name), core(name)
    assert loaded.species == model.species and loaded.cutoff == model.cutoff
    for atoms in structures(numbers_of(name)).values():
        g, expected = ghosted(atoms, model.cutoff, with_ghosts), model.predict(atoms)
        found = loaded.evaluate(*g.arrays)
        close(found["energies"], expected.energies)
        close(g.returned(found["forces"]), expected.forces)
        close(found["virial"], expected.virial)
        close(found["virials"].reshape(-1, 3, 3), model.compiled.virials(find_pairs(atoms, model.cutoff)))
        assert found["virials"].sum(axis=0) == pytest.approx(found["virial"].ravel(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("with_ghosts", [False, True], ids=["images", "ghosts"])
@pytest.mark.parametrize("name", NAMES)
def test_uncertainty(core, name, with_ghosts):
    model, loaded = made(name), core(name)
    for atoms in structures(numbers_of(name)).values():
        g, expected = ghosted(atoms, model.cutoff, with_ghosts), model.predict(atoms, uncertainty=True)
        parts = loaded.evaluate(*g.arrays, uncertainty=True)
        close(parts["energies"], expected.energies)
        parts["member_forces"] = g.returned(parts["member_forces"])
        of_forces, rounding = expected.forces_std is not None, ROUNDING.get(name, 1e-9)
        own = np.ascontiguousarray(g.numbers[: len(atoms)])
        found = loaded.deviations(own, parts, of_forces)
        close(found["energies_std"], expected.energies_std, rounding)
        if of_forces:
            close(parts["novelty"], expected.novelty, rounding)
            loaded.share_deviations(*g.arrays, found["owed"][g.owner], found["forces_std"])
            close(found["forces_std"], expected.forces_std, 1e-9)
        virial = parts["member_virial"] if of_forces else None
        total, virial_std = loaded.total_deviations(len(atoms), parts["covariances"], parts["unexplained"].sum(), virial)
        assert total == pytest.approx(expected.energy_std, rel=1e-7)
        if of_forces and expected.stress_std is not None:
            close(virial_std, expected.stress_std * atoms.get_volume(), 1e-9)
