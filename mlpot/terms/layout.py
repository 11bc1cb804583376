"""Where the terms of a model lie: their columns among all weights, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np

from .baseline import Baseline
from .protocol import FittedTerm, ManyBodyTerm, Tables, Term


def columns(terms: Sequence[Term]) -> list[slice]:
    """Columns of the design matrix that belong to each term."""
    ends = np.cumsum([0, *(term.n_sparse for term in terms)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def reach(terms: Sequence[Term], baseline: Baseline, species: Sequence[int]) -> float:
    """Largest cutoff of a model's parts, A."""
    return max([baseline.cutoff(species), *(term.cutoff for term in terms)])


def many_body(terms: Sequence[Term]) -> dict[int, ManyBodyTerm]:
    """The terms that compare environments, by their numbers."""
    return {k: cast(ManyBodyTerm, term) for k, term in enumerate(terms) if term.is_many_body}


def environments_of(terms: Sequence[Term]) -> dict[tuple[int, int], np.ndarray]:
    """Features (n, n_features) of the chosen environments, by number of the term and atomic number."""
    return {
        (k, number): points
        for k, term in many_body(terms).items()
        for number, points in zip(term.species, term.sparse_features, strict=True)
    }


def agree_in_tables(own: Sequence[Term], others: Sequence[Term]) -> bool:
    """Whether terms of the same settings have the same tables, as far as the first ones have theirs already."""
    both = zip(cast(Sequence[FittedTerm], own), cast(Sequence[FittedTerm], others), strict=True)
    return all(mine.tables == other.tables for mine, other in both if mine.is_settled)


def channels_of(terms: Sequence[Term]) -> dict[int, Tables]:
    """What terms made from data or at random, by their numbers, for a fit with the same."""
    return {k: tables for k, term in enumerate(terms) if (tables := cast(FittedTerm, term).tables)}
