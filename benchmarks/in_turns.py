"""Cost of a step in two checkouts, in turns: what a change of the code has cost.

    git worktree add /tmp/before 0f342b0^ && (cd /tmp/before && python setup.py build_ext --inplace)
    python benchmarks/in_turns.py /tmp/before . --turns 40

Each checkout runs in a process of its own, on one thread. Both load one model, which the first has fitted, so that it must be the
older one. They step in turns, and ratios are those of neighbouring turns: a machine that others use changes its speed within seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TERMS = {"zeta 4": "[SOAP]", "zeta 2 and pairs": '[PAIR, {**SOAP, "zeta": 2, "n_sparse": 500}]'}
"""Of `mlpot.bench`."""
ATOMS_PER_TURN = 3000


def step(folder: str) -> None:
    """In a checkout: answer lines with a model, the size of a cell, whether with uncertainty, and steps, by seconds for one step."""
    import mlpot
    from mlpot import bench
    from mlpot.drivers.ase import MlpotCalculator

    for name, terms in TERMS.items():
        file = Path(folder) / f"{name}.h5"
        if not file.exists():
            own = eval(terms, vars(bench))
            mlpot.fit(bench.training_frames(), mlpot.FitConfig(terms=own)).save(file)
    steps = {}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        name, copies, uncertainty, n = line.strip().split(",")
        if (name, copies, uncertainty) not in steps:
            calculator = MlpotCalculator(Path(folder) / f"{name}.h5", uncertainty=uncertainty == "with")
            steps[name, copies, uncertainty] = bench.moving(bench.silicon(int(copies)), calculator)
            steps[name, copies, uncertainty]()
        start = time.process_time()
        for _ in range(int(n)):
            steps[name, copies, uncertainty]()
        sys.stdout.write(f"{(time.process_time() - start) / int(n)}\n")
        sys.stdout.flush()


class Checkout:
    """A process that steps in a checkout."""

    def __init__(self, home: Path, folder: str):
        one_thread = {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--step", folder]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=home, env=os.environ | one_thread, **pipes)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{home}: does not run; build its extensions with `python setup.py build_ext --inplace`")

    def seconds(self, *asked: object) -> float:
        self.process.stdin.write(",".join(map(str, asked)) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkouts", nargs="*", type=Path, help="before, after")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--step", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        return step(options.step)
    with tempfile.TemporaryDirectory() as folder:
        both = [Checkout(home.resolve(), folder) for home in options.checkouts]
        for name in TERMS:
            for copies in (3, 6):
                for uncertainty in ("without", "with"):
                    n_atoms = 8 * copies**3
                    asked = (name, copies, uncertainty, max(ATOMS_PER_TURN // n_atoms, 1))
                    turns = []
                    for turn in range(options.turns):
                        order = range(2) if turn % 2 else (1, 0)
                        turns.append([s for _, s in sorted((k, both[k].seconds(*asked)) for k in order)])
                    us = 1e6 * np.array(turns) / n_atoms
                    ratio, least = np.median(us[:, 1] / us[:, 0]), us.min(axis=0)
                    what = f"{name:18s} {n_atoms:5d} atoms, {uncertainty:7s} uncertainty"
                    figures = f"median ratio {ratio:.3f}, of the least {least[1] / least[0]:.3f}"
                    print(f"{what}: {least[0]:6.2f} and {least[1]:6.2f} us/atom, {figures}", flush=True)
        for checkout in both:
            checkout.process.stdin.close()
            checkout.process.wait(60)


if __name__ == "__main__":
    main()
