"""Simulations with pair_style mlpot: on several ranks, with its uncertainty in fixes and dumps, and with a model that changes."""

import numpy as np
import pytest
from ase.build import bulk
from core_models import made
from lammps_runs import begin, in_frame, mpirun, typed, write_data


def crystal(repeat=(3, 3, 3)):
    atoms = bulk("Si", cubic=True).repeat(repeat)
    atoms.numbers[::5] = 6
    atoms.rattle(0.12, seed=4)
    return in_frame(atoms)


def setup(atoms, folder, file, *before, style="pair_style mlpot uncertainty yes"):
    types, elements = typed(atoms)
    write_data(atoms, types, folder / "data", [12.0, 28.0])
    return ["units metal", *before, "read_data data", style, f"pair_coeff * * {file} {' '.join(elements)}"]


def dumped(file):
    """Numbers (n, columns) of the last frame of a dump, in the order of IDs."""
    rows = file.read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
    found = np.array([[float(x) for x in row.split()] for row in rows])
    return found[np.argsort(found[:, 0])]


DUMP = ["fix s all pair 1 mlpot sigma 0 novelty 0", "dump d all custom 1 dump.txt id fx fy fz f_s[1] f_s[2]",
        'dump_modify d format float "%.17g"']  # fmt: skip


@pytest.mark.parametrize(("ranks", "threads", "before", "after"), [
    (2, 1, [], []),
    pytest.param(1, 3, [], [], marks=pytest.mark.slow),
    pytest.param(3, 2, ["comm_style tiled"], ["balance 1.05 rcb"], marks=pytest.mark.slow),
    pytest.param(4, 1, [], ["balance 1.05 shift xyz 5 1.05", "fix b all balance 1 1.05 shift z 5 1.05"], marks=pytest.mark.slow),
    pytest.param(8, 1, ["processors 2 2 2"], [], marks=pytest.mark.slow),
])  # fmt: skip
def test_ranks(plugin, exported, tmp_path, ranks, threads, before, after):
    atoms = crystal()
    lines = setup(atoms, tmp_path, exported("two elements"), *before)
    mpirun(ranks, [*lines, *after, *DUMP, "run 0"], tmp_path, plugin, threads)
    found, expected = dumped(tmp_path / "dump.txt"), made("two elements").predict(atoms, uncertainty=True)
    np.testing.assert_allclose(found[:, 1:4], expected.forces, rtol=0, atol=1e-12 * np.abs(expected.forces).max())
    np.testing.assert_allclose(found[:, 4], np.sqrt(np.mean(expected.forces_std**2, axis=1)), rtol=1e-6)
    np.testing.assert_allclose(found[:, 5], expected.novelty, rtol=1e-6)


def test_the_uncertainty_stops_a_run(engine, exported, tmp_path):
    """The one-liners of docs/lammps.md: reduce, halt, and the uncertainty in some steps only."""
    atoms = crystal((1, 1, 1))
    begin(engine, atoms, tmp_path)
    for line in (
        "pair_style mlpot", f"pair_coeff * * {exported('two elements')} C Si", "velocity all create 3000 1", "fix n all nve",
        "fix s all pair 5 mlpot sigma 1 novelty 1", "compute worst all reduce max f_s[1] f_s[2]", "variable sigma equal c_worst[1]",
        "thermo_style custom step c_worst[1] c_worst[2]", "thermo 5", "run 0",
    ):  # fmt: skip
        engine.command(line)
    first = float(engine.extract_variable("sigma"))
    expected = made("two elements").predict(atoms, uncertainty=True).forces_std
    assert first == pytest.approx(np.sqrt(np.mean(expected**2, axis=1)).max())
    engine.command(f"fix h all halt 5 v_sigma > {1.01 * first} error continue")
    engine.command("run 200")
    assert 0 < engine.extract_global("ntimestep") < 200
    assert float(engine.extract_variable("sigma")) > 1.01 * first


def test_energy_is_conserved(engine, exported, tmp_path):
    begin(engine, crystal((2, 2, 2)), tmp_path)
    for line in ("pair_style mlpot", f"pair_coeff * * {exported('two elements')} C Si", "velocity all create 600 1", "fix n all nve",
                 "timestep 0.0005", "thermo_style custom step etotal", "run 0"):  # fmt: skip
        engine.command(line)
    before = engine.get_thermo("etotal")
    engine.command("run 60")
    kinetic = engine.get_thermo("ke")
    assert engine.get_thermo("etotal") == pytest.approx(before, abs=2e-4 * kinetic)


def test_another_model_between_runs(engine, exported, tmp_path):
    """pair_coeff once more: positions, velocities and the thermostat stay."""
    atoms = crystal((1, 1, 1))
    begin(engine, atoms, tmp_path)
    first, second = (f"pair_coeff * * {exported(name)} C Si" for name in ("two elements", "balanced"))
    for line in ("pair_style mlpot", first, "velocity all create 300 1", "fix n all nvt temp 300 300 0.1", "run 3", second, "run 0"):
        engine.command(line)
    n, moved = len(atoms), atoms.copy()
    order = np.argsort(engine.numpy.extract_atom("id")[:n])
    moved.positions = engine.numpy.extract_atom("x")[:n][order]
    expected = made("balanced").predict(moved).forces
    np.testing.assert_allclose(engine.numpy.extract_atom("f")[:n][order], expected, atol=1e-11 * np.abs(expected).max())
