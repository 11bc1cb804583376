"""What labels showed of the predicted deviations, by element and kind, and the calibration that follows from it.

With z = error / deviation as the model itself says it (factors of 1, the usual share of its discrepancy), label k says of one kind
of number

    z2_k = mean of min(z^2, (WILD m)^2),   m = median |z| / 0.6745

so that single components do not decide, and over all labels, the newest of weight 1,

    f^2 = (PRIOR g^2 + sum_k w_k min(z2_k, WILD^2 M_k)) / (PRIOR + sum_k w_k),   w_k = exp(-age_k / FADING) n_k / (n_k + FEW)

(a quarter of that for small errors where deviations were large, see `CHOSEN`) with n_k components in label k, and M_k the same
mean without that label, so that no single label decides either. g is what is believed before: for the forces on atoms of one
element the factor of those of all others, for all forces a_0 = `OPEN`, for energy and stress that of all forces over a_0. This is
the mean of a scaled inverse chi-squared posterior: Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), section 2.6; winsorised
means: Huber, Robust Statistics (1981), section 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..models.calibration import OPEN, SYMMETRIC, Calibration
from ..models.prediction import ExpectedErrors

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
"""Weight of a label that was asked for where deviations were large, if it found smaller errors: of deviations that scatter, a maximum
is too large more often than not. Larger errors than were expected count in full."""
WILD = 3.0
"""Errors beyond this multiple of what is usual count as that: among normal ones 0.3 % are."""
NORMAL_MEDIAN = 0.6745
"""Median of |z| of normal errors."""
LEAST, MOST = 0.5, 10.0
"""Bounds of a factor, relative to what is believed without labels."""
WIDENING = 2.0
"""n labelled structures with an element give its forces the deviations of Student's t distribution with n + 2 degrees of freedom:
larger by sqrt(1 + 2 / n) than those of a normal distribution of the same scale."""


@dataclass(frozen=True)
class Seen:
    """Errors of one kind of number in one label against the model's own deviations.

    Parameters
    ----------
    n : int
        Components that no symmetry makes zero.
    error, deviation : float
        Root mean squares, in the unit of the number.
    z2 : float
        Robust mean square of error / deviation.
    """

    n: int
    error: float
    deviation: float
    z2: float

    @classmethod
    def of(cls, errors: np.ndarray, deviations: np.ndarray, least: float = 0.0) -> Seen | None:
        """Of components with deviations above `least`; None where there are none."""
        told = deviations > least
        if not told.any():
            return None
        errors, deviations = errors[told], deviations[told]
        z = np.abs(errors / deviations)
        cap = WILD * np.median(z) / NORMAL_MEDIAN
        rms = float(np.sqrt(np.mean(errors**2))), float(np.sqrt(np.mean(deviations**2)))
        return cls(len(z), *rms, float(np.mean(np.minimum(z, cap) ** 2)))


@dataclass(frozen=True)
class Observation:
    """What one label taught about the uncertainty.

    Parameters
    ----------
    error, worst : float
        eV/A: root mean square error of the force components before the label was learned, and that of the worst atom.
    raw_rms, raw_max : float
        eV/A: likewise of the model's own deviations, and for the least certain atom.
    after : ExpectedErrors
        Of the same structure after the label was learned.
    elements : mapping of int to Seen
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
    elements: Mapping[int, Seen] = field(default_factory=dict)
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
        elements = {int(z): Seen(**seen) for z, seen in state["elements"].items()}
        return cls(**{**state, **kinds, "elements": elements, "after": ExpectedErrors(**state["after"])})


@dataclass(frozen=True)
class History:
    """The last observations."""

    recent: tuple[Observation, ...] = field(default=())

    def observe(self, observation: Observation) -> History:
        """The history after one more label."""
        return History((*self.recent, observation)[-RECENT:])

    def calibration(self, structures: Mapping[int, int]) -> Calibration:
        """Factors on the model's own deviations.

        Parameters
        ----------
        structures : mapping of int to int
            In how many labelled structures an element occurs.
        """
        factors = {z: self._of_element(z) * widening(n) for z, n in sorted(structures.items())}
        common = self._factor([pooled(o.elements) for o in self.recent], OPEN, OPEN) / OPEN
        return Calibration(
            force_scale=OPEN * common,
            energy_scale=self._factor([o.energy for o in self.recent], common),
            stress_scale=self._factor([o.stress for o in self.recent], common),
            of_elements=factors,
        )

    def _of_element(self, z: int) -> float:
        """The factor of the forces on atoms of an element."""
        others = [pooled({other: seen for other, seen in o.elements.items() if other != z}) for o in self.recent]
        return self._factor([o.elements.get(z) for o in self.recent], self._factor(others, OPEN, OPEN), OPEN)

    def _factor(self, seen: Sequence[Seen | None], before: float, usual: float = 1.0) -> float:
        """The factor of one kind of number; `before` is what is believed without labels of it, `usual` without any."""
        n_labels = len(self.recent)
        found = [(s, np.exp(-(n_labels - 1 - k) / FADING)) for k, s in enumerate(seen) if s is not None]
        if not found:
            return before
        squares = np.array([s.z2 for s, _ in found])
        weights = np.array([weight * s.n / (s.n + FEW) for s, weight in found])
        chosen = np.array([o.is_chosen for o, s in zip(self.recent, seen, strict=True) if s])
        weights *= np.where(chosen & (squares < usual**2), CHOSEN, 1)
        total, weight = PRIOR * before**2 + weights @ squares, PRIOR + weights.sum()
        squares = np.minimum(squares, WILD**2 * (total - weights * squares) / (weight - weights))
        factor = np.sqrt((PRIOR * before**2 + weights @ squares) / weight)
        return float(np.clip(factor, LEAST * usual, MOST * usual))

    def state(self) -> list[dict[str, Any]]:
        """For `restore`: plain numbers."""
        return [observation.state() for observation in self.recent]

    @classmethod
    def restore(cls, state: list[Any]) -> History:
        """The same history after a restart; what an earlier version of mlpot left is not read."""
        return cls(tuple(Observation.restore(values) for values in state[-RECENT:] if isinstance(values, dict)))


def widening(n_structures: int) -> float:
    """Factor on the deviations of an element that this many labelled structures contain; see `WIDENING`."""
    return float(np.sqrt(1.0 + WIDENING / max(n_structures, 1)))


def pooled(seen: Mapping[int, Seen]) -> Seen | None:
    """What a label showed of several elements together."""
    if not seen:
        return None
    counts = np.array([s.n for s in seen.values()])
    squares = np.array([[s.error**2, s.deviation**2, s.z2] for s in seen.values()])
    error, deviation, z2 = (counts @ squares / counts.sum()).tolist()
    return Seen(int(counts.sum()), float(np.sqrt(error)), float(np.sqrt(deviation)), z2)


def compared(errors: np.ndarray, deviations: np.ndarray, numbers: np.ndarray) -> dict[int, Seen]:
    """Force errors (n_atoms, 3) against deviations (n_atoms, 3), eV/A, of the atoms of each element."""
    found = {
        z: Seen.of(errors[numbers == z].ravel(), deviations[numbers == z].ravel(), SYMMETRIC)
        for z in np.unique(numbers).tolist()
    }
    return {z: seen for z, seen in found.items() if seen is not None}
