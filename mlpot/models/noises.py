"""Noises that nobody gave: the preset's, or smaller ones where the fit explains the labels better than these expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .design_matrix import noise_of
from .evidence import Posterior
from .settings import NOISE_OF_LABEL, FitConfig
from .task import FitTask

SHARPEST = 10.0
"""A noise falls by at most so large a factor: labels without any would leave a fit without digits."""
STEPS = 6
"""To where the likelihood is stationary: the less noise, the more of the rest the fit explains."""
WORTH_IT = 1.2
"""A change by a smaller factor is not worth another factorisation."""


def noises_by_label(config: FitConfig) -> dict[str, float]:
    """The noises of a resolved configuration: "energy" and "virial" in eV/atom, "forces" in eV/A."""
    return {label: getattr(config, key) for label, key in NOISE_OF_LABEL.items()}


def left_open(config: FitConfig) -> list[str]:
    """Kinds of labels whose noise a configuration leaves to the preset."""
    return [label for label, key in NOISE_OF_LABEL.items() if getattr(config, key) is None]


def sharpened(task: FitTask, posterior: Posterior, floors: Mapping[str, float]) -> FitTask:
    """The task with smaller noises of these labels, but no smaller than that, where the marginal likelihood asks for them.

    With n rows, the sum S of their squared residuals and k of them known before (their leverage), the likelihood is
    stationary at sigma^2 = S / (n - k). MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415. Never larger
    ones: the likelihood takes the errors of a local model for noise.
    """
    expected, found = noises_by_label(task.config), {}
    _, slopes, _ = posterior.log_likelihood
    squares = posterior.square_sums(posterior.evidence.groups)
    for label, floor in floors.items():
        given = expected[label]
        own = [g for g in squares if g.label == label and noise_of(task.config, g) == given]
        scaled = sum(squares[g] for g in own) / given**2
        unknown = scaled - sum(slopes[g] for g in own)
        if unknown > 0:
            found[label] = float(np.clip(given * np.sqrt(scaled / unknown), floor, given))
    if all(noise * WORTH_IT > expected[label] for label, noise in found.items()):
        return task
    config = task.config.model_copy(update={NOISE_OF_LABEL[label]: noise for label, noise in found.items()})
    return replace(task, config=config)
