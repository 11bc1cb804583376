"""What labels showed of the predicted deviations, by element and kind, and the calibration that follows from it.

Forces. With s what the model itself says of components in one bin of one label, and e their errors (root mean squares), a factor a,
a floor b and a growth c for each element are the most likely ones (`models.calibration.likeliest_law`),

    sigma^2 = (a s)^2 + b^2 + (c f^3)^2,   w_k = exp(-age_k / FADING) n_k / (n_k + FEW)

with f the strongest force between the atom and a neighbour, n_k the components of label k, whose weight w_k its bins share, and
a_0 = `OPEN` or what the other elements say. Most labels are asked for where s is large. Errors hardly grow with it there, and are not
small where it is small: a factor alone would be too large for the one or too small for the other.

Energy and stress. With z = error / deviation of label k,

    f^2 = (PRIOR g^2 + sum_k w_k min(z2_k, WILD^2 M_k)) / (PRIOR + sum_k w_k)

(a quarter of the weight for small errors where deviations were large, see `CHOSEN`), M_k the same mean without that label, so that no
single label decides, and g = a / a_0 of the forces of all elements. This is the mean of a scaled inverse chi-squared posterior:
Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), section 2.6; winsorised means: Huber, Robust Statistics (1981), section 1.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..models.prediction import ExpectedErrors
from ..uncertainty.calibration import OPEN, Calibration, Law, Stated, likeliest_law
from .seen import WILD, Seen, SeenForces

RECENT = 30
"""Labels that are remembered; older ones would have a weight below exp(-3)."""
FADING = 10.0
"""Labels after which the weight of one has fallen to 1/e: the model changes with every label, and is less sure of itself without
reason at the beginning than later."""
PRIOR = 2.0
"""Labels that the prior belief counts as: the model's own deviations are expected to be about right, and the ratio of one label
scatters by a factor of two."""
FEW = 3.0
"""Components that count as half a label: the z^2 of n components scatter by 2 / n, and those of different labels by about 2/3."""
CHOSEN = 0.25
"""Weight of the energy or stress of a label that was asked for where deviations were large, if it found smaller errors: of deviations
that scatter, a maximum is too large more often than not. Larger errors than were expected count in full."""
LEAST, MOST = 0.5, 10.0
"""Bounds of a factor on energy or stress."""
WIDENING = 2.0
"""n labelled structures with an element give its forces the deviations of Student's t distribution with n + 2 degrees of freedom:
larger by sqrt(1 + 2 / n) than those of a normal distribution of the same scale. No more than `FADING` of them count."""
TAILS = 1.1
"""Factor on the deviations of forces, for what few labels do not show of the tails of errors. Measured: without it the worst atom is
beyond three deviations in 10 to 20 % of the frames of alloys; with 1.2 forces on a nickel slab are within one in 96 %."""


@dataclass(frozen=True)
class Observation:
    """What one label taught about the uncertainty.

    Parameters
    ----------
    error, worst : float
        eV/A: error of the force components before the label was learned, root mean square and as `counted_error` counts.
    raw_rms, raw_max : float
        eV/A: likewise of the model's own deviations.
    after : ExpectedErrors
        Of the same structure after the label was learned.
    elements : mapping of int to SeenForces
        Of the forces on the atoms of each element.
    energy, stress : Seen or None
        Of the energy per atom (eV) and of the stress (eV/A^3).
    is_chosen : bool
        Whether the label was asked for because the model was not sure of the structure.
    """

    error: float
    worst: float
    raw_rms: float
    raw_max: float
    after: ExpectedErrors
    elements: Mapping[int, SeenForces] = field(default_factory=dict)
    energy: Seen | None = None
    stress: Seen | None = None
    is_chosen: bool = False

    def state(self) -> dict[str, Any]:
        """For `restore`: numbers by strings."""
        return {**asdict(self), "elements": {str(z): asdict(seen) for z, seen in self.elements.items()}}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Observation:
        """Inverse of `state`."""
        kinds = {kind: state[kind] and Seen(**state[kind]) for kind in ("energy", "stress")}
        elements = {int(z): SeenForces.restore(seen) for z, seen in state["elements"].items()}
        return cls(**{**state, **kinds, "elements": elements, "after": ExpectedErrors(**state["after"])})


@dataclass(frozen=True)
class History:
    """The last observations."""

    recent: tuple[Observation, ...] = field(default=())

    def observe(self, observation: Observation) -> History:
        """The history after one more label."""
        return History((*self.recent, observation)[-RECENT:])

    def calibration(self, structures: Mapping[int, int]) -> Calibration:
        """Factors on the model's own deviations, and floors.

        Parameters
        ----------
        structures : mapping of int to int
            In how many labelled structures an element occurs.
        """
        found = {z: self._of_element(z).times(TAILS * widening(n)) for z, n in sorted(structures.items())}
        everything = self._of_forces(lambda z: True, OPEN).factor
        return Calibration(
            force_scale=everything,
            energy_scale=self._factor([o.energy for o in self.recent], everything / OPEN),
            stress_scale=self._factor([o.stress for o in self.recent], everything / OPEN),
            of_elements={z: law.factor for z, law in found.items()},
            floors={z: law.floor for z, law in found.items()},
            growths={z: law.growth for z, law in found.items()},
        )

    def _of_element(self, z: int) -> Law:
        """Of the forces on atoms of an element."""
        others = self._of_forces(lambda other: other != z, OPEN)
        return self._of_forces(lambda other: other == z, others.factor)

    def _of_forces(self, is_meant: Callable[[int], bool], before: float) -> Law:
        """The likeliest one of the elements that are meant; `before` is the factor without labels of them."""
        columns: list[tuple[float, float, float]] = []
        weights: list[float] = []
        for age, observation in enumerate(reversed(self.recent)):
            bins = [seen for z, seen in observation.elements.items() if is_meant(z)]
            sizes = np.array([size for seen in bins for size in seen.sizes], float)
            shares = sizes / (sizes + FEW)
            n = sizes.sum()
            weights += (np.exp(-age / FADING) * n / (n + FEW) * shares / max(shares.sum(), 1e-300)).tolist()
            columns += [bin for seen in bins for bin in zip(seen.errors, seen.deviations, seen.strongest, strict=True)]
        errors, deviations, strongest = np.array(columns).reshape(-1, 3).T
        return likeliest_law(Stated(errors, deviations, strongest, np.array(weights)), before)

    def _factor(self, seen: Sequence[Seen | None], before: float) -> float:
        """The factor on energy or stress; `before` is what is believed without labels of it."""
        n_labels = len(self.recent)
        found = [(s, np.exp(-(n_labels - 1 - k) / FADING)) for k, s in enumerate(seen) if s is not None]
        if not found:
            return before
        squares = np.array([s.z2 for s, _ in found])
        weights = np.array([weight * s.n / (s.n + FEW) for s, weight in found])
        chosen = np.array([o.is_chosen for o, s in zip(self.recent, seen, strict=True) if s])
        weights *= np.where(chosen & (squares < 1.0), CHOSEN, 1)
        total, weight = PRIOR * before**2 + weights @ squares, PRIOR + weights.sum()
        squares = np.minimum(squares, WILD**2 * (total - weights * squares) / (weight - weights))
        factor = np.sqrt((PRIOR * before**2 + weights @ squares) / weight)
        return float(np.clip(factor, LEAST, MOST))

    def state(self) -> list[dict[str, Any]]:
        """For `restore`: plain numbers."""
        return [observation.state() for observation in self.recent]

    @classmethod
    def restore(cls, state: list[Any]) -> History:
        """The same history after a restart; what an earlier version of mlpot left is not read."""
        return cls(tuple(Observation.restore(values) for values in state[-RECENT:] if _is_current(values)))


def widening(n_structures: int) -> float:
    """Factor on the deviations of an element that this many labelled structures contain; see `WIDENING`."""
    return float(np.sqrt(1.0 + WIDENING / min(max(n_structures, 1), FADING)))


def _is_current(values: Any) -> bool:
    """Whether an observation was written by this version: forces in bins."""
    return isinstance(values, dict) and all("strongest" in seen for seen in values["elements"].values())
