"""The strongest pair forces in labelled structures, beyond which deviations are not to be trusted.

At distances that no label contains, the posterior of a smooth pair potential is too small: copper heated through melting, with atoms
0.04 to 0.1 A closer than in any label, had errors of eight to ten times the uncalibrated deviations; elsewhere the factor was two.
The error exceeded twice the expected one in 58 % of the frames whose strongest pair force was above `policy.HOTTER` times the
strongest in all labels, and in 6 % of the other frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .policy import HOTTER


@dataclass(frozen=True)
class StrongestPairForces:
    """Largest pair force on an atom of each element in any labelled structure.

    Parameters
    ----------
    of_elements : mapping of int to float
        By atomic number, eV/A, as predicted by the model that had learned the label.
    """

    of_elements: Mapping[int, float] = field(default_factory=dict)

    def with_label(self, numbers: np.ndarray, strongest: np.ndarray) -> StrongestPairForces:
        """The record after a label with these atomic numbers and strongest pair forces (n_atoms,), eV/A."""
        found = dict(self.of_elements)
        for z in np.unique(numbers).tolist():
            found[z] = max(float(strongest[numbers == z].max()), found.get(z, 0.0))
        return StrongestPairForces(found)

    def are_exceeded(self, numbers: np.ndarray, strongest: np.ndarray) -> bool:
        """Whether a pair force (n_atoms,), eV/A, exceeds `HOTTER` times all labelled ones; elements without labels do not count."""
        bounds = np.array([self.of_elements.get(z, np.inf) for z in numbers.tolist()])
        return bool(np.any(strongest > HOTTER * bounds))

    def state(self) -> dict[str, float]:
        """For `restore`: plain numbers under strings."""
        return {str(z): force for z, force in self.of_elements.items()}

    @classmethod
    def restore(cls, state: Mapping[str, float]) -> StrongestPairForces:
        """The record saved by `state`."""
        return cls({int(z): force for z, force in state.items()})
