"""Slow NumPy reference of the compiled density descriptor: explicit sums and scipy.special; only the basis is shared.

It is used in tests and has the conventions of the compiled core: lm = l^2 + l + m, real harmonics
sqrt(2) (-1)^m Re/Im Y_l|m| for m > 0 / m < 0, features ordered by channel pair a >= b, then l.
"""

from __future__ import annotations

import numpy as np
from scipy.special import sph_harm_y

from ..neighbours import Pairs
from .density import SoapDescriptor, species_indices


def real_spherical_harmonics(l_max: int, directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics Y_lm (n, (l_max + 1)^2) of unit vectors (n, 3)."""
    polar = np.arccos(np.clip(directions[:, 2], -1, 1))
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for degree in range(l_max + 1):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            sign = np.sqrt(2) * (-1) ** order
            columns.append(value.real if order == 0 else sign * (value.real if order > 0 else value.imag))
    return np.array(columns).reshape(len(columns), -1).T


def expansion(descriptor: SoapDescriptor, pairs: Pairs) -> np.ndarray:
    """Expansion coefficients c (n_atoms, n_channels, n_harmonics), neighbour by neighbour, with exact radial functions."""
    basis, species = descriptor.basis, species_indices(pairs.numbers, descriptor.species)
    degrees = np.concatenate([np.full(2 * degree + 1, degree) for degree in range(basis.l_max + 1)])
    c = np.zeros((pairs.n_atoms, len(descriptor.species), basis.n_max, len(degrees)))
    for centre, own in enumerate(species):
        at_centre = descriptor.central_weight * basis.self_coefficients() / np.sqrt(4 * np.pi)
        for other in range(len(descriptor.species)):
            if other == own or descriptor.central_reference_all_species:
                c[centre, other, :, 0] += at_centre
    near = np.flatnonzero(pairs.distances < basis.cutoff)
    radial = basis.evaluate(pairs.distances[near])[0]
    harmonics = real_spherical_harmonics(basis.l_max, pairs.vectors[near] / pairs.distances[near, None])
    for k, pair in enumerate(near):
        c[pairs.i[pair], species[pairs.j[pair]]] += radial[k][:, degrees] * harmonics[k]
    if descriptor.reduction is not None:
        return np.einsum("qzn,aznx->aqx", descriptor.reduction.weights, c)
    return c.reshape(pairs.n_atoms, -1, len(degrees))


def power_spectrum(descriptor: SoapDescriptor, c: np.ndarray) -> np.ndarray:
    """Power spectrum p (n_atoms, n_entries) before normalisation."""
    n_channels, reduction = c.shape[1], descriptor.reduction
    if reduction is None:
        meeting = [(a, b, 1.0 if a == b else np.sqrt(2)) for a in range(n_channels) for b in range(a + 1)]
    else:
        meeting = list(zip(reduction.a, reduction.b, reduction.scale, strict=True))
    rows = []
    for a, b, scale in meeting:
        for degree in range(descriptor.basis.l_max + 1):
            shell = slice(degree**2, (degree + 1) ** 2)
            rows.append(scale / np.sqrt(2 * degree + 1) * np.sum(c[:, a, shell] * c[:, b, shell], axis=1))
    return np.array(rows).T


def contractions(descriptor: SoapDescriptor, c: np.ndarray) -> np.ndarray:
    """Contractions (n_atoms, n_contracted) of three and more densities, polynomial by polynomial."""
    made = descriptor.contractions
    if made is None:
        return np.empty((len(c), 0))
    degrees = np.concatenate([np.full(2 * degree + 1, degree) for degree in range(len(made.shares))])
    mixed = np.einsum("xsq,aqx->sax", made.shares[degrees], c[:, :, : len(degrees)])
    rows = [made.scales[p.degree - 3] * p(density) for density in mixed for p in made.program.polynomials]
    return np.array(rows).T


def features(descriptor: SoapDescriptor, pairs: Pairs) -> np.ndarray:
    """Normalised features (n_atoms, n_features), with the constant appended."""
    c = expansion(descriptor, pairs)
    raw = np.concatenate([contractions(descriptor, c), power_spectrum(descriptor, c)], axis=1)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    normalised = np.divide(raw, norms, out=np.zeros_like(raw), where=norms > 0)
    if descriptor.constant > 0:
        normalised = np.column_stack([normalised, np.full(len(raw), descriptor.constant)])
    return normalised


def vjp(descriptor: SoapDescriptor, pairs: Pairs, cotangent: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """Vector-Jacobian product (n_pairs, 3) by fourth-order central differences of `features`, component by component."""
    gradients = np.zeros((pairs.n_pairs, 3))
    for pair in range(pairs.n_pairs):
        for axis in range(3):
            for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                moved = pairs.vectors.copy()
                moved[pair, axis] += shift * step
                value = np.sum(cotangent * features(descriptor, pairs.with_vectors(moved)))
                gradients[pair, axis] += weight * value / (12 * step)
    return gradients
