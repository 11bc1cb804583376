"""Files of electronic-structure codes and of DeePMD, with what ase.io does not ask: which steps are DFT, and which have converged.

VASP. In OUTCAR an ionic step ends with FREE ENERGIE OF THE ION-ELECTRON SYSTEM; steps of VASP's own potential (ML_LMLFF) say ML
before it, and in vasprun.xml they stand outside of <calculation>, or in one without <scstep>. Electronic steps end with "aborting
loop because EDIFF is reached", or with "EDIFF was not reached", a hard stop, or NELM iterations. pw.x with
scf_must_converge = .false. says "convergence has been achieved" whatever has happened, so its estimated accuracy is compared with the
threshold; CP2K says "SCF run NOT converged".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO, StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.io.formats import open_with_compression

from ..errors import DataError

UNCONVERGED = "mlpot_unconverged"
"""Key in info of structures whose electronic steps have not converged: their labels are worth nothing."""
OWN_POTENTIAL = "steps of VASP's own potential (ML_LMLFF)"
"""Kinds of steps that are never taken as DFT, for the count."""
END_OF_STEP = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"
ENERGY_LINES = 4
"""Behind it."""
REACHED = re.compile(r"aborting loop because EDIFF is reached")
NOT_REACHED = re.compile(r"EDIFF was not reached|aborting loop because hard stop was set")
ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
NELM = re.compile(r"NELM\s*=\s*(\d+)")
PW_THRESHOLD = re.compile(r"(?:scf convergence threshold|new conv_thr) +=\s*(\S+)")
PW_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s*(\S+)")
DEEPMD = "type.raw"
"""Files in the folder of every DeePMD system."""

Reader = Callable[[str, Counter], Iterator[Atoms]]
"""Called with a file and the number of its steps that give no structure here."""


def reader_of(file: str, kind: str) -> Reader | None:
    """Reader for a file that ase.io does not read well enough; None otherwise.

    Parameters
    ----------
    file : str
    kind : str
        ASE's name of its format.
    """
    if is_deepmd(Path(file)):
        return deepmd_frames
    if kind in ("espresso-out", "gaussian-out", "") and _is_cp2k(file):  # what ASE takes names ending in .out and .log for
        return cp2k_frames
    return {"vasp-out": outcar_steps, "vasp-xml": vasprun_steps, "espresso-out": pw_steps}.get(kind)


def is_deepmd(folder: Path) -> bool:
    """Whether a folder is a DeePMD system."""
    return (folder / DEEPMD).is_file()


def _is_cp2k(file: str) -> bool:
    with open_with_compression(file, "rb") as handle:
        return b"CP2K|" in handle.read(20_000)


def outcar_steps(file: str, skipped: Counter) -> Iterator[Atoms]:
    """The DFT steps of an OUTCAR."""
    with open_with_compression(file, "rt") as lines:
        told = [(step.kind, step.converged) for step in _steps(lines)]
    converged = [is_converged for kind, is_converged in told if kind == "dft"]
    if len(converged) == len(told):
        frames = ase.io.iread(file, index=":", format="vasp-out", do_not_split_by_at_sign=True)
    else:
        frames = _dft_alone(file) if converged else iter(())
    if own := sum(kind == "ml" for kind, _ in told):
        skipped[OWN_POTENTIAL] += own
    for atoms, is_converged in zip(frames, converged, strict=True):
        yield _marked(atoms, is_converged)


def _dft_alone(file: str) -> Iterator[Atoms]:
    """The frames of an OUTCAR without the steps that ase.io does not know."""
    text = StringIO()
    text.name = file
    with open_with_compression(file, "rt") as lines:
        for step in _steps(lines):
            if step.kind == "dft":
                text.writelines(step.lines)
    text.seek(0)
    yield from ase.io.read(text, index=":", format="vasp-out")


class _Step:
    """Lines of one ionic step, or of the prediction of VASP's own potential before it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.kind: Literal["dft", "ml", "torn"] = "dft"
        self.converged = True


