"""Checks before a fit: structures that no model can handle, unused config_type names, isolated atoms."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import chemical_symbols

from ..data.label_keys import overlooked
from ..data.overlaps import check_structures
from ..data.unit_check import unit_doubts
from ..errors import ConfigError, DataError, counted, required
from ..settings.fit import FitConfig
from ..structures import DEFAULT_CONFIG_TYPE, LabelledStructure, is_isolated_atom, is_said_isolated
from ..terms.baseline import Baseline

log = logging.getLogger(__name__)
SAME_ENERGY = 0.01
"""Difference in eV up to which two energies of an isolated atom are the same apart from rounding."""


def fitting(config: FitConfig, structures: Sequence[LabelledStructure], species: Sequence[int]) -> FitConfig:
    """Check structures and return the configuration for a fit to them, with the energies of isolated atoms among them.

    Labels that look wrong but can be used are reported by warnings.

    Raises
    ------
    StructureError, ConfigError, DataError
        See `check_structures`, `check_config_types`, `with_isolated_atoms`.
    """
    check_structures(structures)
    if (n_bound := sum(not is_isolated_atom(s.atoms) for s in structures)) <= 1:
        log.warning(
            "fit to %s: errors for any other structure cannot be estimated; add structures, or let `mlpot learn` choose them",
            "a single structure" if n_bound else "isolated atoms only",
        )
    warn_of_overlooked(structures)
    warn_of_missing_kinds(structures)
    if said := copies(structures):
        log.warning("%s: duplicates count twice, and leave-out errors are too small", said)
    check_config_types(config, structures)
    for doubt in unit_doubts(structures):
        log.warning("%s", doubt)
    return with_isolated_atoms(config, structures, species)


def warn_of_overlooked(structures: Sequence[LabelledStructure]) -> None:
    """Warn about labels under well-known names in info or arrays: a fit uses only the results of attached calculators."""
    found = Counter(key for s in structures for key in overlooked(s.atoms))
    if found:
        named = ", ".join(f"{key!r} ({n} of {len(structures)})" for key, n in found.items())
        log.warning("labels in info or arrays are not used: %s; mlpot.read(file) attaches them", named)


def warn_of_missing_kinds(structures: Sequence[LabelledStructure]) -> None:
    """Warn if no structure has an energy, or none has forces: the labels may be stored under unknown names."""
    missing = [
        name
        for name, is_there in (("energy", any(s.energy is not None for s in structures)),
                               ("forces", any(s.forces is not None for s in structures)))
        if not is_there
    ]  # fmt: skip
    if missing:
        log.warning("no structure has %s; if they are there under another name, name it", " or ".join(missing))


def copies(structures: Iterable[LabelledStructure], others: Iterable[LabelledStructure] | None = None) -> str:
    """Message with the number of structures that are duplicates, or are also in `others`, and one example; empty for none."""
    seen: dict[tuple[bytes, ...], str] = {_geometry(s): s.name for s in others or ()}
    found = list[str]()
    for s in structures:
        key = _geometry(s)
        if key in seen:
            found.append(f"{s.name} = {seen[key]}")
        elif others is None:
            seen[key] = s.name
    where = "duplicated" if others is None else "also in the training data"
    return f"{len(found)} structure{'s are' if len(found) > 1 else ' is'} {where} ({found[0]})" if found else ""


def _geometry(s: LabelledStructure) -> tuple[bytes, ...]:
    atoms = s.atoms
    arrays = (atoms.numbers, atoms.positions.round(6) + 0.0, atoms.cell.array.round(6) + 0.0, atoms.pbc)
    return tuple(array.tobytes() for array in arrays)


def check_config_types(config: FitConfig, structures: Iterable[LabelledStructure]) -> None:
    """Raise ConfigError for a name in `config_type_noise` that no structure has; "default" is always allowed."""
    present = {s.config_type for s in structures}
    for name in sorted(set(config.config_type_noise) - present - {DEFAULT_CONFIG_TYPE}):
        near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"there is {sorted(present) or [DEFAULT_CONFIG_TYPE]}"
        raise ConfigError(f"config_type_noise.{name}: no structure has this config_type; {remedy}")


def isolated_atoms(structures: Iterable[LabelledStructure]) -> dict[int, LabelledStructure]:
    """Structures that are a single isolated atom with an energy, by atomic number.

    Raises
    ------
    DataError
        If a structure of config_type isolated_atom has several atoms, or two atoms of an element have different energies.
    """
    found: dict[int, LabelledStructure] = {}
    for s in structures:
        if is_said_isolated(s.atoms) and s.n_atoms > 1:
            raise DataError(f"{s.name}: config_type = {s.config_type!r}, but {counted(s.n_atoms, 'atom')}; rename its config_type")
        if s.energy is None or not is_isolated_atom(s.atoms):
            continue
        first = found.setdefault(int(s.atoms.numbers[0]), s)
        if abs(required(first.energy, "energy") - s.energy) > SAME_ENERGY:
            raise DataError(
                f"{s.name}: an isolated {s.atoms.symbols[0]} of {s.energy:.8g} eV, but {first.energy:.8g} eV in {first.name}; "
                "keep one of them"
            )
    return found


def with_isolated_atoms(
    config: FitConfig, structures: Sequence[LabelledStructure], species: Sequence[int]
) -> FitConfig:
    """Configuration completed by the energies of isolated atoms in the data.

    If the configuration gives no isolated-atom energy at all, elements without an isolated atom are left out: the fit determines
    their energies together with the weights.

    Raises
    ------
    ConfigError
        If a given energy differs from the energy of the isolated atom in the data.
    DataError
        If energies were given by hand for some elements only; see also `isolated_atoms`.
    """
    atoms = isolated_atoms(structures)
    given = config.isolated_atom_energies or {}
    for number, s in atoms.items():
        symbol = chemical_symbols[number]
        if symbol in given and abs(given[symbol] - required(s.energy, "energy")) > SAME_ENERGY:
            raise ConfigError(
                f"isolated_atom_energies.{symbol} = {given[symbol]:.8g} eV, but {s.name} is an isolated {symbol} of "
                f"{s.energy:.8g} eV; remove one of them"
            )
    found = {symbol: s.energy for number, s in atoms.items() if (symbol := chemical_symbols[number]) not in given}
    if found:
        config = config.model_copy(update={"isolated_atom_energies": found | given})
    if not set(given) <= {chemical_symbols[number] for number in atoms}:  # else a fit to this data has found them
        Baseline(config.given_energies).energies(np.array(species))  # raises an error if one is missing
    return config
