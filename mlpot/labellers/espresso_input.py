"""Input files of pw.x: every setting of the user is written to them, or is an error that names it.

An index for species, as in `Hubbard_U(1)`, refers to the entries of `pseudopotentials`, for all structures. If the moments of a
structure split an element into several species of pw.x, the settings of the element are used for each of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from ..errors import ConfigError, quoted
from .espresso_keys import KEYS, NOT_READ, OF_SPECIES, hint, section_of, split_key

HERE = "labeller.parameters"
OURS = {
    **dict.fromkeys(("nat", "ntyp", "space_group"), "the atoms are taken from the structure"),
    **dict.fromkeys(("ibrav", "celldm", "a", "b", "c", "cosab", "cosac", "cosbc"), "the cell is taken from the structure"),
    **dict.fromkeys(("outdir", "wfcdir", "prefix"), "each label has its own folder in TMPDIR"),
    "pseudo_dir": "set labeller.parameters.pseudo_dir instead",
    "restart_mode": "each label is a new calculation; see labeller.parameters.density_dir",
}
PROMISED = {"calculation": "scf", "tprnfor": True, "tstress": True}
VALENCE = (re.compile(r"z_valence\s*=\s*\"\s*([-+.0-9eEdD]+)"), re.compile(r"^\s*([-+.0-9eEdD]+)\s+Z valence", re.MULTILINE))
HEADER_BYTES = 1_000_000
MOST_SPECIES = 10
"""Largest number of species in pw.x before 7.0."""
MANIFOLD = re.compile(r"([A-Z][a-z]?)(\d*)-\d[spdf](?:-\d[spdf])?")
CARD_KINDS = ("U", "J", "J0", "B", "E2", "E3", "V", "ALPHA")


@dataclass(frozen=True)
class Hubbard:
    """The card HUBBARD of pw.x 7.1 and later.

    Parameters
    ----------
    projectors : str
        "ortho-atomic", "atomic", ...
    lines : sequence of str
        "U Fe-3d 4.6", "J0 Fe-3d 1.0", "V Fe-3d O-2p 1 5 0.8".
    """

    projectors: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Setup:
    """The settings that do not depend on the structure.

    Parameters
    ----------
    pseudo_dir : str
    pseudopotentials : dict
        File name by symbol, in the order to which indices refer.
    namelists : dict of dict
        From `checked`.
    kpts, koffset
        Grid and shift; or (n, 4) points and None.
    hubbard : Hubbard or None
    """

    pseudo_dir: str
    pseudopotentials: Mapping[str, str]
    namelists: Mapping[str, Mapping[str, Any]]
    kpts: Any
    koffset: tuple[int, ...] | None
    hubbard: Hubbard | None = None


def checked(input_data: Mapping[str, Any], symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters as namelists with lower-case keys; tables by symbol become keys with indices.

    Parameters
    ----------
    input_data : dict
        Flat, or by namelist; keys with an index for species may be tables by symbol: Hubbard_U = {"Fe": 4.6}.
    symbols : sequence of str
        Symbols of the pseudopotentials.

    Raises
    ------
    ConfigError
        For a key that pw.x does not have, that is given twice, or that the user cannot set; for an impossible value.
    """
    found: dict[str, dict[str, Any]] = {section: {} for section in KEYS}
    for name, value in input_data.items():
        section = name.lower().lstrip("&")
        if section in KEYS and isinstance(value, Mapping):
            for key, inner in value.items():
                _put(found, key, inner, symbols, section)
        else:
            _put(found, name, value, symbols, None)
    for name, value in PROMISED.items():
        given = found["control"].setdefault(name, value)
        if given != value:
            raise ConfigError(f"{HERE}.input_data.{name} = {given!r}: must be {value!r} for a label")
    if "ecutwfc" not in found["system"]:
        raise ConfigError(f"{HERE}.input_data.ecutwfc: missing; add the plane-wave cutoff in Ry")
    return found


