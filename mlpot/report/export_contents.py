"""Contents of an export of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from ..models.sparse_gp import SparseGP
from ..structures import labelled
from .run_data import RunLabel


@dataclass(frozen=True)
class Contents:
    """Selection of what is exported.

    Parameters
    ----------
    run : Path
    labels : list of RunLabel
        Learned ones first, in the order in which the model learned them.
    n_learned : int or None
        How many of them the model was made of; None where that cannot be told.
    data : list of ase.Atoms
        What the run started from.
    model : SparseGP
    """

    run: Path
    labels: list[RunLabel]
    n_learned: int | None
    data: list[Atoms]
    model: SparseGP

    def is_learned(self, k: int) -> bool:
        """Whether the model was made of a label, as far as it is known."""
        return "model_version" in self.labels[k].values if self.n_learned is None else k < self.n_learned

    @property
    def config_types(self) -> list[str]:
        """The walker of every label, marked where the data has a family of that name."""
        taken = {labelled(atoms).config_type for atoms in self.data}
        return [f"{name}_walker" if name in taken else name for name in (label.walker for label in self.labels)]
