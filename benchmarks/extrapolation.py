"""What `extrapolate = true` is worth: alloys with an element that the data had not.

    OMP_NUM_THREADS=1 python benchmarks/extrapolation.py ../shared/data [--every 40]

For each element of the NbMoTaW set: a fit to the structures without it (preset "fast"), judged on the alloys of the test file
that hold it. Mean absolute errors of forces beside their size, and beside those of the same structures with the element
replaced by the known one that is most similar, eV/A; then mean standard deviations of forces, and novelties.
"""

import argparse
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

import mlpot
from mlpot.structures import read_structures

ELEMENTS = ("Nb", "Mo", "Ta", "W")


def judged(model, structures, actual):
    """Mean absolute error of forces, mean standard deviation, mean novelty."""
    found = [model.predict(atoms, uncertainty=True) for atoms in structures]
    errors = np.concatenate([p.forces - forces for p, forces in zip(found, actual, strict=True)])
    deviations, novelty = (np.concatenate([getattr(p, name) for p in found]) for name in ("forces_std", "novelty"))
    return np.abs(errors).mean(), deviations.mean(), novelty.mean()


def replaced(atoms, old, new):
    other = atoms.copy()
    other.symbols = [new if symbol == old else symbol for symbol in atoms.symbols]
    return other


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=40, help="of the training structures without the element")
    arguments = parser.parse_args()
    train, test = (read_structures(arguments.data / f"NbMoTaW_{part}.xyz") for part in ("train", "test"))
    for element in ELEMENTS:
        config = mlpot.FitConfig(preset="fast", extrapolate=True, check_labels=False)
        model = mlpot.fit([a for a in train if element not in a.symbols][:: arguments.every], config)
        unseen = [a for a in test if element in a.symbols and len(set(a.symbols)) > 1]
        seen = [a for a in test if element not in a.symbols]
        guessing = model.covering(np.array([atomic_numbers[element]]))
        [stand_in] = (chemical_symbols[z] for z in guessing.stand_ins.values())
        forces = [atoms.get_forces() for atoms in unseen]
        size = np.abs(np.concatenate(forces)).mean()
        error, deviation, novelty = judged(model, unseen, forces)
        as_other = judged(model, [replaced(atoms, element, stand_in) for atoms in unseen], forces)[0]
        usual = judged(model, seen, [atoms.get_forces() for atoms in seen])
        print(
            f"{element}: error {error:.3f} of {size:.3f}, as {stand_in} {as_other:.3f}; std {deviation:.3f}, novelty "
            f"{novelty:.2f}; known elements: error {usual[0]:.3f}, std {usual[1]:.3f}, novelty {usual[2]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
