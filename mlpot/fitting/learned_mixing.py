"""Channels that are mixed as the data asks: elements are made more or less alike, radial functions stretched.

Weights of all channels at once, n_channels * n_species * n_max numbers, follow any sample of the data so closely that other
data is predicted worse. What is learned here is shared by all channels: a matrix of elements A and one of radial functions B,

    weights[q, z, n] = sum_yk  start[q, y, k] A[y, z] B[k, n].

The kernel of many channels depends on A through A'A, how alike the elements are (De, Bartok, Csanyi, Ceriotti, Phys. Chem.
Chem. Phys. 18, 13754 (2016), doi:10.1039/C6CP00415F), and on B through B'B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from ..descriptors.density import Reduction, SoapDescriptor
from ..errors import required
from ..terms.protocol import FittedTerm
from .mixing_loss import MixingLoss
from .mixing_sample import take_sample
from .task import FitTask

STEPS = 30
"""Of the minimisation at most."""
LIKENESSES = (0.0, 0.5, 0.8, 0.95)
"""Tried first: a part of every element's weights is what all elements have in common. From independent weights a descent
would need many steps to that."""


@dataclass(frozen=True)
class LearnedMixing:
    """Channels and how they were found.

    Parameters
    ----------
    reduction : Reduction
    losses : tuple of float
        `MixingLoss` of the weights at the start, and after every step.
    """

    reduction: Reduction
    losses: tuple[float, ...]


@dataclass(frozen=True)
class SharedMatrices:
    """Weights of channels as a function of a matrix of elements and one of radial functions, in one vector.

    Parameters
    ----------
    start : (n_channels, n_species, n_max) array
    """

    start: np.ndarray

    def split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A (n_species, n_species) and B (n_max, n_max)."""
        _, n_species, n_max = self.start.shape
        return x[: n_species**2].reshape(n_species, n_species), x[n_species**2 :].reshape(n_max, n_max)

    def alike(self, likeness: float) -> np.ndarray:
        """The vector that replaces a part of every element's weights by the sum of all elements'."""
        _, n_species, n_max = self.start.shape
        elements = (1 - likeness) * np.eye(n_species) + likeness / np.sqrt(n_species)
        return np.concatenate([elements.ravel(), np.eye(n_max).ravel()])

    def weights(self, x: np.ndarray) -> np.ndarray:
        """Weights (n_channels, n_species, n_max)."""
        elements, radial = self.split(x)
        return np.einsum("qyk,yz,kn->qzn", self.start, elements, radial, optimize=True)

    def vjp(self, x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """dloss/dx from dloss/dweights (n_channels, n_species, n_max)."""
        elements, radial = self.split(x)
        by_elements = np.einsum("qyk,qzn,kn->yz", self.start, cotangent, radial, optimize=True)
        by_radial = np.einsum("qyk,qzn,yz->kn", self.start, cotangent, elements, optimize=True)
        return np.concatenate([by_elements.ravel(), by_radial.ravel()])


def learn_mixing(
    task: FitTask,
    descriptor: SoapDescriptor,
    zeta: float,
    energy_scale: float,
    others: Sequence[FittedTerm],
    steps: int = STEPS,
) -> LearnedMixing:
    """The channels of a descriptor with weights that are best for a random sample of a task's structures.

    Parameters
    ----------
    task : FitTask
        Its seed draws the sample.
    descriptor : SoapDescriptor
        With the reduction to start from.
    zeta, energy_scale : float
        Of the kernel; eV.
    others : sequence of FittedTerm
        Terms that do not change, with sparse points.

    Raises
    ------
    FitError
        If there are too few structures with energies or forces.
    """
    full = replace(descriptor, reduction=None, contractions=None)
    sample = take_sample(task, full, others, np.random.default_rng(task.config.seed))
    loss = MixingLoss(sample, descriptor.basis.l_max, zeta, energy_scale)
    start = required(descriptor.reduction, "reduction")
    shared = SharedMatrices(start.weights)

    def reduction(x: np.ndarray) -> Reduction:
        return replace(start, weights=shared.weights(x))

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_weights = loss.evaluate(reduction(x))
        return value, shared.vjp(x, by_weights)

    tried = [(cost(x)[0], x) for x in map(shared.alike, LIKENESSES)]
    losses = [tried[0][0]]

    def step_done(intermediate_result: OptimizeResult) -> None:
        losses.append(float(intermediate_result.fun))
        task.progress("mixing of channels", len(losses) - 1, steps)

    best = min(tried, key=lambda trial: trial[0])[1]
    found = minimize(cost, best, jac=True, method="L-BFGS-B", callback=step_done, options={"maxiter": steps})
    return LearnedMixing(reduction(found.x), tuple(losses))
