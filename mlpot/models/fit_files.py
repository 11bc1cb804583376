"""Files of fits that go on: everything that `Fit` holds, so that the next update needs no covariance that was known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from ase import Atoms

from ..structures import LabelledStructure
from .adaptation import Hyperparameters
from .descriptor_tables import read_tables, tables_of
from .design_matrix import Group
from .growing_system import GrowingSystem
from .h5 import Format
from .settings import FitConfig
from .soap_term import SoapTerm

if TYPE_CHECKING:
    from .incremental import Fit

FORMAT = Format("mlpot-fit", 3, "fit", "`Fit.save`", "make it anew from the data")


def save_fit(fit: Fit, file: str | Path) -> None:
    """Write a fit; a reader sees the old file or the new one, never a part.

    Raises
    ------
    ModelFileError
        If the folder is missing, read-only or full; an older file is left as it was.
    """
    header = {
        "species": fit.species,
        "config": fit.config.model_dump(mode="json"),
        "scales": fit.levels.scales.tolist(),
        "noises": [[*astuple(group), noise] for group, noise in fit.levels.noises.items()],
        "groups": [astuple(group) for group in fit.system.names],
        "names": [s.name for s in fit.structures],
        "config_types": [s.config_type for s in fit.structures],
    }
    with FORMAT.writing(file) as h5:
        h5["header"] = json.dumps(header)
        for name, array in {**structure_arrays(fit.structures), **fit.system.arrays()}.items():
            h5[name] = array
        for k, term in enumerate(fit.terms):
            for n, points in enumerate(term.points):
                h5[f"points/{k}/{n}"] = points
            if isinstance(term, SoapTerm):
                for name, array in tables_of(term.descriptor).items():
                    h5[f"tables/{k}/{name}"] = array


def load_fit(file: str | Path) -> Fit:
    """Read a fit.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, not a fit, or written by a newer version of mlpot.
    """
    with FORMAT.reading(file) as h5:
        return _read(h5)


def _read(h5: h5py.File) -> Fit:
    from .incremental import Fit

    header = json.loads(h5["header"].asstr()[()])
    arrays = {name: item[()] for name, item in h5.items() if name not in ("header", "points", "tables")}
    tables = {int(k): read_tables(group) for k, group in h5["tables"].items()} if "tables" in h5 else {}
    fit = Fit(FitConfig.model_validate(header["config"]), header["species"], tables)
    points = [tuple(h5[f"points/{k}/{n}"][()] for n in range(len(term.points))) for k, term in enumerate(fit.terms)]
    fit.restore(
        list(structures_of(arrays, header["names"], header["config_types"])),
        points,
        Hyperparameters({Group(*name): noise for *name, noise in header["noises"]}, np.array(header["scales"])),
        GrowingSystem.of_arrays(arrays, [Group(*name) for name in header["groups"]]),
    )
    return fit


def structure_arrays(structures: Sequence[LabelledStructure]) -> dict[str, np.ndarray]:
    """Structures and labels as arrays; NaN where there is no label."""
    return {
        "n_atoms": np.array([s.n_atoms for s in structures], int),
        "numbers": np.concatenate([np.empty(0, int), *(s.atoms.numbers for s in structures)]),
        "positions": np.concatenate([np.empty((0, 3)), *(s.atoms.positions for s in structures)]),
        "cells": np.array([s.atoms.cell.array for s in structures]).reshape(-1, 3, 3),
        "pbc": np.array([s.atoms.pbc for s in structures], bool).reshape(-1, 3),
        "energies": np.array([np.nan if s.energy is None else s.energy for s in structures]),
        "forces": np.concatenate(
            [np.empty((0, 3)), *(np.full((s.n_atoms, 3), np.nan) if s.forces is None else s.forces for s in structures)]
        ),
        "virials": np.array(
            [np.full((3, 3), np.nan) if s.virial is None else s.virial for s in structures]
        ).reshape(-1, 3, 3),
    }  # fmt: skip


def structures_of(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], config_types: Sequence[str]
) -> Iterator[LabelledStructure]:
    """Inverse of `structure_arrays`."""
    begin = 0
    for k, n in enumerate(arrays["n_atoms"].tolist()):
        part = slice(begin, begin := begin + n)
        energy, forces, virial = arrays["energies"][k], arrays["forces"][part], arrays["virials"][k]
        yield LabelledStructure(
            atoms=Atoms(
                arrays["numbers"][part], arrays["positions"][part], cell=arrays["cells"][k], pbc=arrays["pbc"][k]
            ),
            energy=None if np.isnan(energy) else float(energy),
            forces=None if np.isnan(forces).any() else forces,
            virial=None if np.isnan(virial).any() else virial,
            config_type=config_types[k],
            name=names[k],
        )
