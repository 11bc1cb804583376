"""The sum of two independent Gaussian processes as one model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import block_diag

from ..errors import ConfigError, required
from ..uncertainty.noises import Noises
from .lone_atoms import anchored
from .sparse_gp import SparseGP


def summed(first: SparseGP, second: SparseGP) -> SparseGP:
    """The sum of two models that were fitted to different data, with the terms of both.

    The processes are independent, so the posterior covariance of all weights is block diagonal: variances of predictions add up.
    Noises, the discrepancies of the two models, add up in quadrature. The sum is a model like any other, for every program that
    takes one.

    Parameters
    ----------
    first, second : SparseGP
        For the same elements, with the same jitter. The sum is not calibrated.

    Returns
    -------
    SparseGP

    Raises
    ------
    ConfigError
        If the models do not fit together, or one of them was imported without its training data.

    Notes
    -----
    Kennedy and O'Hagan, Biometrika 87, 1 (2000), doi:10.1093/biomet/87.1.1, with a factor of 1 between the levels.
    """
    if (first.species, first.jitter) != (second.species, second.jitter):
        both = f"{first.species}, jitter {first.jitter:g}, and {second.species}, jitter {second.jitter:g}"
        raise ConfigError(f"models of {both} cannot be added; fit both with the same elements and jitter")
    if first.beneath is not None or second.beneath is not None or first.config is None or second.config is None:
        raise ConfigError("models with a calculator beneath them, and imported ones, cannot be added")
    baseline, other = first.baseline, second.baseline
    if other.repulsion or other.glue is not None:
        raise ConfigError("the second model has a repulsion, which would count twice; fit it with repulsion = false")
    upper, lower = required(first.factor, "factor"), required(second.factor, "factor")
    energies = {z: baseline.isolated_atom_energies[z] + other.isolated_atom_energies[z] for z in first.species}
    return anchored(
        replace(
            first,
            terms=(*first.terms, *second.terms),
            weights=np.concatenate([first.weights, second.weights]),
            baseline=replace(baseline, isolated_atom_energies=energies, lone_atoms={**baseline.lone_atoms, **other.lone_atoms}),
            factor=block_diag(upper, lower),
            config=first.config.changed(terms=(*first.config.terms, *second.config.terms)),
            report=None,
            provenance={**first.provenance, "added": second.provenance},
            noises=_together(first.noises, second.noises),
        )
    )


def _together(first: Noises, second: Noises) -> Noises:
    forces = {z: _hypot(first.forces.get(z), second.forces.get(z)) for z in sorted({*first.forces, *second.forces})}
    return Noises(_hypot(first.energy, second.energy), _hypot(first.virial, second.virial), forces, first.sizes)


def _hypot(a: float | None, b: float | None) -> float:
    return float(np.hypot(a or 0.0, b or 0.0))
