"""Layout of the terms of a model: their columns among all weights, and their largest cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np

from .baseline import Baseline
from .protocol import FittedTerm, ManyBodyTerm, Tables, Term


def columns(terms: Sequence[Term]) -> list[slice]:
    """Columns of the design matrix for each term."""
    ends = np.cumsum([0, *(term.n_sparse for term in terms)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def reach(terms: Sequence[Term], baseline: Baseline, species: Sequence[int]) -> float:
    """Largest cutoff of the terms and the baseline, A."""
    return max([baseline.cutoff(species), *(term.cutoff for term in terms)])


def many_body(terms: Sequence[Term]) -> dict[int, ManyBodyTerm]:
    """Many-body terms by index of the term."""
    return {k: cast(ManyBodyTerm, term) for k, term in enumerate(terms) if term.is_many_body}


def environments_of(terms: Sequence[Term]) -> dict[tuple[int, int], np.ndarray]:
    """Features (n, n_features) of the sparse points, by index of the term and atomic number."""
    return {
        (k, number): points
        for k, term in many_body(terms).items()
        for number, points in zip(term.species, term.sparse_features, strict=True)
    }


def agree_in_tables(own: Sequence[Term], others: Sequence[Term]) -> bool:
    """Whether terms with equal settings have equal tables; terms in `own` without tables yet are not compared."""
    both = zip(cast(Sequence[FittedTerm], own), cast(Sequence[FittedTerm], others), strict=True)
    return all(mine.tables == other.tables for mine, other in both if mine.is_settled)


def channels_of(terms: Sequence[Term]) -> dict[int, Tables]:
    """Tables learned from data or drawn at random, by index of the term, for use in another fit."""
    return {k: tables for k, term in enumerate(terms) if (tables := cast(FittedTerm, term).tables)}
