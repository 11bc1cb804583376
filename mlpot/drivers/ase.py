"""ASE Calculator of a fitted model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ..models.files import load_model
from ..models.prediction import Prediction
from ..models.sparse_gp import SparseGP, volume_of
from ..neighbours import NeighbourList
from ..structures import stress_voigt


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
    model : str, path or SparseGP
        A model or the file of one.
    uncertainty : bool
        Whether every calculation also fills `uncertainty` with arrays "energies_std" (n_atoms,) and "energy_std", in eV.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    StructureError
        On calculation, for structures that cannot be used; UnknownSpeciesError for unknown elements.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, model: str | Path | SparseGP, uncertainty: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.model = model if isinstance(model, SparseGP) else load_model(model)
        self.with_uncertainty = uncertainty
        self.uncertainty: dict[str, np.ndarray | float] = {}
        self._neighbours = NeighbourList(self.model.cutoff)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Fill `results` with everything at once: a step of dynamics asks for forces and then for the energy."""
        super().calculate(atoms, list(properties), system_changes)
        p = self.predict(self.atoms)
        self.results = ase_results(p)
        self.uncertainty = (
            {} if p.energies_std is None else {"energies_std": p.energies_std, "energy_std": p.energy_std}
        )

    def predict(self, atoms: Atoms) -> Prediction:
        """The model's prediction, through a neighbour list that is kept between calls."""
        return self.model.predict_pairs(self._neighbours.update(atoms), volume_of(atoms), self.with_uncertainty)
