"""Labels under the many names that codes and people give them, and which of them a structure is fitted to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import DataError
from ..structures import is_isolated_atom, stress_matrix, stress_voigt
from .targets import check_symmetric

KINDS = ("energy", "forces", "stress", "virial")
NAMES = {
    "energy": ("energy", "totalenergy", "totenergy", "energytotal", "etot", "toteng", "potentialenergy", "freeenergy"),
    "forces": ("forces", "force"),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
}
SOURCES = ("", "ref", "reference", "dft", "qm", "target", "label", "vasp", "castep", "cp2k", "pbe")
"""Prefixes and suffixes that mark labels of the reference method; names of models are not among them."""
KNOWN = {
    spelling: (kind, source)
    for kind, names in NAMES.items()
    for name, source in product(names, SOURCES)
    for spelling in (source + name, name + source)
}
OWN = {"energy": ("free_energy", "energy"), "forces": ("forces",), "stress": ("stress",), "virial": ()}
"""ASE's names in the results of a calculator."""
NOT_LABELS = {"positions", "numbers", "momenta", "velocities", "velo", "vel", "initial_magmoms", "masses"}
PREDICTED = "mlpot_"
"""Before names of what a model said, in files that mlpot writes: no labels."""
COMPONENT = re.compile("(^f|force|forces)[xyz]$")
"""Plain names of columns that are one component of forces."""
SAME = {"energy": (1e-9, 1e-5), "forces": (1e-6, 1e-5), "stress": (1e-4, 1e-6)}
"""Relative and absolute difference (ASE's units) up to which two labels are one, rounded."""


@dataclass(frozen=True)
class LabelKeys:
    """Names of labels that a user gave; None where the well-known ones are looked for.

    Parameters
    ----------
    energy, forces, stress, virial : str or None
        Keys of info or arrays, or ASE's names. Energies are total ones in eV, forces in eV/A, a stress has ASE's sign in
        eV/A^3, a virial is -stress * volume in eV.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None

    def given(self) -> dict[str, str]:
        """The keys that were given, by kind of label."""
        return {kind: key for kind in KINDS if (key := getattr(self, kind)) is not None}


@dataclass(frozen=True)
class Taken:
    """A structure with its labels under ASE's names, and where they are from.

    Parameters
    ----------
    atoms : ase.Atoms
        A calculator holds its labels.
    keys : dict
        By kind the key that was taken.
    unused : dict
        Shapes, as text, of what looks like a label and was not taken, by key.
    """

    atoms: Atoms
    keys: dict[str, str]
    unused: dict[str, str] = field(default_factory=dict)


def take_labels(atoms: Atoms, keys: LabelKeys, name: str) -> Taken:
    """The labels of a structure, under the keys given or under well-known names; its calculator is replaced where that needs it.

    Raises
    ------
    DataError
        Labels of one kind under several names that differ, or one that is not numbers of the right shape.
    """
    chosen = {kind: _chosen(kind, atoms, keys, name) for kind in ("energy", "forces")}
    chosen["stress"] = _chosen_stress(atoms, keys, name)
    taken = {kind: choice[0] for kind, choice in chosen.items() if choice is not None}
    unused = _unused(atoms, keys, set(taken.values()))
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    in_place = {key for key in results if key != "free_energy" or "energy" in results}
    if keys.given() or not in_place.issuperset(taken.values()):
        for key in ("energy", "free_energy", "forces", "stress"):
            results.pop(key, None)
        results |= {kind: choice[1] for kind, choice in chosen.items() if choice is not None}
        atoms.calc = SinglePointCalculator(atoms, **results) if results else None
    return Taken(atoms, taken, unused)


def _chosen(kind: str, atoms: Atoms, keys: LabelKeys, name: str) -> tuple[str, Any] | None:
    """Key and value of a label; None where there is none."""
    given = getattr(keys, kind)
    if given is not None:
        value = _value(atoms, given)
        if value is not None or not (kind == "energy" and is_isolated_atom(atoms)):
            return None if value is None else (given, _checked(kind, value, len(atoms), f"{name}: {given}"))
    found = {
        key: _checked(kind, value, len(atoms), f"{name}: {key}")
        for key, value in _candidates(atoms)
        if (known := KNOWN.get(plain(key))) is not None and known[0] == kind
    }
    if not found:
        return None
    best = _best_of_each_source(found)
    for key in best[1:]:
        _check_same(kind, {k: found[k] for k in (best[0], key)}, name)
    return best[0], found[best[0]]


def _best_of_each_source(found: Mapping[str, Any]) -> list[str]:
    """One key for every source; a free energy goes before an energy, because forces are its derivative."""
    best: dict[str, list[str]] = {}
    for key in found:
        best.setdefault(KNOWN[plain(key)][1], []).append(key)
    keys = []
    for group in best.values():
        free = [key for key in group if "free" in plain(key)]
        keys += free[:1] or group
    return keys


def _chosen_stress(atoms: Atoms, keys: LabelKeys, name: str) -> tuple[str, Any] | None:
    """Key and value of a stress (six numbers, eV/A^3), be it from a virial.

    stress = -virial / volume, as QUIP (quippy.potential), MACE and DeePMD define the virial: -dE/dstrain, eV.
    """
    stress = None if keys.virial and not keys.stress else _chosen("stress", atoms, keys, name)
    virial = None if keys.stress and (stress or not keys.virial) else _chosen("virial", atoms, keys, name)
    if virial is None:
        return stress
    key, value = virial
    if atoms.cell.rank < 3:
        if np.any(value):
            raise DataError(f"{name}: {key} without a cell; a virial needs three cell vectors, give them or remove it")
        return stress
    converted = key, -value / atoms.get_volume()
    if stress is None:
        return converted
    _check_same("stress", {stress[0]: stress[1], f"-{key} / volume": converted[1]}, name)
    return stress


def _check_same(kind: str, values: Mapping[str, Any], name: str) -> None:
    """DataError unless the two values agree up to rounding."""
    (first, a), (second, b) = values.items()
    relative, absolute = SAME[kind]
    if np.allclose(a, b, rtol=relative, atol=absolute + relative * float(np.abs(b).max(initial=0.0))):
        return
    k = int(np.argmax(np.abs(np.ravel(a) - np.ravel(b))))
    shown = f"{first!r} ({np.ravel(a)[k]:.8g}) and {second!r} ({np.ravel(b)[k]:.8g})"
    remedy = "stress_key or virial_key" if kind == "stress" else f"{kind}_key"
    raise DataError(f"{name}: {kind} under two names that differ: {shown}; say which one with [data] {remedy}")


def _checked(kind: str, value: Any, n_atoms: int, what: str) -> Any:
    """A label as numbers: energies as they are, forces (n_atoms, 3), stresses and virials six."""
    array = as_array(value)
    sizes = {"energy": (1,), "forces": (3 * n_atoms,)}.get(kind, (6, 9))
    if array.dtype.kind not in "iuf" or array.size not in sizes:
        wanted = {"energy": "a number", "forces": f"{n_atoms} x 3 numbers"}.get(
            kind, "6 (xx yy zz yz xz xy) or 9 numbers"
        )
        raise DataError(f"{what} = {shortened(value)}: the {kind} must be {wanted}; repair or remove it")
    if kind == "energy":
        return float(array.reshape(()) if array.ndim == 0 else array.ravel()[0])
    if kind == "forces":
        return array.astype(float).reshape(-1, 3)
    if array.size == 9:
        check_symmetric(what, array.astype(float), 100.0 if kind == "virial" else 1.0)
    return stress_voigt(stress_matrix(array.ravel()))


def shortened(value: Any) -> str:
    """For messages: printable, on one line, not endless."""
    text = re.sub(r"\s+", " ", f"array of {value.shape}" if np.size(value) > 9 else str(value))
    return "".join(c for c in text if c.isprintable())[:80]


def plain(key: str) -> str:
    """Letters and digits of a key, small: REF_energy, ref-Energy and refEnergy are one name."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _candidates(atoms: Atoms) -> Iterator[tuple[str, Any]]:
    """Candidates for labels: ASE's results, info, arrays with three columns, and those that are one component of forces."""
    results = atoms.calc.results if atoms.calc is not None else {}
    yield from ((key, results[key]) for names in OWN.values() for key in names if key in results)
    yield from ((key, value) for key, value in atoms.info.items() if isinstance(key, str) and key not in results)
    yield from (
        (key, value)
        for key, value in atoms.arrays.items()
        if key not in results and key not in NOT_LABELS and (value.shape[1:] == (3,) or COMPONENT.search(plain(key)))
    )


