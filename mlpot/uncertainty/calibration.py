"""Predicted standard deviations made as large as the errors that occur.

A model states what its data leave open, p, and its discrepancy, d (see `variances`). The errors e give a factor a for every kind of
prediction, for forces on every element, and for forces the share c of the discrepancy that counts:

    sigma = a s,   s^2 = p^2 + (c d)^2       minimise  n <log sigma + rho(e / sigma)> + (log a / a_0)^2 / (2 w^2)
    rho(z) = z^2 / 2  for |z| <= k,   k^2 (1/2 + log |z / k|)  beyond

(c = 1 and a_0 = 1 for energies and stresses) with n structures of which errors are known (those of one structure are not
independent of each other) and a prior of width w: a wrong label counts no more than an error of k deviations, and a single
structure hardly anything. Force components that symmetry makes zero are left out.

Rows of one structure share what the model cannot explain, so p, which takes them for independent, is too small by a_0, and the
misfit is where the data leave much open rather than everywhere. Errors of fits to 5 to 60 labels on later frames of their runs (Cu,
CuAu, AlNi, NaCl, CO and H2O on metals, ethanol, water, HCOOH dimer, Si surface) make a = 1.1 to 3.9 and a c of 0 to 0.3 the most
likely, in 36 of 38 cases; the atoms beyond three deviations are 1 to 3 % then, 4 to 15 % with a = c = 1.

Robust likelihoods: Huber, Ann. Math. Stat. 35, 73 (1964), doi:10.1214/aoms/1177703732; variance scaling of ensembles: Musil,
Willatt, Langovoy, Ceriotti, J. Chem. Theory Comput. 15, 906 (2019), doi:10.1021/acs.jctc.8b00959.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols
from scipy.optimize import minimize, minimize_scalar

SYMMETRIC = 1e-6
"""Deviations of forces (eV/A) below this are round-off: symmetry makes the force zero, and its error says nothing."""
BEYOND = 2.0
"""Errors of more deviations count as these do. With 2, errors of structures left out lie within one deviation as often as normal
ones: forces 0.68 (Si) and 0.67 (Mo), total energies 0.69 and 0.70."""
POWER = 3
"""See `Law`."""
LEAST = 1.0
"""Of a factor: rows that are taken for independent make a posterior too small, not too large. The first labels of a run often find
less than half of what was stated, and the model that has learned them states a tenth of it (AlNi: 0.14 of frames beyond twice)."""
WORTH = 1.0
"""What a floor or a growth must add to the logarithm of the probability, as in Akaike's criterion (IEEE Trans. Automat. Contr. 19,
716 (1974), doi:10.1109/TAC.1974.1100705): what labels do not call for would reach far beyond the forces that they have."""
FAR = 4.0
"""Deviations that wild errors count as where tails are measured: one wild label of seven makes all 1.7 times larger."""
WIDTH = 0.7
"""w: without errors a model's own deviations are right within a factor of two."""
OPEN, SHARE = 2.0, 0.15
"""a_0 and c for forces without errors to fit them to; see above."""
SHARE_WIDTH = 1.0
"""Of the prior of log c."""
N_BINS, LEAST_IN_BIN = 10, 5
FEWEST = 10
"""Errors that a scale is fitted to at least."""
FEWEST_OF_ELEMENT = 30
"""Force components that an element's own scale is fitted to at least."""


