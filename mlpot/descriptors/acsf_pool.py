"""Automatic sets of symmetry functions, and data-driven selection of a few functions out of many.

Imbalzano et al., J. Chem. Phys. 148, 241730 (2018), doi:10.1063/1.5024611; Gastegger et al., doi:10.1063/1.5019667;
AMP: Khorshidi, Peterson, doi:10.1016/j.cpc.2016.05.010.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from ..errors import ConfigError
from ..neighbours import Pairs
from .protocol import Descriptor

ZETAS = (1, 2, 4, 8, 16)
METHODS = ("cur", "farthest", "none")
EXHAUSTED = 1e-10
"""Remaining fraction of a feature's variance below which it is redundant with others."""

MOST_ENVIRONMENTS = 4000
"""On which features are chosen: more change the choice little, and computing all candidates takes a millisecond each."""


def auto_functions(cutoff: float, n: int = 8) -> list[list]:
    """Pool of functions for selection: radial ones at the centre and in shells, narrow and wide angular ones of many widths.

    Imbalzano's grids: eta_m = (n^(m/n) / cutoff)^2 with r_s = 0, m = 0..n; and r_s,m = cutoff / n^(m/n) with
    eta_m = 1 / (r_s,m - r_s,m+1)^2, m = 1..n-1, each as wide as the distance to the next.

    Parameters
    ----------
    cutoff : float
        A.
    n : int
        Density of the grids, at least 2.

    Returns
    -------
    list of lists
        Entries of `ACSF.functions`: 2 n radial, 20 (n + 1) angular ones.
    """
    if n < 2:
        raise ConfigError(f"n = {n}: the grids of symmetry functions need at least 2 intervals")
    centred = [(n ** (m / n) / cutoff) ** 2 for m in range(n + 1)]
    shells = [cutoff / n ** (m / n) for m in range(n + 1)]
    radial = [["G2", eta, 0.0] for eta in centred]
    radial += [["G2", 1 / (shells[m] - shells[m + 1]) ** 2, shells[m]] for m in range(1, n)]
    angular = [
        [kind, eta, zeta, sign] for kind in ("G4", "G5") for eta in centred for zeta in ZETAS for sign in (1, -1)
    ]
    return radial + angular


def grid_functions(cutoff: float, n: int = 8, kind: str = "shifted", r_inner: float = 0.8) -> list[list]:
    """Gastegger's grids of n radial widths, "shifted" or "centered", and wide angular functions of zeta 1 and 4.

    "shifted": shells at r_s equally spaced from `r_inner` to the cutoff, eta = 1 / (2 spacing^2); "centered": r_s = 0,
    eta_i = 1 / (2 r_i^2) with r_i on that grid.
    """
    if kind not in ("shifted", "centered"):
        raise ConfigError(f'kind = {kind!r}: must be "shifted" or "centered"')
    if n < 2 or not 0 < r_inner < cutoff:
        raise ConfigError(f"n = {n}, r_inner = {r_inner} A: needs at least 2 places between 0 and cutoff = {cutoff} A")
    grid = np.linspace(r_inner, cutoff, n)
    if kind == "shifted":
        places, etas = grid.tolist(), [0.5 / float(grid[1] - grid[0]) ** 2] * n
    else:
        places, etas = [0.0] * n, (0.5 / grid**2).tolist()
    radial = [["G2", eta, r_s] for eta, r_s in zip(etas, places, strict=True)]
    widths = dict.fromkeys((0.5 / grid**2).tolist())
    return radial + [["G5", eta, zeta, sign] for eta in widths for zeta in (1, 4) for sign in (1, -1)]


def amp_functions(cutoff: float) -> list[list]:
    """AMP's default: four widths, and narrow angular functions of one width, zeta 1 and 4."""
    etas = np.logspace(np.log10(0.05), np.log10(5.0), 4) / cutoff**2
    narrow = [["G4", 0.005 / cutoff**2, zeta, sign] for zeta in (1, 4) for sign in (1, -1)]
    return [["G2", float(eta), 0.0] for eta in etas] + narrow


