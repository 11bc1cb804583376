"""Infrared spectrum of eight water molecules in i-PI, energy and dipole learned while running, beside dynamics of the labeller.

    python benchmarks/ir_water.py WORK [--equilibrate 12000] [--steps 40000] [--resolution 60] [--periodic]

A cluster of the molecules of inputs/ipi/water8.xyz (or with --periodic the cell itself) is thermostatted at 300 K by i-PI with
inputs/ipi/learn_ir.xml while `mlpot driver` learns, then moves at constant energy with nve_ir.xml, learning on. Direct dynamics of
GFN1-xTB starts from the same positions and velocities and takes as many steps of the same length. Printed are, for the bands of
bending and stretching, the centre of gravity and the highest point of both spectra, with standard errors by leaving out one part of
each trajectory after the other; and the same for short dynamics of both from common states of the learned trajectory. `--only` makes
one of the parts, from what is in WORK.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ase.db
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from tblite.ase import TBLite

import mlpot
from mlpot.analysis.spectra import PER_CM, Derivatives, difference, infrared, windows_for
from mlpot.analysis.trajectories import Track, derivatives_of, tracks_of

INPUTS = Path(__file__).parents[1] / "inputs" / "ipi"
TIMESTEP, EVERY = 0.5, 2
BANDS = {"bending": (1200.0, 2000.0), "stretching": (2500.0, 4300.0)}
SHORT = 400
"""Steps from a common state."""
PARTS = 6
"""Parts of a trajectory that are left out in turn."""
VACUUM = 40.0
"""Edge of the box of the cluster, A; not periodic."""
ATOMIC_TIME = units._aut * units.second
"""In ASE's unit of time."""


def cluster(atoms: Atoms) -> Atoms:
    """Whole molecules in a box of vacuum, without periodic boundaries."""
    whole = atoms.copy()
    for first in range(0, len(atoms), 3):
        assert atoms.get_chemical_symbols()[first : first + 3] == ["O", "H", "H"], "molecules must come one after the other"
        for hydrogen in (first + 1, first + 2):
            whole.positions[hydrogen] = whole.positions[first] + atoms.get_distance(first, hydrogen, mic=True, vector=True)
    whole.set_cell([VACUUM] * 3)
    whole.center()
    whole.pbc = False
    return whole


def simulate(work: Path, name: str, steps: int, resume: bool) -> None:
    """i-PI with an input of the folder, and the driver that learns."""
    text = (INPUTS / f"{name}.xml").read_text()
    (work / f"{name}.xml").write_text(re.sub(r"<total_steps>\d+<", f"<total_steps>{steps}<", text))
    server = [str(Path(sys.executable).with_name("i-pi")), f"{name}.xml"]
    driver = [sys.executable, "-m", "mlpot", "driver", "learn_ir.toml", *(["--resume"] if resume else [])]
    with open(work / f"{name}.log", "w") as log:
        processes = [subprocess.Popen(words, cwd=work, stdout=log, stderr=subprocess.STDOUT) for words in (server, driver)]
        try:
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
    if any(codes):
        raise SystemExit(f"{name}: exit codes of i-PI and the driver {codes}; see {log.name}")


def state(work: Path, atoms: Atoms) -> Atoms:
    """Where the thermostatted part ended, with velocities."""
    beads = ElementTree.parse(work / "learn_ir.chk").find(".//beads")
    q, p = (np.array(beads.find(key).text.strip(" []\n").replace(",", " ").split(), float).reshape(-1, 3) for key in "qp")
    masses = np.array(beads.find("m").text.strip(" []\n").replace(",", " ").split(), float)[:, None]
    found = atoms.copy()
    if found.pbc.any():  # i-PI's places are not wrapped, and its cell is the one of the file
        assert np.allclose(found.cell.array, np.tril(found.cell.array))
    found.positions = q * units.Bohr
    found.set_velocities(p / masses * units.Bohr / ATOMIC_TIME)
    return found


def direct(work: Path, start: Atoms, steps: int) -> None:
    """Dipoles along dynamics of the labeller, e A, into direct.npz, with temperatures."""
    atoms, dipoles, kelvin = start.copy(), [], []
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
    dynamics, began = VelocityVerlet(atoms, TIMESTEP * units.fs), time.perf_counter()

    def keep() -> None:
        dipoles.append(atoms.get_dipole_moment())
        kelvin.append(atoms.get_temperature())
        if len(dipoles) % 1000 == 0:
            np.savez(work / "direct.npz", dipoles=dipoles, kelvin=kelvin, seconds=time.perf_counter() - began)

    dynamics.attach(keep, interval=EVERY)
    dynamics.run(steps)
    np.savez(work / "direct.npz", dipoles=dipoles, kelvin=kelvin, seconds=time.perf_counter() - began)


def positions_of(rates: np.ndarray, resolution: float, by_differences: bool) -> dict[str, np.ndarray]:
    """Centre of gravity and highest point of each band, 1/cm."""
    pieces = [Derivatives(part, np.empty((0, *part.shape)), by_differences) for part in rates]
    windows = windows_for([len(part) for part in rates], TIMESTEP * EVERY, resolution)
    spectrum, found = infrared(pieces, windows, 300.0), {}
    for band, (low, high) in BANDS.items():
        here = (spectrum.wavenumbers > low) & (spectrum.wavenumbers < high)
        nu, values = spectrum.wavenumbers[here], spectrum.values[here]
        top = [at for at in spectrum.peaks(0.0) if low < at < high]
        highest = max(top, key=lambda at: np.interp(at, nu, values))
        found[band] = np.array([nu @ values / values.sum(), highest])
    return found


