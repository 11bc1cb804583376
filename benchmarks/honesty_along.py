"""Rules of `mlpot learn` on trajectories of the reference itself: `honesty.py` at a fifth of its price, for comparing variants.

    OMP_NUM_THREADS=1 python benchmarks/honesty_along.py [--systems "CuAu,AlNi"] [--seeds 2] [--folder runs/honesty_along]

The atoms are moved by the reference, once; its frames are kept in the folder. Then the learner sees every fifth step, decides, and
gets its labels from these frames. What is left out: the dynamics of a wrong model, and the four steps between two looks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.nptberendsen import NPTBerendsen
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from honesty import names_among, slug
from honesty_judge import Claim, claim_of, summary
from honesty_systems import CHEAP, SYSTEMS, System

from mlpot.learning.learner import Learner
from mlpot.learning.policy import CHOSEN_REASONS, Use
from mlpot.learning.step_counters import StepCounters
from mlpot.settings.fit import FitConfig
from mlpot.settings.learning import Rules

EVERY = 5
BAD, LEAST, MOST = 0.05, 0.5, 0.9
"""Bounds of the parts of frames beyond, and of the part of components within one deviation."""


def trajectory(system: System, seed: int, file: Path) -> list[Atoms]:
    """Frames of the reference's own dynamics, from the file if it is there."""
    if not file.exists():
        atoms, rng, steps = system.make(), np.random.default_rng(100 + seed), np.arange(0, system.steps + 1, EVERY)
        atoms.set_constraint()
        atoms.info.clear()
        atoms.calc = system.reference.make()
        corners = np.atleast_1d(np.asarray(system.temperature_K, float))
        temperatures = np.interp(steps / system.steps, np.linspace(0, 1, len(corners)), corners)
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperatures[0], rng=rng)
        dynamics = thermostat(atoms, system.ensemble, temperatures[0], rng)
        frames = [frozen(atoms, 0)]
        for step, temperature in zip(steps[1:], temperatures[1:], strict=True):
            dynamics.set_temperature(temperature_K=temperature)
            dynamics.run(EVERY)
            frames.append(frozen(atoms, int(step)))
        ase.io.write(file, frames, format="extxyz")
    return ase.io.read(file, ":")


def thermostat(atoms: Atoms, ensemble: str, temperature: float, rng: np.random.Generator) -> Langevin | NPTBerendsen:
    """Dynamics with the time constants of the template."""
    if ensemble == "nvt":
        return Langevin(atoms, units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng)
    return NPTBerendsen(
        atoms, units.fs, temperature_K=temperature, pressure_au=0.0, taut=100 * units.fs, taup=1000 * units.fs,
        compressibility_au=1 / (140 * units.GPa),
    )  # fmt: skip


def frozen(atoms: Atoms, step: int) -> Atoms:
    """A copy with the present results attached."""
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.all():
        results["stress"] = atoms.get_stress()
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info={"step": step})
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def learned_along(frames: Sequence[Atoms], use: Use) -> tuple[list[Claim], int]:
    """What was said of the frames that were not labelled, and the number of labels."""
    learner = Learner(FitConfig(), tuple(sorted(set(frames[0].numbers.tolist()))), Rules(min_interval=100))
    learner.begin([], [])
    counters, claims = StepCounters(), []
    for frame in frames:
        counters.step = frame.info["step"]
        prediction = learner.fitted_model.predict(frame, uncertainty=True) if learner.n_labels else None
        decision = learner.decide(prediction, frame, counters, 0, use)
        if decision.action in ("label", "queue"):
            learner.n_asked += 1
            prior = None if prediction is None else learner.prior(prediction)
            outcome = learner.learn(frame, prior, decision.reason in CHOSEN_REASONS)
            learner.checked(outcome, decision.reason == "check")
            counters.last_label = counters.step
            if decision.action == "queue":
                counters.last_check = counters.step
        elif prediction is not None:
            said = {"forces": prediction.forces, "forces_std": prediction.forces_std, "energy": prediction.energy}
            claims.append(claim_of(said, frame, counters.step))
    return claims, learner.n_labels


def row(name: str, seed: int, found: dict, labels: int) -> str:
    """A line of the table."""
    within = ", ".join(f"{symbol} {share:.2f}" for symbol, share in found["coverage_1"].items())
    errors = f"{found['rms']:.3f} | {found['rms_said']:.3f} | {found['beyond_twice']:.3f} | {found['worst_beyond_3']:.3f}"
    return f"| {name} | {seed} | {labels} | {errors} | {within} |"


def main() -> None:
    """Learn along all trajectories, print the table and what it comes to."""
    cheap = {name: system for name, system in SYSTEMS.items() if system.reference is CHEAP}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=names_among(cheap), default=list(cheap), metavar="A,B", help=", ".join(cheap))
    parser.add_argument("--seeds", type=int, default=2, help="trajectories of each system")
    parser.add_argument("--folder", type=Path, default=Path("runs/honesty_along"), help="for the trajectories")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    all_found: list[dict] = []
    print("| system | seed | labels | RMS | said | > 2 x said | worst > 3 sigma | 1 sigma |\n|" + "---|" * 8)
    for seed in range(options.seeds):
        for name in options.systems:
            system = cheap[name]
            frames = trajectory(system, seed, options.folder / f"{slug(name)}-{seed}.xyz")
            claims, labels = learned_along(frames, Use(stress=system.ensemble == "npt"))
            found = summary([claim for claim in claims if claim.step >= system.steps / 10], system.steps / 2)
            all_found.append(found)
            print(row(name, seed, found, labels), flush=True)
    print(total(all_found))


def total(found: Sequence[dict]) -> str:
    """Parts of frames beyond, averaged over runs; runs within both bounds; elements outside of theirs."""
    beyond, worst = (np.array([one[key] for one in found]) for key in ("beyond_twice", "worst_beyond_3"))
    shares = [share for one in found for share in one["coverage_1"].values()]
    outside = sum(not LEAST <= share <= MOST for share in shares)
    return (
        f"\n{len(found)} runs: > 2 x said {beyond.mean():.4f}, worst > 3 sigma {worst.mean():.4f}, at most {BAD:g} of both in "
        f"{np.sum((beyond <= BAD) & (worst <= BAD))}; {outside} of {len(shares)} elements within one deviation in less than "
        f"{LEAST:g} or more than {MOST:g}"
    )


if __name__ == "__main__":
    main()
