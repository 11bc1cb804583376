"""Labelled structures: from ase.Atoms with attached results, and extended XYZ in ASE's conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.extxyz import key_val_dict_to_str

from .data.files import Files, read_files
from .data.targets import FITTED, check_symmetric
from .durable import atomic_write
from .errors import ConfigError, DataError, StructureError, quoted

DEFAULT_CONFIG_TYPE = "default"
BELONGING = {"positions", "numbers", "cell", "pbc"}
"""Properties on which labels depend; ASE's check also compares initial charges and magnetic moments."""
TENSORS = {"dipole": (3,), "polarizability": (3, 3)}
"""Results of whole structures besides energy and stress that text files keep, and their shapes."""
TENSOR = (6, 9)
"""Components of a stress or virial."""
LARGEST = 1e12
"""Bound of any label, in ASE's units."""
SAME_PLACE = 1e-8
"""Tolerance of positions, A: rounding in structure files, not a displacement."""


@dataclass(frozen=True)
class LabelledStructure:
    """A structure with the results of an electronic-structure calculation; a missing label is None.

    Parameters
    ----------
    atoms : ase.Atoms
        Positions in A.
    energy : float or None
        Total energy, eV.
    forces : (n_atoms, 3) array or None
        eV/A.
    virial : (3, 3) array or None
        -dE/dstrain = -stress * volume, eV.
    config_type : str
        Group of structures to which it belongs; noises and residuals are specified per config_type.
    name : str
        Origin of the structure, for messages.
    """

    atoms: Atoms
    energy: float | None
    forces: np.ndarray | None
    virial: np.ndarray | None
    config_type: str
    name: str

    @property
    def n_atoms(self) -> int:
        return len(self.atoms)

    @property
    def rows_by_label(self) -> dict[str, int]:
        """Number of rows in a design matrix by kind of label: one energy, three per atom, six of the virial; 0 for missing labels."""
        return {name: target.n_rows(self.n_atoms) for name, target in FITTED.items() if getattr(self, name) is not None}

    @property
    def n_rows(self) -> int:
        """Total number of rows in a design matrix."""
        return sum(self.rows_by_label.values())


def labelled(atoms: Atoms, name: str = "structure") -> LabelledStructure:
    """Read the labels from `atoms.calc`, without any calculation.

    A zero stress without three cell vectors carries no information and is ignored.

    Raises
    ------
    StructureError
        If there are no atoms, one of no element, or a position that is not finite.
    DataError
        If there is no label, labels belong to other atoms, or a label has the wrong shape or is not finite.
    """
    check_atoms(atoms, name)
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    energy = energy_of(results)
    forces, stress = results.get("forces"), results.get("stress")
    if energy is None and forces is None and stress is None:
        raise DataError(f"{name}: no energy, forces or stress attached; run a calculator or read labelled data")
    _check_they_are_its_own(atoms, name)
    for key, value, sizes in (
        ("energy", energy, (1,)),
        ("forces", forces, (3 * len(atoms),)),
        ("stress", stress, TENSOR),
    ):
        if value is not None:
            _check_label(f"{name}: {key}", value, sizes)
    if stress is not None and atoms.cell.rank < 3:
        if np.any(stress):
            raise DataError(f"{name}: a stress without three cell vectors; give the cell, or remove the stress")
        stress = None
        if energy is None and forces is None:
            raise DataError(f"{name}: no label but a stress without three cell vectors; remove this structure")
    config_type = str(atoms.info.get("config_type", DEFAULT_CONFIG_TYPE))
    return LabelledStructure(
        atoms=atoms,
        energy=None if energy is None else float(np.reshape(energy, ())),
        forces=None if forces is None else np.asarray(forces, float).reshape(-1, 3),
        virial=None if stress is None else -stress_matrix(stress) * atoms.get_volume(),
        config_type=config_type,
        name=name,
    )


def energy_of(results: Mapping[str, Any]) -> Any:
    """The energy among results under ASE's names, or None: with smearing, forces are the derivative of the free energy."""
    return results.get("free_energy", results.get("energy"))


def a_structure(value: Any) -> Atoms:
    """The value; StructureError where it is no ase.Atoms, such as a list of them or their positions."""
    if isinstance(value, Atoms):
        return value
    raise StructureError(f"{quoted(value)} instead of a structure (ase.Atoms); give one at a time, files are read by mlpot.read")


def checked_species(species: Iterable[int]) -> tuple[int, ...]:
    """Atomic numbers, sorted, each once; ConfigError where they are none."""
    numbers = [] if isinstance(species, str) or not isinstance(species, Iterable) else list(species)
    if not numbers or not all(isinstance(z, int | np.integer) and 0 < z < len(chemical_symbols) for z in numbers):
        raise ConfigError(f"species = {quoted(species)}: must be atomic numbers, such as [29] or atoms.numbers")
    return tuple(sorted({int(z) for z in numbers}))