def choose_functions(features: np.ndarray, n: int, method: str = "cur") -> np.ndarray:
    """Select the columns of features that best represent all columns for the given data.

    Columns are standardised first; constant columns are never selected.

    Parameters
    ----------
    features : (n_environments, n_features) array
    n : int
        Number of columns to select.
    method : str
        "cur": repeatedly the column with the largest component in the leading singular vector of the residual; "farthest": the
        column farthest from the selected ones; "none": all columns that vary.

    Returns
    -------
    (at most n,) int array
        Columns, the most important first; fewer than n if all others are linear combinations of them. All for "none".

    Raises
    ------
    ConfigError
        If n < 1, the method is unknown, or no feature varies.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> len(choose_functions(np.hstack([x, x[:, :1] + x[:, 1:2]]), 4))
    3
    """
    if method not in METHODS:
        raise ConfigError(f"select = {method!r}: must be one of {', '.join(METHODS)}")
    if n < 1:
        raise ConfigError(f"n_functions = {n}: must be at least 1")
    spread = features.std(axis=0) if len(features) else np.zeros(features.shape[1])
    varying = np.flatnonzero(spread > 1e-10 * np.abs(features).max(axis=0, initial=0.0))
    if not len(varying):
        raise ConfigError("no symmetry function varies over these data; provide more structures or a larger cutoff")
    if method == "none":
        return varying
    scaled = (features[:, varying] - features[:, varying].mean(axis=0)) / spread[varying]
    gram = scaled.T @ scaled / len(scaled)
    return varying[_by_leverage(gram, n) if method == "cur" else _by_distance(gram, n)]


def evenly(structures: Sequence[Pairs], most: int = MOST_ENVIRONMENTS) -> Sequence[Pairs]:
    """Evenly spread structures with about that many environments at most."""
    return structures[:: max(1, -(-sum(pairs.n_atoms for pairs in structures) // most))]


def choose_on(
    descriptor: Descriptor, structures: Sequence[Pairs], n: int, method: str, most: int = MOST_ENVIRONMENTS
) -> np.ndarray:
    """Apply `choose_functions` to a limited number of environments from evenly spread structures.

    What counts is how features vary between environments of the same element: another element is another model.
    """
    chosen = evenly(structures, most)
    features = np.concatenate([descriptor.compute(pairs.within(descriptor.cutoff)) for pairs in chosen])
    numbers = np.concatenate([pairs.numbers for pairs in chosen])
    overall = features.mean(axis=0)
    for z in np.unique(numbers):
        features[numbers == z] += overall - features[numbers == z].mean(axis=0)
    return choose_functions(features, n, method)


def _by_leverage(gram: np.ndarray, n: int) -> np.ndarray:
    """CUR: after each choice the remaining columns are orthogonalised to it."""
    rest = gram.copy()
    chosen: list[int] = []
    while len(chosen) < min(n, len(gram)):
        last = len(gram) - 1
        leading = linalg.eigh(rest, subset_by_index=[last, last])[1][:, 0]
        leading[np.diag(rest) <= EXHAUSTED] = 0.0
        column = int(np.argmax(np.abs(leading)))
        if rest[column, column] <= EXHAUSTED:
            break
        chosen.append(column)
        rest -= np.outer(rest[:, column], rest[column]) / rest[column, column]
        rest[chosen], rest[:, chosen] = 0.0, 0.0
    return np.array(chosen, int)


def _by_distance(gram: np.ndarray, n: int) -> np.ndarray:
    """Farthest-point sampling of columns regardless of sign, starting from the column with the largest total overlap."""
    chosen = [int(np.argmax(np.sum(gram**2, axis=0)))]
    apart = np.full(len(gram), np.inf)
    while len(chosen) < min(n, len(gram)):
        np.minimum(apart, 1 - gram[:, chosen[-1]] ** 2, out=apart)
        farthest = int(np.argmax(apart))
        if apart[farthest] <= EXHAUSTED:
            break
        chosen.append(farthest)
    return np.array(chosen, int)
