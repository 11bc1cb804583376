"""Constraints of a start file: kept in every step, and continued bit for bit after `kill -9`; others are refused by name."""

import ase.io
import numpy as np
import pytest
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
    FixInternals,
    FixScaled,
    FixSymmetry,
    Hookean,
)
from learning_runs import crystal, do_run, plan, relaxing, run_and_die, without_seconds

from mlpot.errors import ConfigError
from mlpot.learning.constrained import PlaneBAOAB, plane_of
from mlpot.learning.run_folder import read_state
from mlpot.learning.walker import check_start

pytestmark = pytest.mark.usefixtures("labels_in_this_process")
DIRECTION = np.array([1.0, 1.0, 0.3])
KINDS = {
    "FixAtoms": lambda: FixAtoms([0, 3]),
    "FixBondLengths": lambda: FixBondLengths([[0, 1], [2, 3]]),
    "FixCartesian": lambda: FixCartesian([0, 3], mask=(True, False, True)),
    "FixCom": FixCom,
    "FixedLine": lambda: FixedLine([0, 3], DIRECTION),
    "FixedPlane": lambda: FixedPlane([0, 3], DIRECTION),
    "Hookean": lambda: Hookean(a1=0, a2=1, rt=2.5, k=5.0),
}


def start(kind):
    atoms = crystal()
    atoms.set_constraint(KINDS[kind]())
    return atoms


def residuals(kind, first, atoms):
    """What a constraint keeps at zero, A."""
    moved = atoms.positions - first.positions
    if kind == "FixBondLengths":
        return [atoms.get_distance(*pair, mic=True) - first.get_distance(*pair, mic=True) for pair in ([0, 1], [2, 3])]
    if kind == "FixCom":
        return atoms.get_center_of_mass() - first.get_center_of_mass()
    if kind == "FixedLine":
        return np.cross(moved[[0, 3]], DIRECTION)
    if kind == "FixedPlane":
        return moved[[0, 3]] @ DIRECTION
    if kind == "FixCartesian":
        return moved[[0, 3]][:, [0, 2]]
    return moved[[0, 3]] if kind == "FixAtoms" else [0.0]


@pytest.mark.parametrize(
    ("kind", "ensemble"),
    [
        *(pytest.param(kind, "nvt", marks=[] if kind == "FixAtoms" else pytest.mark.slow) for kind in KINDS),
        pytest.param("FixBondLengths", "nve", marks=pytest.mark.slow),
        ("FixBondLengths", "relax"),
        ("FixedLine", "relax"),
    ],
)
def test_it_is_kept_and_continued_bit_for_bit(tmp_path, kind, ensemble):
    the_plan = relaxing(14) if ensemble == "relax" else plan(steps=14, ensemble=ensemble)
    check_start(the_plan, "w0", start(kind))
    whole, parts, calls = tmp_path / "whole", tmp_path / "parts", tmp_path / "calls"
    _, run = do_run(whole, calls, the_plan, starts=[start(kind)])
    final, first = run.walkers[0].atoms, start(kind)
    assert np.abs(final.positions - first.positions).max() > 1e-3
    assert np.abs(residuals(kind, first, final)).max() < 1e-9
    run_and_die(parts, calls, the_plan, starts=[start(kind)], stop_after=5)
    do_run(parts, calls, the_plan, starts=[start(kind)], resume=True)
    assert without_seconds(parts) == without_seconds(whole)
    states = [read_state(folder)["walkers"][0]["dynamics"] for folder in (whole, parts)]
    for name in ("positions", "momenta") if ensemble != "relax" else ("positions",):
        np.testing.assert_array_equal(states[0][name], states[1][name])


def test_a_file_keeps_them(tmp_path):
    """What `mlpot learn` reads: every constraint comes out of a trajectory file as it went in."""
    for kind in KINDS:
        ase.io.write(tmp_path / "start.traj", start(kind))
        (found,) = ase.io.read(tmp_path / "start.traj").constraints
        assert type(found).__name__ == kind


