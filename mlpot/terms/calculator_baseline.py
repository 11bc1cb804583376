"""A calculator beneath a fit: the fit learns labels minus its results, and predictions add them again (delta learning).

Ramakrishnan, Dral, Rupp and von Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015), doi:10.1021/acs.jctc.5b00099.

Security: a calculator is imported and called only if the user has named it, in a configuration or by `trust_baseline`, or if it is
one of `settings.baseline.KNOWN_CALCULATORS` with harmless arguments. A model file that names another one is refused.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ..errors import BaselineError, ConfigError, quoted
from ..import_paths import check_parameter_names, imported
from ..settings.baseline import BaselineSettings
from ..structures import LabelledStructure, bare_structure, stress_matrix, volume_of

REMEMBERED = 64
"""Number of structures whose results are kept: a label is predicted, learned and predicted again."""


@dataclass(frozen=True)
class BaselineResults:
    """Results of the calculator for a structure: energy in eV, forces (n_atoms, 3) in eV/A, virial (3, 3) in eV."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray

    def beneath(self, structure: LabelledStructure) -> LabelledStructure:
        """The structure with these results subtracted from its labels."""
        return replace(
            structure,
            energy=None if structure.energy is None else structure.energy - self.energy,
            forces=None if structure.forces is None else structure.forces - self.forces,
            virial=None if structure.virial is None else structure.virial - self.virial,
        )