def _value(atoms: Atoms, key: str) -> Any:
    """Value of a structure under a key, or None."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return next((place[key] for place in (results, atoms.info, atoms.arrays) if key in place), None)


def keys_of(atoms: Atoms) -> list[str]:
    """All names under which labels could be asked for, for suggestions."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return [
        str(key)
        for key in (*results, *atoms.info, *atoms.arrays)
        if key not in ("numbers", "positions", "frame", "config_type")
    ]


def _unused(atoms: Atoms, keys: LabelKeys, taken: set[str]) -> dict[str, str]:
    """Text of the shapes of what could be a label: a float, six or nine numbers, three for every atom.

    Of a kind for which no key was given all well-known names have been compared, and say the same.
    """
    given = set(keys.given())
    if given & {"stress", "virial"}:
        given |= {"stress", "virial"}
    found = {}
    for key, value in _candidates(atoms):
        known = KNOWN.get(plain(key))
        if key in taken or plain(key) in NOT_LABELS or key.startswith(PREDICTED) or (known is not None and known[0] not in given):
            continue
        array = as_array(value)
        if array.dtype.kind == "f" and (text := _shape_of_a_label(key, array, len(atoms))):
            found[key] = text
    return found


def _shape_of_a_label(key: str, array: np.ndarray, n_atoms: int) -> str:
    if array.shape == (n_atoms, 3):
        return "3 per atom, a gradient is minus the forces" if "grad" in plain(key) else "3 per atom"
    if array.shape == (n_atoms,) and COMPONENT.search(plain(key)):
        return "1 per atom; forces are one array of 3 columns"
    if array.shape in ((6,), (9,), (3, 3)):
        return f"{array.size} numbers"
    return "a number" if array.shape == () else ""


def as_array(value: Any) -> np.ndarray:
    """Any value as an array; of objects where it is a table of unequal rows or no numbers at all."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(None)


def overlooked(atoms: Atoms) -> list[str]:
    """Well-known names of labels of a kind that the calculator of a structure does not have."""
    results = atoms.calc.results if atoms.calc is not None else {}
    has = {kind for kind, names in OWN.items() if any(name in results for name in names)}
    has |= {"virial"} if "stress" in has else set()
    return [
        key
        for key, _ in _candidates(atoms)
        if (known := KNOWN.get(plain(key))) is not None and key not in results and known[0] not in has
    ]
