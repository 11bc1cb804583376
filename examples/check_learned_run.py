"""How good is a learned model where its own simulation went, and does it know?

Takes structures from the trajectories of a learning run that were predicted, not labelled, asks the electronic-structure code
of the run for their labels, keeps these in an extended XYZ file, and prints errors and calibration of the model:

    python examples/check_learned_run.py runs/learn_si --structures 20
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labels.store import LabelStore
from mlpot.models.evaluate import evaluate
from mlpot.structures import all_labelled


def fresh_structures(folder: Path, number: int, since_step: int):
    """Evenly spaced predicted frames of the trajectories."""
    frames = [atoms for file in sorted(folder.glob("trajectory*.xyz")) for atoms in ase.io.iread(file)]
    predicted = [atoms for atoms in frames if not atoms.info["labelled"] and atoms.info["step"] >= since_step]
    return [predicted[k] for k in np.unique(np.linspace(0, len(predicted) - 1, number).astype(int))]


def labelled(labeller: CalculatorLabeller, atoms):
    """The structure with its label attached."""
    label = labeller.label(atoms)
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces)
    return atoms


def main() -> None:
    """Label, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--since-step", type=int, default=0)
    arguments = parser.parse_args()

    settings = LabelStore(arguments.folder).rows()[0].data["settings"]
    labeller = CalculatorLabeller(settings["calculator"], settings["parameters"])
    frames = [
        labelled(labeller, atoms)
        for atoms in fresh_structures(arguments.folder, arguments.structures, arguments.since_step)
    ]
    ase.io.write(arguments.folder / "check.xyz", frames, format="extxyz")
    found = evaluate(mlpot.load_model(arguments.folder / "model.h5"), all_labelled(frames, "check"))
    for atoms, comparison in zip(frames, found.comparisons, strict=True):
        expected = np.sqrt(np.mean(comparison.forces_std**2))
        print(
            f"step {atoms.info['step']:6d}: energy {1e3 * comparison.energy_per_atom:8.2f} meV/atom, forces RMS "
            f"{np.sqrt(np.mean(comparison.forces**2)):.4f} eV/A, expected {expected:.4f}"
        )
    for name, value in found.calibration.items():
        print(f"{name}: {'-' if value is None else f'{value:.2f}'}")
    print(f"E MAE {found.overall.energy_mae_mev_per_atom:.2f} meV/atom")
    print(f"F MAE {found.overall.force_mae_ev_per_ang:.4f} eV/A")


if __name__ == "__main__":
    main()
