"""What a script uses answers for, seen from the structures it asks for."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from mlpot.learning.policy import Use
from mlpot.learning.purpose import PRECISION, REMEMBERED, RecentStructures, RequestedStructure, relation, use_of
from mlpot.models.prediction import Prediction


def crystal():
    return bulk("Cu", cubic=True) * (2, 2, 2)


def displaced(atom, direction, size=0.02, base=None):
    atoms = (base or crystal()).copy()
    atoms.positions[atom, direction] += size
    return atoms


def strained(*components, base=None):
    """xx yy zz yz xz xy"""
    xx, yy, zz, yz, xz, xy = components
    atoms = (base or crystal()).copy()
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])), scale_atoms=True
    )
    return atoms


def said(atoms, forces=0.5, stress=0.01):
    """A prediction with forces and a stress of this size."""
    f, s = np.zeros((len(atoms), 3)), np.full((3, 3), stress)
    f[0, 0], f[1, 0] = forces, -forces
    return Prediction(0.0, np.zeros(len(atoms)), f, -s * 100, s)


def memory_of(*structures):
    memory = RecentStructures()
    for atoms in structures:
        memory.note(RequestedStructure(atoms, np.zeros((len(atoms), 3)), np.zeros(6)))
    return memory


def rattled(size, seed=0, base=None):
    atoms = (base or crystal()).copy()
    atoms.rattle(size, seed=seed)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (crystal(), "same"),
        (displaced(3, 1), "displaced"),
        (displaced(3, 1, 0.15), "near"),
        (displaced(3, 1, 0.4), None),
        (rattled(0.03), "near"),
        (rattled(0.5), None),
        (strained(0.01, 0.01, 0.01, 0, 0, 0), "strained"),
        (strained(0.01, 0, 0, 0, 0, 0), "strained in one component"),
        (strained(0, 0, 0, 0, 0, 0.005), "strained in one component"),
        (strained(0.05, 0, 0, 0, 0, 0), "strained"),
        (strained(0.2, 0.2, 0.2, 0, 0, 0), None),
        (rattled(0.03, base=strained(0.01, 0.01, 0.01, 0, 0, 0)), "near"),
        (molecule("H2O"), None),
    ],
)
def test_relations_between_structures(atoms, kind):
    assert relation(crystal(), atoms) == kind


def test_dynamics_has_momenta():
    atoms = displaced(3, 1)
    atoms.set_momenta(np.ones((len(atoms), 3)))
    memory = memory_of(crystal())
    assert use_of("auto", memory, atoms, said(atoms), False) == (Use(), True)
    assert use_of("dynamics", memory, displaced(3, 1), said(atoms), True) == (Use(stress=True), True)
    assert use_of("differences", memory, atoms, said(atoms), False)[1] is False


def test_force_constants_come_from_differences_of_forces():
    memory = memory_of(crystal())
    atoms = displaced(3, 1)
    use, _ = use_of("auto", memory, atoms, said(atoms, forces=0.4), False)
    assert use.max_force == pytest.approx(PRECISION * 0.4) and use.max_stress == np.inf
    assert use.look == 0.0 and not use.early
    # from the difference to the base, which need not be relaxed
    memory = RecentStructures()
    memory.note(RequestedStructure(crystal(), said(crystal(), forces=0.3).forces, None))
    assert use_of("auto", memory, atoms, said(atoms, forces=0.4), False)[0].max_force == pytest.approx(PRECISION * 0.1)
    # what symmetry makes zero is no measure
    memory = memory_of(crystal())
    assert use_of("auto", memory, atoms, said(atoms, forces=1e-9), False)[0].max_force == np.inf


def test_the_base_of_many_displacements_is_remembered():
    memory = memory_of(crystal())
    for atom in range(2 * REMEMBERED):
        for direction in range(3):
            for sign in (-1, 1):
                atoms = displaced(atom, direction, 0.02 * sign)
                kind, base = memory.base_of(atoms)
                assert kind == "displaced"
                if direction == 2 and sign == 1:
                    assert np.array_equal(base.atoms.positions, crystal().positions)
                memory.note(RequestedStructure(atoms, np.zeros((len(atoms), 3)), None))


def test_elastic_constants_come_from_differences_of_stresses():
    memory = memory_of(crystal())
    atoms = strained(0.005, 0, 0, 0, 0, 0)
    use, _ = use_of("auto", memory, atoms, said(atoms, stress=0.004), False)
    assert use.stress and use.max_stress == pytest.approx(PRECISION * 0.004) and use.max_force == np.inf


def test_an_equation_of_state_uses_the_stress():
    memory = memory_of(crystal())
    atoms = strained(0.01, 0.01, 0.01, 0, 0, 0)
    assert use_of("auto", memory, atoms, said(atoms), False)[0].stress
    assert use_of("auto", memory, atoms, None, False) == (Use(stress=True, early=False), False)


def test_an_optimiser_cannot_go_below_the_expected_error():
    memory = memory_of(crystal())
    atoms = rattled(0.03)
    use, is_dynamics = use_of("auto", memory, atoms, said(atoms, forces=0.03, stress=0.002), True)
    assert (use.max_force, use.max_stress, is_dynamics) == (0.03, 0.002, False)
    assert use_of("auto", memory, atoms, said(atoms, forces=1e-9), False)[0].max_force == np.inf  # by symmetry
    atoms.set_constraint(FixAtoms([0, 1]))
    assert use_of("auto", memory, atoms, said(atoms, forces=0.03), False)[0].max_force == np.inf


def test_a_script_that_says_what_it_wants():
    """Without any structure that another is displaced from, forces themselves are the measure."""
    atoms = rattled(0.3)
    use, _ = use_of("differences", RecentStructures(), atoms, said(atoms, forces=0.4, stress=0.02), False)
    assert use.max_force == pytest.approx(PRECISION * 0.4) and use.max_stress == np.inf
    use, _ = use_of("differences", RecentStructures(), atoms, said(atoms, forces=0.4, stress=0.02), True)
    assert use.max_stress == pytest.approx(PRECISION * 0.02)
    assert use_of("auto", RecentStructures(), atoms, said(atoms), False)[0] == Use(early=False)
