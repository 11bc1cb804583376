"""Many damaged inputs of every kind that mlpot reads: what becomes of them, and every finding.

    python benchmarks/fuzz.py --inputs 100000 [--only "model.h5 structure"] [--first 0]

A row for every kind: inputs, clean errors, the same answer as the good input, another answer (damage that made another valid input),
findings. The same numbers give the same damage; exit code 1 if there are findings.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

from fuzzing import fuzz, targets  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="of every kind")
    parser.add_argument("--only", choices=list(targets()), help="one kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    arguments = parser.parse_args()
    every = []
    print(f"{'kind':28}{'inputs':>9}{'errors':>9}{'same':>9}{'other':>9}{'findings':>10}")
    for name in [arguments.only] if arguments.only else targets():
        with tempfile.TemporaryDirectory() as folder:
            counts, findings = fuzz(name, Path(folder) / "input", arguments.inputs, arguments.first)
        numbers = [counts.total(), counts["error"], counts["same"], counts["other answer"]]
        print(f"{name:28}" + "".join(f"{n:9}" for n in numbers) + f"{len(findings):10}", flush=True)
        every += findings
    print("\n".join(every))
    sys.exit(bool(every))


if __name__ == "__main__":
    main()
