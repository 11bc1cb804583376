"""Maps of environments, and the frames of trajectories that they show."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlpot.errors import DataError
from mlpot.neighbours import find_pairs
from mlpot.report.environment_map import MOST, environment_map
from mlpot.report.frames import sampled_frames
from mlpot.terms.kernels import dot_product_kernel


def soap_of(model):
    return model.terms[1]


def rattled(n, lattice=3.6, numbers=14, seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("X", "fcc", a=lattice, cubic=True) * 2
        atoms.numbers[:] = numbers
        atoms.positions += 0.01 * rng.normal(size=(32, 3))
        frames.append(atoms)
    return frames


def test_different_environments_are_apart_and_alike_ones_together(model):
    dense, wide = rattled(4), rattled(4, lattice=4.2, seed=1)
    found = environment_map(soap_of(model), 14, dense, [3, None, 5, 5], wide)
    gap = np.linalg.norm(found.labelled.mean(axis=0) - found.visited.mean(axis=0))
    assert gap > 5 * max(found.labelled.std(axis=0).max(), found.visited.std(axis=0).max())
    assert found.explained[0] > 0.5 > found.explained[1] > 0
    assert len(found.labelled) == len(found.visited) == 128
    np.testing.assert_array_equal(np.flatnonzero(found.least_certain), [3, 64 + 5, 96 + 5])
    np.testing.assert_array_equal(found.label, np.repeat(np.arange(4), 32))


def test_distances_are_those_of_the_kernel(model):
    """Of environments that differ in one way only, two components show all of the distance in the space of the kernel."""
    frames = [rattled(1, lattice)[0] for lattice in (3.5, 3.6, 3.9)]
    for atoms, lattice in zip(frames, (3.5, 3.6, 3.9), strict=True):
        atoms.positions = (bulk("X", "fcc", a=lattice, cubic=True) * 2).positions
    term = soap_of(model)
    found = environment_map(term, 14, frames, [None] * 3, [])
    features = np.concatenate([term.descriptor.compute(find_pairs(a, term.cutoff), np.array([0])) for a in frames])
    kernel = dot_product_kernel(features, features, 1.0, term.zeta)
    squares = np.diag(kernel)[:, None] + np.diag(kernel) - 2 * kernel
    places = found.labelled[::32]
    np.testing.assert_allclose(((places[:, None] - places) ** 2).sum(axis=2), squares, atol=1e-10)
    assert sum(found.explained) == pytest.approx(1)


@pytest.mark.slow
def test_many_environments_are_drawn_and_the_least_certain_are_kept(two_species_model):
    rng = np.random.default_rng(2)
    numbers = rng.choice([6, 14], 32)
    labels = rattled(100, numbers=numbers)
    least = [int(rng.integers(32)) for _ in labels]
    found = environment_map(soap_of(two_species_model), 6, labels, least, labels[:50])
    carbon = [k for k, atom in enumerate(least) if numbers[atom] == 6]
    np.testing.assert_array_equal(found.label[found.least_certain], carbon)
    assert 0 < len(found.labelled) <= MOST and 0 < len(found.visited) <= MOST
    again = environment_map(soap_of(two_species_model), 6, labels, least, labels[:50])
    np.testing.assert_array_equal(found.labelled, again.labelled)
    assert environment_map(soap_of(two_species_model), 6, rattled(2), [None, None], []) is None


def test_frames_of_a_growing_file(tmp_path):
    frames = rattled(40)
    for k, atoms in enumerate(frames):
        atoms.info["step"] = k
    ase.io.write(tmp_path / "t.xyz", frames, format="extxyz")
    some = sampled_frames(tmp_path / "t.xyz", 8)
    steps = [atoms.info["step"] for atoms in some]
    assert steps[0] == 0 and len(steps) == 8 and set(np.diff(steps)) <= {4, 5, 6}
    np.testing.assert_allclose(some[1].positions, frames[steps[1]].positions, atol=1e-7)
    assert [a.info["step"] for a in sampled_frames(tmp_path / "t.xyz", 1000)] == list(range(40))
    whole = (tmp_path / "t.xyz").read_text()
    (tmp_path / "t.xyz").write_text(whole[:-30])  # the last frame is being written
    assert [a.info["step"] for a in sampled_frames(tmp_path / "t.xyz", 1000)] == list(range(39))
    (tmp_path / "t.xyz").write_text("")
    assert sampled_frames(tmp_path / "t.xyz", 5) == []
    ase.io.write(tmp_path / "t.traj", frames)
    assert len(sampled_frames(tmp_path / "t.traj", 5)) == 5
    with pytest.raises(DataError, match="no such file"):
        sampled_frames(tmp_path / "missing.xyz", 5)
