"""Files of features: HDF5, written structure by structure, or NumPy's npz; see docs/features.md for their contents."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from .. import __version__
from ..durable import atomic_write, write_content
from ..errors import ConfigError
from ..structures import DEFAULT_CONFIG_TYPE, energy_of, name_of
from .feature_table import FeatureRows, Per
from .sources import FeatureSource, symbols

FORMAT = "mlpot-features"
VERSION = 1
KINDS = (".h5", ".hdf5", ".npz")
MOST_IN_MEMORY = 4e9
"""Bytes: an npz file is made in memory."""


def check_kind(file: Path) -> None:
    """ConfigError for a name that does not end like a file of features."""
    if file.suffix.lower() not in KINDS:
        raise ConfigError(f"{file}: unknown kind of file; end its name with one of {' '.join(KINDS)}")


def write_features(
    file: Path, source: FeatureSource, frames: Sequence[Atoms], rows: Iterable[FeatureRows], per: Per
) -> None:
    """Write a file of features atomically.

    Parameters
    ----------
    file : Path
        Its ending chooses the kind, see `KINDS`.
    source : FeatureSource
    frames : sequence of ase.Atoms
        Structures, with labels attached where they have any.
    rows : iterable of FeatureRows
        One for each of them; all with derivatives, or none.
    per : "atom", "mean" or "sum"

    Raises
    ------
    ConfigError
        For an unknown kind, or an npz file that would not fit in memory.
    """
    check_kind(file)
    header = _header(source, per)
    fixed = _fixed(source, frames, per)
    if file.suffix.lower() == ".npz":
        content = io.BytesIO()
        arrays: dict[str, Any] = {**fixed, **_collected(rows, fixed["offsets"]), "header": np.array(json.dumps(header))}
        np.savez_compressed(content, **arrays)
        write_content(file, content.getvalue())
        return
    with atomic_write(file) as temporary, h5py.File(temporary, "w") as h5:
        for name, value in header.items():
            h5.attrs[name] = value if isinstance(value, str | int | float) else json.dumps(value)
        for name, array in fixed.items():
            h5.create_dataset(name, data=array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array)
        for found in _numbered(rows, fixed["offsets"]):
            for name, array in found.items():
                _append(h5, name, array)


def _header(source: FeatureSource, per: Per) -> dict[str, Any]:
    return {
        "format": FORMAT, "version": VERSION, "mlpot": __version__, "per": per, "cutoff_A": float(source.cutoff),
        "elements": symbols(source.species), "settings": list(source.settings), "terms": [name for name, _ in source.labels],
    }  # fmt: skip


def _fixed(source: FeatureSource, frames: Sequence[Atoms], per: Per) -> dict[str, np.ndarray]:
    """Arrays that do not grow with derivatives."""
    offsets = np.cumsum([0, *map(len, frames)])
    results = [atoms.calc.results if atoms.calc is not None else {} for atoms in frames]
    found = {
        "offsets": offsets,
        "numbers": np.concatenate([atoms.numbers for atoms in frames]).astype(np.int64),
        "names": np.array(source.names),
        "term": np.repeat(np.arange(len(source.labels)), [n for _, n in source.labels]),
        "structure_names": np.array([name_of(atoms, f"structure {k}") for k, atoms in enumerate(frames)]),
        "config_types": np.array([str(atoms.info.get("config_type", DEFAULT_CONFIG_TYPE)) for atoms in frames]),
    }
    if any("energy" in r or "free_energy" in r for r in results):
        found["energies"] = np.array([energy_of(r) for r in results], float)  # None becomes NaN
    if any("forces" in r for r in results):
        none = [np.full((len(atoms), 3), np.nan) for atoms in frames]
        found["forces"] = np.concatenate(
            [np.asarray(r.get("forces", n), float) for r, n in zip(results, none, strict=True)]
        )
    return found


def _numbered(rows: Iterable[FeatureRows], offsets: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Arrays of every structure, appended one structure after the other; rows and atoms are numbered throughout."""
    n_rows = n_entries = 0
    for first_atom, found in zip(offsets[:-1].tolist(), rows, strict=True):
        arrays = {"features": found.features}
        if found.jacobian is not None:
            own = found.jacobian
            arrays |= {"jacobian/row": own.row + n_rows, "jacobian/atom": own.atom + first_atom}
            arrays |= {"jacobian/values": own.values, "jacobian/strain": own.strain}
            ends = [0] if n_rows == 0 else []
            n_entries += len(own.row)
            arrays["jacobian/offsets"] = np.array([*ends, n_entries])
        n_rows += len(found.features)
        yield arrays


def _append(h5: h5py.File, name: str, array: np.ndarray) -> None:
    """Append to a data set that grows."""
    if name not in h5:
        h5.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]), chunks=_chunk(array))
        return
    data = h5[name]
    data.resize(len(data) + len(array), axis=0)
    data[len(data) - len(array) :] = array


def _chunk(array: np.ndarray) -> tuple[int, ...]:
    """About 256 kB of rows, at least one."""
    own = max(array[:1].nbytes, 8)
    return (max(min(2**18 // own, 2**15), 1), *array.shape[1:])


def _collected(rows: Iterable[FeatureRows], offsets: np.ndarray) -> dict[str, np.ndarray]:
    """All arrays at once, with names such as "jacobian_values"."""
    found: dict[str, list[np.ndarray]] = {}
    size = 0
    for arrays in _numbered(rows, offsets):
        for name, array in arrays.items():
            found.setdefault(name.replace("/", "_"), []).append(array)
            size += array.nbytes
        if size > MOST_IN_MEMORY:
            raise ConfigError(
                f"an npz file of more than {MOST_IN_MEMORY / 1e9:.0f} GB does not fit in memory; write .h5"
            )
    return {name: np.concatenate(parts) for name, parts in found.items()}
