"""A silicon surface of more than 2000 atoms learns in LAMMPS from small blocks, and is judged on fresh ones.

    OMP_NUM_THREADS=1 python benchmarks/lammps_surface.py [--cells 12] [--steps 1500] [--cuts 12] [--folder runs/surface]

`cells` x `cells` x 2 cubic cells of silicon between two (001) surfaces are heated from 300 to 900 K in LAMMPS. Labels come from
GFN1-xTB on blocks of the size `[labeller] cluster`, since the whole is too large for it. Then blocks around random atoms of frames
of the second half are cut out and calculated afresh: what the model's forces on all of their atoms are off by, what it said of
that, and likewise for blocks around the least certain atoms.
"""

import argparse
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.db import connect
from tblite.ase import TBLite

import mlpot
from mlpot.lammps.cutouts import block_around

SMEARING = 2000.0
"""Electronic temperature, K: unpaired bonds of a hot surface are hardly ever converged at 300 K."""
CONFIG = """
[dynamics]
engine = "lammps"
input = "{folder}/in.lammps"
[model]
preset = "balanced"
[labeller]
calculator = "tblite.ase.TBLite"
cluster = {edge}
[labeller.parameters]
method = "GFN1-xTB"
verbosity = 0
electronic_temperature = {smearing}
[learning]
target = {target}
[output]
folder = "{folder}/run"
interval = 20
"""
INPUT = """
units metal
boundary p p f
lattice diamond 5.43
region all block 0 {cells} 0 {cells} -1.5 3.5
region slab block 0 {cells} 0 {cells} 0 1.99
create_box 1 all
create_atoms 1 region slab
mass 1 28.0855
pair_style mlpot
pair_coeff * * si.mlpot Si
velocity all create 600 4928 mom yes rot no
fix move all nvt temp 300 900 0.1
thermo 100
timestep 0.001
run {steps}
"""


def judged(model, blocks: list[Atoms]) -> dict[str, float]:
    """Number of blocks that were calculated, root mean squares of force errors and of what was expected, and coverage."""
    errors, deviations = [], []
    for block in blocks:
        said = model.predict(block, uncertainty=True)
        block.calc = TBLite(method="GFN1-xTB", verbosity=0, electronic_temperature=SMEARING)
        with suppress(CalculationFailed):  # a block that does not converge has no label in a run either
            errors.append(said.forces - block.get_forces())
            deviations.append(said.forces_std)
    error, deviation = np.concatenate(errors), np.concatenate(deviations)
    rms = [float(np.sqrt(np.mean(x**2))) for x in (error, deviation)]
    return {"blocks": len(errors), "rms": rms[0], "said": rms[1], "within one deviation": float(np.mean(np.abs(error) <= deviation))}


def cuts(frames: list[Atoms], edge: float, n: int, rng: np.random.Generator, least_certain: bool) -> list[Atoms]:
    """Blocks out of random frames, around random atoms or the least certain one."""
    found = []
    for k in rng.choice(len(frames), n, replace=n > len(frames)):
        atoms = frames[k]
        centre = int(np.argmax(np.sum(atoms.arrays["forces_std"] ** 2, axis=1))) if least_certain else rng.integers(len(atoms))
        found.append(block_around(atoms, int(centre), edge)[0])
    return found


def main() -> None:
    """Run, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--cuts", type=int, default=12, help="fresh blocks of each kind")
    parser.add_argument("--edge", type=float, default=10.8, help="of a block, A")
    parser.add_argument("--target", type=float, default=0.15, help="force error, eV/A")
    parser.add_argument("--folder", type=Path, default=Path("runs/surface"))
    given = parser.parse_args()
    folder = given.folder.absolute()
    if not (folder / "run" / "state.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "in.lammps").write_text(INPUT.format(cells=given.cells, steps=given.steps))
        (folder / "learn.toml").write_text(CONFIG.format(folder=folder, edge=given.edge, target=given.target, smearing=SMEARING))
        subprocess.run([sys.executable, "-m", "mlpot", "learn", str(folder / "learn.toml")], check=True)
    run = folder / "run"
    state = json.loads((run / "state.json").read_text())
    frames = [atoms for file in sorted(run.glob("trajectory*.xyz")) for atoms in ase.io.iread(file)]
    late = [atoms for atoms in frames if atoms.info["step"] >= given.steps // 2]
    labels = [row.natoms for row in connect(run / "labels.db").select()]
    print(f"{len(frames[0])} atoms, {state['status']}, {state['verdict']}; {len(labels)} labels of {min(labels)} to {max(labels)}")
    model, rng = mlpot.load_model(run / "model.h5"), np.random.default_rng(0)
    for name, is_worst in (("around random atoms", False), ("around the least certain atom", True)):
        found = judged(model, cuts(late, given.edge, given.cuts, rng, is_worst))
        print(f"fresh blocks {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
