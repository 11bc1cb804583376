"""When to ask for a label: thresholds on the largest uncertainty of an atom, fixed or learned from the errors seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

RECENT = 10
"""Labels that an adaptive threshold remembers."""
FIRST_RATIO = 5.0
"""Force error per energy uncertainty (1/A) assumed before errors have been seen; it counts as one label."""
GROWTH = 2.0
"""A threshold never exceeds this multiple of the uncertainties at which errors have been seen: the next step out is
taken only after the last one has been looked at."""
RESOLUTION = 1.2
"""A threshold never lies below this multiple of the uncertainty that remains at structures just learned."""


@dataclass(frozen=True)
class Observation:
    """What one label taught about the uncertainty.

    Parameters
    ----------
    force_error : float
        Root mean square error of the forces before the label was learned, eV/A.
    std_before, std_after : float
        Largest uncertainty of an atom's energy before and after, eV.
    """

    force_error: float
    std_before: float
    std_after: float


@dataclass(frozen=True)
class FixedThreshold:
    """The threshold the user gave, eV."""

    value: float

    def threshold(self) -> float:
        """Largest uncertainty of an atom's energy that is still trusted, eV."""
        return self.value

    def observe(self, observation: Observation) -> FixedThreshold:
        """Nothing to learn."""
        return self

    def state(self) -> dict:
        """For `restore`."""
        return {}

    def restore(self, state: dict) -> FixedThreshold:
        """The same policy after a restart."""
        return self


@dataclass(frozen=True)
class AdaptiveThreshold:
    """The uncertainty at which the force error reaches what the fit calls noise.

    Every label shows a pair (uncertainty, true error). Their ratio, the median over recent labels, turns the error that
    is aimed at, `target` in eV/A, into a threshold in eV.
    """

    target: float
    recent: tuple[Observation, ...] = field(default=())

    def threshold(self) -> float:
        """Largest uncertainty of an atom's energy that is still trusted, eV."""
        ratios = [FIRST_RATIO] + [o.force_error / o.std_before for o in self.recent if o.std_before > 0]
        wanted = self.target / float(np.median(ratios))
        if not self.recent:
            return wanted
        seen = max(o.std_before for o in self.recent)
        reachable = float(np.median([o.std_after for o in self.recent]))
        return max(min(wanted, GROWTH * seen), RESOLUTION * reachable)

    def observe(self, observation: Observation) -> AdaptiveThreshold:
        """The policy after one more label."""
        return replace(self, recent=(*self.recent, observation)[-RECENT:])

    def state(self) -> dict:
        """For `restore`: plain numbers."""
        return {"recent": [[o.force_error, o.std_before, o.std_after] for o in self.recent]}

    def restore(self, state: dict) -> AdaptiveThreshold:
        """The same policy after a restart."""
        return replace(self, recent=tuple(Observation(*values) for values in state["recent"]))


def make_policy(threshold: float | str, force_noise: float) -> FixedThreshold | AdaptiveThreshold:
    """A number in eV per atom, or "adaptive": aims at twice the noise the fit allows the forces."""
    return AdaptiveThreshold(2 * force_noise) if threshold == "adaptive" else FixedThreshold(float(threshold))
