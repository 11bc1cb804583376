"""The neighbour list against ase's, against itself through a simulation, and in odd cells, with distant atoms and errors."""

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list
from finite_differences import position_gradient, strain_gradient
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpot.errors import StructureError
from mlpot.neighbours import NeighbourList, find_pairs

FIELDS = ("numbers", "i", "j", "shifts", "vectors", "distances", "offsets")


def assert_identical(one, other):
    """Equal to the last bit."""
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


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


@pytest.mark.slow
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
    positions = rng.uniform(0, side, (n_atoms, 3))
    atoms = Atoms(numbers=np.full(n_atoms, 14), positions=positions, cell=[side] * 3, pbc=pbc)
    keep = np.ones(n_atoms, bool)
    close = primitive_neighbor_list("i", atoms.pbc, atoms.cell.array, atoms.positions, 0.5)
    keep[np.unique(close)] = False
    assert_same(atoms[keep], 4.0)


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
        assert_identical(old, new)
    assert kept.n_updates == 60
    assert kept.n_builds == 60 if skin == 0 else kept.n_builds < 40


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    skin=st.floats(0.05, 2.0),
    drift=st.floats(0.0, 0.3),
    strain=st.sampled_from([0.0, 0.003, 0.02]),
)
def test_kept_list_along_random_walks(seed, pbc, skin, drift, strain):
    """Clusters, wires, slabs and crystals that drift, deform and get wrapped."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True) * (1, 2, 1)
    atoms.pbc = pbc
    atoms.positions += rng.integers(-2, 3, (16, 3)) * np.array(pbc) @ atoms.cell.array
    kept = NeighbourList(4.2, skin)
    for step in range(12):
        atoms.positions += 0.03 * rng.normal(size=(16, 3)) + drift
        if strain:
            deformed = atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3)))
            atoms.set_cell(deformed, scale_atoms=step % 2 == 0)
        if step == 6:
            atoms.wrap()
        try:
            fresh = find_pairs(atoms, 4.2)
        except StructureError as refusal:  # strained until atoms overlap: both doors say so
            with pytest.raises(StructureError, match="overlap"):
                kept.update(atoms)
            assert "overlap" in str(refusal)
            return
        assert_identical(kept.update(atoms), fresh)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cutoff=st.floats(0.5, 6.0))
def test_within_is_the_list_of_a_shorter_cutoff(seed, cutoff):
    atoms = bulk("Si") * (1, 1, 2)
    atoms.rattle(0.2, rng=np.random.default_rng(seed))
    assert_identical(find_pairs(atoms, 6.0).within(cutoff), find_pairs(atoms, cutoff))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_columns=st.integers(1, 4))
def test_any_pair_gradients_give_forces_without_a_sum(seed, n_columns):
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.2, rng=rng)
    pairs = find_pairs(atoms, 4.0)
    gradients = rng.normal(size=(pairs.n_pairs, 3, n_columns))
    forces, virial = pairs.forces(gradients), pairs.virial(gradients)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)
    slow = np.zeros_like(forces)
    np.add.at(slow, pairs.i, gradients)
    np.subtract.at(slow, pairs.j, gradients)
    np.testing.assert_allclose(forces, slow, atol=1e-12)
    outer = -np.einsum("pa,pbk->abk", pairs.vectors, gradients)
    np.testing.assert_allclose(virial, (outer + outer.transpose(1, 0, 2)) / 2, atol=1e-11)


def test_one_atom_cell_with_a_long_cutoff():
    atoms = Atoms("Si", cell=[[0, 1.3, 1.3], [1.3, 0, 1.3], [1.3, 1.3, 0]], pbc=True)
    assert as_list(find_pairs(atoms, 7.0)) == expected(atoms, 7.0)
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
    cell = [[6, 0, 0], [1, 6, 0], unused]
    atoms = Atoms(np.full(20, 14), positions=positions, cell=cell, pbc=[True, True, False])
    proper = atoms.copy()
    proper.cell[2] = [0, 0, 30.0]
    assert as_list(find_pairs(atoms, 3.0)) == expected(proper, 3.0)


def test_the_cutoff_itself_is_outside():
    """Exactly at the cutoff is not a pair; a last bit nearer is."""
    atoms = Atoms("Si2", positions=[[0, 0, 0], [3.0, 0, 0]])
    assert find_pairs(atoms, 3.0).n_pairs == 0
    assert find_pairs(atoms, np.nextafter(3.0, 4.0)).n_pairs == 2
    crystal = bulk("Po", "sc", a=3.0)
    assert find_pairs(crystal, 3.0).n_pairs == 0
    assert find_pairs(crystal, np.nextafter(3.0, 4.0)).n_pairs == 6
    assert find_pairs(crystal, 4.0).within(3.0).n_pairs == 0


@pytest.mark.parametrize("periodic", [False, True])
def test_few_atoms_in_a_vast_space_cost_nothing(periodic):
    """As many bins as the cutoff asks for would not fit in any memory."""
    positions = [[0, 0, 0], [1e6, 1e6, 1e6], [1e6, 1e6, 1e6 + 2], [-1.0, 0, 0]]
    atoms = Atoms("Si4", positions=positions, cell=[3e6] * 3, pbc=periodic)
    assert as_list(find_pairs(atoms, 3.0)) == [(k, 3 - k, 0, 0, 0) for k in range(4)]


def test_atoms_far_outside_the_cell():
    """Shifts refer to the positions as they were given."""
    inside = bulk("Si", cubic=True)
    outside = inside.copy()
    cells = np.random.default_rng(0).integers(-5000, 5000, (8, 3))
    outside.positions += cells @ inside.cell.array
    near, far = find_pairs(inside, 4.0), find_pairs(outside, 4.0)
    back = far.shifts + cells[far.j] - cells[far.i]
    assert sorted(zip(far.i, far.j, *back.T, strict=True)) == as_list(near)
    assert as_list(far) == sorted(as_list(far))
    np.testing.assert_allclose(np.sort(far.distances), np.sort(near.distances), atol=1e-9)


def test_rounding_of_far_atoms_loses_no_pair():
    """A pair a last bit nearer than the cutoff is found, however the search rounds wrapped positions."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.positions += np.random.default_rng(1).integers(-(10**6), 10**6, (8, 3)) @ atoms.cell.array
    distances = find_pairs(atoms, 4.0).distances
    for farthest in np.unique(distances)[-40:]:
        cutoff = np.nextafter(farthest, 5.0)
        assert find_pairs(atoms, cutoff).n_pairs == np.count_nonzero(distances < cutoff)


