"""Files of incremental fits: the complete state of `Fit`, so that the next update recomputes no covariance."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from ..data.h5 import Format
from ..data.overlaps import check_structures
from ..data.stored import Stored
from ..errors import quoted
from ..models.headers import FitHeader, checked_config
from ..neighbours import FARTHEST
from ..settings.fit import FitConfig
from ..structures import LabelledStructure
from ..terms.calculator_baseline import BaselineResults
from ..terms.headers import parsed
from ..terms.protocol import FittedTerm, Tables
from ..terms.registry import empty_term, term_type
from .adaptation import Hyperparameters
from .design_matrix import Group
from .growing_system import GrowingSystem
from .growing_targets import GrowingTargets

log = logging.getLogger(__name__)
FORMAT = Format("mlpot-fit", 4, "fit", "`Fit.save`", "make it again from the data")
OF_DIFFERENCES = 4
"""First format in which rows of energies are differences from lone atoms, for elements with given isolated-atom energies."""

MOST_ATOMS = 10_000_000


@dataclass(frozen=True)
class FitState:
    """Complete state of an incremental fit.

    Parameters
    ----------
    config : FitConfig
        Resolved configuration.
    species : tuple of int
    tables : dict of int to Tables
        Tables of the terms that have some, by index of the term; see `FittedTerm.tables`.
    points : list of tuples of arrays
        Sparse points of every block of every term.
    structures : list of LabelledStructure
    levels : Hyperparameters
    system : GrowingSystem
    below : list of BaselineResults
        Results of the calculator beneath the fit for each structure; empty without one.
    is_current : bool
        False if the file has an older format and its rows must be recomputed from the labels.
    """

    config: FitConfig
    species: tuple[int, ...]
    tables: dict[int, Tables]
    points: list[tuple[np.ndarray, ...]]
    structures: list[LabelledStructure]
    levels: Hyperparameters
    system: GrowingSystem
    below: list[BaselineResults] = field(default_factory=list)
    is_current: bool = True


def save_fit(fit: FitState, terms: Sequence[FittedTerm], labels: Mapping[str, np.ndarray], file: str | Path) -> None:
    """Write a fit atomically: a reader sees either the old file or the complete new one. `terms` write their own tables; the
    labels of targets are `labels`.

    Raises
    ------
    ModelFileError
        If the folder is missing, read-only or full; an older file is left unchanged.
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
        arrays = {**structure_arrays(fit.structures), **_below_arrays(fit.below), **fit.system.arrays(), **labels}
        for name, array in arrays.items():
            h5[name] = array
        for k, (term, blocks) in enumerate(zip(terms, fit.points, strict=True)):
            for n, points in enumerate(blocks):
                h5[f"points/{k}/{n}"] = points
            for name, array in term.table_arrays().items():
                h5[f"tables/{k}/{name}"] = array


def load_fit(file: str | Path) -> FitState:
    """Read a fit.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, changed, not a fit, written by a newer version of mlpot, or contains an invalid entry;
        the message names the first one and its value.
    """
    with FORMAT.reading(file) as stored:
        return _read(stored)


def _read(stored: Stored) -> FitState:
    """Read the state, checking all arrays against the header and the header itself, so that no error can occur later."""
    header = parsed(FitHeader, stored.text("header"))
    config = checked_config(header.config)
    if not config.terms:
        raise ValueError("config.terms: is empty; a fit that goes on has every choice written out")
    tables: dict[int, Tables] = {
        k: term_type(settings).term.read_tables(settings, header.species, stored, f"tables/{k}")
        for k, settings in enumerate(config.terms)
    }
    terms = [empty_term(settings, header.species, 1.0, tables[k]) for k, settings in enumerate(config.terms)]
    points = _points(terms, stored)
    sizes = [len(block) for blocks in points for block in blocks]
    structures = _structures(header, stored)
    check_structures(structures, max(term.cutoff for term in terms))
    GrowingTargets.read(config.targets, structures, stored)
    n_rows = sum(s.n_rows for s in structures)
    system = GrowingSystem.of_arrays(_system_arrays(stored, header, sizes, n_rows), [Group(*g) for g in header.groups])
    if len(header.scales) != len(sizes):
        raise ValueError(f"header: scales: {len(header.scales)} for {len(sizes)} blocks of sparse points")
    noises = {Group(*entry[:3]): entry[3] for entry in header.noises}
    if structures and not set(system.names) <= set(noises):
        raise ValueError(f"header: noises: none for {quoted(sorted(set(system.names) - set(noises))[0])}")
    levels = Hyperparameters(noises, np.array(header.scales))
    is_current = stored.version >= OF_DIFFERENCES or not config.given_energies
    if not is_current:
        log.info("rows of energies are recomputed from the labels: in this older file they are not differences from lone atoms")
    below = [] if config.baseline is None else _below(stored, structures)
    return FitState(config, header.species, tables, points, structures, levels, system, below, is_current)


