"""An alloy from a data set: errors by element and by family, for two presets.

    python examples/tutorials/alloy.py [TRAIN.xyz TEST.xyz] [-o FOLDER]

Without files a small set of copper-gold crystals labelled by EMT stands in. With the published NbMoTaW data (Li et al., npj Comput.
Mater. 6, 70 (2020), doi:10.1038/s41524-020-0339-0) the script takes half an hour.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot


def stand_in(n, seed):
    """Rattled crystals of copper and gold, in order ("ordered") and not ("random")."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.85, cubic=True).repeat((2, 1, 1))
        gold = np.arange(8) % 2 == 0 if k % 2 else rng.permutation(8) < rng.integers(1, 8)
        atoms.numbers[gold] = 79
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = "ordered" if k % 2 else "random"
        frames.append(atoms)
    return frames


def main(folder, train=None, test=None):
    """Fit two presets; returns the RMS force error of each, eV/A."""
    folder.mkdir(parents=True, exist_ok=True)
    train = stand_in(20, 0) if train is None else mlpot.read(train)
    test = stand_in(8, 1) if test is None else mlpot.read(test)
    found, figure = {}, plt.figure(figsize=(6, 2.8), layout="constrained")
    for k, preset in enumerate(("fast", "balanced")):
        model = mlpot.fit(train, mlpot.FitConfig(preset=preset, check_labels=False))
        predicted = np.concatenate([model.predict(atoms).forces for atoms in test])
        labels = np.concatenate([atoms.get_forces() for atoms in test])
        symbols = np.concatenate([atoms.get_chemical_symbols() for atoms in test])
        found[preset] = float(np.sqrt(np.mean((predicted - labels) ** 2)))
        axes = figure.add_subplot(1, 2, k + 1)
        for symbol in sorted(set(symbols)):
            own = symbols == symbol
            error = np.sqrt(np.mean((predicted[own] - labels[own]) ** 2))
            axes.plot(labels[own].ravel(), predicted[own].ravel(), ".", ms=3, label=f"{symbol}: {error:.3f} eV/Å")
        axes.axline((0, 0), slope=1, color="grey", lw=0.5)
        axes.set(title=preset, xlabel="force of the label / (eV/Å)", ylabel="prediction" if k == 0 else "")
        axes.legend(fontsize=7)
        model.save(folder / f"{preset}.h5")
        print(f"{preset}: RMS force error {found[preset]:.4f} eV/A")
    figure.savefig(folder / "alloy.png", dpi=80)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("-o", "--output", default="alloy")
    arguments = parser.parse_args()
    main(Path(arguments.output), *arguments.files)
