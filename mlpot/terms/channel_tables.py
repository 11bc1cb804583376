"""Tables of a descriptor (channels, contractions) in model and fit files, stored exactly as they were computed."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..data.stored import Stored
from ..descriptors.contractions import Contractions
from ..descriptors.density import TABLES, Reduction, SoapDescriptor
from ..settings.higher_order import HIGHEST_DEGREE

MOST_FEATURES = 2_000_000
"""Largest number of features; forty elements without a reduction have 360 000."""
ORDERS = (3, 4)


def tables_of(descriptor: SoapDescriptor) -> dict[str, np.ndarray]:
    """Arrays and numbers of a descriptor's tables by path, such as "reduction/weights"."""
    found = {name: getattr(descriptor, name) for name in TABLES}
    return {
        f"{name}/{field.name}": np.asarray(getattr(table, field.name))
        for name, table in found.items() if table is not None
        for field in fields(table) if getattr(table, field.name) is not None
    }  # fmt: skip


def read_tables(stored: Stored, place: str, species: tuple[int, ...], n_max: int, l_max: int) -> dict[str, Any]:
    """Read the tables below a place in a file as arguments of `SoapDescriptor`; tables that do not exist are left out.

    Parameters
    ----------
    stored : Stored
    place : str
        Path in the file, such as "terms/0".
    species, n_max, l_max
        Parameters of the descriptor, against which every index and shape is checked.

    Raises
    ------
    ValueError
        If the tables are inconsistent with each other or with the descriptor.
    """
    n_channels, found = len(species) * n_max, dict[str, Any]()
    if f"{place}/reduction/weights" in stored:
        reduction = _read_reduction(stored, f"{place}/reduction", len(species), n_max)
        found["reduction"], n_channels = reduction, len(reduction.weights)
    n_pairs = len(found["reduction"].a) if found else n_channels * (n_channels + 1) // 2
    if n_pairs * (l_max + 1) > MOST_FEATURES:
        raise ValueError(f"{place}: {n_pairs * (l_max + 1)} features: at most {MOST_FEATURES} can be computed")
    if f"{place}/contractions/shares" in stored:
        found["contractions"] = _read_contractions(stored, f"{place}/contractions", n_channels, l_max)
    return found


def _read_reduction(stored: Stored, place: str, n_species: int, n_max: int) -> Reduction:
    weights = stored.floats(f"{place}/weights", (None, n_species, n_max))
    if not len(weights):
        raise ValueError(f"{place}/weights: contains no channels")
    a = stored.integers(f"{place}/a", (None,), 0, len(weights) - 1)
    b = stored.integers(f"{place}/b", (len(a),), 0, len(weights) - 1)
    if not len(a):
        raise ValueError(f"{place}/a: contains no pairs of channels")
    return Reduction(weights, a, b, stored.floats(f"{place}/scale", (len(a),)))


def _read_contractions(stored: Stored, place: str, n_channels: int, l_max: int) -> Contractions:
    order = int(stored.integers(f"{place}/order", (), *ORDERS))
    shares = stored.floats(f"{place}/shares", (None, None, n_channels))
    highest = min(l_max, HIGHEST_DEGREE[order])
    if not 1 <= len(shares) <= highest + 1 or not shares.shape[1]:
        raise ValueError(
            f"{place}/shares: has shape {shares.shape}: must have 1 to {highest + 1} degrees and at least one channel"
        )
    scales = stored.floats(f"{place}/scales", (order - 2,))
    contractions = Contractions(order, shares, scales)
    if f"{place}/kept" not in stored:
        return contractions
    kept = stored.integers(f"{place}/kept", (None,), 0, contractions.n_features - 1)
    if not len(kept) or np.any(np.diff(kept) <= 0):
        raise ValueError(f"{place}/kept: must be ascending without duplicates, and not empty")
    return replace(contractions, kept=kept)
