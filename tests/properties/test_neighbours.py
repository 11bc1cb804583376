"""The neighbour list against ase's, on random systems of every kind, and against itself through a simulation."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpot.errors import StructureError
from mlpot.neighbours import NeighbourList, find_pairs


def as_list(pairs):
    return list(zip(pairs.i.tolist(), pairs.j.tolist(), *pairs.shifts.T.tolist(), strict=True))


def expected(atoms, cutoff):
    i, j, shifts = primitive_neighbor_list("ijS", atoms.pbc, atoms.cell.array, atoms.positions, cutoff)
    return sorted(zip(i.tolist(), j.tolist(), *shifts.T.tolist(), strict=True))


def assert_same(atoms, cutoff):
    pairs = find_pairs(atoms, cutoff)
    assert as_list(pairs) == expected(atoms, cutoff)
    vectors = atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.shifts @ atoms.cell.array
    np.testing.assert_allclose(pairs.vectors, vectors, atol=1e-12)
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(vectors, axis=1), atol=1e-12)
    np.testing.assert_array_equal(np.diff(pairs.offsets), np.bincount(pairs.i, minlength=len(atoms)))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_atoms=st.integers(1, 12),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    scale=st.floats(1.5, 8.0),
    cutoff=st.floats(0.5, 6.0),
    spread=st.floats(0.5, 3.0),
)
def test_equal_to_ase(seed, n_atoms, pbc, scale, cutoff, spread):
    """Random triclinic cells, left- and right-handed, atoms outside, cutoffs longer than the cell."""
    rng = np.random.default_rng(seed)
    cell = scale * (np.eye(3) + 0.4 * rng.uniform(-1, 1, (3, 3)))
    cell[0] *= rng.choice([-1, 1])
    positions = rng.uniform(-spread, spread, (n_atoms, 3)) @ cell
    atoms = Atoms(numbers=np.full(n_atoms, 14), positions=positions, cell=cell, pbc=pbc)
    try:
        assert_same(atoms, cutoff)
    except StructureError as error:
        assert "overlap" in str(error)
        distances = primitive_neighbor_list("d", atoms.pbc, cell, positions, cutoff)
        assert distances.min() < 0.1


@pytest.mark.parametrize("pbc", [(False,) * 3, (True, False, False), (False, True, True), (True,) * 3])
@pytest.mark.parametrize("n_atoms", [50, 700])
def test_larger_systems(pbc, n_atoms):
    rng = np.random.default_rng(n_atoms)
    side = (12.0 * n_atoms) ** (1 / 3)
    atoms = Atoms(numbers=np.full(n_atoms, 14), positions=rng.uniform(0, side, (n_atoms, 3)), cell=[side] * 3, pbc=pbc)
    keep = np.ones(n_atoms, bool)
    close = find_pairs_allowing_overlap(atoms, 0.5)
    keep[np.unique(close)] = False
    assert_same(atoms[keep], 4.0)


def find_pairs_allowing_overlap(atoms, cutoff):
    return primitive_neighbor_list("i", atoms.pbc, atoms.cell.array, atoms.positions, cutoff)


def test_one_atom_cell_with_a_long_cutoff():
    atoms = Atoms("Si", cell=[[0, 1.3, 1.3], [1.3, 0, 1.3], [1.3, 1.3, 0]], pbc=True)
    assert_same(atoms, 7.0)
    assert np.all(find_pairs(atoms, 7.0).i == 0)


def test_isolated_and_distant_atoms():
    assert find_pairs(Atoms("Si"), 5.0).n_pairs == 0
    far = Atoms("Si3", positions=[[0, 0, 0], [2, 0, 0], [1e7, 1e7, -1e7]])
    assert as_list(find_pairs(far, 3.0)) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


@pytest.mark.parametrize("unused", [[0, 0, 0], [1e-9, 0, 0], [3.0, 3.0, 0.0], [0, 0, -4.0]])
def test_flat_cells_in_a_direction_that_is_not_periodic(unused):
    """Whatever the third vector holds, it does not matter."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 6, (20, 3)) * [1, 1, 3]
    atoms = Atoms(np.full(20, 14), positions=positions, cell=[[6, 0, 0], [1, 6, 0], unused], pbc=[True, True, False])
    proper = atoms.copy()
    proper.cell[2] = [0, 0, 30.0]
    assert as_list(find_pairs(atoms, 3.0)) == expected(proper, 3.0)


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.0])
def test_skin_changes_nothing(skin):
    """A moving, wrapped, breathing crystal: the kept list gives the bits of the fresh one."""
    rng = np.random.default_rng(1)
    atoms = bulk("Si", cubic=True) * (2, 2, 1)
    kept = NeighbourList(4.0, skin)
    for step in range(60):
        atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
        if step % 20 == 7:
            atoms.wrap()
        if step > 30:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.001 * rng.normal(size=(3, 3))), scale_atoms=True)
        if step == 50:
            atoms.pbc = [True, False, True]
        old, new = kept.update(atoms), find_pairs(atoms, 4.0)
        for name in ("i", "j", "shifts", "vectors", "distances", "offsets"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    assert kept.n_builds == 60 if skin == 0 else kept.n_builds < 40


def test_skin_notices_other_atoms():
    kept = NeighbourList(3.0)
    first = bulk("Si", cubic=True)
    kept.update(first)
    second = first.copy()
    second.numbers[0] = 6
    np.testing.assert_array_equal(kept.update(second).numbers, second.numbers)
    assert kept.update(first * (2, 1, 1)).n_atoms == 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.positions.__setitem__((2, 1), np.nan), "atom 2"),
        (lambda a: a.cell.__setitem__(0, [np.inf, 0, 0]), "not finite"),
        (lambda a: a.cell.__setitem__(0, [0, 0, 0]), "no volume"),
        (lambda a: a.cell.__setitem__(0, a.cell[1]), "no volume"),
        (lambda a: a.positions.__setitem__(1, a.positions[0] + 0.01), "atoms 0 and 1"),
    ],
)
def test_structures_that_cannot_be(crystal, change, words):
    change(crystal)
    with pytest.raises(StructureError, match=words):
        find_pairs(crystal, 4.0)
    with pytest.raises(StructureError, match=words):
        NeighbourList(4.0).update(crystal)