@dataclass(frozen=True)
class Calibration:
    """Factors between the deviations that a model states and errors that occurred.

    Parameters
    ----------
    force_scale : float
        For forces on atoms of all elements that have no factor of their own.
    energy_scale, stress_scale : float
        For energies, local ones too, and for stresses and virials.
    of_elements : mapping of int to float
        For forces on atoms of an element, in place of `force_scale`.
    n_forces, n_energies : int
        Errors that it was fitted to: force components, total energies. 0: not calibrated.
    discrepancy_share : float
        c: the share of a model's discrepancy that counts for forces.
    floors : mapping of int to float
        Least deviations of forces on atoms of an element, eV/A, that are added in squares; none by default.
    growths : mapping of int to float
        Likewise deviations over the third power of the strongest force between the atom and a neighbour, (A/eV)^2; see `Law`.
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
        """Calibrated deviations (n_atoms, 3), eV/A, of atoms of these elements (n_atoms,), from what the data leave open and the
        discrepancies (n_atoms, 3), eV/A; what symmetry makes zero has no floor either.

        `strongest` are the strongest forces between each atom and a neighbour (n_atoms,), eV/A; needed where there are `growths`.
        """
        scaled = self.stated(left_open, discrepancies) * self.element_factors(numbers)[:, None]
        others = _of_atoms(self.floors, numbers, 0.0)
        if self.growths:
            if strongest is None:
                raise ValueError("deviations that grow with the forces between atoms need the strongest of each atom")
            others = np.hypot(others, _of_atoms(self.growths, numbers, 0.0) * strongest**POWER)
        return np.hypot(scaled, np.where(scaled > SYMMETRIC, others[:, None], 0.0))

    def stated(self, left_open: np.ndarray, discrepancies: np.ndarray) -> np.ndarray:
        """What the model itself says (n_atoms, 3), eV/A: what the data leave open, and the share of the discrepancies."""
        return np.hypot(left_open, self.discrepancy_share * discrepancies)


    def described(self) -> str:
        """For people."""
        forces = {chemical_symbols[z]: factor for z, factor in self.of_elements.items()} or {"all": self.force_scale}
        parts = ", ".join(f"{factor:.3g} ({name})" for name, factor in forces.items())
        return f"{parts} for forces, {self.energy_scale:.3g} for energies, {self.stress_scale:.3g} for stresses"

    def element_factors(self, numbers: np.ndarray) -> np.ndarray:
        """Factors (n_atoms,) for the forces on atoms of these elements."""
        return _of_atoms(self.of_elements, numbers, self.force_scale)


def _of_atoms(of_elements: Mapping[int, float], numbers: np.ndarray, otherwise: float) -> np.ndarray:
    """Values (n_atoms,) by element."""
    return np.array([of_elements.get(z, otherwise) for z in numbers.tolist()])


UNCALIBRATED = Calibration()


@dataclass(frozen=True)
class ErrorsAndDeviations:
    """Errors (n,) that occurred, predicted minus labelled, and the deviations (n,) that were stated.

    Parameters
    ----------
    errors, deviations : (n,) arrays
        eV/A, eV or eV/A^3.
    numbers : (n,) int array or None
        Elements of the atoms, for forces.
    n_structures : int
        That they come from.
    discrepancies : (n,) array or None
        The model's discrepancies, for forces, of which only a share counts; the deviations are without them.
    """

    errors: np.ndarray
    deviations: np.ndarray
    numbers: np.ndarray | None = None
    n_structures: int = 1
    discrepancies: np.ndarray | None = None


def fit_calibration(
    forces: ErrorsAndDeviations, energies: ErrorsAndDeviations, stresses: ErrorsAndDeviations
) -> Calibration:
    """The calibration under which errors of force components, total energies and stress components are most likely.

    Where one kind of label has too few errors its scale is that of the others: they are nearly the same.
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
    """Errors of forces beside what was stated of them, in bins.

    Parameters
    ----------
    errors, deviations : (n,) arrays
        Root mean squares, eV/A.
    strongest : (n,) array
        Strongest forces between an atom and a neighbour, eV/A.
    weights : (n,) array
        Labels that a bin counts as.
    """

    errors: np.ndarray
    deviations: np.ndarray
    strongest: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Law:
    """How large errors of forces are: sigma^2 = (factor s)^2 + floor^2 + (growth f^3)^2, floor in eV/A, growth in (A/eV)^2.

    f is the strongest force between the atom and a neighbour. Where atoms of a hot metal collide, few data are near, and what they
    tell of a pair depends on what surrounds it: errors grow with f faster than s does. In copper above its melting point they are
    1.0, 1.6, 3.7 and 6.4 times what is stated at f of less than 3, 3 to 4, 4 to 6 and 6 to 9 times its median.
    """

    factor: float
    floor: float = 0.0
    growth: float = 0.0

    def sigma(self, deviations: np.ndarray, strongest: np.ndarray) -> np.ndarray:
        """Standard deviations (n,), eV/A, of what a model states (n,), eV/A, and f (n,), eV/A."""
        return np.sqrt((self.factor * deviations) ** 2 + self.floor**2 + (self.growth * strongest**POWER) ** 2)

    def times(self, widening: float) -> Law:
        """The law of deviations that are larger by a factor."""
        return Law(widening * self.factor, widening * self.floor, widening * self.growth)


