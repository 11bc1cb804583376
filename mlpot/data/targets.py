"""Kinds of labels: energy, forces, virial, and dipoles, polarisabilities or any other quantity.

A `Target` describes one kind of label. `FITTED` lists the labels a potential is fitted to; users add others with [[targets]].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError

ASYMMETRY = 0.1
"""Largest difference of opposite components of a stress or virial relative to its largest one: some codes do not symmetrise."""
ROUNDING = 1e-4
"""The same in eV/A^3, for stresses that are next to nothing; virials are larger by a volume."""
VIRIAL_COMPONENTS = 6


@dataclass(frozen=True)
class Target:
    """A kind of label.

    Parameters
    ----------
    name : str
        As results, tables and messages call it: "energy", "dipole".
    rank : int
        0: a number; 1: a vector; 2: a symmetric matrix.
    per_atom : bool
        Whether every atom has a value.
    unit : str
        Unit inside mlpot.
    noise_key : str
        Key of its noise in a configuration.
    per_volume : bool
        Whether it is a property of a material: its product with the volume of the cell is what atoms add up to.

    Examples
    --------
    >>> FORCES.n_rows(5), VIRIAL.n_rows(5)
    (15, 6)
    """

    name: str
    rank: int
    per_atom: bool
    unit: str
    noise_key: str = "noise"
    per_volume: bool = False

    @property
    def n_components(self) -> int:
        """Independent components of one value: 1, 3 or 6."""
        return (1, 3, VIRIAL_COMPONENTS)[self.rank]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: (), (3,) or (3, 3)."""
        return (3,) * self.rank

    def n_rows(self, n_atoms: int) -> int:
        """Rows of a design matrix for a structure of `n_atoms` atoms."""
        return self.n_components * (n_atoms if self.per_atom else 1)


ENERGY = Target("energy", 0, False, "eV", "energy_noise")
FORCES = Target("forces", 1, True, "eV/A", "force_noise")
VIRIAL = Target("virial", 2, False, "eV", "virial_noise")
FITTED = {target.name: target for target in (ENERGY, FORCES, VIRIAL)}
"""Labels that a potential is fitted to, by name."""


def check_symmetric(what: str, tensor: np.ndarray, volume: float = 1.0) -> None:
    """DataError for a stress of nine numbers that is none; of a virial, `volume` (A^3) makes what counts as rounding."""
    matrix = np.reshape(tensor, (3, 3))
    if np.abs(matrix - matrix.T).max() > ASYMMETRY * np.abs(matrix).max() + ROUNDING * volume:
        raise DataError(f"{what} = {matrix.ravel().tolist()} is not symmetric; repair or remove it")