def _points(terms: Sequence[FittedTerm], stored: Stored) -> list[tuple[np.ndarray, ...]]:
    """Sparse points of every block of every term."""
    found = []
    for k, term in enumerate(terms):
        low, high = term.point_bounds
        names = [f"points/{k}/{n}" for n in range(len(term.points))]
        shapes = [(None, *block.shape[1:]) for block in term.points]
        found.append(tuple(stored.floats(name, shape, low, high) for name, shape in zip(names, shapes, strict=True)))
    return found


def _system_arrays(stored: Stored, header: FitHeader, sizes: list[int], n_rows: int) -> dict[str, np.ndarray]:
    """Arrays for `GrowingSystem.of_arrays`: whitened rows, factors and products for blocks of the given sizes."""
    n_columns, n_groups = sum(sizes), len(header.groups)
    found = {
        "right": stored.floats("right", (n_rows, 1 + len(header.species))),
        "group_of": stored.integers("group_of", (n_rows,), 0, n_groups - 1),
    }
    for k, size in enumerate(sizes):
        factor = stored.floats(f"factor_{k}", (size, size))
        if np.any(np.triu(factor, 1)) or np.any(np.diag(factor) <= 0):
            raise ValueError(f"factor_{k}: must be lower triangular with a positive diagonal")
        found |= {f"factor_{k}": factor, f"rows_{k}": stored.floats(f"rows_{k}", (n_rows, size))}
    for k in range(n_groups):
        gram = found[f"gram_{k}"] = stored.floats(f"gram_{k}", (n_columns, n_columns))
        if np.any(np.triu(gram, 1)) or np.any(np.diag(gram) < 0):
            raise ValueError(f"gram_{k}: must be lower triangular with nothing negative on its diagonal")
    return found


def _structures(header: FitHeader, stored: Stored) -> list[LabelledStructure]:
    """Read the structures of a file and check that their arrays are consistent."""
    n = len(header.names)
    if len(header.config_types) != n:
        raise ValueError(f"header: config_types: {len(header.config_types)} for {n} structures")
    n_atoms = stored.integers("n_atoms", (n,), 1, MOST_ATOMS)
    total = int(n_atoms.sum())
    arrays = {
        "n_atoms": n_atoms,
        "numbers": stored.integers("numbers", (total,), 1, 118),
        "positions": stored.floats("positions", (total, 3), -FARTHEST, FARTHEST),
        "cells": stored.floats("cells", (n, 3, 3), -FARTHEST, FARTHEST),
        "pbc": stored.flags("pbc", (n, 3)),
        "energies": stored.floats("energies", (n,), missing=True),
        "forces": stored.floats("forces", (total, 3), missing=True),
        "virials": stored.floats("virials", (n, 3, 3), missing=True),
    }
    unknown = sorted(set(arrays["numbers"].tolist()) - set(header.species))
    if unknown:
        raise ValueError(f"numbers = {unknown[0]}: is not one of species {list(header.species)}")
    return list(structures_of(arrays, header.names, header.config_types))


def _below_arrays(below: Sequence[BaselineResults]) -> dict[str, np.ndarray]:
    """Results of the calculator beneath a fit as arrays; none without one."""
    if not below:
        return {}
    return {
        "below_energies": np.array([b.energy for b in below]),
        "below_forces": np.concatenate([b.forces for b in below]),
        "below_virials": np.array([b.virial for b in below]),
    }


def _below(stored: Stored, structures: Sequence[LabelledStructure]) -> list[BaselineResults]:
    """Inverse of `_below_arrays`."""
    if not structures:
        return []
    ends = np.cumsum([s.n_atoms for s in structures])
    energies = stored.floats("below_energies", (len(structures),))
    forces = np.split(stored.floats("below_forces", (int(ends[-1]), 3)), ends[:-1])
    virials = stored.floats("below_virials", (len(structures), 3, 3))
    return [BaselineResults(float(e), f, v) for e, f, v in zip(energies, forces, virials, strict=True)]


def structure_arrays(structures: Sequence[LabelledStructure]) -> dict[str, np.ndarray]:
    """Structures and labels as arrays, with NaN for missing labels."""
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
