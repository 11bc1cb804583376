"""The compiled core's own model file, damaged byte by byte and in what it says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from conftest import NOISES, make_frames
from core_models import Ghosted, ghosted
from core_programs import harmful
from fuzzing import Target, flipped
from h5_targets import SMALL
from mlpot._ext.core import CoreModel

import mlpot
from mlpot.errors import ModelFileError

SOAP = {**SMALL, "type": "soap", "n_max": 3, "l_max": 2}
TERMS = [
    [{**SMALL, "type": "pair"}, SOAP],
    [{**SMALL, "type": "pair"}],
    [{**SOAP, "order": 4, "order_channels": 2, "order_l_max": 2}],
    [{**SOAP, "mix": "both", "n_channels": 3, "zeta": 4}, {**SOAP, "cutoff": 3.0}],
    [{**SMALL, "type": "acsf", "functions": [["G2", 0.5, 0.0], ["G4", 0.1, 2, -1], ["C21", "p2", 0.0, 3.4, 20.0, 140.0]]}],
    [{**SMALL, "type": "bispectrum", "two_j_max": 2, "chem": True, "kernel": "gaussian"}],
    [{**SMALL, "type": "mbtr", "k2": {"n": 8, "sigma": 0.06}, "k3": {"n": 5, "sigma": 0.3}}, SOAP],
]
SPECIES = (14, 32)


def make(folder: Path, variant: int) -> None:
    config = mlpot.FitConfig(terms=TERMS[variant], check_labels=False, repulsion=variant == 1, **NOISES)
    mlpot.fit(make_frames(3, SPECIES), config).export_core(folder / "model.mlpot")


@cache
def _surroundings() -> Ghosted:
    """Eight atoms as a program sees them that does not ask for the cutoff."""
    return ghosted(make_frames(1, SPECIES)[0][:8], SMALL["cutoff"])


def read(folder: Path) -> tuple:
    """Energies, forces and deviations, as a C program gets them."""
    seen = _surroundings()
    try:
        model = CoreModel(folder / "model.mlpot")
        parts = model.evaluate(*seen.arrays, uncertainty=True)
        parts["member_forces"] = seen.returned(parts["member_forces"])
        deviations = model.deviations(seen.numbers[: len(seen.offsets) - 1], parts)
    except ValueError as error:  # a code of the C library, and its line of text
        raise ModelFileError(str(error)) from error
    return parts["energies"], parts["forces"], parts["virial"], deviations["energies_std"], deviations["forces_std"]


def damage_bytes(folder: Path, rng: np.random.Generator) -> str:
    file = folder / "model.mlpot"
    data, what = flipped(file.read_bytes(), rng)
    file.write_bytes(data)
    return what


def damage_structure(folder: Path, rng: np.random.Generator) -> str:
    file = folder / "model.mlpot"
    file.write_bytes(harmful(file.read_bytes(), rng))
    return "a number, name, type, offset or count, with the checksum that belongs to them"


TARGETS = {
    "core file bytes": Target(make, damage_bytes, read, same=True, n_variants=len(TERMS)),
    "core file structure": Target(make, damage_structure, read, same=False, n_variants=len(TERMS)),
}