def _steps(lines: Iterator[str]) -> Iterator[_Step]:
    """The steps of an OUTCAR, the header before the first DFT step; the last may be torn, what is before its energy is left out.

    A step of VASP's own potential counts unless the DFT step of the same structure follows it.
    """
    nelm, waiting, header = None, None, list[str]()
    while (found := _step(lines, nelm)) is not None:
        step, nelm = found
        if step.kind != "ml":
            step.lines, header, waiting = header + step.lines, [], None
            yield step
            continue
        header += _head(step.lines)
        if waiting is not None:
            yield waiting
        waiting = step
    if waiting is not None:
        yield waiting


def _step(lines: Iterator[str], nelm: int | None) -> tuple[_Step, int | None] | None:
    """The next step, and NELM as far as it is known; None at the end of the file."""
    step, iterations, verdict = _Step(), 0, None
    for line in lines:
        step.lines.append(line)
        if found := ITERATION.search(line):
            iterations, verdict = int(found[1]), None
        elif nelm is None and (found := NELM.search(line)):
            nelm = int(found[1])
        elif REACHED.search(line):
            verdict = True
        elif NOT_REACHED.search(line):
            verdict = False
        elif END_OF_STEP in line:
            rest = list(islice(lines, ENERGY_LINES))
            step.lines += rest
            is_whole = len(rest) == ENERGY_LINES and rest[-1].endswith("\n")
            step.kind = "torn" if not is_whole else "ml" if "ML " + END_OF_STEP in line else "dft"
            step.converged = verdict if verdict is not None else nelm is None or iterations < nelm
            return step, nelm
    return None


def _head(lines: list[str]) -> list[str]:
    """Header before the first step, where ASE finds elements and counts."""
    end = next((k for k, line in enumerate(lines) if "ML FORCE" in line or "POSITION" in line), 0)
    return [line for line in lines[:end] if "Iteration" not in line]


def vasprun_steps(file: str, skipped: Counter) -> Iterator[Atoms]:
    """The DFT steps of a vasprun.xml, one that breaks off too."""
    root = _tolerant_root(file)
    steps = root.findall("calculation")
    usable = [s for s in steps if s.find("scstep/energy") is not None and s.find("energy") is not None]
    of_potential = [s for s in steps if s.find("scstep") is None and s.find("energy") is not None]
    of_potential += [s for s in root.findall("structure") if "name" not in s.attrib]
    if of_potential:
        skipped[OWN_POTENTIAL] += len(of_potential)
    if not usable:
        return
    converged = [_has_converged(step, root) for step in usable]
    for step in steps:
        if step not in usable:
            root.remove(step)
    source = open_with_compression(file, "rb") if len(usable) == len(steps) else BytesIO(ElementTree.tostring(root))
    with source:
        frames = ase.io.read(source, index=":", format="vasp-xml")
    for atoms, is_converged in zip(frames, converged, strict=True):
        yield _marked(atoms, is_converged)


def _tolerant_root(file: str) -> ElementTree.Element:
    """The tree of an XML file, as far as it goes."""
    root = None
    with open_with_compression(file, "rb") as handle:
        try:
            for _, element in ElementTree.iterparse(handle, events=["start"]):
                root = element if root is None else root
        except ElementTree.ParseError:
            if root is None or root.find("structure") is None:
                raise
    if root is None:
        raise ElementTree.ParseError("no element found")
    return root


def _has_converged(step: ElementTree.Element, root: ElementTree.Element) -> bool:
    """Fewer electronic steps than NELM, or a last change of the energy below EDIFF."""
    parameters = {i.get("name"): i.text for i in root.iterfind("parameters//i")}
    energies = [float(e.text or "") for e in step.iterfind("scstep/energy/i[@name='e_fr_energy']")]
    if len(energies) < int(parameters.get("NELM") or len(energies) + 1):
        return True
    return len(energies) > 1 and abs(energies[-1] - energies[-2]) < float(parameters.get("EDIFF") or 0.0)


