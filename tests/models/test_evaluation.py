"""Statistics of an evaluation, by hand."""

import numpy as np
import pytest
from ase import Atoms
from scipy.stats import pearsonr, rankdata

from mlpot.models.evaluate import Comparison, calibration, errors
from mlpot.models.prediction import Prediction, counted_error, expected_errors
from mlpot.structures import LabelledStructure
from mlpot.uncertainty.calibration import Calibration


def labelled(atoms):
    """A structure of which a comparison has the errors."""
    return LabelledStructure(atoms, None, None, None, "", "")


def ranked(a, b):
    """Spearman's rank correlation."""
    return pytest.approx(pearsonr(rankdata(a), rankdata(b)).statistic)


@pytest.fixture
def comparisons():
    """Of seven structures with two to four atoms; the last has no labels but an energy, and no uncertainties."""
    rng, found = np.random.default_rng(0), []
    for n in (2, 3, 4, 2, 3, 4):
        atoms = Atoms("Cu" * n, positions=rng.normal(size=(n, 3)), cell=[9, 9, 9], pbc=True)
        size = rng.uniform(0.01, 0.3)
        forces, stress = size * rng.normal(size=(n, 3)), 1e-3 * rng.normal(size=(3, 3))
        *deviations, share = (rng.uniform(0.01, 0.3, shape) for shape in (n, (), (n, 3), (3, 3), n))
        found.append(
            Comparison(labelled(atoms), rng.normal(scale=0.01), forces, stress + stress.T, *deviations, novelty=10 * share)
        )
    found[0].forces_std[0, 0] = 1e-9  # by symmetry
    bare = Atoms("Cu" * 5, positions=np.arange(15).reshape(5, 3))
    return [*found, Comparison(labelled(bare), 0.02, None, None, None, None)]


def test_errors(comparisons):
    found = errors(comparisons)
    energies = np.array([c.energy_per_atom for c in comparisons])
    forces, stresses = np.concatenate([c.forces for c in comparisons[:-1]]), np.array([c.stress for c in comparisons[:-1]])
    assert (found.n_structures, found.n_atoms) == (7, 23)
    assert found.energy_mae_mev_per_atom == pytest.approx(1000 * np.abs(energies).mean())
    assert found.energy_rmse_mev_per_atom == pytest.approx(1000 * np.sqrt((energies**2).mean()))
    assert found.force_mae_ev_per_ang == pytest.approx(np.abs(forces).mean())
    assert found.force_rmse_ev_per_ang == pytest.approx(np.sqrt((forces**2).mean()))
    assert found.stress_rmse_gpa == pytest.approx(160.2177 * np.sqrt((stresses**2).mean()), rel=1e-5)


def test_what_a_label_could_reduce_is_the_rest_beside_the_discrepancy():
    forces_std, discrepancy = np.full((4, 3), 0.5), np.full((4, 3), 0.3)
    p = Prediction(
        0.0, np.zeros(4), np.zeros((4, 3)), np.zeros((3, 3)), None, energy_std=0.2, forces_std=forces_std,
        forces_discrepancy=discrepancy,
    )  # fmt: skip
    found = expected_errors(p)
    assert found.force == pytest.approx(0.5) and found.learnable == pytest.approx(0.4) and found.energy == pytest.approx(0.05)


def test_statistics_of_the_uncertainty(comparisons):
    found = calibration(comparisons, Calibration(energy_scale=1.2, force_scale=1.3, stress_scale=1.4))
    known = comparisons[:-1]
    forces, deviations = (np.concatenate([getattr(c, name) for c in known]) for name in ("forces", "forces_std"))
    ratios = np.delete(np.abs(forces / deviations).ravel(), 0)  # without the component that vanishes by symmetry
    energies = np.array([c.energy_per_atom * c.structure.n_atoms for c in known])
    energies_std = np.array([c.energy_std for c in known])
    for n in (1, 2):
        assert found[f"force_coverage_{n}_sigma"] == pytest.approx(np.mean(ratios <= n))
        assert found[f"energy_coverage_{n}_sigma"] == pytest.approx(np.mean(np.abs(energies) <= n * energies_std))
    lengths, lengths_std = (np.linalg.norm(v, axis=1) for v in (forces, deviations))
    assert found["energy_rank_correlation"] == ranked(np.abs(energies), energies_std)
    assert found["force_rank_correlation"] == ranked(lengths, lengths_std)
    assert found["atom_rank_correlation"] == ranked(lengths, np.concatenate([c.energies_std for c in known]))
    sizes = [[np.sqrt(np.mean(v**2)) for v in (c.forces, c.forces_std)] for c in known]
    assert found["structure_rank_correlation"] == ranked(*np.transpose(sizes))
    assert found["novel_atoms"] == pytest.approx(np.mean(np.concatenate([c.novelty for c in known]) > 1.5))
    assert [found[f"{kind}_scale"] for kind in ("energy", "force", "stress")] == [1.2, 1.3, 1.4]


def test_too_few_labels_have_no_statistics(comparisons):
    found = calibration(comparisons[-1:])
    assert {value for key, value in found.items() if not key.endswith("_scale")} == {None}
    assert calibration(comparisons[:2])["energy_rank_correlation"] is None
    assert calibration(comparisons[:3])["energy_rank_correlation"] is not None


def test_one_very_uncertain_atom_counts_a_third():
    """However many well-known atoms surround it; else all atoms count alike."""
    assert counted_error(np.full((7, 3), 0.2)) == pytest.approx(0.2)
    deviations = np.full((1000, 3), 1e-3)
    deviations[500] = 0.9
    assert counted_error(deviations) == pytest.approx(0.3)


def test_a_prediction_says_its_numbers(model, frames):
    found = model.predict(frames[0], uncertainty=True)
    largest = np.linalg.norm(found.forces, axis=1).max()
    energy = f"32 atoms, energy {found.energy:.6g} eV +- {found.energy_std:.2g}"
    assert f"{energy}, largest force {largest:.3g} eV/A (expected" in repr(found)
    assert repr(found).endswith(f"novelty {found.novelty.max():.2g})")
