"""Noises and energy scales that the data itself asks for: a fixed point of the marginal likelihood.

With the whitened coefficients u of a block, gamma of its directions determined by the data, and for a group of n labels the squared
residuals |r|^2 and its leverage h,

    s_b^2 <- (|u|^2 + nu s_0^2) / (gamma_b + nu),        sigma_g^2 <- (|r|^2 + nu sigma_0^2) / (n - h + nu):

MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415, with scaled inverse chi-squared priors of nu degrees of freedom,
which decide where there is little data. No covariance is computed again.

Every block (term and element, or pair of elements) has a scale, and forces on every element have a noise of their own. That noise is
the model's discrepancy, not that of the labels: the part of the forces that these features and sparse points cannot explain.
Energies and virials only let it fall below what was given: residuals of a structure are correlated, and a likelihood that takes them
for independent asks for an energy noise that doubles the error of energies of surfaces. Residuals far beyond (`BEYOND`) are another
matter: a label in a wrong unit, or a model too poor for the data, would otherwise drive all energy scales and the noise of forces up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .design_matrix import Group
from .posterior import NormalEquations, Posterior
from .prior import Prior

STEPS = 10
"""Enough: on twelve labels of CO on Cu(111) the error after ten steps is that after forty."""
CLOSE = 1.1
"""A further step is not worth it when no number changes by a larger factor."""
SCALE_COUNTS, NOISE_COUNTS = 1.0, 10.0
"""nu: the initial scale counts as one determined direction, the initial noise as ten residuals."""
SHARPEST = 10.0
"""A noise falls by at most so large a factor: labels without any would leave a fit without digits."""
BLUNTEST = 30.0
"""... and that of forces rises by at most so large a one."""
BEYOND = 6.0
"""Noises of energies and virials stay what was given up to residuals this many times larger, and then grow with them. Test errors of
the fast preset, meV/atom and eV/A, with 3, 6, 10, 30: Si 5.00 and 0.083, 3.00 and 0.086, 3.20 and 0.094, 3.61 and 0.105; Mo 4.62 and
0.141, 4.24 and 0.144, 3.78 and 0.153, 3.78 and 0.154."""
SMALLEST, LARGEST = 1e-3, 10.0
"""Factors on the initial scale between which scales stay. A pair potential that data see over a tenth of an angstrom only is as well
explained by any large scale, and without a bound that of the C-O bond on Cu(111) ends at 1000 eV, with forces to match elsewhere."""


@dataclass(frozen=True)
class Hyperparameters:
    """Noises of groups of labels and energy scales of blocks.

    Parameters
    ----------
    noises : dict of Group to float
        eV/atom (times sqrt(n_atoms)) or eV/A.
    scales : (n_blocks,) array
        eV.
    """

    noises: dict[Group, float]
    scales: np.ndarray

    def posterior(self, prior: Prior, groups: Mapping[Group, NormalEquations]) -> Posterior:
        """The fit with these numbers."""
        return Posterior(prior, groups, {group: self.noises[group] for group in groups}, self.scales)

    def factor_to(self, other: Hyperparameters) -> float:
        """Largest factor between these numbers and others."""
        pairs = [(self.noises[group], other.noises[group]) for group in self.noises]
        pairs += list(zip(self.scales, other.scales, strict=True))
        return float(np.exp(max([abs(np.log(a / b)) for a, b in pairs], default=0.0)))


@dataclass(frozen=True)
class Freedom:
    """What may be adapted, and from where.

    Parameters
    ----------
    start : Hyperparameters
        The centres of the priors.
    groups : frozenset of Group
        Whose noises nobody gave.
    blocks : (n_blocks,) bool array
        Whose scales nobody gave.
    """

    start: Hyperparameters
    groups: frozenset[Group]
    blocks: np.ndarray


def adapted(
    posterior: Posterior, freedom: Freedom, most_steps: int = STEPS
) -> tuple[Posterior, Hyperparameters]:
    """The fit with the noises and scales of the fixed point, reached from those of a fit in at most so many steps."""
    now = Hyperparameters(dict(posterior.noises), posterior.scales)
    for _ in range(most_steps):
        following = _step(posterior, now, freedom)
        change = following.factor_to(now)
        if change == 1.0:
            break
        now, posterior = following, following.posterior(posterior.prior, posterior.groups)
        if change < CLOSE:
            break
    return posterior, now


def _step(posterior: Posterior, now: Hyperparameters, freedom: Freedom) -> Hyperparameters:
    start, noises = freedom.start, dict(now.noises)
    for group, squares in posterior.square_sums().items():
        if group not in freedom.groups:
            continue
        given = start.noises[group]
        left = posterior.groups[group].n_rows - posterior.leverage(group) + NOISE_COUNTS
        wanted = np.sqrt((squares + NOISE_COUNTS * given**2) / left)
        largest = BLUNTEST * given if group.label == "forces" else max(given, wanted / BEYOND)
        noises[group] = float(np.clip(wanted, given / SHARPEST, largest))
    wanted = np.sqrt((posterior.sizes + SCALE_COUNTS * start.scales**2) / (posterior.determined + SCALE_COUNTS))
    wanted = np.clip(wanted, start.scales * SMALLEST, start.scales * LARGEST)
    return Hyperparameters(noises, np.where(freedom.blocks, wanted, now.scales))
