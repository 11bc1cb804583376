"""Warnings of a fixed model when a simulation leaves the region of its training data."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..models.prediction import Prediction, expected_errors
from ..settings.learning import NOVEL, TARGET, TARGET_ENERGY
from ..units import MILLI

PAUSE = 60.0
"""Seconds between two warnings."""

log = logging.getLogger(__name__)


def beyond(p: Prediction) -> str | None:
    """Sign that a prediction is outside the training data, or None; imported models provide neither novelty nor force errors."""
    found = []
    if p.novelty is not None and len(p.novelty) and (novelty := float(p.novelty.max())) >= NOVEL:
        found.append(
            f"the novelty of atom {int(p.novelty.argmax())} is {novelty:.3g} ({NOVEL:g} and more is unlike all that is known)"
        )
    if p.forces_std is not None and p.energy_std is not None:
        expected = expected_errors(p)
        if expected.force > TARGET:
            found.append(f"the expected error of a force is {expected.force:.3g} eV/A (limit {TARGET:g})")
        if expected.energy > TARGET_ENERGY:
            limit = f"limit {TARGET_ENERGY / MILLI:g}"
            found.append(f"energy {expected.energy / MILLI:.3g} meV/atom ({limit})")
    return ", ".join(found) or None


class Watch:
    """Warns of predictions that are `beyond`, at most once in `pause` seconds.

    Parameters
    ----------
    pause : float
    clock : callable
        Seconds.
    """

    def __init__(self, pause: float = PAUSE, clock: Callable[[], float] = time.monotonic):
        self.pause, self._clock = pause, clock
        self._last: float | None = None
        self._n_seen = self._n_beyond = 0

    def look(self, prediction: Prediction) -> None:
        """Count a prediction, and warn if it is time."""
        self._n_seen += 1
        why = beyond(prediction)
        if why is None:
            return
        self._n_beyond += 1
        now = self._clock()
        if self._last is not None and now - self._last < self.pause:
            return
        log.warning(
            "beyond what the model knows: %s; so are %d of the last %d structures. Label some of them and fit again, or let a "
            "driver learn: `mlpot driver learn.toml`",
            why, self._n_beyond, self._n_seen,
        )  # fmt: skip
        self._last, self._n_seen, self._n_beyond = now, 0, 0
