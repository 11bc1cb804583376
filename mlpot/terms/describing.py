"""Features of structures, for use in other regression methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ..descriptors.density import species_indices
from ..descriptors.protocol import Descriptor
from ..errors import ConfigError
from ..neighbours import find_pairs
from ..settings.fit import ModelSettings
from ..settings.terms import TermSettingsBase
from .registry import empty_term, term_type


def describe(atoms: Atoms, settings: Mapping[str, Any] | Descriptor, species: Sequence[int] | None = None) -> np.ndarray:
    """Features of every atom as defined by a descriptor, or by the descriptor of a term, not standardised.

    Parameters
    ----------
    atoms : ase.Atoms
    settings : mapping or Descriptor
        Settings as in an entry of `model.terms`; keys of the kernel and of sparse points may be left out. Or a descriptor, also one
        of your own.
    species : sequence of int
        Atomic numbers, with settings; the elements of the structure by default.

    Returns
    -------
    (n_atoms, n_features) array

    Raises
    ------
    ConfigError
        If the settings are invalid, or belong to a term without a descriptor or with channels or features chosen on data.
    UnknownSpeciesError
        If an element is not among `species`.

    Examples
    --------
    >>> import mlpot
    >>> from ase.build import molecule
    >>> mlpot.describe(molecule("H2O"), {"type": "soap", "n_max": 4, "l_max": 3, "cutoff": 4.0}, species=[1, 8]).shape
    (3, 144)
    """
    if isinstance(settings, Descriptor):
        if species is not None:
            raise ConfigError(f"describe: species = {list(species)}: a descriptor has its own, {settings.species}; leave it out")
        return settings.compute(find_pairs(atoms, settings.cutoff))
    chosen = checked_settings(settings)
    if not term_type(chosen).term.is_many_body:
        raise ConfigError(f"describe: type = {settings.get('type')!r} has no descriptor; use a many-body term, such as 'soap'")
    if chosen.is_learned:
        raise ConfigError('describe: embedding = "learned": there is no data to learn from; set "periodic" or "random"')
    if settings.get("standardise"):
        raise ConfigError("describe: standardise = true: there is no data to take means from; set it to false")
    known = _known(atoms.numbers if species is None else species)
    species_indices(atoms.numbers, known)
    chosen.check_elements(known)
    descriptor = empty_term(chosen, known, 1.0).descriptor  # type: ignore[attr-defined]
    if not getattr(descriptor, "is_settled", True):
        raise ConfigError(f'describe: select = "{chosen.select}": there is no data to choose features on; set select = "none"')
    return descriptor.compute(find_pairs(atoms, descriptor.cutoff))


def _known(species: Iterable[int]) -> tuple[int, ...]:
    """Different atomic numbers in order; ConfigError for anything else."""
    numbers = list(species)
    if not numbers or not all(isinstance(z, int | np.integer) and 0 < z < len(chemical_symbols) for z in numbers):
        raise ConfigError(f"describe: species = {numbers}: must be atomic numbers, such as [1, 8]")
    return tuple(sorted({int(z) for z in numbers}))


def checked_settings(settings: Mapping[str, Any] | TermSettingsBase) -> Any:
    """Validate the settings of a term; ConfigError if they are invalid."""
    return ModelSettings(terms=(settings,)).terms[0]  # type: ignore[arg-type]
