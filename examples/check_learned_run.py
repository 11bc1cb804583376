"""How good is a learned model where its own simulation went?

Takes structures from the trajectory of a learning run that were predicted, not labelled, asks the electronic-structure code
of the run for their labels, and prints the errors of the model:

    python examples/check_learned_run.py runs/learn_si --structures 20
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np

import mlpot
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.learning.store import LabelStore


def fresh_structures(folder: Path, number: int, since_step: int):
    """Evenly spaced predicted frames of the trajectory."""
    frames = ase.io.read(folder / "trajectory.xyz", index=":")
    predicted = [atoms for atoms in frames if not atoms.info["labelled"] and atoms.info["step"] >= since_step]
    return [predicted[k] for k in np.unique(np.linspace(0, len(predicted) - 1, number).astype(int))]


def main() -> None:
    """Label, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--since-step", type=int, default=0)
    arguments = parser.parse_args()

    settings = LabelStore(arguments.folder).rows()[0].data["settings"]
    labeller = CalculatorLabeller(settings["calculator"], settings["parameters"])
    model = mlpot.load_model(arguments.folder / "model.h5")
    energy_errors, force_errors, stds = [], [], []
    for atoms in fresh_structures(arguments.folder, arguments.structures, arguments.since_step):
        label, prediction = labeller.label(atoms), model.predict(atoms, uncertainty=True)
        energy_errors.append((prediction.energy - label.energy) / len(atoms))
        force_errors.append(prediction.forces - label.forces)
        stds.append(prediction.energies_std.max())
        print(
            f"step {atoms.info['step']:6d}: energy {1e3 * energy_errors[-1]:8.2f} meV/atom, forces "
            f"{np.abs(force_errors[-1]).mean():.4f} eV/A, largest uncertainty {1e3 * stds[-1]:.2f} meV"
        )
    print(f"E MAE {1e3 * np.mean(np.abs(energy_errors)):.2f} meV/atom")
    print(f"F MAE {np.mean(np.abs(force_errors)):.4f} eV/A")


if __name__ == "__main__":
    main()
