"""Kills a learning run again and again, and compares what is left with a run that was let be.

    python benchmarks/kill_and_resume.py inputs/learn_si.toml --kills 30

runs the configuration once without a kill and once with `kill -9` at random instants, each followed by --resume; then
compares labels, log and trajectory bit for bit, and counts labels that were paid for twice.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.db

TWINS = ("log.csv", "trajectory.xyz")


def command(config: Path, resume: bool) -> list[str]:
    """`mlpot learn` of this environment."""
    return [sys.executable, "-m", "mlpot", "learn", str(config), *(["--resume"] if resume else [])]


def with_folder(config: Path, folder: Path, target: Path) -> Path:
    """The configuration with another run folder."""
    lines = [f'folder = "{folder}"' if line.startswith("folder") else line for line in config.read_text().splitlines()]
    target.write_text("\n".join(lines) + "\n")
    return target


def run_with_kills(config: Path, kills: int, longest: float, rng: random.Random) -> int:
    """Start, kill, resume until it completes; how many kills there were."""
    done = 0
    resume = False
    while True:
        process = subprocess.Popen(command(config, resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        resume = True
        try:
            _, errors = process.communicate(timeout=rng.uniform(0.2, longest) if done < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            done += 1
            continue
        if process.returncode == 0:
            return done
        sys.exit(f"after {done} kills the run failed:\n{errors.decode()}")


def rows(folder: Path) -> list:
    """Labels of a run folder, in order."""
    return list(ase.db.connect(folder / "labels.db", use_lock_file=False).select(sort="id"))


def lines(file: Path) -> list[str]:
    """Lines of a file, of log.csv without the wall time."""
    text = file.read_text().splitlines()
    return [line.rsplit(",", 1)[0] for line in text] if file.suffix == ".csv" else text


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds a run is let be at the most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch, "whole"), Path(scratch, "killed")
        started = time.perf_counter()
        first = with_folder(arguments.config, whole, Path(scratch, "whole.toml"))
        subprocess.run(command(first, False), check=True, stdout=subprocess.DEVNULL)
        print(f"without a kill: {len(rows(whole))} labels, {time.perf_counter() - started:.0f} s")
        started = time.perf_counter()
        second = with_folder(arguments.config, killed, Path(scratch, "killed.toml"))
        kills = run_with_kills(second, arguments.kills, arguments.longest, random.Random(arguments.seed))
        print(f"with {kills} kills: {len(rows(killed))} labels, {time.perf_counter() - started:.0f} s")
        keys = [row.key_value_pairs["label_key"] for row in rows(killed)]
        wrong = [name for name in TWINS if lines(whole / name) != lines(killed / name)]
        same = keys == [row.key_value_pairs["label_key"] for row in rows(whole)]
        print(
            f"labels the same: {same}; labels stored twice: {len(keys) - len(set(keys))}; files that differ: {wrong or 'none'}"
        )
        if wrong or not same or len(keys) != len(set(keys)):
            sys.exit(1)


if __name__ == "__main__":
    main()
