"""Errors and cost of models of silicon with a pair term and one many-body term, at about 64 features each.

    OMP_NUM_THREADS=1 python benchmarks/zoo.py [--data FOLDER] [--every 10] [--only acsf]

Each line: the term; features, mean absolute errors of energies (meV/atom) and forces (meV/A) on Si_test after a fit to every tenth
structure of Si_train; processor time of one thread per atom (microseconds) for energy, forces and virial of 216 rattled atoms, and
the same with uncertainty; processor seconds of the fit. All terms have cutoffs of 5 A and at most 1000 sparse points.
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
}
NOISES = {"energy_noise": 0.002, "force_noise": 0.05}
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


def rows(folder: Path, every: int, only: str) -> Iterator[dict[str, Any]]:
    """One for each term."""
    train = mlpot.read(folder / "Si_train.xyz")[::every]
    test = [labelled(atoms, f"test {k}") for k, atoms in enumerate(mlpot.read(folder / "Si_test.xyz"))]
    atoms = silicon(3)
    for name, keys in TERMS.items():
        if only not in name:
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
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    print(f"{'term':28}features  meV/atom   meV/A  us/atom  with std   fit s")
    for row in rows(given.data, given.every, given.only):
        print(
            f"{row['name']:28}{row['n_features']:8d}{row['energy']:10.2f}{row['forces']:8.1f}{row['plain']:9.1f}{row['spread']:10.1f}"
            f"{row['fit']:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