def _put(found: dict, key: str, value: Any, symbols: Sequence[str], section: str | None) -> None:
    here = f"{HERE}.input_data.{key}"
    name, indices = split_key(key)
    right = _namelist_of(name, section, here)
    if isinstance(value, Mapping):
        if name not in OF_SPECIES or indices:
            raise ConfigError(f"{here} = {quoted(value)}: must be one value, not a table")
        for symbol, inner in value.items():
            if symbol not in symbols:
                raise ConfigError(f"{here}.{symbol}: no pseudopotential for this symbol; there are {', '.join(symbols)}")
            _put(found, f"{name}({symbols.index(symbol) + 1})", inner, symbols, section)
        return
    if name in OF_SPECIES and not 1 <= _species_index(name, indices, here) <= len(symbols):
        raise ConfigError(f"{here}: its index must refer to one of the {len(symbols)} pseudopotentials: {', '.join(symbols)}")
    full = f"{name}({','.join(map(str, indices))})" if indices else name
    if full in found[right]:
        raise ConfigError(f"{here}: is given twice; remove one of them")
    found[right][full] = _checked_value(here, value)


def _namelist_of(name: str, section: str | None, here: str) -> str:
    """The namelist of a key; ConfigError if it cannot be set for a label, or belongs to another namelist than given."""
    right = section_of(name)
    if right is None:
        raise ConfigError(f"{here}: unknown key; {hint(name)}")
    if right in NOT_READ:
        raise ConfigError(f"{here}: belongs to the namelist {right.upper()}, which pw.x does not read for a label; remove it")
    if section is not None and section != right:
        raise ConfigError(f"{here}: belongs to the namelist {right.upper()}, not to {section.upper()}")
    if name in OURS:
        raise ConfigError(f"{here}: cannot be set; {OURS[name]}")
    return right


def _species_index(name: str, indices: tuple[int, ...], here: str) -> int:
    if not indices:
        raise ConfigError(f"{here}: needs an index or a table by symbol, such as {name} = {{ Fe = 1.0 }}")
    return indices[0] if name == "hubbard_occ" else indices[-1]


def _checked_value(here: str, value: Any) -> Any:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if not is_number and not (isinstance(value, str) and value.isprintable()):
        raise ConfigError(f"{here} = {quoted(value)}: must be true, false, a number, or a string of one line")
    return value


def checked_hubbard(given: Mapping[str, Any] | None, symbols: Sequence[str]) -> Hubbard | None:
    """The card HUBBARD; ConfigError naming a wrong line."""
    if given is None:
        return None
    here = f"{HERE}.hubbard"
    unknown = [key for key in given if key not in ("projectors", "lines")]
    if unknown:
        raise ConfigError(f"{here}.{unknown[0]}: unknown key; {hint(unknown[0], ('projectors', 'lines'))}")
    projectors, lines = given.get("projectors", "ortho-atomic"), given.get("lines")
    if not isinstance(projectors, str) or not re.fullmatch(r"[a-z-]+", projectors):
        raise ConfigError(f'{here}.projectors = {quoted(projectors)}: must be a word such as "ortho-atomic"')
    if not isinstance(lines, list | tuple) or not lines:
        raise ConfigError(f'{here}.lines: missing; add lines such as "U Fe-3d 4.6"')
    for line in lines:
        _check_line(line, symbols)
    return Hubbard(projectors, tuple(lines))


def _check_line(line: Any, symbols: Sequence[str]) -> None:
    here = f"{HERE}.hubbard.lines: {quoted(line)}"
    words = line.split() if isinstance(line, str) and line.isprintable() else []
    kind = words[0].upper() if words else ""
    manifolds = 2 if kind == "V" else 1
    if kind not in CARD_KINDS or len(words) != (6 if kind == "V" else 3):
        raise ConfigError(f'{here}: must be like "U Fe-3d 4.6" or "V Fe-3d O-2p 1 5 0.8"')
    for word in words[1 : 1 + manifolds]:
        found = MANIFOLD.fullmatch(word)
        if found is None or found[2] or found[1] not in symbols:
            raise ConfigError(f"{here}: {word!r} must be an element with a pseudopotential and its shell, such as Fe-3d")
    try:
        [float(words[-1]), *map(int, words[3:5] if kind == "V" else ())]
    except ValueError as error:
        raise ConfigError(f"{here}: {error}") from error


