"""Channel mixing learned from the data: similarity of elements, and stretched radial functions.

Optimising the weights of all channels independently, n_channels * n_species * n_max numbers, overfits any sample of the data.
Instead, two matrices shared by all channels are learned: A, of the elements, and B, of the radial functions,

    weights[q, z, n] = sum_yk  start[q, y, k] A[y, z] B[k, n].

For many channels, the kernel depends on A through A'A, the similarity of the elements (De, Bartok, Csanyi, Ceriotti, Phys. Chem.
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
"""Largest number of minimisation steps."""
LIKENESSES = (0.0, 0.5, 0.8, 0.95)
"""Similarities tried first: the fraction of every element's weights that is common to all elements. A descent from independent
weights would need many steps to reach this."""


@dataclass(frozen=True)
class LearnedMixing:
    """Learned channels and the history of the minimisation.

    Parameters
    ----------
    reduction : Reduction
    losses : tuple of float
        `MixingLoss` at the start and after every step.
    """

    reduction: Reduction
    losses: tuple[float, ...]


@dataclass(frozen=True)
class SharedMatrices:
    """Channel weights as a function of the matrices A and B, packed into one vector.

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
        """Vector for which a fraction of every element's weights is replaced by the sum over all elements."""
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
    """Optimise the channel weights of a descriptor for a random sample of a task's structures.

    Parameters
    ----------
    task : FitTask
        Its seed draws the sample.
    descriptor : SoapDescriptor
        Descriptor with the initial reduction.
    zeta, energy_scale : float
        Exponent and energy scale (eV) of the kernel.
    others : sequence of FittedTerm
        Terms that are kept fixed, with sparse points.

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
