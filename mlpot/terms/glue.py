"""Tabulated baseline of QUIP's type "Glue": a pair potential and an embedding energy, both cubic splines.

    E_i = F_zi(rho_i) + 1/2 sum_j V_zizj(r_ij)        rho_i = sum_j a_zj (b_zj - r_ij)^3  for r_ij < b_zj

in eV and A (embedded-atom form: Daw and Baskes, Phys. Rev. B 29, 6443 (1984), doi:10.1103/PhysRevB.29.6443). F is a natural
spline, V a spline with zero slope at both ends. Outside their tables both continue linearly, except that V is zero beyond its last
knot.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from ..neighbours import Pairs

Table = tuple[tuple[float, ...], tuple[float, ...]]
"""Abscissae, increasing, and ordinates."""


@dataclass(frozen=True)
class Glue:
    """Embedding energies and pair potentials of every element.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    density_scales : tuple of float
        a of each element, 1/A^3 (the density is dimensionless).
    density_reaches : tuple of float
        b of each element, A.
    embeddings : tuple of Table
        Energy (eV) as a function of density, for each element.
    pair_potentials : tuple of (int, int, Table)
        Two atomic numbers, the lower first, and energy (eV) as a function of distance (A); pairs without an entry do not interact.
    """

    species: tuple[int, ...]
    density_scales: tuple[float, ...]
    density_reaches: tuple[float, ...]
    embeddings: tuple[Table, ...]
    pair_potentials: tuple[tuple[int, int, Table], ...] = ()

    @property
    def cutoff(self) -> float:
        """Largest cutoff of all functions, A."""
        return max([*self.density_reaches, *(table[0][-1] for _, _, table in self.pair_potentials)])

    @cached_property
    def _embedding_splines(self) -> dict[int, _Spline]:
        return {z: _Spline(table, "natural") for z, table in zip(self.species, self.embeddings, strict=True)}

    @cached_property
    def _pair_splines(self) -> list[tuple[int, int, _Spline]]:
        flat = ((1, 0.0), (1, 0.0))
        return [(a, b, _Spline(table, flat)) for a, b, table in self.pair_potentials]

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) in eV and pair gradients (n_pairs, 3) in eV/A."""
        reaches, scales = np.zeros(max(self.species) + 1), np.zeros(max(self.species) + 1)
        reaches[list(self.species)], scales[list(self.species)] = self.density_reaches, self.density_scales
        z_i, z_j = pairs.numbers[pairs.i], pairs.numbers[pairs.j]
        depth = np.maximum(reaches[z_j] - pairs.distances, 0.0)
        density = np.bincount(pairs.i, scales[z_j] * depth**3, minlength=pairs.n_atoms)
        embedding_slopes = np.zeros(pairs.n_atoms)
        for z, spline in self._embedding_splines.items():
            own = np.flatnonzero(pairs.numbers == z)
            values, embedding_slopes[own] = spline(density[own])
            energies[own] += values
        slopes = -3 * embedding_slopes[pairs.i] * scales[z_j] * depth**2
        low, high = np.minimum(z_i, z_j), np.maximum(z_i, z_j)
        for a, b, spline in self._pair_splines:
            own = np.flatnonzero((low == a) & (high == b) & (pairs.distances < spline.end))
            values, own_slopes = spline(pairs.distances[own])
            energies += np.bincount(pairs.i[own], 0.5 * values, minlength=pairs.n_atoms)
            slopes[own] += 0.5 * own_slopes
        pair_gradients += (slopes / pairs.distances)[:, None] * pairs.vectors

    def core_tables(self, species: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Sections of a model file for these elements; see `models.core_file`."""
        scales, reaches = (
            np.array([dict(zip(self.species, values, strict=True)).get(z, 0.0) for z in species])
            for values in (self.density_scales, self.density_reaches)
        )
        both = [(a, b, spline) for a, b, spline in self._pair_splines if a in species and b in species]
        kinds = [[species.index(a), species.index(b)] for a, b, _ in both]
        found = {"scales": scales, "reaches": reaches, "n_pairs": np.array([len(both)]), "kinds": np.array(kinds, int)}
        curves = {f"f{species.index(z)}": spline for z, spline in self._embedding_splines.items() if z in species}
        curves |= {f"v{k}": spline for k, (_, _, spline) in enumerate(both)}
        for name, spline in curves.items():
            found |= {f"{name}.x": spline.knots, f"{name}.c": spline.pieces}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, from which `from_dict` restores an equal object."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Glue:
        """Inverse of `to_dict`; lists are accepted in place of tuples."""
        return cls(**{key: _tuples(value) for key, value in values.items()})

    def __getstate__(self) -> dict:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value


class _Spline:
    """A cubic spline with its slope, linear outside its knots."""

    def __init__(self, table: Table, ends: Any) -> None:
        self.begin, self.end = table[0][0], table[0][-1]
        self._spline = CubicSpline(*table, bc_type=ends)

    @property
    def knots(self) -> np.ndarray:
        return self._spline.x

    @property
    def pieces(self) -> np.ndarray:
        """Polynomial coefficients (4, n_knots - 1), highest power first."""
        return self._spline.c

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.clip(x, self.begin, self.end)
        slopes = self._spline(inside, 1)
        return self._spline(inside) + slopes * (x - inside), slopes
