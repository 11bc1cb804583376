"""Candidates for the result of a search, the front of candidates that no other one beats, and the choice among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FitError
from ..settings.fit import FitConfig
from .journal import Outcome, Trial

NEAR = 0.05
"""Finalists differ by at least this part of the range in one setting."""
ACCURATE = 2 / 3
"""Part of the finalists with the smallest errors; the others are cheaper, and are the best ones for their cost."""


@dataclass(frozen=True)
class Candidate:
    """A model that the search found.

    Parameters
    ----------
    config : FitConfig
        For a fit to all training structures.
    values : dict
        Settings of the search.
    forces, energies : float or None
        Errors on left-out groups by which it was chosen, eV/A and eV/atom.
    cost : float or None
        us/atom.
    tested : list of Outcome
        Errors on structures that no trial has seen, for every seed; empty before the final fits.
    """

    config: FitConfig
    values: dict[str, Any]
    forces: float | None
    energies: float | None
    cost: float | None
    tested: list[Outcome] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Mean of the logarithms of the errors."""
        return mean_log(self.forces, self.energies)


def mean_log(*errors: float | None) -> float:
    """Mean of the logarithms of errors, without those that are None."""
    known = [math.log(max(e, 1e-12)) for e in errors if e is not None]
    return sum(known) / len(known) if known else math.inf


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates to which no other one is preferable in both error and cost; the most accurate first."""
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.error, c.cost or 0.0)):
        if not found or (candidate.cost or 0.0) < min(c.cost or 0.0 for c in found):
            found.append(candidate)
    return found


def chosen(candidates: Sequence[Candidate], max_cost: float | None) -> Candidate:
    """The most accurate candidate whose cost is within the bound.

    Raises
    ------
    FitError
        If none is.
    """
    within = [c for c in candidates if max_cost is None or (c.cost or 0.0) <= max_cost]
    if not within:
        cheapest = min(c.cost or 0.0 for c in candidates)
        raise FitError(
            f"no model costs at most {max_cost:g} us/atom (tune.max_cost): the cheapest one costs {cheapest:.3g}; raise max_cost, or "
            "allow smaller cutoffs, orders and n_sparse in tune.search"
        )
    return min(within, key=lambda c: c.error)


def finalists(trials: Sequence[Trial], points: Sequence[np.ndarray], n: int, max_cost: float | None) -> list[Trial]:
    """Trials for the second step: the most accurate ones within the bound of the cost, and the best among cheaper ones.

    Parameters
    ----------
    points : sequence of (dimension,) arrays
        Place of every trial in the unit cube.
    """
    known = [
        (mean_log(t.outcome.forces, t.outcome.energies), t.outcome.cost or 0.0, t, p)
        for t, p in zip(trials, points, strict=True)
        if t.outcome is not None and t.outcome.failure is None
    ]
    within = [k for k in known if max_cost is None or k[1] <= max_cost] or sorted(known, key=lambda k: k[1])[:n]
    taken: list[tuple[float, float, Trial, np.ndarray]] = []

    def take(candidates: list[tuple[float, float, Trial, np.ndarray]], most: int) -> None:
        for entry in sorted(candidates, key=lambda k: (k[0], k[2].number)):
            if len(taken) < most and all(np.max(np.abs(entry[3] - other[3])) > NEAR for other in taken):
                taken.append(entry)

    take(within, max(math.ceil(ACCURATE * n), 1))
    while len(taken) < n:
        before = len(taken)
        take([k for k in within if k[1] < 0.7 * min(t[1] for t in taken)], before + 1)
        if len(taken) == before:
            break
    take(within, n)
    return [entry[2] for entry in taken]
