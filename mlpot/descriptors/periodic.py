"""Coordinates of elements in the periodic table, in which similar elements are close to each other."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from ..errors import ConfigError

NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86)
LENGTH = 4.0
"""Length scale of the similarity of elements, in standard deviations of the properties over the table. Distances among Nb, Mo, Ta
and W are 0.7 to 1.2, among C, N and O 0.6 to 1.2. Of 1, 2, 4, 8 and 100, the values 4 and 8 are best for alloys of the former and
for molecules of the latter."""
ELECTRONEGATIVITIES = (
    2.20, 4.16,
    0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.79,
    0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 3.24,
    0.82, 1.00, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96, 3.00,
    0.82, 0.95, 1.22, 1.33, 1.60, 2.16, 1.90, 2.20, 2.28, 2.20, 1.93, 1.69, 1.78, 1.96, 2.05, 2.10, 2.66, 2.60,
    0.79, 0.89, 1.10, 1.12, 1.13, 1.14, 1.13, 1.17, 1.20, 1.20, 1.10, 1.22, 1.23, 1.24, 1.25, 1.10, 1.27,
    1.30, 1.50, 2.36, 1.90, 2.20, 2.20, 2.28, 2.54, 2.00, 1.62, 2.33, 2.02, 2.00, 2.20, 2.20,
    0.70, 0.90, 1.10, 1.30, 1.50, 1.38, 1.36, 1.28, 1.30,
)  # fmt: skip
"""Pauling electronegativities from hydrogen to americium; for helium, neon and argon, which have none, Allen's
(doi:10.1021/ja00207a003)."""


def is_known(number: int) -> bool:
    """Whether the properties of an element are in the table."""
    return number <= len(ELECTRONEGATIVITIES)


def place_of(number: int) -> tuple[int, int]:
    """Group (1 to 18; 3 for lanthanides and actinides) and row of an element."""
    row = next(k for k, last in enumerate((*NOBLE_GASES[1:], 118), 1) if number <= last)
    column = number - NOBLE_GASES[row - 1]
    if row == 1:
        return (1 if number == 1 else 18), row
    if column <= 2:
        return column, row
    from_right = (*NOBLE_GASES[1:], 118)[row - 1] - number
    return max(18 - from_right, 3), row


@cache
def _table() -> np.ndarray:
    """Group, row, electronegativity and covalent radius (n_known, 4), standardised over all elements known here."""
    numbers = range(1, len(ELECTRONEGATIVITIES) + 1)
    raw = np.array([[*place_of(z), ELECTRONEGATIVITIES[z - 1], covalent_radii[z]] for z in numbers])
    return (raw - raw.mean(axis=0)) / raw.std(axis=0)


def properties(numbers: tuple[int, ...]) -> np.ndarray:
    """Group, row, electronegativity and covalent radius (n_species, 4) in standard deviations over the periodic table.

    Raises
    ------
    ConfigError
        If an element is beyond americium, since its electronegativity is not known.
    """
    unknown = [chemical_symbols[z] for z in numbers if not is_known(z)]
    if unknown:
        raise ConfigError(f'embedding: the electronegativity of {unknown} is not known; set embedding = "random"')
    return _table()[np.array(numbers) - 1]


def similarities(first: tuple[int, ...], second: tuple[int, ...]) -> np.ndarray:
    """Similarities exp(-|x - x'|^2 / (2 LENGTH^2)) (n, m) of elements with properties x; ConfigError as in `properties`."""
    apart = (properties(first)[:, None] - properties(second)) / LENGTH
    return np.exp(-0.5 * np.sum(apart**2, axis=2))


def periodic_sums(numbers: tuple[int, ...], n_channels: int, width: int, seed: list[int]) -> np.ndarray:
    """Weights (n_channels, n_species, width) that vary smoothly over the periodic table.

    Random Fourier features (Rahimi and Recht, NeurIPS 2007): over many channels, the mean of the product of the weights of two
    elements equals `similarities`, 1 for an element with itself.
    """
    x = properties(numbers) / LENGTH
    rng = np.random.default_rng(seed)
    frequencies = rng.standard_normal((n_channels, width, x.shape[1]))
    phases = rng.uniform(0, 2 * np.pi, (n_channels, 1, width))
    return np.sqrt(2) * np.cos(np.einsum("qwk,zk->qzw", frequencies, x) + phases)


def longest_bond(species: Iterable[int]) -> float:
    """Longest bond that the elements can form, A: twice the largest covalent radius."""
    return float(2 * max(covalent_radii[z] for z in species))