def has_labels(atoms: Atoms) -> bool:
    """Whether an energy, forces or a stress is attached, so that a potential can be fitted."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return any(results.get(name) is not None for name in ("energy", "free_energy", "forces", "stress"))


def check_atoms(atoms: Atoms, name: str) -> None:
    """StructureError where there are no atoms, or none of this world."""
    if not len(atoms):
        raise StructureError(f"{name}: holds no atoms; remove this structure")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise StructureError(f"{name}: positions or cell are not finite everywhere; repair or remove this structure")
    if not atoms.numbers.all():
        k = int(np.argmin(atoms.numbers))
        raise StructureError(f"{name}: atom {k} is of no element (X); name its element, or remove it")


def _check_they_are_its_own(atoms: Atoms, name: str) -> None:
    """DataError where a calculator was last asked about other atoms, or the atoms have moved since: ASE's own check."""
    if getattr(atoms.calc, "atoms", None) is None or not hasattr(atoms.calc, "check_state"):
        return
    changed = sorted(BELONGING.intersection(atoms.calc.check_state(atoms, tol=SAME_PLACE)))
    if changed:
        raise DataError(
            f"{name}: its calculator holds labels of other {' and '.join(changed)}: it has been used for another structure "
            "since, or this one was changed; keep labels with atoms.calc = SinglePointCalculator(atoms, **atoms.calc.results) "
            "right after they are calculated"
        )


def _check_label(what: str, value: Any, sizes: tuple[int, ...]) -> None:
    """Raise DataError unless a label has the given number of finite real numbers."""
    array = np.asarray(value)
    if array.dtype.kind in "iuf" and array.size in sizes and np.all(np.abs(array) < LARGEST):
        if array.size == 9 and sizes == TENSOR:
            check_symmetric(what, array)
        return
    numbers = " or ".join(map(str, sizes))
    if array.dtype.kind == "c":
        problem = "holds complex numbers"
    elif array.dtype.kind not in "iuf":
        problem = f"= {str(value)[:60]!r} is not a number" if sizes == (1,) else "does not hold numbers"
    elif array.size in sizes and np.all(np.isfinite(array)):
        problem = f"holds {np.abs(array).max():.3g}, which is no result of a calculation"
    elif array.size in sizes:
        problem = f"= {value} is not finite" if array.size == 1 else "is not finite everywhere"
    else:
        problem = f"has {array.size} components, not {numbers}"
    raise DataError(f"{what} {problem}; repair or remove it")


def is_isolated_atom(atoms: Atoms) -> bool:
    """Whether a structure is a single isolated atom: not periodic, or of config_type isolated_atom or IsolatedAtom."""
    return len(atoms) == 1 and (not atoms.pbc.any() or is_said_isolated(atoms))


def is_said_isolated(atoms: Atoms) -> bool:
    """Whether the config_type is isolated_atom, in any spelling."""
    return str(atoms.info.get("config_type", "")).lower().replace("_", "").replace("-", "") in (
        "isolatedatom",
        "isolatedatoms",
    )


def agrees(first: LabelledStructure, second: LabelledStructure) -> bool:
    """Whether two structures agree in all numbers used by a fit."""
    return all(
        np.array_equal(a, b) if a is not None and b is not None else a is b
        for a, b in zip(_numbers(first), _numbers(second), strict=True)
    )


def _numbers(s: LabelledStructure) -> tuple:
    return s.atoms.numbers, s.atoms.positions, s.atoms.cell.array, s.atoms.pbc, s.energy, s.forces, s.virial


def stress_matrix(stress: np.ndarray) -> np.ndarray:
    """Stress matrix (3, 3) from ASE's six components xx yy zz yz xz xy, or from nine."""
    stress = np.asarray(stress, float)
    if stress.size == 9:
        return stress.reshape(3, 3)
    return symmetric_matrix(stress)


def symmetric_matrix(six: np.ndarray) -> np.ndarray:
    """Symmetric matrix (3, 3) from the components xx yy zz yz xz xy."""
    xx, yy, zz, yz, xz, xy = six
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def stress_voigt(stress: np.ndarray) -> np.ndarray:
    """ASE's six components xx yy zz yz xz xy of a (3, 3) stress."""
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def list_of(frames: Iterable[Atoms]) -> list[Atoms]:
    """Structures as a list; DataError for a single one, which would be taken for a list of its atoms, and for other objects."""
    if isinstance(frames, Atoms):
        raise DataError("a single Atoms object instead of a list of structures; write [atoms]")
    found = list(frames) if isinstance(frames, Iterable) and not isinstance(frames, str) else [frames]
    strange = [each for each in found if not isinstance(each, Atoms)]
    if strange:
        raise DataError(f"{quoted(strange[0])} instead of a structure (ase.Atoms); files are read by mlpot.read")
    return found


def all_labelled(frames: Iterable[Atoms], name: str = "structure") -> list[LabelledStructure]:
    """Apply `labelled` to each frame, named by `info["frame"]` or numbered from 0; DataError if there are none."""
    structures = [labelled(atoms, name_of(atoms, f"{name} {k}")) for k, atoms in enumerate(list_of(frames))]
    if not structures:
        raise DataError(f"{name}: no structures; give at least one labelled structure")
    return structures


