"""Makes the models that the inputs of this folder use, in the working directory: python make_models.py

A simulation of the eight molecules learns its own labels from GFN1-xTB; copies of its structures, shaken and strained, are
labelled as well, for beads of ring polymers reach further than classical atoms, and a barostat needs other volumes. Then

    water.h5             all labels, preset "balanced"
    water_fast.h5        the same labels, preset "fast" with a short cutoff: half as dear, and less accurate
    water_correction.h5  what water_fast.h5 leaves of the labels; the sum of both is a model of them

The labels stay in labels/: a second run goes on with them. `--steps` is for those in a hurry.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

import mlpot
from mlpot.labellers.calculator import CalculatorLabeller

CALCULATOR, PARAMETERS = "tblite.ase.TBLite", {"method": "GFN1-xTB", "verbosity": 0}
TEMPERATURE = 500.0
"""K: above those of the inputs, so that they stay within what was seen."""
TIME_STEP, FRICTION = 0.5 * units.fs, 0.02 / units.fs
STRIDE = 20
"""Steps between shaken copies."""
SHAKE, STRAIN = {1: 0.05, 8: 0.02}, 0.02
"""Standard deviations: displacements by atomic number, A, about those of a bead of hydrogen and oxygen; of the strain."""
SHORT_CUTOFF = 3.0
"""A: the bonds of a molecule and its hydrogen bonds."""


def shaken(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """A copy, strained and with displaced atoms."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    copy.set_cell(copy.cell.array * (1 + STRAIN * rng.normal()), scale_atoms=True)
    copy.positions += rng.normal(size=(len(copy), 3)) * np.array([[SHAKE[z]] for z in copy.numbers])
    return copy


def labelled_structures(start: Atoms, folder: Path, steps: int) -> list[Atoms]:
    """Structures with labels: those of a simulation that learns, and shaken ones."""
    rng, labeller, copies = np.random.default_rng(0), CalculatorLabeller(CALCULATOR, PARAMETERS), []
    with mlpot.LearningCalculator(folder, CALCULATOR, PARAMETERS, resume=folder.exists()) as calculator:
        start.calc = calculator
        dynamics = Langevin(start, TIME_STEP, temperature_K=TEMPERATURE, friction=FRICTION, fixcm=False, rng=rng)
        for _ in range(steps // STRIDE):
            dynamics.run(STRIDE)
            for copy in (start.copy(), shaken(start, rng)):
                label = labeller.label(copy)
                copy.calc = SinglePointCalculator(copy, energy=label.energy, forces=label.forces, stress=label.stress)
                copies.append(copy)
    return [*ase.io.read(folder / "labels.db", ":"), *copies]


def difference(atoms: Atoms, model: mlpot.SparseGP) -> Atoms:
    """The structure, labelled with what the model leaves of its label."""
    p, copy = model.predict(atoms), atoms.copy()
    copy.calc = SinglePointCalculator(
        copy,
        energy=atoms.get_potential_energy() - p.energy,
        forces=atoms.get_forces() - p.forces,
        stress=atoms.get_stress(voigt=False) - p.stress,
    )
    return copy


def main() -> None:
    """Label, fit three models, say how well they do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="water8.xyz", help="structure")
    parser.add_argument("--steps", type=int, default=2000, help="of the simulation, 0.5 fs each")
    arguments = parser.parse_args()

    frames = labelled_structures(ase.io.read(arguments.start), Path("labels"), arguments.steps)
    fast = mlpot.fit(frames, mlpot.FitConfig(preset="fast", cutoff=SHORT_CUTOFF))
    models = {
        "water": mlpot.fit(frames, mlpot.FitConfig(preset="balanced")),
        "water_fast": fast,
        "water_correction": mlpot.fit([difference(atoms, fast) for atoms in frames]),
    }
    for name, model in models.items():
        model.save(f"{name}.h5")
        errors = model.report.left_out["default"]
        print(
            f"{name}.h5: {len(frames)} labels; of structures left out: energy RMSE {errors.energy_rmse_mev_per_atom:.2f} "
            f"meV/atom, forces RMSE {errors.force_rmse_ev_per_ang:.3f} eV/A"
        )


if __name__ == "__main__":
    main()
