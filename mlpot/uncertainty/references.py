"""Novelty of environments for an imported model that has no prior but reference structures.

A many-body term with weights of zero, added to the terms without a prior, has the environments of these structures as sparse points.
Novelty means what it means for a fitted model: the standard deviation of a local energy that these points leave unexplained,
relative to its value at environments that count as known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..neighbours import Pairs
from ..terms.environments import EnvironmentTerm, centres_of
from ..terms.linear_algebra import inverse_lower
from ..terms.protocol import Term
from ..terms.selection import ExplainedVariance
from .representatives import known_share, squares


@dataclass(frozen=True)
class References:
    """Environments that a model is made for, as the sparse points of a term."""

    term: EnvironmentTerm

    @classmethod
    def among(cls, terms: Sequence[Term]) -> References | None:
        """The references in a model with terms without a prior; None if it has none."""
        found = [term for term in terms if isinstance(term, EnvironmentTerm)]
        return cls(found[0]) if found else None

    @cached_property
    def explained(self) -> dict[int, ExplainedVariance]:
        """By atomic number."""
        both = zip(self.term.species, self.term.points, strict=True)
        return {number: ExplainedVariance.by(points, self.term.kernel) for number, points in both}

    @cached_property
    def known(self) -> dict[int, float]:
        """Fraction of the prior variance up to which environments count as known, as in `Representatives.known`."""
        found = {}
        for number, explained in self.explained.items():
            left = 1.0 / squares(inverse_lower(explained.factor))
            found[number] = known_share(left, self.term.strangest(number))
        return found

    def novelty(self, pairs: Pairs) -> np.ndarray:
        """Novelty (n_atoms,) of every environment."""
        found = np.empty(pairs.n_atoms)
        for number in np.unique(pairs.numbers).tolist():
            centres = centres_of(pairs, number)
            left = self.explained[number].unexplained(self.term.features.compute(pairs, centres))
            found[centres] = np.sqrt(np.maximum(left, 0.0) / self.known[number])
        return found
