"""Few labels on what a universal model knows: CHGNet's features, and CHGNet as baseline, against the balanced preset.

    pip install torch chgnet
    python benchmarks/universal.py C_crystals.xyz [--sizes 20 50 200] [--seeds 1] [--n-sparse 100] [--n-test 60]

Structures are drawn from the file; the table has RMS errors of forces (eV/A) and energies (meV/atom) on structures that are
in no training set, and the processor time of the fit. Not part of continuous integration, since torch is large.
"""

import argparse
import time

import numpy as np

import mlpot

CHGNET = {"calculator": "chgnet.model.dynamics.CHGNetCalculator", "parameters": {"use_device": "cpu"}, "reuse": True}


def kinds(n_sparse, periodic):
    """Models by name; CHGNet's own calculator takes periodic structures only."""
    features = {"type": "features", "model": "mlpot.interop.chgnet:ChgnetFeatures", "n_sparse": n_sparse}
    found = {
        "`balanced`": {"preset": "balanced"},
        "CHGNet's features (`type = \"features\"`)": {"terms": [{"type": "pair", "cutoff": 5.0}, features]},
    }
    if periodic:
        found["`balanced` on CHGNet (`[baseline]`)"] = {"preset": "balanced", "baseline": CHGNET}
    return found


def errors(model, frames):
    """RMS errors of forces, eV/A, and of energies, meV/atom."""
    forces, energies = [], []
    for atoms in frames:
        p = model.predict(atoms)
        forces.append(np.ravel(p.forces - atoms.get_forces()))
        energies.append(1e3 * (p.energy - atoms.get_potential_energy()) / len(atoms))
    return np.sqrt(np.mean(np.concatenate(forces) ** 2)), np.sqrt(np.mean(np.square(energies)))


def main():
    """Print a row for each model and number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--sizes", nargs="+", type=int, default=[20, 50, 200])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--n-sparse", type=int, default=100)
    parser.add_argument("--n-test", type=int, default=60)
    arguments = parser.parse_args()
    frames = mlpot.read(arguments.data)
    print("| model | labels | forces, eV/A | energies, meV/atom | CPU s |\n|---|---|---|---|---|")
    for name, settings in kinds(arguments.n_sparse, all(atoms.pbc.all() for atoms in frames)).items():
        for size in arguments.sizes:
            found = []
            for seed in range(arguments.seeds):
                order = np.random.default_rng(seed).permutation(len(frames))
                test = [frames[k] for k in order[: arguments.n_test]]
                train = [frames[k] for k in order[arguments.n_test : arguments.n_test + size]]
                started = time.process_time()
                model = mlpot.fit(train, mlpot.FitConfig(**settings, check_labels=False, seed=seed))
                found.append((*errors(model, test), time.process_time() - started))
            force, energy, seconds = np.mean(found, axis=0)
            print(f"| {name} | {size} | {force:.3f} | {energy:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
