"""Tables of models for the compiled core: in a flat file that a C program loads without Python, or in memory for Python itself.

The C interface is `cython_ext/core/mlpot_core.h`. The container is described in `cython_ext/core/model_file.h`: named
sections of doubles, 32-bit integers and floats after a checksum. It contains the tables used by the loops of the core, and the
parameters of the baseline, the calibration and the noises:

    species, counts_as, cutoff, n_terms      elements of the model, the elements that represent them in the terms, A
    t{k}.*                                   term k: `core_tables` of the compiled terms; t{k}.p{m}.*: an element of a many-body term
    b.*, z.*, g.*                            isolated atoms, repulsion, tabulated potential: `Baseline.core_tables`
    u.*                                      the uncertainty: `core_uncertainty`
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..durable import write_content
from ..errors import ConfigError, ModelFileError, quoted
from ..terms.baseline import Baseline
from ..terms.core_terms import Arrays, joined, plain
from ..terms.protocol import CompiledTerm
from ..threads import single_blas_thread
from ..uncertainty.evaluators import Spread
from .core_uncertainty import observing_tables, uncertainty_tables
from .parameters import Parameters

VERSION = 3
"""Version of the format: MLPOT_FILE_VERSION in cython_ext/core/model_file.h."""
MAGIC = b"MLPOTCOR"
BYTE_ORDER = 0x01020304
TYPES = {np.dtype(np.float64): 1, np.dtype(np.int32): 2, np.dtype(np.float32): 3}
LINE = 64
"""Alignment of the sections, size of the header, and size of a section's record, in bytes."""
LONGEST_NAME = 39


def export_core(
    source: Parameters, terms: Sequence[CompiledTerm], baseline: Baseline, spread: Spread | None, file: str | Path
) -> None:
    """Write a model for C programs; see `SparseGP.export_core`.

    Parameters
    ----------
    source : Parameters
        Parameters of the model.
    terms : sequence of CompiledTerm
        Compiled terms of the model.
    baseline : Baseline
        Baseline of the compiled model.
    spread : Spread or None
        Evaluator of the uncertainty, if the file is to include its tables.
    file : path
        Replaced atomically; on failure an older file is unchanged.

    Raises
    ------
    ModelFileError
        If the folder is missing, read-only or full.
    ConfigError
        If the core cannot compute the uncertainty of the model.
    """
    with single_blas_thread():
        content = packed(sections_of(source, terms, baseline, spread))
    try:
        write_content(file, content)
    except OSError as error:
        said = quoted(error.strerror or error, 300)
        raise ModelFileError(f"{file}: cannot be written: {said}; make room, or name another place") from error


def sections_of(
    source: Parameters, terms: Sequence[CompiledTerm], baseline: Baseline, spread: Spread | None
) -> dict[str, np.ndarray]:
    """All sections of the file of a model, by name; ConfigError if the core cannot evaluate a term."""
    places = _places(source, range(len(terms)))
    own = {} if spread is None else spread.term_tables()
    found = {"u.kind": np.array([0])} if spread is None else uncertainty_tables(source, spread, _counted(source), places)
    return _joined(source, [own[k] if k in own else terms[k].core_tables() for k in places], baseline) | found


def handle_tables(
    source: Parameters, terms: Sequence[CompiledTerm], baseline: Baseline, spread: Spread | None = None
) -> dict[str, np.ndarray]:
    """Tables of the part of a model that the core evaluates for Python: its terms in the core, and the baseline.

    With a `spread`, also the sums behind the uncertainty.
    """
    places = _places(source, [k for k, term in enumerate(terms) if term.in_core])
    own = {} if spread is None else spread.term_tables()
    found = {"u.kind": np.array([0])} if spread is None else observing_tables(source, spread, places)
    return _joined(source, [own[k] if k in own else terms[k].core_tables() for k in places], baseline) | found


def _places(source: Parameters, terms: Iterable[int]) -> dict[int, int]:
    """Places in the core, by index of the term, of the terms that have sparse points."""
    return {k: place for place, k in enumerate(k for k in terms if source.terms[k].n_sparse)}


def _counted(source: Parameters) -> list[int]:
    """Atomic number that represents each element of a model in the terms."""
    return [source.stand_ins.get(z, z) for z in source.species]


def _joined(source: Parameters, terms: Sequence[Arrays], baseline: Baseline) -> dict[str, np.ndarray]:
    return joined(source.species, _counted(source), source.cutoff, terms) | baseline.core_tables(source.species)


def packed(sections: Arrays) -> bytes:
    """Pack sections into the bytes of a file; sections with equal content are stored once.

    Raises
    ------
    ConfigError
        If a number is not finite, or a name is too long.
    """
    records, places, content, end = [], {}, [], LINE * (1 + len(sections))
    for name, array in sections.items():
        numbers = plain(array)
        if len(name) > LONGEST_NAME:
            raise ConfigError(f"section {name} of a model file: the name is longer than {LONGEST_NAME} characters")
        if not np.isfinite(numbers).all():
            raise ConfigError(f"section {name} of a model file holds numbers that are not finite; fit the model again")
        data = numbers.tobytes()
        if (data, numbers.dtype) not in places:
            places[data, numbers.dtype] = end
            content.append(data + bytes(-len(data) % LINE))
            end += len(content[-1])
        offset = places[data, numbers.dtype]
        records.append(struct.pack("=40sIIQQ", name.encode(), TYPES[numbers.dtype], 0, offset, numbers.size))
    head = struct.pack("=8sIIQI", MAGIC, VERSION, BYTE_ORDER, end, len(sections)).ljust(LINE - 4, b"\0")
    body = b"".join(records + content)
    return head + struct.pack("=I", zlib.crc32(body, zlib.crc32(head))) + body
