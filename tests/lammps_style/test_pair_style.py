"""pair_style mlpot gives what Python gives: all kinds of models, cells, types, units, and together with other styles."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.lammps import convert
from core_models import FITS, IMPORTED, made, numbers_of, structures
from lammps_runs import begin, in_frame, results
from snap_potentials import write_snap

import mlpot
from mlpot.neighbours import find_pairs

ROUNDED = 1e-6
"""Deviations are roots of differences that have lost digits, and members are added in single precision."""


def close(found, expected, tolerance=1e-10):
    size = max(float(np.abs(expected).max(initial=0.0)), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


def start(engine, atoms, folder, file, *before, style="pair_style mlpot", **options):
    elements = begin(engine, atoms, folder, *before, **options)
    engine.command(style)
    engine.command(f"pair_coeff * * {file} {' '.join(elements)}")


def deviations(engine, names, n, every="1", trigger=0):
    """Commands of fix pair, and what it has of each atom after a run, in the order of IDs."""
    engine.command(f"fix u all pair {every} mlpot " + " ".join(f"{name} {trigger}" for name in names))
    engine.command("run 0 post no")
    found = engine.numpy.extract_fix("u", 1, 1 if names in (["sigma"], ["energies_std"]) else 2)[:n]
    return found.reshape(n, -1)[np.argsort(engine.numpy.extract_atom("id")[:n])]


@pytest.mark.parametrize("name", [*FITS, *IMPORTED])
def test_what_python_gives(engine, exported, tmp_path, name):
    model = made(name)
    for atoms in map(in_frame, structures(numbers_of(name)).values()):
        start(engine, atoms, tmp_path, exported(name), style="pair_style mlpot uncertainty yes")
        found, expected = results(engine, len(atoms)), model.predict(atoms, uncertainty=True)
        for key in ("energy", "energies", "forces", "virial"):
            close(found[key], getattr(expected, key))
        close(found["virials"], model.compiled.virials(find_pairs(atoms, model.cutoff)))
        close(found["centroids"].sum(axis=0), expected.virial)
        if expected.forces_std is None:
            close(deviations(engine, ["energies_std"], len(atoms))[:, 0], expected.energies_std, ROUNDED)
            continue
        std = deviations(engine, ["sigma", "novelty", "energies_std", "forces_std"], len(atoms))
        close(std[:, 0], np.sqrt(np.mean(expected.forces_std**2, axis=1)), ROUNDED)
        close(std[:, 1], expected.novelty, ROUNDED)
        close(std[:, 2], expected.energies_std, ROUNDED)
        close(std[:, 3:], expected.forces_std, ROUNDED)


@pytest.mark.parametrize("flags", [{}, {"quadraticflag": 1, "bzeroflag": 0}, {"chemflag": 1}], ids=["linear", "quadratic", "chem"])
def test_imported_snap(engine, tmp_path, flags):
    model = mlpot.read_snap(*write_snap(tmp_path, ["C", "Si"], 4, 4.2, **flags))
    model.export_core(tmp_path / "m.mlpot", uncertainty=False)
    for atoms in map(in_frame, structures((6, 14)).values()):
        start(engine, atoms, tmp_path, tmp_path / "m.mlpot")
        found, expected = results(engine, len(atoms)), model.predict_directly(atoms)
        for key in ("energy", "energies", "forces", "virial"):
            close(found[key], getattr(expected, key))


def slab():
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0, periodic=False)
    atoms.numbers[:] = np.resize([6, 14], len(atoms))
    atoms.rattle(0.1, seed=1)
    return atoms


def skewed():
    atoms = bulk("Si", cubic=False).repeat((2, 2, 3))
    atoms.numbers[::3] = 6
    atoms.rattle(0.15, seed=2)
    return atoms


@pytest.mark.parametrize("before", [
    (), ("comm_style tiled",), ("comm_modify cutoff 9.0",), ("neighbor 0.0 bin",),
    ("neighbor 2.5 nsq", "neigh_modify delay 0 every 1 check no"), ("neigh_modify binsize 1.3",),
    ("comm_modify vel yes",), ("atom_modify sort 1 2.0",),
])  # fmt: skip
def test_neighbour_lists_and_ghosts(engine, exported, tmp_path, before):
    for atoms in map(in_frame, (slab().repeat((2, 2, 1)), skewed().repeat((2, 2, 1)))):
        start(engine, atoms, tmp_path, exported("two elements"), *before)
        found, expected = results(engine, len(atoms)), made("two elements").predict(atoms)
        for key in ("energies", "forces", "virial"):
            close(found[key], getattr(expected, key), 1e-12)


def test_several_types_of_one_element(engine, exported, tmp_path):
    atoms = in_frame(skewed())
    types = np.where(atoms.numbers == 6, 2, np.resize([1, 3], len(atoms)))
    start(engine, atoms, tmp_path, exported("two elements"), elements=["Si", "C", "Si"], types=types)
    close(results(engine, len(atoms))["forces"], made("two elements").predict(atoms).forces, 1e-12)


def test_added_to_another_style(engine, exported, tmp_path):
    atoms, zbl = in_frame(skewed()), ["pair_coeff 1 1 zbl 6 6", "pair_coeff 1 2 zbl 6 14", "pair_coeff 2 2 zbl 14 14"]
    found = []
    for styles in (["zbl 2.0 2.6"], ["mlpot uncertainty yes", "zbl 2.0 2.6"]):
        begin(engine, atoms, tmp_path)
        engine.command(f"pair_style hybrid/overlay {' '.join(styles)}")
        for line in [*zbl, f"pair_coeff * * mlpot {exported('two elements')} C Si"][: 2 + len(styles)]:
            engine.command(line)
        found.append(results(engine, len(atoms)))
    expected = made("two elements").predict(atoms)
    for key in ("energy", "energies", "forces", "virial"):
        close(found[1][key] - found[0][key], getattr(expected, key), 1e-11)


def test_beside_atoms_that_it_does_not_see(engine, exported, tmp_path):
    """As an adsorbate or a projectile of another style: centres are then not the first atoms."""
    atoms = in_frame(skewed())
    atoms.numbers[[2, 7, 8]] = 18
    begin(engine, atoms, tmp_path)
    for line in (
        "pair_style hybrid mlpot uncertainty yes lj/cut 3.0", f"pair_coeff * * mlpot {exported('two elements')} C Si NULL",
        "pair_coeff * 3 lj/cut 0.0 1.0",
    ):  # fmt: skip
        engine.command(line)
    kept = atoms.numbers != 18
    found, expected = results(engine, len(atoms)), made("two elements").predict(atoms[kept], uncertainty=True)
    close(found["forces"][kept], expected.forces, 1e-12)
    close(found["energies"][kept], expected.energies, 1e-12)
    std = deviations(engine, ["forces_std"], len(atoms))
    close(std[kept], expected.forces_std, ROUNDED)
    assert not found["forces"][~kept].any() and not std[~kept].any()


def test_units_of_chemistry(engine, exported, tmp_path):
    atoms = in_frame(structures((6, 14))["crystal"])
    start(engine, atoms, tmp_path, exported("two elements"), units="real")
    found, expected = results(engine, len(atoms)), made("two elements").predict(atoms)
    # LAMMPS' own factor between its units has seven digits
    close(convert(found["energies"], "energy", "real", "ASE"), expected.energies, 1e-6)
    close(convert(found["forces"], "force", "real", "ASE"), expected.forces, 1e-6)


def test_threads_change_no_bit(engine, exported, tmp_path):
    atoms = in_frame(skewed().repeat((3, 3, 2)))
    found = []
    for threads in (1, 3):
        start(engine, atoms, tmp_path, exported("two elements"), style=f"pair_style mlpot threads {threads}")
        found.append(results(engine, len(atoms)))
    np.testing.assert_array_equal(found[0]["energies"], found[1]["energies"])
    close(found[0]["forces"], found[1]["forces"], 1e-14)


def test_more_atoms_than_one_part(engine, exported, tmp_path):
    """Centres are evaluated some hundreds at a time; what each says of others' forces is put together."""
    atoms = in_frame(bulk("Si", cubic=True).repeat((5, 5, 4)))
    atoms.rattle(0.1, seed=3)
    model = made("one element")
    start(engine, atoms, tmp_path, exported("one element"), style="pair_style mlpot uncertainty yes")
    found, expected = results(engine, len(atoms)), model.predict(atoms, uncertainty=True)
    close(found["forces"], expected.forces, 1e-12)
    close(found["virial"], expected.virial, 1e-12)
    std = deviations(engine, ["forces_std", "novelty"], len(atoms))
    close(std[:, :3], expected.forces_std, ROUNDED)
    close(std[:, 3], expected.novelty, ROUNDED)


