"""Learned water against direct GFN1-xTB dynamics.

python benchmarks/water.py direct -o direct.xyz [--steps 10000]   # inputs/learn_water.toml without mlpot
python benchmarks/water.py tail runs/learn_water [--steps 10000]  # NVE with the learned model: is energy conserved?
"""

import argparse
import time
from pathlib import Path

import ase.io
import numpy as np
from ase.md.verlet import VelocityVerlet

import mlpot
from mlpot.config import read_config
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.learning.dynamics import Dynamics
from mlpot.settings.files import LearnFile
from mlpot.units import FEMTOSECOND

CONFIG = Path(__file__).parents[1] / "inputs" / "learn_water.toml"
INTERVAL = 10


def direct(output: Path, steps: int) -> None:
    """The dynamics of the configuration, every step by the electronic-structure code."""
    settings = read_config(CONFIG, LearnFile)
    labeller = CalculatorLabeller(settings.labeller.calculator, settings.labeller.parameters)
    atoms = ase.io.read(settings.structure.file)
    atoms.calc = labeller.factory()(**labeller.parameters)
    dynamics = Dynamics(atoms, settings.dynamics.changed(steps=steps))
    output.unlink(missing_ok=True)
    started = time.perf_counter()
    dynamics.begin()
    while dynamics.step < steps:
        dynamics.advance()
        if dynamics.step % INTERVAL == 0:
            ase.io.write(output, atoms, format="extxyz", append=True)
    seconds = time.perf_counter() - started
    print(f"{steps} steps in {seconds:.0f} s, {1e3 * seconds / steps:.1f} ms a step: {output}")


def tail(folder: Path, steps: int) -> None:
    """From the last frame of a run with the model as it is: drift and fluctuation of the total energy."""
    timestep = read_config(CONFIG, LearnFile).dynamics.timestep_fs
    atoms = ase.io.read(next(folder.glob("trajectory*.xyz")), index=-1)
    atoms.calc = mlpot.MlpotCalculator(folder / "model.h5")
    dynamics, energies, expected = VelocityVerlet(atoms, timestep * FEMTOSECOND), [], []
    for _ in range(steps // INTERVAL):
        dynamics.run(INTERVAL)
        energies.append(atoms.get_total_energy() / len(atoms))
        expected.append(np.sqrt(np.mean(atoms.calc.uncertainty["forces_std"] ** 2)))
    time_ps = np.arange(1, len(energies) + 1) * INTERVAL * timestep * 1e-3
    slope, offset = np.polyfit(time_ps, energies, 1)
    left = np.std(energies - (slope * time_ps + offset))
    print(
        f"{time_ps[-1]:.1f} ps NVE: drift {1e6 * slope:.2f} ueV/atom/ps, fluctuation {1e6 * left:.1f} ueV/atom, temperature "
        f"{atoms.get_temperature():.0f} K, expected force error {np.mean(expected):.3f} eV/A (RMS), {max(expected):.3f} at most"
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("direct")
    one.add_argument("-o", "--output", type=Path, default=Path("direct.xyz"))
    other = commands.add_parser("tail")
    other.add_argument("folder", type=Path)
    for command in (one, other):
        command.add_argument("--steps", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.command == "direct":
        direct(arguments.output, arguments.steps)
    else:
        tail(arguments.folder, arguments.steps)


if __name__ == "__main__":
    main()
