"""Errors that labels have shown, compared with the predicted standard deviations, and the calibration that follows from them.

Forces. Let s be the deviation stated by the model for the components in one bin of one label, and e their error (both root mean
squares). A factor a, a floor b and a growth c are fitted for each element by maximum likelihood (`uncertainty.calibration`),

    sigma^2 = (a s)^2 + b^2 + (c f^3)^2,   w_k = exp(-age_k / FADING) n_k / (n_k + FEW)

with f the strongest force between the atom and a neighbour, n_k the number of components of label k, whose weight w_k is shared
by its bins, and the prior a_0 = `OPEN`. Most labels are requested where s is large. There the errors hardly grow with s, and they
are not small where s is small, so a factor alone would be too large for the former or too small for the latter.

Energy and stress. With z = error / deviation of label k,

    f^2 = (PRIOR g^2 + sum_k w_k min(z2_k, WILD^2 M_k)) / (PRIOR + sum_k w_k)

(a quarter of the weight for small errors where deviations were large, see `CHOSEN`). M_k is the same mean without label k, so
that no single label dominates, and g = a / a_0 is the factor for the forces of all elements. This is the mean of a scaled inverse
chi-squared posterior: Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), section 2.6; winsorised means: Huber, Robust
Statistics (1981), section 1.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..models.prediction import ExpectedErrors
from ..uncertainty.calibration import OPEN, Calibration, Law, Stated, likeliest_law
from .observed_errors import WILD, ObservedErrors, ObservedForces

RECENT = 30
"""Number of labels that are kept; older ones would have a weight below exp(-3)."""
FADING = 10.0
"""Number of labels after which the weight of a label has decayed to 1/e: the model changes with every label, and its deviations are
too large at the beginning."""
PRIOR = 2.0
"""Weight of the prior in labels: the model's own deviations are expected to be about right, and the ratio from one label scatters
by a factor of two."""
FEW = 3.0
"""Number of components that count as half a label: z^2 of n components scatters by 2 / n, between labels by about 2/3."""
CHOSEN = 0.25
"""Weight of the energy or stress of a label that was requested because deviations were large, if its errors are smaller: the
largest of several scattering deviations is usually too large. Errors larger than expected count in full."""
LEAST, MOST = 0.5, 10.0
"""Bounds of a factor on energy or stress."""
WIDENING = 2.0
"""With n labelled structures that contain an element, its forces get the deviations of Student's t distribution with n + 2 degrees of
freedom, which are larger by sqrt(1 + 2 / n) than for a normal distribution of the same scale. n is at most `FADING`."""
TAILS = 1.15
"""Factor on the deviations of forces for the tails of the errors, which few labels do not show. With 1.1, 1.15, 1.2 and 1.25, 11, 13,
13 and 13 of 15 runs have at most 5 % of frames with errors of more than twice the stated ones and at most 5 % with atoms beyond three
standard deviations, and of 29 elements 2, 2, 3 and 5 have more than 90 % of their components within one."""


@dataclass(frozen=True)
class Observation:
    """Observed errors of one label, for the calibration of the uncertainty.

    Parameters
    ----------
    error, worst : float
        Error of the predicted force components, eV/A: root mean square, and as defined by `counted_error`.
    raw_rms, raw_max : float
        The same for the model's own deviations, eV/A.
    after : ExpectedErrors
        Expected errors for the same structure after the label was learned.
    elements : mapping of int to ObservedForces
        Forces on the atoms of each element.
    energy, stress : ObservedErrors or None
        Energy per atom (eV) and stress (eV/A^3).
    is_chosen : bool
        Whether the label was requested because the model was uncertain about the structure.
    """

    error: float
    worst: float
    raw_rms: float
    raw_max: float
    after: ExpectedErrors
    elements: Mapping[int, ObservedForces] = field(default_factory=dict)
    energy: ObservedErrors | None = None
    stress: ObservedErrors | None = None
    is_chosen: bool = False

    def state(self) -> dict[str, Any]:
        """For `restore`: plain numbers under strings."""
        return {**asdict(self), "elements": {str(z): asdict(seen) for z, seen in self.elements.items()}}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Observation:
        """Inverse of `state`."""
        kinds = {kind: state[kind] and ObservedErrors(**state[kind]) for kind in ("energy", "stress")}
        elements = {int(z): ObservedForces.restore(seen) for z, seen in state["elements"].items()}
        return cls(**{**state, **kinds, "elements": elements, "after": ExpectedErrors(**state["after"])})


@dataclass(frozen=True)
class History:
    """The last observations."""

    recent: tuple[Observation, ...] = field(default=())

    def observe(self, observation: Observation) -> History:
        """The history after one more label."""
        return History((*self.recent, observation)[-RECENT:])

    def calibration(self, structures: Mapping[int, int]) -> Calibration:
        """Calibration of the model's own deviations.

        Parameters
        ----------
        structures : mapping of int to int
            Number of labelled structures that contain an element.
        """
        found = {z: self._of_element(z).times(TAILS * widening(n)) for z, n in sorted(structures.items())}
        everything = self._of_forces(lambda z: True).factor
        return Calibration(
            force_scale=everything,
            energy_scale=self._factor([o.energy for o in self.recent], everything / OPEN),
            stress_scale=self._factor([o.stress for o in self.recent], everything / OPEN),
            of_elements={z: law.factor for z, law in found.items()},
            floors={z: law.floor for z, law in found.items()},
            growths={z: law.growth for z, law in found.items()},
        )

    def _of_element(self, z: int) -> Law:
        """Calibration of the forces on atoms of an element; without errors of its own it takes the factor of the others.

        The factor of the others is no prior for an element with errors of its own: elements of one label err together, and a mistake
        of one would count twice. With it, 9 of the runs of `TAILS` are within its bounds, without it 13.
        """
        if any(z in observation.elements for observation in self.recent):
            return self._of_forces(lambda other: other == z)
        return Law(self._of_forces(lambda other: True).factor)

    def _of_forces(self, is_meant: Callable[[int], bool]) -> Law:
        """Maximum-likelihood calibration for the elements that `is_meant` selects."""
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
        return likeliest_law(Stated(errors, deviations, strongest, np.array(weights)), OPEN)

    def _factor(self, seen: Sequence[ObservedErrors | None], before: float) -> float:
        """Calibration factor of energy or stress; `before` is the prior factor."""
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
        """The history saved by `state`; observations of earlier versions of mlpot are left out."""
        return cls(tuple(Observation.restore(values) for values in state[-RECENT:] if _is_current(values)))


def widening(n_structures: int) -> float:
    """Factor on the deviations of an element that `n_structures` labelled structures contain; see `WIDENING`."""
    return float(np.sqrt(1.0 + WIDENING / min(max(n_structures, 1), FADING)))


def _is_current(values: Any) -> bool:
    """Whether an observation has forces in bins, as this version writes them."""
    return isinstance(values, dict) and all("strongest" in seen for seen in values["elements"].values())
