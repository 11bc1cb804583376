"""Errors and cost of models with a pair term and one many-body term, at about 64 features each.

    OMP_NUM_THREADS=1 python benchmarks/zoo.py [--set Si] [--data FOLDER] [--every 10] [--only acsf zernike]

Sets are Si, Mo, acac and NbMoTaW. Each line: the term; features, mean absolute errors of energies (meV/atom) and forces (meV/A) on
the test set after a fit to every tenth structure of the training set; processor time of one thread per atom (microseconds) for
energy, forces and virial of 216 rattled atoms of silicon or the largest structure of another set, and the same with uncertainty;
processor seconds of the fit. All terms have cutoffs of 5 A and at most 1000 sparse points.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlpot
from mlpot.bench import median_seconds, silicon
from mlpot.models.evaluate import evaluate
from mlpot.structures import labelled

CUTOFF = 5.0
ACSF = {"type": "acsf", "cutoff": CUTOFF}
MBTR = {
    "type": "mbtr", "cutoff": CUTOFF, "n_weights": 0, "k2": {"n": 24, "min": 0.15, "max": 0.6, "sigma": 0.02},
    "k3": {"n": 40, "vertices": "centre"},
}  # fmt: skip
TERMS: dict[str, dict[str, Any]] = {
    "soap (4, 5)": {"type": "soap", "cutoff": CUTOFF, "n_max": 4, "l_max": 5},
    "soap (8, 6)": {"type": "soap", "cutoff": CUTOFF, "n_max": 8, "l_max": 6},
    "acsf auto, cur": ACSF,
    "acsf auto, farthest": {**ACSF, "select": "farthest"},
    "acsf auto, all": {**ACSF, "select": "none"},
    "acsf auto, cur, gaussian": {**ACSF, "kernel": "gaussian"},
    "acsf amp": {**ACSF, "functions": "amp"},
    "chebyshev (43, 20)": {"type": "chebyshev", "cutoff": CUTOFF, "radial_order": 43, "angular_order": 20},
    "chebyshev (16, 4)": {"type": "chebyshev", "cutoff": CUTOFF},
    "zernike 14": {"type": "zernike", "cutoff": CUTOFF, "n_max": 14},
    "zernike 5": {"type": "zernike", "cutoff": CUTOFF},
    "bispectrum 8": {"type": "bispectrum", "cutoff": CUTOFF},
    "bispectrum 8, gaussian": {"type": "bispectrum", "cutoff": CUTOFF, "kernel": "gaussian"},
    "mbtr": MBTR,
    "mbtr, gaussian": {**MBTR, "kernel": "gaussian"},
}
SETS = {
    "Si": ("Si_train.xyz", "Si_test.xyz"), "Mo": ("Mo_train.xyz", "Mo_test.xyz"),
    "acac": ("acac_train_300K.xyz", "acac_test_300K.xyz"), "NbMoTaW": ("NbMoTaW_train.xyz", "NbMoTaW_test.xyz"),
}  # fmt: skip
NOISES = {"energy_noise": 0.002, "force_noise": 0.05}
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


def rows(name_of_set: str, folder: Path, every: int, only: list[str]) -> Iterator[dict[str, Any]]:
    """One for each term."""
    train, test_frames = (mlpot.read(folder / file) for file in SETS[name_of_set])
    train = train[::every]
    if name_of_set == "acac":
        train = [*mlpot.read(folder / "acac_isolated_atoms.xyz"), *train]
    test = [labelled(atoms, f"test {k}") for k, atoms in enumerate(test_frames)]
    atoms = silicon(3) if name_of_set == "Si" else max(test_frames, key=len)
    for name, keys in TERMS.items():
        if only and name not in only:
            continue
        config = mlpot.FitConfig(
            terms=[{"type": "pair", "cutoff": CUTOFF}, {**keys, "n_sparse": 1000}], check_labels=False, **NOISES
        )
        begin = time.process_time()
        model = mlpot.fit(train, config)
        fit = time.process_time() - begin
        actions = [lambda on=on, model=model: model.predict(atoms, uncertainty=on) for on in (False, True)]
        plain, spread = (1e6 * seconds / len(atoms) for seconds in median_seconds(actions))
        own = evaluate(model, test).overall
        yield {
            "name": name, "n_features": model.terms[1].descriptor.n_features, "energy": own.energy_mae_mev_per_atom,
            "forces": 1e3 * own.force_mae_ev_per_ang, "plain": plain, "spread": spread, "fit": fit,
        }  # fmt: skip


def main() -> None:
    """Print the rows as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--set", choices=SETS, default="Si")
    parser.add_argument("--only", nargs="*", default=[], help="names of terms")
    given = parser.parse_args()
    print(f"{'term':28}features  meV/atom   meV/A  us/atom  with std   fit s")
    for row in rows(given.set, given.data, given.every, given.only):
        print(
            f"{row['name']:28}{row['n_features']:8d}{row['energy']:10.2f}{row['forces']:8.1f}{row['plain']:9.1f}{row['spread']:10.1f}"
            f"{row['fit']:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
