"""Potentials, configurations, data and records that are text, damaged byte by byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import make_frames
from fuzzing import Target, flipped

import mlpot
from mlpot.config import read_config
from mlpot.learning.log_format import LOG_COLUMNS, WORDS
from mlpot.learning.run_environment import ENVIRONMENT, environments
from mlpot.learning.run_folder import RunFolder, read_state
from mlpot.report.log_file import read_log
from mlpot.settings.files import FitFile
from mlpot.structures import all_labelled, read_structures, write_exact_xyz

TOKENS = [b"nan", b"-1", b"1e999", b"0", b"99999999999999999999", b"../../etc/passwd", b"/dev/zero", b"\x1b[31m", b'"', b"<", b"&x;",
          b"{", b"}", b"=", b"\n", b"T", b"None", b"\x00", b"\xff\xfe"]  # fmt: skip
XML = """<GAP_made><Potential label="GAP_made" init_args="IP GAP label=GAP_made"/>
<GAP_params label="GAP_made" gap_version="1500000000"><GAP_data do_core="F"><e0 Z="14" value="-1.5"/></GAP_data>
<gpSparse label="GAP_made" n_coordinate="1" fitted="T">
<gpCoordinates label="GAP_made1" dimensions="2" signal_mean="0.0" sparsified="T" n_permutations="1" signal_variance=".5"
 covariance_type="2" zeta="2.0" n_sparseX="2" sparseX_filename="x1">
<descriptor>soap n_max=1 l_max=0 cutoff=3.0 atom_sigma=0.5 n_species=1 species_Z={14 } Z=14 zeta=2</descriptor>
<permutation i="1">1 </permutation><sparseX i="1" alpha="0.5" sparseCutoff="1.0"/><sparseX i="2" alpha="-.25" sparseCutoff="1.0"/>
</gpCoordinates></gpSparse></GAP_params></GAP_made>
"""
TOML = """[output]
model = "model.h5"
[data]
train = ["train.xyz"]
[model]
repulsion = true
[[model.terms]]
type = "soap"
cutoff = 4.0
n_max = 4
n_sparse = {Si = 10, C = "auto"}
[fit]
force_noise = 0.05
[fit.config_type_noise.liquid]
energy_noise = 0.01
"""


def damage(folder: Path, rng: np.random.Generator) -> str:
    """One file of the folder: bytes changed, or a token in place of some."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    file = files[int(rng.integers(len(files)))]
    data = file.read_bytes()
    if rng.random() < 0.2:  # most random bytes are no text at all
        damaged, what = flipped(data, rng)
    else:
        begin = int(rng.integers(len(data)))
        end = begin + int(rng.integers(0, 12))
        token = TOKENS[int(rng.integers(len(TOKENS)))]
        damaged, what = data[:begin] + token + data[end:], f"{token!r} at {begin}:{end}"
    file.write_bytes(damaged)
    return f"{file.name}: {what}"


def make_gap(folder: Path, variant: int = 0) -> None:
    (folder / "gp.xml").write_text(XML)
    (folder / "x1").write_text("1.0\n0.0\n1.0\n0.0\n")


def read_gap(folder: Path) -> tuple:
    model = mlpot.read_gap(folder / "gp.xml")
    atoms = make_frames(1)[0][:8]
    p = model.predict(atoms)
    return p.energies, p.forces


def make_xyz(folder: Path, variant: int) -> None:
    write_exact_xyz(folder / "train.xyz", _alone(), [{}, {}])


def _alone() -> list:
    """Frames whose labels are those of four atoms."""
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for atoms in make_frames(2):
        few = atoms[:4]
        few.calc = SinglePointCalculator(few, energy=1.5, forces=np.ones((4, 3)), stress=np.arange(6.0))
        frames.append(few)
    return frames


def read_xyz(folder: Path) -> tuple:
    found = all_labelled(read_structures(folder / "train.xyz"))
    return tuple((s.energy, s.forces, s.virial, s.atoms.positions) for s in found)


def make_log(folder: Path, variant: int) -> None:
    rows = [[("w" if name in WORDS else str(k)) for name in LOG_COLUMNS] for k in range(4)]
    (folder / "log.csv").write_text("\n".join(",".join(row) for row in [list(LOG_COLUMNS), *rows]) + "\n")


def make_state(folder: Path, variant: int) -> None:
    with RunFolder(folder) as run:
        run.save_state(STATE_VALUES)


def _text(name: str, text: str) -> Callable[[Path, int], None]:
    def make(folder: Path, variant: int) -> None:
        (folder / name).write_text(text)

    return make


STATE_VALUES = {
    "walkers": [{"name": "a", "steps": 12, "energy": -1.5, "momenta": np.arange(6.0).reshape(2, 3)}],
    "learner": {"labels": [1, 2]},
}
ENVIRONMENT_TEXT = json.dumps([{"mlpot": "0.1", "python": "3.11"}], indent=1)


def _read(reader: Callable[[Path], Any]) -> Callable[[Path], str]:
    return lambda folder: str(reader(folder))


TARGETS = {
    "GAP XML and sparseX": Target(make_gap, damage, read_gap, same=False),
    "TOML": Target(
        _text("fit.toml", TOML), damage, _read(lambda folder: read_config(folder / "fit.toml", FitFile)), same=False
    ),
    "extended XYZ": Target(make_xyz, damage, read_xyz, same=False),
    "log.csv": Target(make_log, damage, _read(lambda folder: read_log(folder / "log.csv")), same=False),
    "state.json": Target(make_state, damage, _read(read_state), same=True),
    "environment.json": Target(_text(ENVIRONMENT, ENVIRONMENT_TEXT), damage, _read(environments), same=False),
}