def test_a_left_handed_cell():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=0)
    swapped = atoms.copy()
    swapped.set_cell(atoms.cell.array[[1, 0, 2]])
    one, other = find_pairs(atoms, 4.5), find_pairs(swapped, 4.5)
    assert as_list(other) == expected(swapped, 4.5)
    assert one.n_pairs == other.n_pairs > 0


def test_a_cutoff_of_many_cells():
    cell = [[1.8, 0, 0], [0.6, 1.7, 0], [-0.5, 0.4, 1.9]]
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0.9, 0.9, 0.1]], cell=cell, pbc=True)
    assert as_list(find_pairs(atoms, 11.0)) == expected(atoms, 11.0)


def test_skin_notices_other_atoms():
    kept = NeighbourList(3.0)
    first = bulk("Si", cubic=True)
    kept.update(first)
    second = first.copy()
    second.numbers[0] = 6
    np.testing.assert_array_equal(kept.update(second).numbers, second.numbers)
    assert kept.update(first * (2, 1, 1)).n_atoms == 16


def test_builds_are_counted_and_few(crystal):
    kept = NeighbourList(4.0, 1.0)
    for _ in range(5):
        kept.update(crystal)
    assert (kept.n_updates, kept.n_builds) == (5, 1)
    crystal.positions[0, 0] += 0.2
    kept.update(crystal)
    assert kept.n_builds == 1
    crystal.positions[0, 0] += 0.8
    kept.update(crystal)
    assert kept.n_builds == 2


def test_a_drift_needs_no_build(crystal):
    kept = NeighbourList(4.0, 0.5)
    for _ in range(10):
        crystal.positions += [1.0, -2.0, 0.5]
        kept.update(crystal)
    assert kept.n_builds == 1


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False)])
def test_a_small_strain_needs_no_build_a_large_one_does(crystal, pbc):
    kept = NeighbourList(4.0, 0.5)
    crystal.pbc = pbc
    kept.update(crystal)
    strain = np.eye(3) + 0.02 * np.diag(pbc)
    crystal.set_cell(crystal.cell.array @ strain, scale_atoms=True)
    kept.update(crystal)
    assert kept.n_builds == 1
    crystal.set_cell(0.85 * crystal.cell.array, scale_atoms=True)
    kept.update(crystal)
    assert kept.n_builds == 2


def test_two_atoms_that_approach_each_other_are_noticed():
    """Each moves by little more than half the skin."""
    atoms = Atoms("Si2", positions=[[0, 0, 0], [5.05, 0, 0]])
    kept = NeighbourList(4.0, 1.0)
    assert kept.update(atoms).n_pairs == 0
    atoms.positions[:, 0] += [0.55, -0.55]
    assert kept.update(atoms).n_pairs == 2


