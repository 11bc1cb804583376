"""Liquid water with nuclear quantum effects: ring polymers in i-PI whose forces are learned from GFN1-xTB while they move.

    python examples/tutorials/water.py [FOLDER] [STEPS]

Eight molecules with eight beads each. `mlpot template ipi` writes the inputs, i-PI moves the atoms, `mlpot driver` answers it and
asks for labels. The picture compares the O-H distances of the beads, which are quantum mechanical, with those of their centroids.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import ase.io
import matplotlib.pyplot as plt
import numpy as np

START = Path(__file__).resolve().parents[2] / "inputs" / "water8.xyz"
BEADS = 8


def simulate(folder, steps):
    """Run i-PI and the driver side by side until i-PI has made its steps."""
    command = ["mlpot", "template", "ipi", START, "--beads", str(BEADS), "--temperature", "300", "--output", folder]
    subprocess.run(command, check=True)
    file = folder / "input.xml"
    text = re.sub(r"<total_steps>.*?</total_steps>", f"<total_steps>{steps}</total_steps>", file.read_text())
    file.write_text(text)
    file = folder / "learn.toml"
    file.write_text(re.sub(r"(?m)^interval = \d+", "interval = 2", file.read_text()))
    with open(folder / "i-pi.log", "w") as log:
        server = subprocess.Popen(["i-pi", "input.xml"], cwd=folder, stdout=log, stderr=log)
        try:
            subprocess.run(["mlpot", "driver", "learn.toml"], cwd=folder, check=True)
        finally:
            server.wait(60)


def bonds(atoms):
    """Distance of every hydrogen atom from the nearest oxygen atom, A."""
    oxygen, hydrogen = (np.flatnonzero(atoms.numbers == z) for z in (8, 1))
    return [atoms.get_distances(h, oxygen, mic=True).min() for h in hydrogen]


def main(folder, steps=200):
    """Simulate and draw; returns the standard deviations of O-H distances of beads and of centroids, A."""
    simulate(folder, steps)
    (trajectory,) = folder.glob("**/trajectory.xyz")
    steps_of = defaultdict(list)
    for atoms in ase.io.read(trajectory, ":"):
        steps_of[atoms.info["step"]].append(atoms)
    groups = [group for group in steps_of.values() if len(group) == BEADS]
    groups = groups[len(groups) // 4 :]
    beads, centroids = [], []
    for group in groups:
        beads += [distance for atoms in group for distance in bonds(atoms)]
        centroid = group[0].copy()
        centroid.positions = np.mean([atoms.positions for atoms in group], axis=0)
        centroids += bonds(centroid)
    figure, axes = plt.subplots(figsize=(4.5, 2.6), layout="constrained")
    for values, label in ((beads, "beads"), (centroids, "centroids")):
        axes.hist(values, np.linspace(0.8, 1.3, 51), density=True, histtype="step", label=label)
    axes.set(xlabel="O-H distance / Å", ylabel="probability density / Å$^{-1}$")
    axes.legend()
    figure.savefig(folder / "water.png", dpi=80)
    return float(np.std(beads)), float(np.std(centroids))


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "water")
    print("standard deviations of O-H distances, beads and centroids:", main(where, int(sys.argv[2]) if len(sys.argv) > 2 else 200))