def test_empty_structure_and_bad_cutoffs(crystal):
    with pytest.raises(StructureError, match="empty"):
        find_pairs(Atoms(), 4.0)
    for cutoff in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(StructureError, match="cutoff"):
            find_pairs(crystal, cutoff)


def test_forces_and_virial_are_derivatives(crystal):
    """The signs, on an energy that is a sum over pairs."""
    from finite_differences import position_gradient, strain_gradient

    def energy(atoms):
        return float(np.sum(np.exp(-find_pairs(atoms, 4.0).distances) * (4.0 - find_pairs(atoms, 4.0).distances) ** 3))

    pairs = find_pairs(crystal, 4.0)
    slope = -np.exp(-pairs.distances) * (4.0 - pairs.distances) ** 2 * (7.0 - pairs.distances)
    gradients = (slope / pairs.distances)[:, None] * pairs.vectors
    np.testing.assert_allclose(pairs.forces(gradients), -position_gradient(energy, crystal), atol=1e-7)
    np.testing.assert_allclose(pairs.virial(gradients), -strain_gradient(energy, crystal), atol=1e-6)


def test_many_columns_at_once(crystal):
    pairs = find_pairs(crystal, 4.0)
    gradients = np.random.default_rng(0).normal(size=(pairs.n_pairs, 3, 5))
    for k in range(5):
        np.testing.assert_array_equal(pairs.forces(gradients)[..., k], pairs.forces(gradients[..., k]))
        np.testing.assert_array_equal(pairs.virial(gradients)[..., k], pairs.virial(gradients[..., k]))