def test_a_shrinking_cell_alone_is_noticed():
    """Two atoms that stand still while their images come within the cutoff."""
    atoms = Atoms("Si2", positions=[[0, 0, 0], [2.0, 0, 0]], cell=[9.0] * 3, pbc=True)
    kept = NeighbourList(4.0, 0.5)
    assert kept.update(atoms).n_pairs == 2
    for side in (8.0, 7.0, 6.0, 5.5, 5.0, 3.9):
        atoms.set_cell([side] * 3)
        assert as_list(kept.update(atoms)) == expected(atoms, 4.0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
def test_a_kept_list_can_be_copied(crystal, duplicate):
    kept = NeighbourList(4.0)
    kept.update(crystal)
    twin = duplicate(kept)
    crystal.rattle(0.01, seed=5)
    np.testing.assert_array_equal(twin.update(crystal).vectors, kept.update(crystal).vectors)
    assert (twin.n_updates, twin.n_builds) == (2, 1)


def test_a_refused_structure_leaves_the_list_usable(crystal):
    kept = NeighbourList(4.0)
    kept.update(crystal)
    broken = crystal.copy()
    broken.positions[3] = np.nan
    with pytest.raises(StructureError):
        kept.update(broken)
    assert as_list(kept.update(crystal)) == expected(crystal, 4.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.positions.__setitem__((2, 1), np.nan), "atom 2"),
        (lambda a: a.cell.__setitem__(0, [np.inf, 0, 0]), "not finite"),
        (lambda a: a.cell.__setitem__(0, [0, 0, 0]), "no volume"),
        (lambda a: a.cell.__setitem__(0, a.cell[1]), "no volume"),
        (lambda a: a.positions.__setitem__(1, a.positions[0] + 0.01), "atoms 0 and 1 are 0.0173 A apart"),
        (lambda a: a.positions.__setitem__(1, a.positions[0]), "atoms 0 and 1 are 0 A apart"),
        (lambda a: a.positions.__setitem__((1, 2), 1e9), "atom 1"),
        (lambda a: a.positions.__setitem__((1, 2), -np.inf), "atom 1"),
        (lambda a: a.cell.__setitem__(2, [0, 0, 0.01]), "shorter than 0.1 A"),
    ],
)
def test_structures_that_cannot_be(crystal, change, words):
    change(crystal)
    with pytest.raises(StructureError, match=words):
        find_pairs(crystal, 4.0)
    with pytest.raises(StructureError, match=words):
        NeighbourList(4.0).update(crystal)


def test_empty_structure_bad_cutoffs_and_skins(crystal):
    with pytest.raises(StructureError, match="empty"):
        find_pairs(Atoms(), 4.0)
    for cutoff in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(StructureError, match="cutoff"):
            find_pairs(crystal, cutoff)
    for skin in (-0.1, np.nan, np.inf):
        with pytest.raises(StructureError, match="skin"):
            NeighbourList(4.0, skin)


def test_more_images_than_can_be_counted():
    with pytest.raises(StructureError, match="30000 cells"):
        find_pairs(Atoms("Si", cell=[0.2, 1e5, 1e5], pbc=True), 1e4)


def test_one_pair_by_hand():
    """A pull of atom 0 towards atom 1: dE/dvector along the vector means attraction."""
    pairs = find_pairs(Atoms("Si2", positions=[[0, 0, 0], [0, 2.0, 0]]), 3.0)
    gradients = np.array([[0, 0.7, 0], [0, 0, 0]])
    np.testing.assert_array_equal(pairs.forces(gradients), [[0, 0.7, 0], [0, -0.7, 0]])
    np.testing.assert_allclose(pairs.virial(gradients), np.diag([0, -1.4, 0]), rtol=1e-15)


def test_atoms_without_pairs_have_no_forces():
    pairs = find_pairs(Atoms("Si"), 3.0)
    assert pairs.forces(np.empty((0, 3))).tolist() == [[0, 0, 0]]
    assert pairs.virial(np.empty((0, 3, 2))).shape == (3, 3, 2)
    assert pairs.within(2.0).offsets.tolist() == [0, 0]


def test_forces_and_virial_are_derivatives(crystal):
    """The signs, on an energy that is a sum over pairs."""

    def energy(atoms):
        distances = find_pairs(atoms, 4.0).distances
        return float(np.sum(np.exp(-distances) * (4.0 - distances) ** 3))

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
        np.testing.assert_allclose(pairs.virial(gradients)[..., k], pairs.virial(gradients[..., k]), rtol=1e-12)