def said(name: str, rates: np.ndarray, resolution: float, by_differences: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Positions of the bands and their standard errors (jackknife over parts), printed."""
    parts = np.array_split(rates, PARTS)
    whole, out = positions_of(parts, resolution, by_differences), {}
    without = [positions_of(parts[:k] + parts[k + 1 :], resolution, by_differences) for k in range(PARTS)]
    for band, value in whole.items():
        each = np.array([own[band] for own in without])
        out[band] = value, np.sqrt((PARTS - 1) * each.var(axis=0))
        (a, b), (da, db) = out[band]
        print(f"{name}: {band}: centre of gravity {a:.1f} +- {da:.1f}, highest point {b:.1f} +- {db:.1f} 1/cm", flush=True)
    return out


def spectra(work: Path, resolution: float) -> None:
    """Both spectra, and how they differ."""
    kept = np.load(work / "direct.npz")
    before = int(re.search(r"<total_steps>(\d+)<", (work / "learn_ir.xml").read_text())[1])
    model = mlpot.load_model(work / "learn_ir" / "model.h5").targets["dipole"]
    (track,) = tracks_of(work / "learn_ir", TIMESTEP * EVERY)
    frames = [atoms for atoms in track.frames if atoms.info["step"] > before]  # those of nve_ir.xml
    n = min(len(frames), len(kept["dipoles"]))
    frames, dipoles = frames[:n], kept["dipoles"][:n]
    track = Track(track.name, [frames], track.timestep_fs, None)
    rates = derivatives_of(model, track, False, lambda k, n: None).values
    n_labels = ase.db.connect(work / "learn_ir" / "labels.db").count()
    print(
        f"{n} frames every {TIMESTEP * EVERY} fs of each, {n_labels} labels; direct: {kept['seconds']:.0f} s, "
        f"{kept['kelvin'].mean():.0f} K"
    )
    learned = said("learned", rates, resolution, True)
    reference = said("direct", difference(dipoles, TIMESTEP * EVERY), resolution, True)
    for band in BANDS:
        (a, da), (b, db) = learned[band], reference[band]
        what = ", ".join(f"{x:+.1f} +- {dx:.1f}" for x, dx in zip(a - b, np.hypot(da, db), strict=True))
        print(f"learned minus direct: {band}: {what} 1/cm")


def rates_along(atoms: Atoms, calculator: Calculator, steps: int) -> np.ndarray:
    """Time derivatives of dipoles along dynamics from a structure with velocities."""
    moving, dipoles = atoms.copy(), []
    moving.calc = calculator
    dynamics = VelocityVerlet(moving, TIMESTEP * units.fs)
    dynamics.attach(lambda: dipoles.append(moving.get_dipole_moment()), interval=EVERY)
    dynamics.run(steps)
    return difference(np.array(dipoles), TIMESTEP * EVERY)


def pairs(work: Path, n_starts: int) -> None:
    """Bands of short dynamics of model and labeller from the same states of the learned trajectory, whose differences are free of
    what the two long trajectories happened to visit."""
    (track,) = tracks_of(work / "learn_ir", TIMESTEP * EVERY)
    frames, both = track.frames, ([], [])
    for k in np.linspace(len(frames) // 3, len(frames) - 2, n_starts).astype(int).tolist():
        atoms = frames[k].copy()
        atoms.set_velocities((frames[k + 1].positions - frames[k - 1].positions) / (2 * TIMESTEP * EVERY * units.fs))
        models = mlpot.MlpotCalculator(work / "learn_ir" / "model.h5"), TBLite(method="GFN1-xTB", verbosity=0)
        for found, calculator in zip(both, models, strict=True):
            found.append(rates_along(atoms, calculator, SHORT))
    resolution = 1.45 * PER_CM / (len(both[0][0]) * TIMESTEP * EVERY)
    for band in BANDS:
        own = np.array([[positions_of([one], resolution, True)[band] for one in found] for found in both])
        shift = own[0] - own[1]
        mean, error = shift.mean(axis=0), shift.std(axis=0, ddof=1) / np.sqrt(len(shift))
        print(
            f"from {n_starts} common states, {SHORT * TIMESTEP:g} fs, learned minus direct: {band}: centre of gravity "
            f"{mean[0]:+.1f} +- {error[0]:.1f}, highest point {mean[1]:+.1f} +- {error[1]:.1f} 1/cm", flush=True,
        )  # fmt: skip


def main() -> None:
    """Simulations and spectra."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--equilibrate", type=int, default=12000)
    parser.add_argument("--steps", type=int, default=40000)
    parser.add_argument("--resolution", type=float, default=60.0, help="1/cm")
    parser.add_argument("--starts", type=int, default=16)
    parser.add_argument("--periodic", action="store_true")
    parser.add_argument("--only", choices=["start", "learned", "direct", "spectra", "pairs"])
    given = parser.parse_args()
    if given.only in (None, "start"):
        given.work.mkdir(parents=True)
        for file in INPUTS.iterdir():
            shutil.copy(file, given.work)
        if not given.periodic:
            write(given.work / "water8.xyz", cluster(read(INPUTS / "water8.xyz")))
        simulate(given.work, "learn_ir", given.equilibrate, resume=False)
    if given.only in (None, "learned"):
        began = time.perf_counter()
        simulate(given.work, "nve_ir", given.steps, resume=True)
        print(f"learned: {time.perf_counter() - began:.0f} s", flush=True)
    if given.only in (None, "direct"):
        direct(given.work, state(given.work, read(given.work / "water8.xyz")), given.steps)
    if given.only in (None, "spectra"):
        spectra(given.work, given.resolution)
    if given.only in (None, "pairs"):
        pairs(given.work, given.starts)


if __name__ == "__main__":
    main()
