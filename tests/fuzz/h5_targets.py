"""model.h5 and fit.h5, damaged byte by byte and in what they say."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import lennard_jones, make_frames
from fuzzing import Target, flipped
from h5_edits import edited

import mlpot
from mlpot.data import h5_copy
from mlpot.data.h5 import SEAL_SIZE
from mlpot.descriptors.protocol import Descriptor
from mlpot.descriptors.summed_descriptor import SummedDescriptor
from mlpot.errors import FitError, MlpotError

SMALL = {"cutoff": 3.5, "n_sparse": 4}
TERMS = [
    [{**SMALL, "type": "pair"}, {**SMALL, "type": "soap", "n_max": 3, "l_max": 2}],
    [{
        **SMALL, "type": "soap", "n_max": 3, "l_max": 2, "zeta": 2, "mix": "both", "n_channels": 3, "order": 3, "order_l_max": 2,
        "order_channels": 2,
    }],
    [{**SMALL, "type": "acsf", "functions": [["G2", 0.5, 0.0], ["G4", 0.1, 2, -1]], "standardise": False}],
    [{**SMALL, "type": "chebyshev", "radial_order": 3, "angular_order": 2}],
    [{**SMALL, "type": "zernike", "n_max": 2, "kernel": "gaussian"}],
    [{**SMALL, "type": "acsf", "n_functions": 3}],
    [{**SMALL, "type": "bispectrum", "two_j_max": 2}],
]  # fmt: skip
"""Of the models that are damaged in turn."""
NUMBERS = [0, 1, -1, 2, 255, 2**31, -(2**31), 2**62, 1e308, -1e308, 1e-300, 0.5, 1e9]
ODD = [*NUMBERS, float("nan"), float("inf"), None, True, "", "x", "\x1b[31m", [], {}, [1], {"a": 1}, [[]]]


@cache
def _frames() -> list:
    """Structures of eight atoms with labels."""
    found = []
    for large in make_frames(3, (14, 32)):
        atoms = large[:8]
        atoms.calc = lennard_jones()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def _config(variant: int) -> mlpot.FitConfig:
    return mlpot.FitConfig(terms=TERMS[variant], check_labels=False, energy_noise=0.002, force_noise=0.05, virial_noise=0.02)


def make_model(folder: Path, variant: int) -> None:
    mlpot.fit(_frames(), _config(variant)).save(folder / "model.h5")


def make_fit(folder: Path, variant: int) -> None:
    fit = mlpot.Fit(_config(variant), (14, 32))
    fit.update(_frames()[:2], fit.propose(_frames()[:2]))
    fit.save(folder / "fit.h5")


def _remember_tables() -> None:
    """Let equal descriptors share their tables: making them takes most of the time of reading, and most damages leave them alone."""
    known: dict[bytes, Descriptor] = {}
    make, plain = SummedDescriptor.from_state.__func__, Descriptor.from_state.__func__

    def from_state(cls, species, state):
        try:
            key = pickle.dumps((cls, plain(cls, species, state).__getstate__()))
        except Exception:
            key = b""
        if key not in known or not key:
            known[key] = make(cls, species, state)
        return known[key]

    SummedDescriptor.from_state = classmethod(from_state)


_remember_tables()


def _copied_by_a_fork(file: Path) -> subprocess.CompletedProcess[bytes]:
    """As the process of its own that reads files without a seal, but without the half second that Python takes to start."""
    out, err = (file.with_suffix(ending) for ending in (".out", ".err"))
    child = os.fork()
    if not child:
        for target, number in ((out, 1), (err, 2)):
            os.dup2(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
        try:
            h5_copy.main(str(file))
            sys.stdout.flush()
            os._exit(0)
        except SystemExit as error:
            sys.stderr.flush()
            os._exit(error.code)
        finally:  # whatever happens, there must not be two fuzzers
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return subprocess.CompletedProcess([], status, out.read_bytes(), err.read_bytes())


h5_copy.copied_by_a_process = _copied_by_a_fork


def read_model(folder: Path) -> tuple:
    """Everything that a prediction gives, in both ways."""
    model = mlpot.load_model(folder / "model.h5")
    try:
        p = model.predict(_frames()[2], uncertainty=True)
    except MlpotError as error:
        raise RuntimeError(f"read, but then: {error}") from error
    return p.energies, p.forces, p.virial, p.forces_std, p.energies_std


def read_fit(folder: Path) -> tuple:
    """The model, and what one more label makes of it; settings with which the next fit fails are an error of that fit."""
    fit = mlpot.Fit.load(folder / "fit.h5")
    try:
        before = fit.model.predict(_frames()[2], uncertainty=True)
        fit.update(_frames()[2:])
        after = fit.model.predict(_frames()[2], uncertainty=True)
    except FitError:
        raise
    except MlpotError as error:
        raise RuntimeError(f"read, but then: {error}") from error
    return before.energies, before.forces, before.forces_std, after.energies, after.forces_std


def damage_bytes(folder: Path, rng: np.random.Generator) -> str:
    file = _file(folder)
    data, what = flipped(file.read_bytes(), rng)
    file.write_bytes(data)
    return what


def damage_unsealed(folder: Path, rng: np.random.Generator) -> str:
    """As a file of an older version, without a seal."""
    file = _file(folder)
    data, what = flipped(file.read_bytes()[SEAL_SIZE:], rng)
    file.write_bytes(data)
    return "without a seal, " + what


def damage_structure(folder: Path, rng: np.random.Generator) -> str:
    """Arrays, shapes, links and the header, sealed again: by somebody who wants it read."""
    file = _file(folder)
    with edited(file) as h5:
        names: list[str] = []
        h5.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        kind = rng.integers(10)
        if kind < 4:
            return _edit_header(h5, rng)
        name = str(rng.choice([name for name in names if name not in ("header", "glue")]))
        return _edit_array(h5, name, int(kind), rng)


def _edit_array(h5: h5py.File, name: str, kind: int, rng: np.random.Generator) -> str:
    value = h5[name][()]
    del h5[name]
    if kind == 4:
        return f"{name} left out"
    if kind == 5:
        h5[name] = rng.choice([h5py.SoftLink("/weights"), h5py.ExternalLink("/etc/passwd", "/")])  # type: ignore[arg-type]
        return f"{name} is a link"
    if kind == 6:
        what, new = _reshaped(np.asarray(value), rng)
        h5.create_dataset(
            name, data=new, **({"chunks": True, "compression": "gzip"} if new.ndim and rng.random() < 0.1 else {})
        )
        return f"{name} {what}"
    new = np.array(value, copy=True)
    place = tuple(int(rng.integers(size)) for size in new.shape) if new.size else ()
    if new.size:
        number = NUMBERS[int(rng.integers(len(NUMBERS)))] if rng.random() < 0.7 else float(rng.choice([np.nan, np.inf]))
        with np.errstate(all="ignore"):
            new[place] = np.array(number).astype(new.dtype)
    h5[name] = new
    return f"{name}{place} changed"


def _reshaped(value: np.ndarray, rng: np.random.Generator) -> tuple[str, Any]:
    choices = [
        ("halved", value[: len(value) // 2] if value.ndim else value[None]),
        ("doubled", np.concatenate([value, value]) if value.ndim else np.array([value, value])),
        ("flat", value.ravel()),
        ("with an axis more", value[None]),
        ("transposed", value.T),
        ("empty", np.empty((0,) * max(value.ndim, 1), value.dtype)),
        ("float32", value.astype(np.float32)),
        ("int8", value.astype(np.int8)),
        ("text", np.array([b"abc"])),
        ("compound", np.zeros(2, [("a", float), ("b", int)])),
        ("complex", value.astype(complex)),
    ]
    with np.errstate(all="ignore"):
        return choices[int(rng.integers(len(choices)))]


def _edit_header(h5: h5py.File, rng: np.random.Generator) -> str:
    text = h5.attrs["header"] if "header" in h5.attrs else h5["header"].asstr()[()]
    header = json.loads(text)
    place = _somewhere(header, rng)
    parent = header
    for key in place[:-1]:
        parent = parent[key]
    kind = rng.integers(4)
    if kind == 0:
        del parent[place[-1]]
    elif kind == 1 and isinstance(parent, dict):
        parent["unknown"] = 1
    else:
        parent[place[-1]] = ODD[int(rng.integers(len(ODD)))]
    if "header" in h5.attrs:
        h5.attrs["header"] = json.dumps(header)
    else:
        del h5["header"]
        h5["header"] = json.dumps(header)
    return f"header {place} ({kind})"


def _somewhere(value: Any, rng: np.random.Generator) -> list:
    """A path into nested lists and tables; those that no answer depends on left out."""
    skip = ("report", "provenance", "names", "config_types", "config")
    place: list = []
    while isinstance(value, dict | list) and len(value):
        keys = [k for k in value if k not in skip] if isinstance(value, dict) else list(range(len(value)))
        if rng.random() < 0.05:
            keys = list(value) if isinstance(value, dict) else keys
        if not keys or (place and rng.random() < 0.2):
            break
        place.append(keys[int(rng.integers(len(keys)))])
        value = value[place[-1]]
    return place


def _file(folder: Path) -> Path:
    return next(file for file in (folder / "model.h5", folder / "fit.h5") if file.exists())


TARGETS = {
    "model.h5 bytes": Target(make_model, damage_bytes, read_model, same=True, n_variants=len(TERMS)),
    "model.h5 bytes, unsealed": Target(make_model, damage_unsealed, read_model, same=False, n_variants=len(TERMS)),
    "model.h5 structure": Target(make_model, damage_structure, read_model, same=False, n_variants=len(TERMS)),
    "fit.h5 bytes": Target(make_fit, damage_bytes, read_fit, same=True, n_variants=len(TERMS)),
    "fit.h5 bytes, unsealed": Target(make_fit, damage_unsealed, read_fit, same=False, n_variants=len(TERMS)),
    "fit.h5 structure": Target(make_fit, damage_structure, read_fit, same=False, n_variants=len(TERMS)),
}
