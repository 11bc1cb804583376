"""Whether the saved fit of a run folder belongs to what the run is about to learn."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from ..fitting.incremental import Fit
from ..settings.fit import FitConfig
from ..structures import agrees, labelled


def is_beginning(saved: Fit, config: FitConfig, species: Sequence[int], frames: Sequence[Atoms], n_data: int) -> bool:
    """Whether a saved fit has these settings and consists of the first of these labelled structures, including all data.

    Parameters
    ----------
    saved : Fit
    config, species
        As for `Fit`.
    frames : sequence of ase.Atoms
        The data, then the labels in their order.
    n_data : int
        Number of structures that are learned in one step.
    """
    if (saved.config, saved.species) != (config, species):
        return False
    if not max(n_data, 1) <= len(saved.structures) <= len(frames):
        return False
    return all(agrees(structure, labelled(atoms)) for structure, atoms in zip(saved.structures, frames, strict=False))