@pytest.mark.slow
def test_fixed_bonds_have_their_temperature(tmp_path):
    """The mean kinetic energy is that of the degrees of freedom which are left."""
    atoms = crystal()
    atoms.set_constraint(FixBondLengths([[k, k + 1] for k in range(0, len(atoms), 2)]))
    do_run(
        tmp_path / "run", tmp_path / "calls", plan(steps=300, ramp=(300.0, 300.0), thermostat_fs=20.0), starts=[atoms]
    )
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    temperatures = [float(row[rows[0].index("temperature_K")]) for row in rows[100:]]
    assert np.mean(temperatures) == pytest.approx(300, rel=0.12)


@pytest.mark.parametrize(
    ("the_plan", "constraint", "what"),
    [
        (plan(), lambda a: FixInternals(bonds=[[1.0, [0, 1]]]), 'FixInternals, which ensemble = "nvt"'),
        (plan(), lambda a: FixScaled([0]), 'FixScaled, which ensemble = "nvt"'),
        (plan(ensemble="npt"), lambda a: Hookean(a1=0, a2=1, rt=2.5, k=5.0), 'Hookean, which ensemble = "npt"'),
        (plan(ensemble="npt"), lambda a: FixBondLengths([[0, 1]]), 'FixBondLengths, which ensemble = "npt"'),
        (relaxing(9, whole_cell=True), lambda a: FixedLine([0], DIRECTION), 'FixedLine, which relax = "cell"'),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(the_plan, constraint, what):
    atoms = crystal()
    atoms.set_constraint(constraint(atoms))
    with pytest.raises(ConfigError, match="walker w0: the initial structure has the constraint") as error:
        check_start(the_plan, "w0", atoms)
    assert what in str(error.value)


def test_symmetry_is_kept_by_relaxations():
    atoms = crystal()
    pytest.importorskip("spglib", reason="FixSymmetry needs it")
    atoms.set_constraint(FixSymmetry(atoms))
    check_start(relaxing(9), "w0", atoms)


def slab(pbc=(True, True, False)):
    atoms = crystal()
    atoms.cell[2, 2] += 12.0
    atoms.pbc = pbc
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize("whole_cell", [False, True])
def test_the_cell_of_a_slab_moves_in_its_plane(tmp_path, whole_cell):
    the_plan = plan(steps=14, ensemble="npt", barostat_fs=200.0, whole_cell=whole_cell)
    check_start(the_plan, "w0", slab())
    whole, parts, calls = tmp_path / "whole", tmp_path / "parts", tmp_path / "calls"
    _, run = do_run(whole, calls, the_plan, starts=[slab()])
    before, after = slab().cell.array, run.walkers[0].atoms.cell.array
    np.testing.assert_allclose(after[2], before[2], atol=1e-12)
    np.testing.assert_allclose(after[:2, 2], 0.0, atol=1e-12)
    assert abs(np.linalg.norm(after[0]) - before[0, 0]) > 1e-4
    ratios = np.array([after[0, 0] / before[0, 0], after[1, 1] / before[1, 1]])
    assert (abs(np.diff(ratios)[0]) > 1e-7) == whole_cell
    run_and_die(parts, calls, the_plan, starts=[slab()], stop_after=5)
    do_run(parts, calls, the_plan, starts=[slab()], resume=True)
    assert without_seconds(parts) == without_seconds(whole)


def test_the_strain_of_a_tilted_slab_is_in_its_plane():
    atoms = slab()
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    atoms.calc = None
    barostat = PlaneBAOAB.__new__(PlaneBAOAB)
    periodic = atoms.cell.array[:2]
    barostat._plane, barostat._whole_cell = plane_of(atoms), True
    strain = np.random.default_rng(0).normal(size=(3, 3))
    normal = np.cross(*periodic)
    assert np.abs(barostat.projected(strain + strain.T) @ normal).max() < 1e-12


@pytest.mark.parametrize(
    ("atoms", "pressure", "problem"),
    [
        (slab(False), 0.0, "periodicity along at least one of them"),
        (slab(), 1.0, "pressure_GPa = 1 is not defined for pbc"),
    ],
)
def test_constant_pressure_without_periods_is_refused(atoms, pressure, problem):
    with pytest.raises(ConfigError, match=problem):
        check_start(plan(ensemble="npt", pressure_GPa=pressure), "w0", atoms)