def pw_steps(file: str, skipped: Counter) -> Iterator[Atoms]:
    """The steps of an output of pw.x."""
    with open_with_compression(file, "rt") as handle:
        converged = iter(_pw_converged(handle))
    with open_with_compression(file, "rt") as handle:
        for atoms in ase.io.iread(handle, index=":", format="espresso-out"):
            has_energy = atoms.calc is not None and "energy" in atoms.calc.results
            yield _marked(atoms, has_energy and next(converged))


def _pw_converged(lines: Iterable[str]) -> list[bool]:
    """For every structure with an energy, whether its last SCF was as accurate as it was to be."""
    found, threshold, accuracy, has_energy = list[bool](), np.inf, np.inf, False
    for line in chain(lines, ["ATOMIC_POSITIONS"]):
        if match := PW_THRESHOLD.search(line):
            threshold = float(match[1].replace("D", "E"))
        elif match := PW_ACCURACY.search(line):  # the last one stands behind the energy
            accuracy = float(match[1].replace("D", "E"))
        elif line.startswith("!"):
            has_energy = True
        elif "convergence NOT achieved" in line:
            accuracy = np.inf
        elif "ATOMIC_POSITIONS" in line or "Program PWSCF" in line:
            found += [accuracy <= threshold] if has_energy else []
            has_energy = False
    return found


def cp2k_frames(file: str, skipped: Counter) -> Iterator[Atoms]:
    """The structure of an output of CP2K with energy and forces."""
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    if "SCF run NOT converged" in text or text.count("ENERGY| Total") > 1:
        problem = "its SCF has not converged" if "NOT converged" in text else "it has several energies"
        raise DataError(f"{problem}; of CP2K, outputs of single structures with converged energy and forces are read")
    yield from _dpdata_frames(file, "cp2k/output")


def deepmd_frames(file: str, skipped: Counter) -> Iterator[Atoms]:
    """The structures of a DeePMD system: set.*/*.npy, mixed ones too, or *.raw."""
    if any(Path(file).glob("set.*/real_atom_types.npy")):
        yield from _dpdata_frames(file, "deepmd/npy/mixed")
    else:
        yield from _dpdata_frames(file, "deepmd/npy" if any(Path(file).glob("set.*")) else "deepmd/raw")


def _dpdata_frames(file: str, kind: str) -> Iterator[Atoms]:
    try:
        import dpdata
    except ImportError as error:
        code = {"cp2k": "an output of CP2K", "deepmd": "a DeePMD system"}[kind.split("/")[0]]
        raise DataError(f'is {code}, which is read through dpdata; pip install "mlpot[formats]"') from error
    if kind.endswith("mixed"):
        systems = dpdata.MultiSystems()
        systems.load_systems_from_file(file, fmt=kind)
        found = [system.data for system in systems.systems.values()]
    else:
        found = [dpdata.LabeledSystem(file, fmt=kind).data]
    for data in found:
        yield from _frames_of(data)


def _frames_of(data: dict[str, Any]) -> Iterator[Atoms]:
    """From the tables of dpdata, in eV and A; a virial is -dE/dstrain."""
    if unknown := sorted(set(data["atom_names"]) - set(atomic_numbers)):
        raise DataError(f"{unknown} are not chemical symbols; write the symbols of the types into type_map.raw, one per line")
    symbols = np.asarray(data["atom_names"])[data["atom_types"]]
    is_periodic = not data.get("nopbc", False)
    for k, (positions, cell) in enumerate(zip(data["coords"], data["cells"], strict=True)):
        atoms = Atoms(symbols, positions, cell=cell if is_periodic else None, pbc=is_periodic)
        results = {"energy": float(data["energies"][k]), "forces": np.array(data["forces"][k], float)}
        if "virials" in data and is_periodic:
            virial = np.reshape(data["virials"][k], (3, 3)).astype(float)
            results["stress"] = -0.5 * (virial + virial.T).ravel()[[0, 4, 8, 5, 2, 1]] / atoms.get_volume()
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


def _marked(atoms: Atoms, is_converged: bool) -> Atoms:
    if not is_converged:
        atoms.info[UNCONVERGED] = True
    return atoms
