"""What embeddings of elements are worth at equal numbers of channels: random, from the periodic table, learned.

    python benchmarks/embeddings.py --train NbMoTaW_train.xyz --test NbMoTaW_test.xyz --stride 10 --plot map.png
    python benchmarks/embeddings.py --train small_molecules_1000.xyz --molecules --channels 8 32

Each line: the channels, the embedding; mean absolute errors on structures that no fit has seen, energies in meV/atom and
forces in meV/A (mean and standard deviation over seeds of the mixing); seconds of the fit. Then how alike the elements are,
of the learned embedding with the most channels: cosines of their weights. Without --test, every fourth structure is
left out of the training file and judged. One thread unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read
from matplotlib.figure import Figure

import mlpot
from mlpot.descriptors.embedding import element_map, element_similarities

EMBEDDINGS = {
    "random": {"embedding": "random"},
    "periodic": {"embedding": "periodic"},
    "learned": {"embedding": "learned"},
    "learned, random start": {"embedding": "learned", "embedding_start": "random"},
}
ALLOY = {"n_max": 8, "l_max": 6, "cutoff": 5.0, "cutoff_width": 3.8, "atom_sigma": 0.5, "zeta": 2}
MOLECULES = {**ALLOY, "l_max": 5, "cutoff": 4.5, "cutoff_width": 3.5, "atom_sigma": 0.3}


@dataclass(frozen=True)
class Result:
    """Mean absolute errors, meV/atom and meV/A (nan without forces), seconds, and the model."""

    energy: float
    forces: float
    seconds: float
    model: mlpot.SparseGP


def run(train: list[Atoms], test: list[Atoms], soap: dict, n_sparse: int) -> Result:
    """A fit with the given many-body term beside a pair term."""
    terms = [
        {"type": "pair", "cutoff": soap["cutoff"], "n_sparse": 15},
        {"type": "soap", "n_sparse": n_sparse, **soap},
    ]
    config = mlpot.FitConfig(terms=terms, energy_noise=0.002, force_noise=0.03, check_labels=False)
    started = time.perf_counter()
    model = mlpot.fit(train, config)
    seconds = time.perf_counter() - started
    energies, forces = [], [np.empty(0)]
    for atoms in test:
        found, labels = model.predict(atoms), atoms.calc.results
        energies.append((found.energy - labels["energy"]) / len(atoms))
        if "forces" in labels:
            forces.append((found.forces - labels["forces"]).ravel())
    errors = np.concatenate(forces)
    of_forces = 1e3 * float(np.mean(np.abs(errors))) if len(errors) else np.nan
    return Result(1e3 * float(np.mean(np.abs(energies))), of_forces, seconds, model)


def line(n_channels: int, name: str, results: list[Result]) -> str:
    """A line of the table."""
    parts = [f"{n_channels:4d} {name:22s}"]
    for values in ([r.energy for r in results], [r.forces for r in results]):
        parts.append(f"{np.mean(values):7.2f} +- {np.std(values):5.2f}")
    return "  ".join([*parts, f"{np.mean([r.seconds for r in results]):6.0f}"])


def matrix(model: mlpot.SparseGP) -> str:
    """Cosines between the elements of a model."""
    symbols = [chemical_symbols[z] for z in model.species]
    cosines = element_similarities(model.terms[1].descriptor.weights)
    rows = [
        f"{symbol:>3s}" + "".join(f"{value:7.3f}" for value in row)
        for symbol, row in zip(symbols, cosines, strict=True)
    ]
    return "\n".join(["   " + "".join(f"{symbol:>7s}" for symbol in symbols), *rows])


def plot(models: dict[str, mlpot.SparseGP], file: str) -> None:
    """Principal components of the elements' weights, a panel for every embedding."""
    figure = Figure(figsize=(3.2 * len(models), 3.2), layout="constrained")
    for axes, (name, model) in zip(figure.subplots(1, len(models), squeeze=False)[0], models.items(), strict=True):
        places = element_map(model.terms[1].descriptor.weights)
        axes.scatter(*places.T, s=4)
        for number, place in zip(model.species, places, strict=True):
            axes.annotate(chemical_symbols[number], place, ha="center", va="bottom")
        axes.set(title=name, xlabel="first component", ylabel="second component")
        axes.margins(0.2)
    figure.savefig(file, dpi=150)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="labelled structures")
    parser.add_argument("--test", help="others, to judge by")
    parser.add_argument("--stride", type=int, default=1, help="every so many-th structure of the training file")
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--coupling", default="element-wise", choices=["element-wise", "full"])
    parser.add_argument("--embeddings", nargs="+", default=list(EMBEDDINGS), choices=list(EMBEDDINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-sparse", type=int, default=250, help="sparse points per element")
    parser.add_argument("--molecules", action="store_true", help="shorter cutoff, narrower atoms")
    parser.add_argument("--plot", help="file of the maps of elements")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    frames = read(options.train, f"::{options.stride}")
    test = read(options.test, ":") if options.test else frames[1::4]
    train = frames if options.test else [atoms for k, atoms in enumerate(frames) if k % 4 != 1]
    shape = {**(MOLECULES if options.molecules else ALLOY), "mix": "both", "symmetric": True}
    print(f"{len(train)} structures to fit, {len(test)} to judge; {options.coupling} coupling")
    print("   K embedding               energy, meV/atom   forces, meV/A     fit, s")
    models = {}
    for n_channels in options.channels:
        for name in options.embeddings:
            soap = {**shape, **EMBEDDINGS[name], "n_channels": n_channels, "coupling": options.coupling}
            results = [run(train, test, {**soap, "mix_seed": seed}, options.n_sparse) for seed in range(options.seeds)]
            models[name] = results[0].model
            print(line(n_channels, name, results), flush=True)
    for name, model in models.items():
        print(f"\n{name}, {options.channels[-1]} channels\n{matrix(model)}")
    if options.plot:
        plot(models, options.plot)


if __name__ == "__main__":
    main()