class CalculatorBaseline:
    """The ASE calculator beneath a fit.

    Parameters
    ----------
    settings : BaselineSettings
    trusted : bool
        Whether the user has named this calculator, so that it may be imported and called.

    Attributes
    ----------
    n_calculations, seconds : int, float
        Cost so far.

    Examples
    --------
    >>> beneath = CalculatorBaseline(BaselineSettings(calculator="ase.calculators.emt.EMT"))
    >>> beneath.lone_energy(29)
    3.51
    """

    def __init__(self, settings: BaselineSettings, trusted: bool = True):
        self.settings, self.trusted = settings, trusted or settings.is_known
        self.n_calculations, self.seconds = 0, 0.0
        self._kept: Any = None
        self._known: OrderedDict[bytes, BaselineResults] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"CalculatorBaseline({self.settings.calculator}, {self.settings.parameters})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CalculatorBaseline) and self.settings == other.settings

    __hash__ = None  # type: ignore[assignment]

    @property
    def cost(self) -> str:
        """Number and time of the calculations, for messages."""
        mean = self.seconds / max(self.n_calculations, 1)
        return f"{self.settings.calculator}: {self.n_calculations} calculations, {self.seconds:.3g} s, {1e3 * mean:.3g} ms each"

    def check(self) -> None:
        """ConfigError unless the calculator can be imported and made; BaselineError if it is not trusted."""
        self._made()

    def results(self, atoms: Atoms) -> BaselineResults:
        """Results for a structure; its constraints are ignored.

        Raises
        ------
        BaselineError
            If the calculator is not trusted, fails, returns something else than finite numbers of the right shape, or has no stress
            although the structure is periodic.
        """
        key = _key(atoms)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._calculated(atoms)
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            return self._known[key]

    def result(self, atoms: Atoms, name: str) -> Any:
        """Another result of the calculator for a structure, such as "dipole".

        Raises
        ------
        BaselineError
            If the calculator is not trusted, fails, or does not have it.
        """
        with self._lock:
            calculator, work = self._made(), bare_structure(atoms)
            with self._counted(f": no {name} for {atoms.symbols}"):
                work.calc = calculator
                work.get_potential_energy()
                found = calculator.results.get(name)  # not all that calculators give is announced
                return calculator.get_property(name, work) if found is None else found

    def differences(
        self, structures: Sequence[LabelledStructure], progress: Callable[[str, int, int], None]
    ) -> list[LabelledStructure]:
        """The structures with the calculator's results subtracted from their labels."""
        found = []
        for k, structure in enumerate(structures):
            found.append(self.results(structure.atoms).beneath(structure))
            progress("baseline", k + 1, len(structures))
        return found

    def lone_energy(self, number: int) -> float:
        """Energy of an isolated atom, eV.

        Raises
        ------
        ConfigError
            If the calculator cannot do it.
        """
        try:
            return self.results(Atoms([number])).energy
        except BaselineError as error:
            raise ConfigError(
                f"isolated_atom_energies.{chemical_symbols[number]}: differences from the baseline need the baseline's own energy "
                f"of an isolated atom ({error}); leave isolated_atom_energies out"
            ) from error

    @contextmanager
    def _counted(self, problem: str) -> Iterator[None]:
        """Count a calculation in the block and its time; BaselineError with the problem where the calculator raises."""
        started = time.perf_counter()
        try:
            yield
        except BaselineError:
            raise
        except Exception as error:  # calculators raise whatever they like
            raise BaselineError(
                f"baseline.calculator = {self.settings.calculator!r}{problem}: {type(error).__name__}: {quoted(error, 200)}"
            ) from error
        self.n_calculations += 1
        self.seconds += time.perf_counter() - started

    def _calculated(self, atoms: Atoms) -> BaselineResults:
        calculator, work = self._made(), bare_structure(atoms)
        with self._counted(f" failed for {atoms.symbols}"):
            work.calc = calculator
            forces = np.array(work.get_forces(), float)
            # with smearing, the forces are the derivative of the free energy, not of the energy
            energy = float(calculator.results.get("free_energy", work.get_potential_energy()))
            virial = self._virial(work, forces)
        if forces.shape != (len(atoms), 3) or not all(np.all(np.isfinite(a)) for a in (energy, forces, virial)):
            raise BaselineError(
                f"baseline.calculator = {self.settings.calculator!r}: results for {atoms.symbols} are not finite or have a wrong "
                "shape; check its parameters on this structure"
            )
        return BaselineResults(energy, forces, virial)

    def _virial(self, work: Atoms, forces: np.ndarray) -> np.ndarray:
        """-dE/dstrain, eV: of the stress, or without periodicity the sum of positions times forces."""
        if not work.pbc.any():
            virial = work.positions.T @ forces
            return (virial + virial.T) / 2
        volume = volume_of(work)
        if volume is None:
            raise BaselineError(
                f"baseline: {work.symbols} is periodic, but has fewer than three cell vectors; add the missing one, longer than the "
                "structure by some vacuum"
            )
        try:
            return -stress_matrix(work.get_stress()) * volume
        except NotImplementedError as error:
            raise BaselineError(
                f"baseline.calculator = {self.settings.calculator!r} has no stress, which a periodic structure needs; choose another"
            ) from error

    def _made(self) -> Any:
        """A new calculator, or the one that is kept."""
        if not self.trusted:
            raise BaselineError(f"{untrusted(self.settings)}; load the model with trust_baseline=True")
        if self._kept is not None:
            return self._kept
        path, here = self.settings.calculator, f"baseline.calculator = {self.settings.calculator!r}"
        try:
            factory = imported(path)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{here}: cannot be imported ({error}); install its package, or check the spelling") from error
        try:
            made = factory(**self.settings.parameters)
        except Exception as error:  # constructors raise whatever they like
            raise ConfigError(
                f"baseline.parameters = {self.settings.parameters!r}: {path} does not accept them ({type(error).__name__}: {error})"
            ) from error
        if not hasattr(made, "get_forces") or not hasattr(made, "results"):
            raise ConfigError(f"{here}: {type(made).__name__} is not an ASE calculator")
        check_parameter_names(factory, self.settings.parameters, "baseline.parameters")
        if self.settings.reuse:
            self._kept = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "trusted": self.trusted}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def untrusted(settings: BaselineSettings) -> str:
    """Why a calculator out of a file is not called."""
    return (
        f"beneath this model is the calculator {quoted(settings.calculator)} with {quoted(settings.parameters)}; it is imported and "
        "called only if you trust the file"
    )


def _key(atoms: Atoms) -> bytes:
    """Everything that a calculation depends on."""
    arrays = (
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_initial_charges(),
        atoms.get_initial_magnetic_moments(),
    )  # fmt: skip
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
