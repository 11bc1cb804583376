"""Where the terms of a model lie: their columns among all weights, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .baseline import Baseline
from .protocol import Term


def columns(terms: Sequence[Term]) -> list[slice]:
    """Columns of the design matrix that belong to each term."""
    ends = np.cumsum([0, *(term.n_sparse for term in terms)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def reach(terms: Sequence[Term], baseline: Baseline, species: Sequence[int]) -> float:
    """Largest cutoff of a model's parts, A."""
    return max([baseline.cutoff(species), *(term.cutoff for term in terms)])
