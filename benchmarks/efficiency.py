"""How many labels does it take? Learning on the fly against random selection and a plain fixed threshold.

    python benchmarks/efficiency.py [--seeds 3] [--goal 0.1]

Silicon, 32 atoms, heated from 300 to 1200 K from nothing, with GFN1-xTB labels. For each seed: a run with the defaults; a run
that labels whenever the uncalibrated deviation of a force exceeds a fixed number, as other codes do, for several numbers; and
random frames of the first run's own trajectory. The models that the labels make one after the other are judged on frames of
a run that none of them has seen; what counts is the number of labels from which on the mean absolute force error stays below
the goal.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpot.config import LearnFile, learning_run, read_config
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.learning.learner import Learner
from mlpot.learning.policy import FIRST_SCALE, History
from mlpot.learning.store import LabelStore

CONFIG = """
[structure]
file = "inputs/si32.xyz"
[dynamics]
temperature_K = [300, 1200]
steps = {steps}
seed = {seed}
[labeller]
parameters = {{ method = "GFN1-xTB", verbosity = 0 }}
[learning]
threshold = {threshold}
max_labels = {most}
[output]
folder = "{folder}"
"""
ADAPTIVE = '"adaptive"'
FIXED = (0.02, 0.04)
"""eV/A, uncalibrated."""
TEST_FRAMES, TEST_SEED = 40, 1000


def learn(folder: Path, seed: int, steps: int, threshold: str | float, most: int) -> Path:
    """A run; its folder. A fixed threshold knows no calibration: the scale stays that of the beginning."""
    text = CONFIG.format(folder=folder, seed=seed, steps=steps, most=most, threshold=threshold)
    file = folder.with_suffix(".toml")
    file.write_text(text)
    with ExitStack() as stack:
        if threshold != ADAPTIVE:
            stack.enter_context(patch.object(History, "scale", FIRST_SCALE))
        stack.enter_context(learning_run(read_config(file, LearnFile), resume=False)).run()
    return folder


def frames_of(folder: Path, number: int, rng: np.random.Generator | None = None) -> list[Atoms]:
    """Predicted frames of a trajectory: evenly spaced, or at random."""
    frames = [a for a in ase.io.iread(folder / "trajectory.xyz") if not a.info["labelled"]]
    chosen = (
        np.linspace(0, len(frames) - 1, number).astype(int) if rng is None else rng.permutation(len(frames))[:number]
    )
    return [frames[k] for k in chosen]


def labelled(frames: list[Atoms]) -> Iterator[Atoms]:
    """The frames with labels."""
    labeller = CalculatorLabeller("tblite.ase.TBLite", {"method": "GFN1-xTB", "verbosity": 0})
    for frame in frames:
        label = labeller.label(frame)
        atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces, stress=label.stress)
        yield atoms


def curve(labels: Iterator[Atoms], config, test: list[Atoms], most: int) -> list[float]:
    """Mean absolute force error on the test frames after each label."""
    learner, errors = Learner(config, (14,)), []
    for atoms in labels:
        learner.learn(atoms, None)
        differences = [learner.model.predict(t).forces - t.get_forces() for t in test]
        errors.append(float(np.mean(np.abs(differences))))
        if len(errors) == most:
            break
    return errors


def needed(errors: list[float], goal: float) -> str:
    """Labels from which on the error stays below the goal."""
    above = [k for k, error in enumerate(errors, 1) if error > goal]
    last = above[-1] if above else 0
    return f"{last + 1}" if last < len(errors) else f"more than {len(errors)}"


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--goal", type=float, default=0.1, help="eV/A")
    parser.add_argument("--most", type=int, default=60, help="labels")
    arguments = parser.parse_args()
    steps, most, goal = arguments.steps, arguments.most, arguments.goal
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        judge = learn(scratch / "test", TEST_SEED, steps, ADAPTIVE, most)
        test = list(labelled(frames_of(judge, TEST_FRAMES)))
        for seed in range(arguments.seeds):
            own = learn(scratch / f"own{seed}", seed, steps, ADAPTIVE, most)
            config = read_config(own.with_suffix(".toml"), LearnFile).fit_config()
            report(f"seed {seed}: mlpot learn", curve(iter(LabelStore(own).frames()), config, test, most), goal)
            for value in FIXED:
                plain = learn(scratch / f"fixed{seed}_{value}", seed, steps, value * FIRST_SCALE, most)
                errors = curve(iter(LabelStore(plain).frames()), config, test, most)
                report(f"seed {seed}: fixed, {value} eV/A uncalibrated", errors, goal)
            rng = np.random.default_rng(seed)
            chosen = labelled(frames_of(own, most, rng))
            report(f"seed {seed}: random frames", curve(chosen, config, test, most), goal)


def report(name: str, errors: list[float], goal: float) -> None:
    """A row."""
    shown = " ".join(f"{error:.3f}" for error in errors[:: max(1, len(errors) // 12)])
    print(f"{name:44s} F MAE < {goal}: {needed(errors, goal):>13s} labels, {len(errors)} in all: {shown}", flush=True)


if __name__ == "__main__":
    main()
