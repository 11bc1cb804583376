"""ASE Calculator of a fitted model."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..models.compiled import CompiledModel
from ..models.files import load_model
from ..models.prediction import Prediction, Uncertainty
from ..models.sparse_gp import SparseGP
from ..neighbours import NeighbourList
from ..structures import stress_voigt, volume_of


def ase_results(p: Prediction) -> dict:
    """A prediction under ASE's names: stress in ASE's order, without it when there is no three-dimensional cell."""
    results = {"energy": p.energy, "free_energy": p.energy, "energies": p.energies, "forces": p.forces}
    if p.stress is not None:
        results["stress"] = stress_voigt(p.stress)
    return results


class MlpotCalculator(Calculator):
    """Energies, forces and stress of a model; their uncertainty in `uncertainty`.

    Parameters
    ----------
    model : str, path, SparseGP or CompiledModel
        A model, the file of one, or what `model.compile(...)` made of one.
    uncertainty : bool
        Whether every calculation also fills `uncertainty` with "energies_std" (n_atoms,) and "energy_std", in eV; the
        second is computed when it is looked at.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    StructureError
        On calculation, for structures that cannot be used; UnknownSpeciesError for unknown elements.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, model: str | Path | SparseGP | CompiledModel, uncertainty: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.model = model if isinstance(model, SparseGP | CompiledModel) else load_model(model)
        self.with_uncertainty = uncertainty
        self.uncertainty = Uncertainty()
        self._neighbours = NeighbourList(self.model.cutoff)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Fill `results` with everything at once: a step of dynamics asks for forces and then for the energy."""
        super().calculate(atoms, list(properties), system_changes)
        p = self.predict(self.atoms)
        self.results = ase_results(p)
        self.uncertainty = Uncertainty(p)

    def predict(self, atoms: Atoms) -> Prediction:
        """The model's prediction, through a neighbour list that is kept between calls."""
        return self.model.predict_pairs(self._neighbours.update(atoms), volume_of(atoms), self.with_uncertainty)
