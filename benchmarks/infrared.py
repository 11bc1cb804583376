"""Infrared spectrum of water, energy and dipole learned while running, beside direct dynamics of the labeller, in one run.

    python benchmarks/infrared.py [--start water8.xyz] [--steps 8000] [--resolution 40]

Both move at constant energy, from the same positions and velocities after a start that learns (a fifth of the steps), with GFN1-xTB
of tblite, 0.5 fs. Without --start one molecule. Printed are the peaks of both spectra, their integrals, and labels.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from tblite.ase import TBLite

import mlpot
from mlpot.analysis.spectra import Derivatives, Spectrum, difference, infrared, windows_for
from mlpot.analysis.trajectories import Track, derivatives_of
from mlpot.settings.learning import Rules

TIMESTEP, EVERY, TEMPERATURE = 0.5, 2, 300.0
TARGETS = [{"name": "dipole", "terms": [{"cutoff": 2.5}, {"cutoff": 4.5}]}]


def labeller() -> TBLite:
    """The method of labels and of direct dynamics."""
    return TBLite(method="GFN1-xTB", verbosity=0)


def moved(atoms: Atoms, steps: int) -> list[Atoms]:
    """Frames of dynamics at constant energy."""
    frames, dynamics = [], VelocityVerlet(atoms, TIMESTEP * units.fs)
    dynamics.attach(lambda: frames.append(atoms.copy()), interval=EVERY)
    dynamics.run(steps)
    return frames


def direct(atoms: Atoms, steps: int) -> np.ndarray:
    """Dipoles of the labeller along its own dynamics."""
    dipoles, dynamics = [], VelocityVerlet(atoms, TIMESTEP * units.fs)
    dynamics.attach(lambda: dipoles.append(atoms.get_dipole_moment()), interval=EVERY)
    dynamics.run(steps)
    return np.array(dipoles)


def said(name: str, spectrum: Spectrum, seconds: float) -> None:
    """A row of the table."""
    peaks = ", ".join(f"{at:.1f}" for at in spectrum.peaks(0.01))
    print(f"{name}: {seconds:.0f} s; integral {spectrum.integral:.1f} km/mol; peaks at {peaks} 1/cm")


def main() -> None:
    """Both spectra."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", help="structure file; one molecule by default")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--resolution", type=float, default=None, help="1/cm")
    given = parser.parse_args()

    atoms = read(given.start) if given.start else molecule("H2O")
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * TEMPERATURE, rng=np.random.default_rng(0))
    Stationary(atoms)
    interval = TIMESTEP * EVERY
    windows = windows_for([given.steps // EVERY - 4], interval, given.resolution)
    began = time.perf_counter()
    rules = Rules(target=0.05, min_interval=20)
    with tempfile.TemporaryDirectory() as folder:
        run, config = Path(folder) / "run", mlpot.FitConfig(preset="balanced", targets=TARGETS)
        with mlpot.LearningCalculator(run, labeller(), config=config, rules=rules, purpose="dynamics") as atoms.calc:
            moved(atoms, given.steps // 5)
            start = atoms.copy()
            frames = moved(atoms, given.steps)
            labels = atoms.calc.learner.n_labels
        model = mlpot.load_model(run / "model.h5").targets["dipole"]
    rates = derivatives_of(model, Track("learned", [frames], interval, None), True, lambda k, n: None)
    said(f"learned, {labels} labels", infrared([rates], windows, TEMPERATURE), time.perf_counter() - began)
    began = time.perf_counter()
    start.calc = labeller()
    x = difference(direct(start, given.steps), interval)
    reference = Derivatives(x, np.empty((0, *x.shape)), by_differences=True)
    said("direct", infrared([reference], windows, TEMPERATURE), time.perf_counter() - began)


if __name__ == "__main__":
    main()