def test_heat_flux(engine, exported, tmp_path):
    """In a cluster the flux of compute heat/flux is the rate of sum_i r_i E_i: with the stress by centres it is not."""
    atoms, model = in_frame(structures((6, 14))["molecule"]), made("two elements")
    rng = np.random.default_rng(0)
    velocities = rng.normal(size=(len(atoms), 3))
    start(engine, atoms, tmp_path, exported("two elements"))
    for k, v in enumerate(velocities):
        engine.command(f"set atom {k + 1} vx {v[0]:.17g} vy {v[1]:.17g} vz {v[2]:.17g}")
    for line in (
        "compute k all ke/atom", "compute e all pe/atom", "compute s all centroid/stress/atom NULL pair",
        "compute j all heat/flux k e s", "thermo_style custom step c_j[1]", "run 0 post no",
    ):  # fmt: skip
        engine.command(line)
    flux = engine.numpy.extract_compute("j", 0, 1)
    potential = flux[:3] - flux[3:]  # without convection
    h, rates = 1e-5, []
    for sign in (1, -1):
        moved = Atoms(atoms.numbers, atoms.positions + sign * h * velocities)
        rates.append(model.predict(moved).energies / (2 * h))
    work = np.sum(model.predict(atoms).forces * velocities, axis=1)
    close(potential, (rates[0] - rates[1] + work) @ atoms.positions, 1e-6)
