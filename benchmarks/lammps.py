"""LAMMPS with pair_style mlpot beside snap and sw, and beside the ASE calculator: time, ranks, memory, a million atoms.

    python benchmarks/lammps.py [--cells 8] [--large 16] [--million] [--preset balanced]

All numbers are of one run on this machine: processor time per atom and step of dynamics with forces and virial (LAMMPS' own loop
times the share of the processor that it had; of the ASE calculator energy, forces and stress on moving atoms), best of `--repeats`.
`--cells 8` is 4096 atoms, `--large 16` is 32 768. With `--million` 10^6 atoms make 100 steps.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

import mlpot
from mlpot.bench import training_frames
from mlpot.lammps.build import plugin_of_wheel
from mlpot.lammps.installations import mpi_library
from mlpot.lammps.process import wheel_command

LATTICE = 5.43
SW = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4.0 0.0 0.0\n"
"""Stillinger and Weber's silicon, 10.1103/PhysRevB.31.5262, as LAMMPS reads it."""
N_BISPECTRUM = 55
"""Components for 2J = 8."""


def write_potentials(folder: Path, preset: str) -> float:
    """Files of the three potentials; the cutoff of mlpot's, A."""
    model = mlpot.fit(training_frames(), mlpot.FitConfig(preset=preset, check_labels=False))
    model.export_core(folder / "si.mlpot")
    model.save(folder / "si.h5")
    (folder / "si.sw").write_text(SW)
    (folder / "snapcoeff").write_text(f"# any\n1 {N_BISPECTRUM + 1}\nSi 0.5 1.0\n" + "0.0\n" * (N_BISPECTRUM + 1))
    (folder / "snapparam").write_text("rcutfac 4.9\ntwojmax 8\nrfac0 0.99363\nrmin0 0.0\nbzeroflag 0\nquadraticflag 0\n")
    return model.cutoff


STYLES = {
    "mlpot": ("pair_style mlpot", "pair_coeff * * si.mlpot Si"),
    "mlpot, uncertainty": ("pair_style mlpot uncertainty yes", "pair_coeff * * si.mlpot Si"),
    "snap": ("pair_style snap", "pair_coeff * * snapcoeff snapparam Si"),
    "sw": ("pair_style sw", "pair_coeff * * si.sw Si"),
}


def lammps(folder: Path, style: str, cells: int, steps: int, ranks: int = 1) -> tuple[float, float]:
    """us per atom and step of each rank's processor, and memory of all ranks in kB per atom."""
    lines = [
        f"plugin load {plugin_of_wheel()}", "units metal", f"lattice diamond {LATTICE}",
        f"region box block 0 {cells} 0 {cells} 0 {cells}", "create_box 1 box", "create_atoms 1 box", "mass 1 28.0855",
        *STYLES[style], "velocity all create 300 1", "fix n all nve",
        "thermo_style custom step pe press", f"thermo {steps}", "timestep 0.001", "run 0 post no", f"run {steps}",
    ]  # fmt: skip
    (folder / "in.bench").write_text("\n".join(lines) + "\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if (library := mpi_library()) is not None:
        environment["LD_LIBRARY_PATH"] = str(library.parent)
    command = [*wheel_command(ranks), "-in", "in.bench", "-log", "none"]
    watched = [sys.executable, "-c", WATCH, *command]
    done = subprocess.run(watched, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    loops = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms", done.stdout)
    seconds, n_steps, n_atoms = loops[-1]
    share = float(re.findall(r"(\S+)% CPU use", done.stdout)[-1]) / 100
    kilobytes = float(re.findall(r"largest (\d+)", done.stdout)[-1]) * ranks
    return 1e6 * share * float(seconds) / int(n_steps) / int(n_atoms), kilobytes / int(n_atoms)


WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print("largest", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""Reports the memory of the largest process that a command has started, kB."""


def calculator(folder: Path, cells: int, steps: int, uncertainty: bool) -> float:
    """us per atom and step of the ASE calculator, on atoms that move as in dynamics."""
    atoms: Atoms = bulk("Si", cubic=True, a=LATTICE).repeat((cells, cells, cells))
    atoms.calc = mlpot.MlpotCalculator(folder / "si.h5", uncertainty=uncertainty)
    rng = np.random.default_rng(0)
    atoms.get_forces()
    velocity = 0.003 * rng.normal(size=(len(atoms), 3))
    started = time.process_time()
    for _ in range(steps):
        atoms.positions += velocity
        atoms.get_forces()
        atoms.get_stress()
    return 1e6 * (time.process_time() - started) / steps / len(atoms)


def communication_model(us_per_atom: float, cutoff: float, skin: float = 2.0) -> list[str]:
    """Weak scaling with n atoms per rank: ghosts in a shell of cutoff + skin, 48 bytes each and step, 10 GB/s and 2 us a message."""
    rows = ["| atoms per rank | ghosts per atom | communication, us/step | share of the step |", "|---|---|---|---|"]
    density = 8 / LATTICE**3
    for n in (250, 1000, 4000, 32000, 250000):
        edge = (n / density) ** (1 / 3)
        ghosts = density * ((edge + 2 * (cutoff + skin)) ** 3 - edge**3)
        micro = 12 * 2.0 + ghosts * 48 / 10e3
        rows.append(f"| {n} | {ghosts / n:.2f} | {micro:.0f} | {micro / (micro + n * us_per_atom):.1%} |")
    return rows


def best(action, repeats: int):
    """The smallest result of several."""
    return min(action() for _ in range(repeats))


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--large", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--million", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cutoff = write_potentials(folder, given.preset)
        n_atoms = 8 * given.cells**3
        print(f"preset {given.preset}, cutoff {cutoff:g} A, {n_atoms} atoms, one rank\n\n| what | us/atom | kB/atom |\n|---|---|---|")
        own = [best(lambda u=u: calculator(folder, given.cells, given.steps // 2, u), given.repeats) for u in (False, True)]
        times = {style: best(lambda s=style: lammps(folder, s, given.cells, given.steps), given.repeats) for style in STYLES}
        print(f"| ASE calculator | {own[0]:.2f} | |\n| ASE calculator, uncertainty | {own[1]:.2f} | |")
        for style, (us, memory) in times.items():
            print(f"| {style} | {us:.2f} | {memory:.1f} |")
        ratios = [times[style][0] / us for style, us in zip(("mlpot", "mlpot, uncertainty"), own, strict=True)]
        print(f"\nLAMMPS / ASE: {ratios[0]:.3f}, with uncertainty {ratios[1]:.3f}\n")
        large = {ranks: best(lambda r=ranks: lammps(folder, "mlpot", given.large, 4, r), 2) for ranks in (1, 2)}
        n_large, one, two = 8 * given.large**3, large[1][0], large[2][0]
        print(f"{n_large} atoms: 1 rank {one:.2f} us/atom, 2 ranks {two:.2f}: {one / two:.2f} x")
        print(f"memory: {large[1][1]:.2f} kB/atom on 1 rank, {large[2][1]:.2f} on 2, program and model included\n")
        print("\n".join(communication_model(times["mlpot"][0], cutoff)))
        if given.million:
            us, memory = lammps(folder, "mlpot", 50, 100)
            print(f"\n{8 * 50**3} atoms: {us:.2f} us/atom, {memory:.2f} kB/atom, {memory * 8 * 50**3 / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
