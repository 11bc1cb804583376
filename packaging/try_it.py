"""The first learning run of an installed mlpot, with nothing but its dependencies: `python packaging/try_it.py`.

Copper is heated for 40 steps while it learns from EMT; the model that comes out must agree with EMT on the last structure. Used by
`.ci/package`, by cibuildwheel for every wheel, and by the conda recipe.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlpot._ext.core
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

import mlpot

CONFIG = """\
[structure]
file = "start.xyz"
[dynamics]
temperature_K = [300, 600]
timestep_fs = 2.0
steps = 40
[labeller]
calculator = "ase.calculators.emt.EMT"
[model]
preset = "fast"
cutoff = 4.5
[output]
folder = "run"
"""


def main():
    """Learn, and compare; raises if anything is wrong."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "start.xyz"), bulk("Cu", cubic=True).repeat((2, 1, 1)))
        Path(folder, "learn.toml").write_text(CONFIG)
        command = [sys.executable, "-m", "mlpot", "learn", "learn.toml"]
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "MPLBACKEND": "Agg"})
        atoms = read(Path(folder, "run", "trajectory.xyz"))
        model = mlpot.load_model(Path(folder, "run", "model.h5"))
        predicted = model.predict(atoms, uncertainty=True)
    atoms.calc = EMT()
    error = float(np.sqrt(np.mean((predicted.forces - atoms.get_forces()) ** 2)))
    print(f"mlpot {mlpot.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}, {mlpot._ext.core.__file__}")
    print(f"first learning run: {time.perf_counter() - started:.1f} s; RMS force error {error:.3f} eV/A")
    if not error < 0.5:
        raise SystemExit("the forces of the model are not EMT's")


if __name__ == "__main__":
    main()
