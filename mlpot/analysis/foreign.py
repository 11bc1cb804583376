"""A foreign descriptor by its import path: dscribe, featomic, a class of your own.

Security: naming an object imports its module, which runs the module's code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from ..descriptors.named import PATH
from ..descriptors.protocol import Descriptor
from ..errors import ConfigError, DescriptorError, quoted
from ..import_paths import imported
from ..neighbours import find_pairs
from .probes import BOX
from .subject import Subject

CUTOFFS = ("cutoff", "r_cut", "_r_cut", "rcut", "cutoffs")
"""Names of attributes that may hold a cutoff."""


def load(path: str, arguments: Mapping[str, Any], species: Sequence[int] = ()) -> Any:
    """The object of an import path; a class or function is called with the arguments.

    Raises
    ------
    ConfigError
        For a path that is none, a module that cannot be imported, or a call that fails.
    """
    if not PATH.fullmatch(path):
        raise ConfigError(f'{quoted(path)}: must be "package.module:object"')
    try:
        found = imported(path)
    except Exception as error:
        raise ConfigError(
            f"{quoted(path)}: cannot be imported ({type(error).__name__}: {quoted(error, 200)}); put it where Python finds it, for "
            "example with PYTHONPATH=."
        ) from error
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        if arguments:
            raise ConfigError(f"{quoted(path)}: is an object already; arguments are for classes and functions")
        return found
    first = (tuple(species),) if inspect.isclass(found) and issubclass(found, Descriptor) else ()
    try:
        return found(*first, **arguments)
    except Exception as error:
        raise ConfigError(
            f"{quoted(path)}: cannot be created ({type(error).__name__}: {quoted(error, 200)}); give its arguments as JSON, "
            """for example --arguments '{"r_cut": 5.0}'"""
        ) from error


def foreign_subject(path: str, arguments: Mapping[str, Any], species: Sequence[int], reach: float | None) -> Subject:
    """A subject of an object with `create(atoms)` (dscribe), `compute(atoms)` (featomic, your own), or a `mlpot.Descriptor`.

    Parameters
    ----------
    path : str
        "package.module:object".
    arguments : mapping
        For a class or function.
    species : sequence of int
        Atomic numbers of the structures to examine it on; empty: the object's own `species`.
    reach : float or None
        Its cutoff, A; None: the object's own.

    Raises
    ------
    ConfigError
        If the object has no such method, or its elements or cutoff are not known.
    """
    return subject_of_object(load(path, arguments, species), path, species, reach)


def subject_of_object(made: Any, path: str, species: Sequence[int], reach: float | None) -> Subject:
    """As `foreign_subject`, of an object that is there already; `path` is its name in messages and reports."""
    known = tuple(sorted(set(species))) or _species(made)
    if not known:
        raise ConfigError(f"{quoted(path)}: its elements are not known; name some with --elements")
    far = reach or _cutoff(made)
    if far is None:
        raise ConfigError(f"{quoted(path)}: its cutoff is not known; give it with --cutoff")
    if isinstance(made, Descriptor):
        return Subject(
            path, lambda atoms: made.compute(find_pairs(atoms, made.cutoff)), made.species, made.cutoff, made
        )
    subject = Subject(path, _calculation(made, path), known, far)
    subject.compute(_all_elements(known, far))  # columns of sparse results are known from here on
    return subject


def _calculation(made: Any, path: str) -> Callable[[Atoms], np.ndarray]:
    if callable(getattr(made, "create", None)):
        return lambda atoms: _dense(made.create(atoms))
    if not callable(getattr(made, "compute", None)):
        raise ConfigError(f"{quoted(path)}: has neither create(atoms) nor compute(atoms)")
    columns: dict[tuple, int] = {}

    def computed(atoms: Atoms) -> np.ndarray:
        found = made.compute(atoms)
        return _table(found, len(atoms), columns) if hasattr(found, "items") else _dense(found)

    return computed


def _dense(found: Any) -> np.ndarray:
    """A table of numbers, whether dense or sparse; a single row stays one."""
    array = np.asarray(found.todense() if hasattr(found, "todense") else found, float)
    return array.reshape(1, -1) if array.ndim == 1 else array


def _table(blocks: Any, n_atoms: int, columns: dict[tuple, int]) -> np.ndarray:
    """Blocks of metatensor as a table; `columns` gets an entry for every property of every block that has been seen.

    Blocks of different centres share their columns.
    """
    parts = []
    for key, block in blocks.items():
        kind = tuple(
            (name, int(key[name])) for name in blocks.keys.names if name not in ("center_type", "center_1_type")
        )
        values = np.asarray(block.values).reshape(len(block.samples), -1, len(block.properties))
        for c in range(values.shape[1]):
            names = [(*kind, c, *map(int, row)) for row in np.asarray(block.properties.values)]
            parts.append((np.asarray(block.samples["atom"]), names, values[:, c]))
    for _, names, _ in parts:
        for name in names:
            columns.setdefault(name, len(columns))
    found = np.zeros((n_atoms, len(columns)))
    for atoms, names, values in parts:
        found[np.ix_(atoms, np.array([columns[name] for name in names], int))] = values
    return found


def _all_elements(species: Sequence[int], reach: float) -> Atoms:
    """Two atoms of every element, near each other: every pair of elements is a pair of neighbours."""
    numbers = np.repeat(species, 2)
    rng = np.random.default_rng(0)
    places = [np.zeros(3)]
    nearest = 0.6 * reach / len(numbers)
    while len(places) < len(numbers):
        new = rng.uniform(-0.3 * reach, 0.3 * reach, 3)
        if min(np.linalg.norm(new - place) for place in places) > nearest:
            places.append(new)
    return Atoms(numbers, positions=places, cell=BOX)


def _species(made: Any) -> tuple[int, ...]:
    """Atomic numbers out of the attribute `species`, as symbols or numbers; empty if there is none."""
    found = getattr(made, "species", None)
    if found is None or isinstance(found, str):
        return ()
    try:
        numbers = {atomic_numbers[z] if isinstance(z, str) else int(z) for z in found}
    except (KeyError, TypeError, ValueError) as error:
        raise DescriptorError(f"species = {quoted(found)}: are no elements; name them with --elements") from error
    return tuple(sorted(z for z in numbers if 0 < z < len(chemical_symbols)))


def _cutoff(made: Any) -> float | None:
    """The largest number in an attribute that is called like a cutoff, or among parameters in JSON as featomic has them."""
    for name in CUTOFFS:
        found = getattr(made, name, None)
        if found is not None and not callable(found):
            values = np.atleast_1d(np.asarray(found, float))
            return float(values.max())
    text = getattr(made, "parameters", None)
    if isinstance(text, str):
        cutoff = json.loads(text).get("cutoff")
        return float(cutoff["radius"]) if isinstance(cutoff, dict) else cutoff
    return None
