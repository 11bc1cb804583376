"""Calibration of predicted standard deviations against observed errors.

A model states a posterior standard deviation p and a discrepancy d (see `variances`). The observed errors e determine a scale
factor a for each kind of prediction (for forces: for each element), and for forces the share c of the discrepancy that counts:

    sigma = a s,   s^2 = p^2 + (c d)^2       minimise  n <log sigma + rho(e / sigma)> + (log a / a_0)^2 / (2 w^2)
    rho(z) = z^2 / 2  for |z| <= k,   k^2 (1/2 + log |z / k|)  beyond

(c = 1 and a_0 = 1 for energies and stresses). Here n is the number of structures with known errors (errors within a structure are
correlated, so structures are counted and not components) and w the width of the prior: a wrong label counts no more than an error
of k standard deviations, and a single structure has hardly any influence. Force components that vanish by symmetry are left out.

The rows of a structure share the error that the model cannot explain. p treats them as independent and is therefore too small by
a_0; the misfit is largest where the posterior variance is large, rather than uniform. Errors of fits to 5 to 60 labels, on later
frames of the same runs (Cu, CuAu, AlNi, NaCl, CO and H2O on metals, ethanol, water, HCOOH dimer, Si surface), have their maximum
likelihood at a = 1.1 to 3.9 and c = 0 to 0.3 in 36 of 38 cases; 1 to 3 % of the atoms are then beyond three standard deviations,
4 to 15 % with a = c = 1.

`fit_calibration` takes the leave-out errors of a fit, `likeliest_law` the errors observed in a run, in bins and faded with age. They
share the likelihood, `_surprise`, and the prior of a; a run also has what only rare collisions show, a floor and a growth.

Robust likelihoods: Huber, Ann. Math. Stat. 35, 73 (1964), doi:10.1214/aoms/1177703732; variance scaling of ensembles: Musil,
Willatt, Langovoy, Ceriotti, J. Chem. Theory Comput. 15, 906 (2019), doi:10.1021/acs.jctc.8b00959.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols
from scipy.optimize import minimize, minimize_scalar

from .noises import by_element

SYMMETRIC = 1e-6
"""Standard deviations of forces (eV/A) below this are round-off: the force vanishes by symmetry, so its error carries no
information."""
BEYOND = 2.0
"""k: larger errors, in standard deviations, are weighted as if they had this size. With 2, the fraction of left-out errors within
one standard deviation agrees with a normal distribution: forces 0.68 (Si) and 0.67 (Mo), total energies 0.69 and 0.70."""
POWER = 3
"""Exponent of the force in the growth term of `Law`; the same in cython_ext/core/model_deviations.c."""
LEAST = 1.0
"""Lower bound of a fitted factor: treating rows as independent makes the posterior too small, not too large. The errors of the first
labels of a run are often less than half of the stated ones, and the model that has learned them states a tenth of that (AlNi: 0.14
of the frames had errors beyond twice the stated ones)."""
WORTH = 1.0
"""Gain in log-probability required to include a floor or a growth, as in Akaike's criterion (IEEE Trans. Automat. Contr. 19, 716
(1974), doi:10.1109/TAC.1974.1100705): a term that the labels do not require would extrapolate far beyond the forces they cover."""
FAR = 4.0
"""Outliers are clipped to this number of standard deviations when tails are measured: one outlier among seven labels then widens all
deviations by a factor of 1.7."""
WIDTH = 0.7
"""w: before any errors are known, a model's own standard deviations are right to within a factor of two."""
OPEN, SHARE = 2.0, 0.15
"""a_0 and c for forces when there are no errors to fit them to; see above."""
SHARE_WIDTH = 1.0
"""Width of the prior on log c."""
N_BINS, LEAST_IN_BIN = 10, 5
FEWEST = 10
"""Smallest number of errors that a scale is fitted to."""
FEWEST_OF_ELEMENT = 30
"""Smallest number of force components that an element's own scale is fitted to."""


