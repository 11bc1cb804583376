"""ASE Calculator of a fitted model."""

from __future__ import annotations

import difflib
import inspect
import threading
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.outputs import all_outputs

from ..errors import ConfigError, StructureError
from ..models.compiled_model import CompiledModel
from ..models.files import load_model
from ..models.prediction import NO_VALUES, Prediction, Uncertainty
from ..models.sparse_gp import SparseGP
from ..neighbours import NeighbourList
from ..structures import a_structure, stress_voigt, volume_of

BORN = "born_effective_charges"
"""ASE's name of the derivatives of the dipole."""
ASE_KEYWORDS = {"restart", "ignore_bad_restart_file", "label", "atoms", "directory"}
"""Results that every ASE calculator here can give."""


def ase_results(p: Prediction) -> dict:
    """A prediction under ASE's names: stress in ASE's order, without it when there is no three-dimensional cell."""
    results = {"energy": p.energy, "free_energy": p.energy, "energies": p.energies, "forces": p.forces}
    if p.stress is not None:
        results["stress"] = stress_voigt(p.stress)
    return results


def changes(before: Atoms | None, now: Atoms) -> list[str]:
    """ASE's names of what differs between two structures, bit for bit.

    ASE's own comparison looks at charges and magnetic moments too, within a tolerance; asked for each property of each
    step it took a tenth of the time of a step of 64 atoms.
    """
    if before is None or len(before) != len(now):
        return list(all_changes)
    pairs = {
        "positions": (before.positions, now.positions),
        "numbers": (before.numbers, now.numbers),
        "cell": (before.cell.array, now.cell.array),
        "pbc": (before.pbc, now.pbc),
    }
    return [name for name, (old, new) in pairs.items() if not (old == new).all()]


def check_keywords(kind: type[Calculator], kwargs: dict) -> None:
    """ConfigError for a keyword that neither a calculator nor ASE has: ASE would keep it as a parameter, without effect."""
    known = ASE_KEYWORDS | {*inspect.signature(kind).parameters} - {"kwargs"}
    for key in sorted(kwargs.keys() - known):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known - ASE_KEYWORDS))}"
        raise ConfigError(f"{kind.__name__}: unknown keyword {key!r}; {hint}")


def _target_result(p: Prediction, name: str) -> np.ndarray:
    """A target under ASE's name; Born charges (n_atoms, 3, 3) are derivatives of component [., a] of the dipole along [., ., b]."""
    return p.born_charges.transpose(0, 2, 1) if name == BORN else p.targets[name].value


class OneAtATime(Calculator):
    """An ASE calculator that several threads may ask: one waits for the other, and each gets the answer to its own question."""

    def __init__(self, **kwargs):
        check_keywords(type(self), kwargs)
        super().__init__(**kwargs)
        self._lock = threading.RLock()

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True):
        """As ASE's; this and no other question at a time."""
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


class MlpotCalculator(OneAtATime):
    """Energies, forces and stress of a model; their uncertainty in `uncertainty`.

    Parameters
    ----------
    model : str, path, SparseGP or CompiledModel
        A model, the file of one, or what `model.compile(...)` made of one.
    uncertainty : bool
        Whether every calculation also fills `uncertainty` with "energies_std" (n_atoms,) and "energy_std" in eV,
        "forces_std" (n_atoms, 3) in eV/A and "novelty" (n_atoms,); see `Prediction`.
    trust_baseline : bool
        Whether the calculator that a model file puts beneath the model may be called; see `load_model`.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    ConfigError
        For an unknown keyword.
    StructureError
        On calculation, for structures that cannot be used; UnknownSpeciesError for unknown elements.

    Notes
    -----
    Dipoles and other targets of the model are computed when they are asked for, and with every calculation from then on; `targets`
    has their standard deviations and derivatives. Threads may share it; `uncertainty` belongs to the last calculation of any thread.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]

    def __init__(
        self,
        model: str | Path | SparseGP | CompiledModel,
        uncertainty: bool = True,
        trust_baseline: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.model = model if isinstance(model, SparseGP | CompiledModel) else load_model(model, trust_baseline)
        self.compiled = self.model.compiled if isinstance(self.model, SparseGP) else self.model
        self._serving = self.compiled
        targets = self.compiled.source.targets
        more = [*targets, *([BORN] if "dipole" in targets else [])]
        self.implemented_properties = [*type(self).implemented_properties, *(name for name in more if name in all_outputs)]
        self.targets = NO_VALUES
        self._wanted: set[str] = set()
        self.with_uncertainty = uncertainty
        self.uncertainty = Uncertainty()
        self._copy: Atoms | None = None
        self._neighbours = NeighbourList(self.model.cutoff)

    def __repr__(self) -> str:
        return f"MlpotCalculator({self.model!r}, uncertainty={self.with_uncertainty})"

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Changes since the last calculation in properties on which the energy depends."""
        return changes(self.atoms, atoms)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Fill `results` with everything at once: a step of dynamics asks for forces and then for the energy.

        Only "stresses" (n_atoms, 6), eV/A^3, which add up to "stress", are left out until they are asked for.
        """
        if atoms is not None:  # all that ASE's own method does besides is to look for a directory
            self.atoms = self._copy = self._copied(a_structure(atoms))
        current: Atoms | None = self.atoms
        if current is None:
            raise StructureError("calculate() without atoms needs an earlier calculation; pass the atoms")
        p = self.predict(current)
        self._wanted |= {name for name in properties if name in self.compiled.source.targets or name == BORN}
        p = self.compiled.with_targets(p, current, self.with_uncertainty)
        self.results = ase_results(p) | {name: _target_result(p, name) for name in self._wanted}
        self.uncertainty = Uncertainty(p)
        self.targets = p.targets
        volume = volume_of(current)
        if "stresses" in properties and volume is not None:
            virials = self._serving.virials(self._neighbours.update(current), current)
            self.results["stresses"] = np.array([stress_voigt(-virial / volume) for virial in virials])

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True):
        """As ASE's; also for targets that ASE has no name for, such as "polarizability"."""
        current = self.atoms if atoms is None else atoms
        if name in ("stress", "stresses") and allow_calculation and current is not None and current.cell.rank < 3:
            raise PropertyNotImplementedError(f"{name}: needs three cell vectors, the cell has {current.cell.rank}")
        if name not in self.compiled.source.targets or name in all_outputs:
            return super().get_property(name, atoms, allow_calculation)
        with self._lock:
            self.get_property("energy", atoms, allow_calculation)
            return self.targets[name].value

    def _copied(self, atoms: Atoms) -> Atoms:
        """A copy of the atoms; the last one, moved, where only positions differ: a new one takes 2 % of a step of 64 atoms."""
        if self._copy is None or changes(self._copy, atoms) != ["positions"]:
            return atoms.copy()
        self._copy.positions[:] = atoms.positions
        return self._copy

    def predict(self, atoms: Atoms) -> Prediction:
        """The model's prediction, through a neighbour list that is kept between calls."""
        serving = self.compiled.covering(atoms.numbers)
        if serving is not self._serving:
            self._serving, self._neighbours = serving, NeighbourList(serving.cutoff)
        return serving.predict_pairs(self._neighbours.update(atoms), volume_of(atoms), self.with_uncertainty, atoms)