def likeliest_law(seen: Stated, expected: float) -> Law:
    """The law that makes errors the most likely, wider by their tails; `expected` is its factor without any.

        minimise  sum_k w_k (log sigma_k + rho(e_k / sigma_k)) + (log a / a_0)^2 / (2 w^2) + log(1 + (b / B)^2) + log(1 + (c / C)^2)

    The priors of floor b and growth c are half-Cauchy ones, as is usual for scales (Gelman, Bayesian Anal. 1, 515 (2006),
    doi:10.1214/06-BA117A), with B the median of the deviations and C that over the median of f^3.
    """
    if not len(seen.errors):
        return Law(expected)
    squares = np.array([seen.deviations**2, np.ones_like(seen.deviations), seen.strongest ** (2 * POWER)])
    scale, power = float(np.median(seen.deviations)), float(np.median(seen.strongest**POWER))
    scales = np.array([1.0, scale, scale / max(power, 1e-12)])

    def surprise(logarithms: np.ndarray, kept: list[int]) -> tuple[float, np.ndarray]:
        values = np.exp(logarithms)
        parts = (scales[kept] * values)[:, None] ** 2 * squares[kept]
        variances = parts.sum(axis=0)
        z = seen.errors / np.sqrt(variances)
        away, rest = (logarithms[0] - np.log(expected)) / WIDTH, values[1:] ** 2
        total = float(seen.weights @ (0.5 * np.log(variances) + _loss(z))) + 0.5 * away**2 + float(np.log1p(rest).sum())
        slopes = parts / variances @ (seen.weights * (1.0 - np.minimum(z, BEYOND) ** 2))
        return total, slopes + np.append(away / WIDTH, 2.0 * rest / (1.0 + rest))

    best, law = np.inf, Law(expected)
    for kept in ([0], [0, 1], [0, 2], [0, 1, 2]):
        start = np.log(np.array([expected, 0.5 * expected, 0.5 * expected])[kept])
        found = minimize(surprise, start, (kept,), method="BFGS", jac=True)
        if found.fun + WORTH * len(kept) < best:
            values = np.zeros(3)
            values[kept] = np.exp(found.x)
            values[0] = max(values[0], LEAST)
            best, law = found.fun + WORTH * len(kept), Law(*(scales * values).tolist())
    return law.times(_tails(seen.errors / law.sigma(seen.deviations, seen.strongest), seen.weights))


def _tails(z: np.ndarray, weights: np.ndarray) -> float:
    """Root mean square, at least 1, of errors (n,) over deviations that fit the bulk of them; wild ones count as `FAR`."""
    return max(1.0, float(np.sqrt(weights @ np.minimum(z, FAR) ** 2 / weights.sum())))


def expected_normalised_error(errors: np.ndarray, deviations: np.ndarray) -> float:
    """Mean over bins of equal size in the order of the deviations of |rms deviation - rms error| / rms deviation.

    0 where errors are as large as predicted at every size. Levi, Gispan, Giladi, Fetaya, Sensors 22, 5540 (2022),
    doi:10.3390/s22155540.
    """
    predicted, found = binned(errors, deviations)
    return float(np.mean(np.abs(predicted - found) / predicted))


def binned(errors: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of deviations and of errors (n_bins,) in bins of equal size, in the order of the deviations."""
    n_bins = min(N_BINS, max(len(errors) // LEAST_IN_BIN, 1))
    bins = np.array_split(np.argsort(deviations, kind="stable"), n_bins)
    squares = np.array([[np.mean(deviations[b] ** 2), np.mean(errors[b] ** 2)] for b in bins])
    return np.sqrt(squares[:, 0]), np.sqrt(squares[:, 1])


def coverage(errors: np.ndarray, deviations: np.ndarray, n_sigma: float) -> float:
    """Part of the errors that is no larger than so many standard deviations."""
    return float(np.mean(np.abs(errors) <= n_sigma * deviations))


def _likeliest(errors: np.ndarray, stated: np.ndarray, n_structures: int, expected: float) -> float | None:
    """The factor a, with a prior about what is expected; None where nothing was uncertain."""
    known = stated > 0
    if not np.any(known):
        return None
    ratios, middle = np.abs(errors[known]) / stated[known], float(np.log(expected))
    start = float(np.log(max(np.sqrt(np.mean(ratios**2)), 1e-12)))

    def surprise(logarithm: float) -> float:
        likely = logarithm + float(np.mean(_loss(ratios / np.exp(logarithm))))
        return n_structures * likely + 0.5 * ((logarithm - middle) / WIDTH) ** 2

    # the minimum lies between what the errors say, which wild ones only raise, and what the prior says
    bounds = (min(start - 7, middle - 1.0), max(start, middle) + 1)
    found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def _likeliest_share(errors: np.ndarray, left_open: np.ndarray, discrepancies: np.ndarray, n_structures: int) -> float:
    """The share c of the discrepancies that makes errors of forces the most likely, together with a common factor a."""
    middle = np.log([OPEN, SHARE])

    def surprise(logarithms: np.ndarray) -> float:
        sigma = np.exp(logarithms[0]) * np.hypot(left_open, np.exp(logarithms[1]) * discrepancies)
        likely = float(np.mean(np.log(sigma) + _loss(np.abs(errors) / sigma)))
        return n_structures * likely + 0.5 * float(np.sum(((logarithms - middle) / (WIDTH, SHARE_WIDTH)) ** 2))

    found = minimize(surprise, middle, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    return float(np.exp(found.x[1]))


def _loss(z: np.ndarray) -> np.ndarray:
    """rho (n,) of errors over deviations."""
    return np.where(z < BEYOND, 0.5 * z**2, BEYOND**2 * (0.5 + np.log(np.maximum(z, BEYOND) / BEYOND)))