def input_text(atoms: Atoms, setup: Setup, more: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """The input file for a structure.

    Parameters
    ----------
    atoms : ase.Atoms
        With magnetic moments (Bohr magnetons) if they are the initial spins.
    setup : Setup
    more : dict of dict, optional
        Namelists whose keys replace those of the same name.

    Raises
    ------
    ConfigError
        For an element without a pseudopotential, a structure without a cell, moments without spin, spin without moments.
    """
    _check_structure(atoms, setup)
    species = _species(atoms, setup)
    lists = {name: dict(values) for name, values in setup.namelists.items()}
    for name, values in (more or {}).items():
        lists[name].update(values)
    lists["control"]["pseudo_dir"] = setup.pseudo_dir
    lists["system"] = _system(atoms, lists["system"], species, setup)
    text = "".join(_namelist(name, values) for name, values in lists.items() if values or name in ("control", "system", "electrons"))
    numbers = [species.index(kind) for kind in _kinds(atoms, setup)]
    labels = _labels(species)
    cards = ["ATOMIC_SPECIES"]
    cards += [f"{label} {atomic_masses[atomic_numbers[symbol]]} {setup.pseudopotentials[symbol]}"
              for label, (symbol, _) in zip(labels, species, strict=True)]  # fmt: skip
    cards += [*_points(setup), "CELL_PARAMETERS angstrom", *_rows(atoms.cell.array), "ATOMIC_POSITIONS angstrom"]
    cards += [f"{labels[n]} {row}" for n, row in zip(numbers, _rows(atoms.positions), strict=True)]
    return text + "\n".join([*cards, *_hubbard_card(setup.hubbard, species, labels)]) + "\n"


def _check_structure(atoms: Atoms, setup: Setup) -> None:
    for symbol in sorted(set(atoms.get_chemical_symbols())):
        if symbol not in setup.pseudopotentials:
            raise ConfigError(f"{HERE}.pseudopotentials.{symbol}: missing for an element of the structure; add the name of its file")
    if atoms.cell.rank < 3:
        raise ConfigError(f"{HERE}: pw.x needs a cell, but the structure has none; give it three cell vectors")
    system = setup.namelists["system"]
    has_moments = bool(np.any(atoms.get_initial_magnetic_moments()))
    starts = [key for key, value in system.items() if key.startswith("starting_magnetization") and value]
    is_magnetic = system.get("nspin", 1) != 1 or system.get("noncolin", False)
    if has_moments and not is_magnetic:
        raise ConfigError(
            f"{HERE}.input_data.nspin: the structure has magnetic moments; add nspin = 2, or remove them from its file"
        )
    if has_moments and starts:
        raise ConfigError(
            f"{HERE}.input_data.{starts[0]}: the structure has magnetic moments as well; remove one of them"
        )
    if system.get("nspin") == 2 and not has_moments and not starts and "tot_magnetization" not in system:
        raise ConfigError(
            f"{HERE}.input_data.nspin = 2: needs initial spins; add starting_magnetization = {{ Fe = 0.5 }}, "
            "tot_magnetization, or initial_magmoms in the structure file"
        )


def _kinds(atoms: Atoms, setup: Setup) -> list[tuple[str, float]]:
    """Symbol and moment of each atom."""
    moments = atoms.get_initial_magnetic_moments()
    if moments.ndim != 1:
        raise ConfigError(f"{HERE}: vector moments of a structure are not supported; give starting_magnetization, angle1 and angle2")
    return list(zip(atoms.get_chemical_symbols(), moments.tolist(), strict=True))


def _species(atoms: Atoms, setup: Setup) -> list[tuple[str, float]]:
    """Species of pw.x, in the order of the pseudopotentials and then of the first atoms."""
    order = list(setup.pseudopotentials)
    return sorted(dict.fromkeys(_kinds(atoms, setup)), key=lambda kind: order.index(kind[0]))


def _labels(species: Sequence[tuple[str, float]]) -> list[str]:
    """Labels of species, such as Fe, Fe1, Fe2, O."""
    labels = []
    for k, (symbol, _) in enumerate(species):
        before = sum(other == symbol for other, _ in species[:k])
        labels.append(f"{symbol}{before or ''}")
    return labels


def _system(atoms: Atoms, given: Mapping[str, Any], species: list[tuple[str, float]], setup: Setup) -> dict[str, Any]:
    """The namelist SYSTEM for a structure, with indices that refer to the species of pw.x."""
    if len(species) > MOST_SPECIES:
        raise ConfigError(
            f"{HERE}: the magnetic moments make {len(species)} species, but pw.x allows {MOST_SPECIES}; round the moments"
        )
    symbols = list(setup.pseudopotentials)
    system: dict[str, Any] = {"ibrav": 0, "nat": len(atoms), "ntyp": len(species)}
    for key, value in given.items():
        name, indices = split_key(key)
        if name not in OF_SPECIES:
            system[key] = value
            continue
        at = 0 if name == "hubbard_occ" else -1
        for k, (symbol, _) in enumerate(species, start=1):
            if symbol == symbols[indices[at] - 1]:
                own = list(indices)
                own[at] = k
                system[f"{name}({','.join(map(str, own))})"] = value
    if any(moment for _, moment in species):
        for k, (symbol, moment) in enumerate(species, start=1):
            system[f"starting_magnetization({k})"] = _fraction(symbol, moment, setup)
    return system


def _fraction(symbol: str, moment: float, setup: Setup) -> float:
    """A moment as a fraction of the valence electrons, which all versions of pw.x accept."""
    file = Path(setup.pseudo_dir, setup.pseudopotentials[symbol])
    with file.open(encoding="latin-1") as stream:
        header = stream.read(HEADER_BYTES)
    found = next((match for pattern in VALENCE if (match := pattern.search(header))), None)
    if found is None:
        raise ConfigError(
            f"{HERE}.pseudopotentials.{symbol}: {file} does not state the number of valence electrons, which moments need; give "
            "starting_magnetization, and no moments in the structure"
        )
    return max(-1.0, min(1.0, moment / float(found[1].lower().replace("d", "e"))))


def _namelist(name: str, values: Mapping[str, Any]) -> str:
    return "".join([f"&{name.upper()}\n", *(f"  {key} = {_fortran(value)}\n" for key, value in values.items()), "/\n"])


def _fortran(value: Any) -> str:
    if isinstance(value, bool):
        return ".true." if value else ".false."
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _points(setup: Setup) -> list[str]:
    if setup.koffset is not None:
        return ["K_POINTS automatic", " ".join(map(str, (*setup.kpts, *setup.koffset)))]
    return ["K_POINTS crystal", str(len(setup.kpts)), *(" ".join(f"{x:.14f}" for x in row) for row in setup.kpts)]


def _rows(array: np.ndarray) -> list[str]:
    return [" ".join(f"{x:.12f}" for x in row) for row in array]


def _hubbard_card(card: Hubbard | None, species: Sequence[tuple[str, float]], labels: Sequence[str]) -> list[str]:
    """Lines of the card for each species of an element, without elements that the structure does not have."""
    if card is None:
        return []
    written = [f"HUBBARD {{{card.projectors}}}"]
    of = {symbol: [label for label, (own, _) in zip(labels, species, strict=True) if own == symbol] for symbol, _ in species}
    for line in card.lines:
        words = line.split()
        symbols = [word.split("-")[0] for word in words[1:3] if MANIFOLD.fullmatch(word)]
        if any(symbol not in of for symbol in symbols):
            continue
        if len(symbols) == 2:
            if any(len(of[symbol]) > 1 for symbol in symbols):
                raise ConfigError(f"{HERE}.hubbard.lines: {line!r}: magnetic moments split its elements into several species")
            written.append(line)
            continue
        shell = words[1].removeprefix(symbols[0])
        written += [f"{words[0]} {label}{shell} {words[2]}" for label in of[symbols[0]]]
    return written if len(written) > 1 else []
