"""i-PI's own example inputs with mlpot's driver as their client, a few steps each, and a table of what came of them.

    git clone https://github.com/i-pi/i-pi && python benchmarks/ipi_examples.py i-pi [--steps 4] [--per-kind 1] [--only NPT ...]

Looked for are inputs with an <ffsocket> below `examples`, distinguished by what they do: NVT, NPT, PIMD, REMD, committee, phonons,
instanton. Of every kind the first few by name are copied, shortened, given UNIX sockets of their own and run by `i-pi`; each socket
is served by `mlpot driver --input`, with a model of the elements that is fitted to a cheap potential: what is tried is how the two
programs talk, not chemistry. Exit code 1 if a run failed, or a kind was not found.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot
from mlpot.drivers.ipi_input import IpiInput, read_ipi_input
from mlpot.errors import MlpotError

KINDS: dict[str, Callable[[ElementTree.Element], bool]] = {
    "committee": lambda root: root.find(".//ffcommittee") is not None,
    "REMD": lambda root: any(e.get("mode") == "remd" for e in root.iter("smotion")),
    "phonons": lambda root: moved(root, "vibrations"),
    "instanton": lambda root: moved(root, "instanton"),
    "NPT": lambda root: integrated(root, "npt", "nst"),
    "PIMD": lambda root: integrated(root, "nvt") and n_beads(root) > 1,
    "NVT": lambda root: integrated(root, "nvt"),
}
"""The first that holds is what an input is."""
SECONDS = 120
N_FRAMES = 6
CONFIG = {"terms": [{"type": "pair", "cutoff": 4.0, "n_sparse": 20}], "force_noise": 0.1, "energy_noise": 0.01}


def moved(root: ElementTree.Element, mode: str) -> bool:
    return any(motion.get("mode") == mode for motion in root.iter("motion"))


def integrated(root: ElementTree.Element, *modes: str) -> bool:
    return moved(root, "dynamics") and any(dynamics.get("mode") in modes for dynamics in root.iter("dynamics"))


def n_beads(root: ElementTree.Element) -> int:
    return max((int(e.get("nbeads", "1")) for e in root.iter("initialize")), default=1)


def inputs(tree: Path) -> Iterator[tuple[str, Path]]:
    """Kind and path of every input that a driver can serve."""
    for file in sorted((tree / "examples").rglob("*.xml")):
        try:
            root = ElementTree.parse(file).getroot()
            kind = next((name for name, is_one in KINDS.items() if is_one(root)), None)
        except (ElementTree.ParseError, ValueError):
            continue
        if root.tag == "simulation" and root.find(".//ffsocket") is not None and kind is not None:
            yield kind, file


def shortened(text: str, steps: int, own: str) -> str:
    """An input of few steps, with UNIX sockets that nobody else has."""
    root = ElementTree.fromstring(text)
    total = root.find("total_steps")
    if total is None:
        total = ElementTree.SubElement(root, "total_steps")
    total.text = str(steps)
    for k, socket in enumerate(root.iter("ffsocket")):
        socket.set("mode", "unix")
        address = socket.find("address")
        if address is None:
            address = ElementTree.SubElement(socket, "address")
        address.text = f"{own}_{k}"
    return ElementTree.tostring(root, encoding="unicode")


def model_of(atoms: Atoms, file: Path) -> None:
    """A model of these elements, fitted to a pair potential with its minimum at bonds of the structure."""
    rng, frames = np.random.default_rng(0), []
    small = atoms if len(atoms) < 60 else atoms[:60]
    distances = small.get_all_distances(mic=True)[np.triu_indices(len(small), 1)]
    calculator = MorsePotential(
        epsilon=0.2, r0=float(distances.min()) if len(distances) else 1.0, rho0=3.0, rcut1=3.0, rcut2=3.9
    )
    for _ in range(N_FRAMES):
        frame = small.copy()
        frame.positions += rng.normal(0, 0.05, frame.positions.shape)
        frame.calc = calculator
        results = {"energy": frame.get_potential_energy(), "forces": frame.get_forces()}
        frame.calc = SinglePointCalculator(frame, **results)
        frames.append(frame)
    mlpot.fit(frames, mlpot.FitConfig(**CONFIG)).save(file)


def dangling(folder: str, names: list[str]) -> list[str]:
    """Links that lead nowhere; copytree's own option also leaves out relative ones that lead to i-PI's examples/init_files."""
    return [name for name in names if not (Path(folder) / name).exists()]


def run(file: Path, work: Path, steps: int) -> tuple[IpiInput, int, str]:
    """An input in a copy of its folder: what was read of it, its atoms, and "ran", or why not."""
    shutil.copytree(file.parent, work, ignore=dangling)
    (work / file.name).write_text(shortened(file.read_text(), steps, f"mlpot_{os.getpid()}_{work.name}"))
    told = read_ipi_input(work / file.name)
    atoms = told.structure()
    model_of(atoms, work / "model.h5")
    with ExitStack() as stack:
        server = stack.enter_context(process([str(Path(sys.executable).with_name("i-pi")), file.name], work, "server.log"))
        options = {s.name: ["--committee", "members"] if s.reads_members else [] for s in told.sockets}
        common = ["mlpot", "driver", "model.h5", "--input", file.name, "--patience", "30"]
        drivers = [
            stack.enter_context(process([*common, "--forcefield", name, *more], work, f"driver_{k}.log"))
            for k, (name, more) in enumerate(options.items())
        ]
        code = ended(server, drivers, work)
    return told, len(atoms), code


class process(subprocess.Popen):
    """Ended at the end of the block; what it says goes to a file."""

    def __init__(self, words: list[str], work: Path, log: str):
        with open(work / log, "w") as output:
            super().__init__(
                [sys.executable, "-m", *words] if words[0] == "mlpot" else words,
                cwd=work, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def __exit__(self, *_):
        if self.poll() is None:
            self.kill()
        self.wait()


def ended(server: subprocess.Popen, drivers: list[subprocess.Popen], work: Path) -> str:
    """How a run has ended."""
    end = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < end:
        for k, driver in enumerate(drivers):
            if driver.poll() not in (None, 0):
                return f"driver: {last_line(work / f'driver_{k}.log')}"
        time.sleep(0.1)
    if server.poll() is None:
        return f"still running after {SECONDS} s"
    return "ran" if server.returncode == 0 else f"i-pi: {last_line(work / 'server.log')}"


def last_line(file: Path) -> str:
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[-1])[:100] if lines else "said nothing"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="i-PI's sources, with their folder `examples`")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--per-kind", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args(words)
    counts, all_ran = dict.fromkeys(arguments.only, 0), True
    print(f"{'kind':11}{'atoms':>6}{'beads':>6}{'systems':>8}{'seconds':>8}  input: result", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind, file in inputs(arguments.tree):
            if counts.get(kind, arguments.per_kind) >= arguments.per_kind:
                continue
            started = time.monotonic()
            try:
                told, n_atoms, result = run(file, Path(folder) / f"{kind}{counts[kind]}", arguments.steps)
                numbers = f"{n_atoms:6}{told.beads:6}{told.n_systems:8}"
            except (MlpotError, OSError) as error:
                numbers, result = " " * 20, str(error)
            counts[kind] += 1
            all_ran &= result == "ran"
            shown = file.relative_to(arguments.tree / "examples")
            print(f"{kind:11}{numbers}{time.monotonic() - started:8.1f}  {shown}: {result}", flush=True)
    missing = [kind for kind, count in counts.items() if not count]
    if missing:
        print(f"not found: {', '.join(missing)}; name the folder of i-PI's sources")
    return 0 if all_ran and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
