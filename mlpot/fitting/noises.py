"""Noises of labels: given by the configuration or found by a fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..settings.fit import NOISE_OF_LABEL, FitConfig
from ..uncertainty.noises import Noises
from .design_matrix import Group
from .posterior import Posterior


def noises_of(posterior: Posterior) -> Noises:
    """Noises found by a fit; a kind of label that only special config_types have gets the largest of their noises."""
    found = posterior.noises

    def largest(label: str, number: int) -> float:
        own = {g: noise for g, noise in found.items() if (g.label, g.number) == (label, number)}
        general = [noise for g, noise in own.items() if not g.config_type]
        return float(max(general or own.values(), default=0.0))

    numbers = sorted({g.number for g in found if g.label == "forces"})
    sizes = {}
    for z in numbers:
        own = [equations for g, equations in posterior.groups.items() if (g.label, g.number) == ("forces", z)]
        sizes[z] = float(np.sqrt(sum(e.square for e in own) / max(sum(e.n_rows for e in own), 1)))
    forces = {z: largest("forces", z) for z in numbers}
    return Noises(largest("energy", 0), largest("virial", 0), forces, sizes)


def left_open(config: FitConfig, groups: Iterable[Group]) -> frozenset[Group]:
    """Groups whose noise a resolved configuration leaves to the data."""

    def is_open(group: Group) -> bool:
        key = NOISE_OF_LABEL[group.label]
        own = config.config_type_noise.get(group.config_type)
        return key in (config.adapt or ()) and getattr(own, key, None) is None

    return frozenset(filter(is_open, groups))
