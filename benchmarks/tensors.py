"""Errors of dipoles and polarisabilities of water, and their cost beside featomic's equivariant power spectrum, in one run.

    python benchmarks/tensors.py DATA [--train 500] [--test 500] [--only dimer|beneath|bulk|charged|cost]

DATA is a folder with water_dimer_tensors.xyz and water_bulk_tensors.xyz (TENSOAP's examples). Structures are split by a fixed
permutation; noise and scales follow from the evidence of the training structures, and the test structures are only predicted.
Errors are root mean square errors in percent of the standard deviation of the spherical components. The charged complex is
H3O+(H2O)2 with dipoles of GFN1-xTB (needs tblite), 300 structures for the fit and 200 for the test. `beneath` has the dimer with
GFN2-xTB beneath the fit (`baseline` of the targets).
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read
from scipy.spatial.transform import Rotation

from mlpot.fitting.tensors import fit_targets
from mlpot.models.target_errors import evaluate_targets
from mlpot.settings.targets import TargetsSettings

DIMER = [{"name": "dipole", "unit": "e*A"}, {"name": "polarizability", "unit": "bohr^3"}]
BULK = [{"name": "dielectric", "rank": 2, "unit": ""}]
GFN2 = {"method": "GFN2-xTB", "verbosity": 0}
BENEATH = {"dipole": "tblite.ase.TBLite", "polarizability": "polar_xtb.PolarXtb"}
"""Calculators by target; the second is in the folder of inputs for i-PI."""
CUTOFF = 4.5
COST_TERMS = [{"cutoff": CUTOFF}]


def shuffled(file):
    frames = read(file, ":")
    order = np.random.default_rng(0).permutation(len(frames))
    return [frames[k] for k in order]


def errors(file, targets, n_train, n_test):
    """Table of errors on test structures."""
    frames = shuffled(file)
    train, test = frames[:n_train], frames[n_train : n_train + n_test]
    for target in targets:
        report(file.stem, target, train, test)


def report(what, target, train, test):
    """Models fitted to `train`; their errors on `test` are printed."""
    started = time.process_time()
    models = fit_targets(train, TargetsSettings(targets=[target]))
    seconds = time.process_time() - started
    for name, found in evaluate_targets(models, test).items():
        parts = ", ".join(f"l={degree} {value:.2f} %" for degree, value in found.parts.items())
        shown = f"{parts}; within one standard deviation {found.coverage:.2f}; fit {seconds:.0f} CPU s"
        print(f"{what}: {name}: {shown}", flush=True)
    return models


def charged_complexes(n, seed=0):
    """H3O+(H2O)2 with displaced and turned molecules, displaced atoms, at random places; the dipole is about the origin [0, 0, 0]."""
    from tblite.ase import TBLite

    rng, frames = np.random.default_rng(seed), []
    water, tetrahedral = molecule("H2O"), np.array([[1, 1, -1], [1, -1, 1], [-1, 1, 1]]) / np.sqrt(3)
    for _ in range(n):
        atoms = Atoms("OHHH", positions=np.concatenate([np.zeros((1, 3)), 1.02 * tetrahedral]))
        for direction in tetrahedral[:2]:
            own = water.copy()
            own.rotate([0, 0, -1], direction)  # its oxygen atom faces the hydrogen atom
            own.positions += (2.5 + 0.12 * rng.standard_normal()) * direction + 0.1 * rng.standard_normal(3) - own.positions[0]
            own.rotate(15 * rng.standard_normal(), rng.standard_normal(3), center=own.positions[0])
            atoms += own
        atoms.positions += 0.04 * rng.standard_normal((len(atoms), 3))
        atoms.positions = atoms.positions @ Rotation.random(random_state=rng).as_matrix().T + rng.uniform(-5, 5, 3)
        atoms.calc = TBLite(method="GFN1-xTB", charge=1, verbosity=0)
        dipole = atoms.get_dipole_moment()
        atoms.calc, atoms.info = None, {"dipole": dipole, "charge": 1}
        frames.append(atoms)
    return frames


def charged():
    """Errors of dipoles of a charged complex, and what a translation does to them."""
    target = {**DIMER[0], "origin": [0.0, 0.0, 0.0]}
    frames = charged_complexes(500)
    models = report("H3O+(H2O)2", target, frames[:300], frames[300:])
    moved = frames[0].copy()
    moved.positions += [1.0, 2.0, 3.0]
    difference = models["dipole"].predict(moved).value - models["dipole"].predict(frames[0]).value - [1.0, 2.0, 3.0]
    print(f"translation by [1, 2, 3] A: the dipole changes by the charge times that, within {np.abs(difference).max():.1g} e A")


def best_time(call, repeats=5):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def cost(data):
    """us/atom of dipole and Born charges in bulk water, one thread, beside featomic's features without derivatives."""
    frames = shuffled(data / "water_dimer_tensors.xyz")[:60]
    (model,) = fit_targets(frames, TargetsSettings(targets=[{**DIMER[0], "terms": COST_TERMS}])).values()
    atoms = read(data / "water_bulk_tensors.xyz", "0")
    ours = 1e6 * best_time(lambda: model.predict(atoms)) / len(atoms)
    print(f"dipole with Born charges, {len(atoms)} atoms of bulk water: {ours:.1f} us/atom")
    try:
        from featomic import SphericalExpansion
        from featomic.clebsch_gordan import EquivariantPowerSpectrum
    except ImportError:
        print("featomic is not installed: no comparison")
        return
    theirs = EquivariantPowerSpectrum(SphericalExpansion(
        cutoff={"radius": CUTOFF, "smoothing": {"type": "ShiftedCosine", "width": CUTOFF / 2}},
        density={"type": "Gaussian", "width": 0.6},
        basis={"type": "TensorProduct", "max_angular": 3, "radial": {"type": "Gto", "max_radial": 3}},
    ))  # fmt: skip
    took = 1e6 * best_time(lambda: theirs.compute(atoms, neighbors_to_properties=True)) / len(atoms)
    print(f"featomic's equivariant power spectrum, features only: {took:.0f} us/atom, {took / ours:.0f} times as much")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--only", choices=["dimer", "beneath", "bulk", "charged", "cost"])
    given = parser.parse_args()
    if given.only in (None, "cost"):
        cost(given.data)
    if given.only in (None, "charged"):
        charged()
    if given.only in (None, "dimer"):
        errors(given.data / "water_dimer_tensors.xyz", DIMER, given.train, given.test)
    if given.only in (None, "beneath"):
        sys.path.insert(0, str(Path(__file__).parents[1] / "inputs" / "ipi"))
        targets = [{**own, "baseline": {"calculator": BENEATH[own["name"]], "parameters": GFN2}} for own in DIMER]
        errors(given.data / "water_dimer_tensors.xyz", targets, given.train, given.test)
    if given.only in (None, "bulk"):
        errors(given.data / "water_bulk_tensors.xyz", BULK, given.train, given.test)


if __name__ == "__main__":
    main()