@dataclass(frozen=True)
class Calibration:
    """Scale factors between the standard deviations that a model states and the observed errors.

    Parameters
    ----------
    force_scale : float
        Factor for forces on atoms of elements without a factor of their own.
    energy_scale, stress_scale : float
        Factors for total and local energies, and for stresses and virials.
    of_elements : mapping of int to float
        Factors for forces by atomic number; they take precedence over `force_scale`.
    n_forces, n_energies : int
        Number of force components and of total energies in the fit. 0: not calibrated.
    discrepancy_share : float
        c: the share of the model discrepancy that counts for forces.
    floors : mapping of int to float
        Smallest standard deviation of forces by atomic number, eV/A, added in quadrature; none by default.
    growths : mapping of int to float
        Coefficient of the third power of the strongest force between the atom and a neighbour, by atomic number, (A/eV)^2; added in
        quadrature, see `Law`.
    """

    force_scale: float = OPEN
    energy_scale: float = 1.0
    stress_scale: float = 1.0
    of_elements: Mapping[int, float] = field(default_factory=dict)
    n_forces: int = 0
    n_energies: int = 0
    discrepancy_share: float = SHARE
    floors: Mapping[int, float] = field(default_factory=dict)
    growths: Mapping[int, float] = field(default_factory=dict)

    def forces_std(
        self, left_open: np.ndarray, discrepancies: np.ndarray, numbers: np.ndarray, strongest: np.ndarray | None = None
    ) -> np.ndarray:
        """Calibrated standard deviations of forces (n_atoms, 3), eV/A.

        `left_open` and `discrepancies` are the posterior standard deviations and the model discrepancies (n_atoms, 3), eV/A;
        `numbers` the atomic numbers (n_atoms,). Components that vanish by symmetry get no floor. `strongest` holds the strongest
        force between each atom and a neighbour (n_atoms,), eV/A; it is required if there are `growths`.
        """
        if self.growths and strongest is None:
            raise ValueError("a calibration with growths needs the strongest pair force on each atom")
        forces = np.zeros(len(numbers)) if strongest is None else strongest
        return sigma(self.stated(left_open, discrepancies), forces[:, None], *self.by_atom(numbers[:, None]))

    def stated(self, left_open: np.ndarray, discrepancies: np.ndarray) -> np.ndarray:
        """Uncalibrated standard deviations (n_atoms, 3), eV/A: posterior and share of the discrepancy, added in quadrature."""
        return np.hypot(left_open, self.discrepancy_share * discrepancies)

    def described(self) -> str:
        """Readable summary of the factors."""
        forces = {chemical_symbols[z]: factor for z, factor in self.of_elements.items()} or {"all": self.force_scale}
        parts = ", ".join(f"{factor:.3g} ({name})" for name, factor in forces.items())
        return f"{parts} for forces, {self.energy_scale:.3g} for energies, {self.stress_scale:.3g} for stresses"

    def by_atom(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Factors, floors and growths (each of the shape of `numbers`) for the forces on atoms of these elements."""
        return (
            by_element(self.of_elements, numbers, self.force_scale),
            by_element(self.floors, numbers, 0.0),
            by_element(self.growths, numbers, 0.0),
        )


def sigma(
    stated: np.ndarray, strongest: np.ndarray, factor: np.ndarray | float, floor: np.ndarray | float, growth: np.ndarray | float
) -> np.ndarray:
    """Calibrated standard deviations of forces (n, ...), eV/A: the formula of `Law`, its only place in Python.

    `stated` (n, ...) and `strongest` (n, ...) are in eV/A. Forces that vanish by symmetry get neither floor nor growth. C programs
    use `deviations_of` in cython_ext/core/model_deviations.c, with the same parameters (`models.core_uncertainty`).
    """
    scaled = factor * stated
    return np.hypot(scaled, np.where(scaled > SYMMETRIC, np.hypot(floor, growth * strongest**POWER), 0.0))


UNCALIBRATED = Calibration()


@dataclass(frozen=True)
class ErrorsAndDeviations:
    """Observed errors (n,), predicted minus labelled, and the standard deviations (n,) stated for them.

    Parameters
    ----------
    errors, deviations : (n,) arrays
        eV/A, eV or eV/A^3.
    numbers : (n,) int array or None
        Atomic numbers, for forces.
    n_structures : int
        Number of structures that the errors come from.
    discrepancies : (n,) array or None
        Model discrepancies, for forces; not included in `deviations`, as only a share of them counts.
    """

    errors: np.ndarray
    deviations: np.ndarray
    numbers: np.ndarray | None = None
    n_structures: int = 1
    discrepancies: np.ndarray | None = None


def fit_calibration(
    forces: ErrorsAndDeviations, energies: ErrorsAndDeviations, stresses: ErrorsAndDeviations
) -> Calibration:
    """Maximum-likelihood calibration for errors of force components, total energies and stress components.

    A kind of label with too few errors takes the scale of the other kinds, since the scales are nearly the same.
    """
    told = forces.deviations > SYMMETRIC
    errors, left_open = forces.errors[told], forces.deviations[told]
    numbers = (np.zeros(len(forces.errors), int) if forces.numbers is None else forces.numbers)[told]
    share, stated = SHARE, left_open
    if forces.discrepancies is not None:
        own = forces.discrepancies[told]
        if len(errors) >= FEWEST:
            share = _likeliest_share(errors, left_open, own, forces.n_structures)
        stated = np.hypot(left_open, share * own)
    of_forces, of_energies, of_stresses = (
        _likeliest(found, deviations, kind.n_structures, expected) if len(found) >= FEWEST else None
        for kind, found, deviations, expected in (
            (forces, errors, stated, OPEN),
            (energies, energies.errors, energies.deviations, 1.0),
            (stresses, stresses.errors, stresses.deviations, 1.0),
        )
    )
    if of_forces is None and of_energies is None and of_stresses is None:
        return UNCALIBRATED
    present, counts = np.unique(numbers, return_counts=True)
    of_elements = {
        int(z): _likeliest(errors[numbers == z], stated[numbers == z], forces.n_structures, OPEN) or OPEN
        for z, count in zip(present, counts, strict=True) if z and count >= FEWEST_OF_ELEMENT
    }  # fmt: skip
    relative = 1.0 if of_forces is None else of_forces / OPEN
    other = next(scale for scale in (of_energies, of_stresses, relative) if scale is not None)
    return Calibration(
        force_scale=of_forces or OPEN * other,
        energy_scale=of_energies or other,
        stress_scale=of_stresses or other,
        of_elements=of_elements,
        n_forces=len(errors) if of_forces else 0,
        n_energies=len(energies.errors) if of_energies else 0,
        discrepancy_share=share,
    )


@dataclass(frozen=True)
class Stated:
    """Binned force errors and the standard deviations that were stated for them.

    Parameters
    ----------
    errors, deviations : (n,) arrays
        Root mean squares in each bin, eV/A.
    strongest : (n,) array
        Strongest force between an atom and a neighbour, eV/A.
    weights : (n,) array
        Weight of each bin as a number of labels.
    """

    errors: np.ndarray
    deviations: np.ndarray
    strongest: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Law:
    """Size of force errors: sigma^2 = (factor s)^2 + floor^2 + (growth f^3)^2, floor in eV/A, growth in (A/eV)^2.

    s is the stated standard deviation and f the strongest force between the atom and a neighbour. Where atoms of a hot metal
    collide, training data are sparse and the pair interaction depends on the surroundings, so errors grow faster with f than s
    does. In copper above its melting point they are 1.0, 1.6, 3.7 and 6.4 times the stated ones for f below 3, at 3 to 4, 4 to 6
    and 6 to 9 times its median.
    """

    factor: float
    floor: float = 0.0
    growth: float = 0.0

    def sigma(self, deviations: np.ndarray, strongest: np.ndarray) -> np.ndarray:
        """Standard deviations (n,), eV/A, from the stated ones (n,), eV/A, and the strongest forces f (n,), eV/A."""
        return sigma(deviations, strongest, self.factor, self.floor, self.growth)

    def times(self, widening: float) -> Law:
        """The same law with all standard deviations multiplied by a factor."""
        return Law(widening * self.factor, widening * self.floor, widening * self.growth)


def likeliest_law(seen: Stated, expected: float) -> Law:
    """Maximum-likelihood law for binned errors, widened by their tails; `expected` is its factor when there are no errors.

        minimise  sum_k w_k (log sigma_k + rho(e_k / sigma_k)) + (log a / a_0)^2 / (2 w^2) + log(1 + (b / B)^2) + log(1 + (c / C)^2)

    The priors of the floor b and the growth c are half-Cauchy, as is usual for scales (Gelman, Bayesian Anal. 1, 515 (2006),
    doi:10.1214/06-BA117A), with B the median of the deviations and C = B divided by the median of f^3.
    """
    if not len(seen.errors):
        return Law(expected)
    squares = np.array([seen.deviations**2, np.ones_like(seen.deviations), seen.strongest ** (2 * POWER)])
    scale, power = float(np.median(seen.deviations)), float(np.median(seen.strongest**POWER))
    scales = np.array([1.0, scale, scale / max(power, 1e-12)])

    def surprise(logarithms: np.ndarray, kept: list[int]) -> tuple[float, np.ndarray]:
        likely, slopes = _surprise(logarithms, scales[kept, None] ** 2 * squares[kept], seen.errors, seen.weights)
        away, rest = (logarithms[0] - np.log(expected)) / WIDTH, np.exp(2 * logarithms[1:])
        prior = 0.5 * away**2 + float(np.log1p(rest).sum())
        return likely + prior, slopes + np.append(away / WIDTH, 2.0 * rest / (1.0 + rest))

    best, law = np.inf, Law(expected)
    for kept in ([0], [0, 1], [0, 2], [0, 1, 2]):
        start = np.log(np.array([expected, 0.5 * expected, 0.5 * expected])[kept])
        with np.errstate(over="ignore", invalid="ignore"):  # a line search that overshoots meets infinity, and turns back
            found = minimize(surprise, start, (kept,), method="BFGS", jac=True)
        if found.fun + WORTH * len(kept) < best:
            values = np.zeros(3)
            values[kept] = np.exp(found.x)
            values[0] = max(values[0], LEAST)
            best, law = found.fun + WORTH * len(kept), Law(*(scales * values).tolist())
    return law.times(_tails(seen.errors / law.sigma(seen.deviations, seen.strongest), seen.weights))


def _tails(z: np.ndarray, weights: np.ndarray) -> float:
    """Root mean square, at least 1, of normalised errors (n,), with outliers clipped to `FAR`.

    The deviations used for the normalisation fit the bulk of the errors.
    """
    return max(1.0, float(np.sqrt(weights @ np.minimum(z, FAR) ** 2 / weights.sum())))


def expected_normalised_error(errors: np.ndarray, deviations: np.ndarray) -> float:
    """Expected normalised calibration error: mean of |rms deviation - rms error| / rms deviation over the bins of `binned`.

    It is 0 if errors are as large as predicted in every bin. Levi, Gispan, Giladi, Fetaya, Sensors 22, 5540 (2022),
    doi:10.3390/s22155540.
    """
    predicted, found = binned(errors, deviations)
    return float(np.mean(np.abs(predicted - found) / predicted))


def binned(errors: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of deviations and of errors (n_bins,) in bins with equal counts, sorted by deviation."""
    n_bins = min(N_BINS, max(len(errors) // LEAST_IN_BIN, 1))
    bins = np.array_split(np.argsort(deviations, kind="stable"), n_bins)
    squares = np.array([[np.mean(deviations[b] ** 2), np.mean(errors[b] ** 2)] for b in bins])
    return np.sqrt(squares[:, 0]), np.sqrt(squares[:, 1])


def coverage(errors: np.ndarray, deviations: np.ndarray, n_sigma: float) -> float:
    """Fraction of the errors within `n_sigma` standard deviations."""
    return float(np.mean(np.abs(errors) <= n_sigma * deviations))


def _likeliest(errors: np.ndarray, stated: np.ndarray, n_structures: int, expected: float) -> float | None:
    """Maximum a posteriori factor a, with a prior centred on `expected`; None if all stated deviations are zero."""
    known = stated > 0
    if not np.any(known):
        return None
    ratios, middle = np.abs(errors[known]) / stated[known], float(np.log(expected))
    weights, units = np.full(len(ratios), n_structures / len(ratios)), np.ones((1, len(ratios)))
    start = float(np.log(max(np.sqrt(np.mean(ratios**2)), 1e-12)))

    def surprise(logarithm: float) -> float:
        return _surprise(np.array([logarithm]), units, ratios, weights)[0] + 0.5 * ((logarithm - middle) / WIDTH) ** 2

    # the minimum lies between the RMS ratio, which outliers can only raise, and the centre of the prior
    bounds = (min(start - 7, middle - 1.0), max(start, middle) + 1)
    found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def _likeliest_share(errors: np.ndarray, left_open: np.ndarray, discrepancies: np.ndarray, n_structures: int) -> float:
    """Maximum-likelihood share c of the discrepancies in force errors, optimised together with a common factor a."""
    middle = np.log([OPEN, SHARE])
    squares, weights = np.array([left_open**2, discrepancies**2]), np.full(len(errors), n_structures / len(errors))

    def surprise(logarithms: np.ndarray) -> float:
        likely, _ = _surprise(np.cumsum(logarithms), squares, errors, weights)
        return likely + 0.5 * float(np.sum(((logarithms - middle) / (WIDTH, SHARE_WIDTH)) ** 2))

    found = minimize(surprise, middle, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    return float(np.exp(found.x[1]))


def _surprise(
    logarithms: np.ndarray, squares: np.ndarray, errors: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """sum_i w_i (log sigma_i + rho(e_i / sigma_i)), and its derivatives (n_parts,) with respect to `logarithms`.

    The variances sigma^2 are sums of parts, exp(2 `logarithms`) (n_parts,) times `squares` (n_parts, n), for errors e (n,) that
    count as `weights` (n,) labels.
    """
    parts = np.exp(2 * logarithms)[:, None] * squares
    variances = parts.sum(axis=0)
    z = np.abs(errors) / np.sqrt(variances)
    within = np.minimum(z, BEYOND)
    loss = np.where(z < BEYOND, 0.5 * z**2, BEYOND**2 * (0.5 + np.log(np.maximum(z, BEYOND) / BEYOND)))
    return float(weights @ (0.5 * np.log(variances) + loss)), parts / variances @ (weights * (1.0 - within**2))