def name_of(atoms: Atoms, otherwise: str) -> str:
    """Origin of a structure for messages: file and frame if it was read from a file."""
    frame = atoms.info.get("frame")
    return frame if isinstance(frame, str) else otherwise


def read_structures(files: Files) -> list[Atoms]:
    """All frames found by `read_files` in one list, with labels under ASE's names only; same errors."""
    return [atoms for file in read_files(files) for atoms in file.frames]


def exact_xyz(
    atoms: Atoms, info: Mapping[str, Any] | None = None, arrays: Mapping[str, np.ndarray] | None = None
) -> str:
    """Extended XYZ of a structure and its results with full precision: ASE reads back the same numbers, bit by bit.

    ASE's own writer rounds positions and forces to 1e-8, which is not sufficient to reproduce a fit.

    Parameters
    ----------
    atoms : ase.Atoms
        Its results: energy (the one that forces are the derivative of), forces, stress; dipole, polarizability, charges and magmoms
        as ASE has them.
    info : mapping
        Numbers and strings for the comment line, in addition to cell, pbc and results.
    arrays : mapping
        Numbers (n_atoms,) or (n_atoms, n) for further columns.
    """
    label = labelled(atoms)
    columns: dict[str, tuple[str, np.ndarray]] = {"pos": ("R", atoms.positions)}
    if label.forces is not None:
        columns["forces"] = ("R", label.forces)
    for name in ("initial_charges", "initial_magmoms"):
        if atoms.has(name):
            columns[name] = ("R", atoms.get_array(name))
    known: dict[str, Any] = {} if atoms.calc is None else atoms.calc.results
    columns |= {name: ("R", known[name]) for name in ("charges", "magmoms") if np.shape(known.get(name, ())) == (len(atoms),)}
    columns |= {name: ("R", array) for name, array in (arrays or {}).items()}
    results: dict[str, Any] = {name: known[name] for name in TENSORS if np.shape(known.get(name, ())) == TENSORS[name]}
    if label.energy is not None:
        results["energy"] = label.energy
    if label.virial is not None:
        results["stress"] = stress_matrix(atoms.calc.results["stress"])
    return xyz_text(atoms, columns, {**(info or {}), **results}, repr)


def xyz_text(
    atoms: Atoms,
    columns: Mapping[str, tuple[str, np.ndarray]],
    info: Mapping[str, Any],
    number: Callable[[float], str] = "{:.8f}".format,
) -> str:
    """Format a frame of extended XYZ, three times as fast as ASE's writer.

    Parameters
    ----------
    atoms : ase.Atoms
        Its elements, cell and pbc.
    columns : mapping
        By name the kind ("R" for numbers) and an array (n_atoms,) or (n_atoms, n); positions are called "pos".
    info : mapping
        For the comment line.
    number : callable
        Formats a number.
    """
    tables = [np.reshape(array, (len(atoms), -1)) for _, array in columns.values()]
    kinds = zip(columns, (kind for kind, _ in columns.values()), (table.shape[1] for table in tables), strict=True)
    comment: dict[str, Any] = {
        "Lattice": atoms.cell.array.T,
        "Properties": ":".join(["species:S:1", *(f"{name}:{kind}:{size}" for name, kind, size in kinds)]),
        **info,
        "pbc": atoms.pbc,
    }
    rows = zip(atoms.get_chemical_symbols(), np.concatenate(tables, axis=1).tolist(), strict=True)
    lines = [" ".join([symbol, *map(number, numbers)]) for symbol, numbers in rows]
    return "\n".join([str(len(atoms)), key_val_dict_to_str(comment), *lines]) + "\n"


def write_exact_xyz(
    file: str | Path,
    frames: Iterable[Atoms],
    infos: Iterable[Mapping[str, Any]],
    arrays: Iterable[Mapping[str, np.ndarray]] | None = None,
) -> None:
    """Write structures with `exact_xyz`, atomically."""
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        if arrays is None:
            handle.writelines(exact_xyz(*both) for both in zip(frames, infos, strict=True))
        else:
            handle.writelines(exact_xyz(*all_three) for all_three in zip(frames, infos, arrays, strict=True))


def bare_structure(atoms: Atoms) -> Atoms:
    """The structure reduced to the properties on which a label depends."""
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ("initial_charges", "initial_magmoms"):
        if atoms.has(name):
            bare.set_array(name, atoms.get_array(name))
    return bare


def volume_of(atoms: Atoms) -> float | None:
    """Volume in A^3 of a cell of three vectors, periodic along them or not, as ASE's stress refers to it; None otherwise."""
    return abs(triple_product(atoms.cell.array)) or None


def triple_product(vectors: np.ndarray) -> float:
    """Determinant of three vectors (3, 3), in a tenth of the overhead of a LAPACK call."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = vectors.tolist()
    return ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
