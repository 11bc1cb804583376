"""How many labels does it take? Learning on the fly against random selection and plain fixed thresholds.

    python benchmarks/efficiency.py [--seeds 3] [--goal 0.1] [--campaigns held]

Silicon, 32 atoms, 300 to 1200 K, from nothing, with GFN1-xTB labels: as walkers at four temperatures that share a model; as one
simulation that is heated all the time; as one that is held at 300 K before it is heated, as people do. For each seed: a run with
the defaults; runs that label whenever the uncalibrated deviation of a force exceeds a fixed number, as other codes do; and random
frames of the first run's own trajectories, many times, with the start that any run has to label and, as they know all in
hindsight, without it. The models that the labels make one after the other are judged on frames of walkers at the four
temperatures that none of them has seen; what counts is the number of labels from which on the mean absolute force error stays
below the goal.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlpot.config import learning_run, read_config
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labels.store import LabelStore
from mlpot.learning.history import History
from mlpot.learning.learner import Learner
from mlpot.settings.files import LearnFile
from mlpot.settings.fit import FitConfig
from mlpot.uncertainty.calibration import UNCALIBRATED

CONFIG = """
[structure]
file = "inputs/si32.xyz"
[dynamics]
temperature_K = {temperatures}
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
FIXED = (0.01, 0.02, 0.04)
"""eV/A, uncalibrated."""
TEMPERATURES = (300, 600, 900, 1200)
WALKER = """
[[walkers]]
name = "at{temperature}"
temperature_K = {temperature}
seed = {seed}
"""
TEST_FRAMES, TEST_SEED = 40, 1000
POOL, DRAWS, LONGEST = 32, 12, 16
"""Random frames: labelled ones, orders in which they are drawn, labels that are looked at."""


@dataclass(frozen=True)
class Campaign:
    """What is simulated."""

    name: str
    steps: int
    temperatures: str
    walkers: tuple[int, ...] = ()

    def configuration(self, folder: Path, seed: int, threshold: str | float, most: int) -> str:
        """The TOML of a run."""
        text = CONFIG.format(
            folder=folder, seed=seed, steps=self.steps, most=most, threshold=threshold, temperatures=self.temperatures
        )
        seeds = range(len(self.walkers) * seed, len(self.walkers) * (seed + 1))
        return text + "".join(WALKER.format(temperature=t, seed=s) for t, s in zip(self.walkers, seeds, strict=True))


HEATED, HELD = "[300, 1200]", "[300, 300, 300, 300, 300, 1200]"
"""Straight lines of equal length."""
CAMPAIGNS = (
    Campaign("four temperatures", 500, "300", TEMPERATURES),
    Campaign("heated", 2000, HEATED),
    Campaign("held", 5000, HELD),
)


def learn(campaign: Campaign, folder: Path, seed: int, threshold: str | float, most: int) -> Path:
    """A run; its folder. A fixed threshold is used with the model's own deviations."""
    file = folder.with_suffix(".toml")
    file.write_text(campaign.configuration(folder, seed, threshold, most))
    with ExitStack() as stack:
        if threshold != ADAPTIVE:
            stack.enter_context(patch.object(History, "calibration", lambda self, structures: UNCALIBRATED))
        stack.enter_context(learning_run(read_config(file, LearnFile), resume=False)).run()
    return folder


def frames_of(folder: Path, number: int, rng: np.random.Generator | None = None) -> list[Atoms]:
    """Predicted frames of the trajectories: evenly spaced, or at random."""
    frames = [a for file in sorted(folder.glob("*.xyz")) for a in ase.io.iread(file) if not a.info["labelled"]]
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


def curve(labels: list[Atoms], config: FitConfig, test: list[Atoms]) -> list[float]:
    """Mean absolute force error on the test frames after each label."""
    learner, errors = Learner(config, (14,)), []
    for atoms in labels[:LONGEST]:
        learner.learn(atoms, None)
        differences = [learner.model.predict(t).forces - t.get_forces() for t in test]
        errors.append(float(np.mean(np.abs(differences))))
    return errors


def needed(errors: list[float], goal: float) -> int:
    """Labels from which on the error stays below the goal; one more than there are when it does not."""
    return max((k for k, error in enumerate(errors, 1) if error > goal), default=0) + 1


def judges(scratch: Path, most: int) -> list[Atoms]:
    """Labelled frames of walkers at all temperatures."""
    campaign = Campaign("judge", 500, "300", TEMPERATURES)
    return list(labelled(frames_of(learn(campaign, scratch / "test", TEST_SEED, ADAPTIVE, most), TEST_FRAMES)))


def compare(campaign: Campaign, scratch: Path, seeds: int, most: int, goal: float) -> None:
    """All strategies for all seeds of a campaign."""
    test = judges(scratch, most)
    for seed in range(seeds):
        name = f"{campaign.name}, seed {seed}: "
        own = learn(campaign, scratch / f"own{seed}", seed, ADAPTIVE, most)
        config = read_config(own.with_suffix(".toml"), LearnFile).fit_config()
        labels = LabelStore(own).frames()
        report(name + "mlpot learn", [curve(labels, config, test)], goal)
        for value in FIXED:
            plain = learn(campaign, scratch / f"fixed{seed}_{value}", seed, value, most)
            errors = curve(LabelStore(plain).frames(), config, test)
            report(name + f"fixed, {value} eV/A uncalibrated", [errors], goal)
        rng = np.random.default_rng(seed)
        pool = list(labelled(frames_of(own, POOL, rng)))
        draws = [[pool[k] for k in rng.permutation(POOL)[:LONGEST]] for _ in range(DRAWS)]
        report(name + "start and random frames", [curve([labels[0], *draw], config, test) for draw in draws], goal)
        report(name + "random frames only", [curve(draw, config, test) for draw in draws], goal)


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goal", type=float, default=0.1, help="eV/A")
    parser.add_argument("--most", type=int, default=40, help="labels")
    parser.add_argument("--campaigns", nargs="+", choices=[c.name for c in CAMPAIGNS], metavar="NAME", help="some only")
    arguments = parser.parse_args()
    for campaign in CAMPAIGNS:
        if arguments.campaigns and campaign.name not in arguments.campaigns:
            continue
        with tempfile.TemporaryDirectory() as name:
            compare(campaign, Path(name), arguments.seeds, arguments.most, arguments.goal)


def report(name: str, curves: list[list[float]], goal: float) -> None:
    """A row: labels needed, the median and the range of several curves; errors are their medians."""
    counts = [needed(errors, goal) for errors in curves]
    most = len(curves[0])
    text = f"{np.median(counts):.3g}" if min(most, np.median(counts)) == np.median(counts) else f"not in {most}"
    if len(counts) > 1:
        text += f" (mean {np.mean(counts):.1f}, {min(counts)} to {max(counts)})"
    shown = " ".join(f"{error:.3f}" for error in np.median(curves, axis=0)[:12])
    print(f"{name:60s} {text:28s} of {most}: {shown}", flush=True)


if __name__ == "__main__":
    main()
