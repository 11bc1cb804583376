"""Slow NumPy twins of symmetry functions, Chebyshev and Zernike descriptors: explicit sums over neighbours and triplets."""

import numpy as np
from scipy.special import binom, sph_harm_y

from mlpot.descriptors.cutoff_functions import CompactFunction, CutoffFunction

STEPS = {
    "1": lambda x: (2 * x - 3) * x**2 + 1,
    "2": lambda x: ((15 - 6 * x) * x - 10) * x**3 + 1,
    "3": lambda x: (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1,
    "4": lambda x: (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1,
    "e": lambda x: np.exp(1 - 1 / (1 - x**2)),
}


def cutoff(r, rc, kind="cosine", alpha=0.0, gamma=4):
    """f_c(r)."""
    x = np.clip((r - alpha * rc) / (rc - alpha * rc), 0, 1 - 1e-15)
    values = {
        "hard": lambda: np.ones_like(x),
        "cosine": lambda: 0.5 * (np.cos(np.pi * x) + 1),
        "tanhu": lambda: np.tanh(1 - r / rc) ** 3,
        "tanh": lambda: (np.tanh(1 - r / rc) / np.tanh(1)) ** 3,
        "exponential": lambda: STEPS["e"](x),
        "polynomial": lambda: 1 + gamma * x ** (gamma + 1) - (gamma + 1) * x**gamma,
    }
    return np.where(r < rc, values[kind]() if kind in values else STEPS[kind[-1]](x), 0.0)


def compact(x, low, high, kind):
    """C(x)."""
    away = np.abs(x - 0.5 * (low + high)) / (0.5 * (high - low))
    inside = away < 1
    away = np.where(inside, away, 0.5)
    away = (2 - away) * away if kind.endswith("a") else away
    return np.where(inside, STEPS[kind.rstrip("a")[-1]](away), 0.0)


def _factor(factor, r):
    c = factor.cutoff
    if isinstance(c, CompactFunction):
        return compact(r, c.low, c.high, c.kind)
    assert isinstance(c, CutoffFunction)
    return (
        np.exp(-factor.eta * (r - factor.r_s) ** 2)
        * np.cos(factor.kappa * r)
        * cutoff(r, c.cutoff, c.kind, c.alpha, c.gamma)
    )


def _angular(function, r_ij, r_ik, r_jk, cosine):
    value = _factor(function.factor, r_ij) * _factor(function.factor, r_ik)
    if function.kind in ("G4", "C21"):
        value = value * _factor(function.factor, r_jk)
    if function.kind in ("C21", "C22"):
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return value * compact(degrees, function.window.low, function.window.high, function.window.kind)
    return value * 2 ** (1 - function.zeta) * np.maximum(1 + function.lambda_ * cosine, 0) ** function.zeta


def acsf(descriptor, pairs):
    """Features (n_atoms, n_features) of an `ACSF`."""
    out = np.zeros((pairs.n_atoms, len(descriptor.features)))
    for atom in range(pairs.n_atoms):
        mine = pairs.i == atom
        r, v, z = pairs.distances[mine], pairs.vectors[mine], pairs.numbers[pairs.j[mine]]
        p, q = np.triu_indices(len(r), 1)
        triplets = r[p], r[q], np.linalg.norm(v[p] - v[q], axis=1), np.sum(v[p] * v[q], axis=1) / (r[p] * r[q])
        for k, feature in enumerate(descriptor.features):
            function, elements = feature.function, sorted(feature.neighbours)
            if function.centre not in (0, pairs.numbers[atom]):
                continue
            if function.kind in ("G1", "G2", "G3", "C20"):
                weight = z if function.weighted else z == elements[0]
                out[atom, k] = np.sum(weight * _factor(function.factor, r))
            else:
                like = np.all(np.sort([z[p], z[q]], axis=0).T == (elements or 0), axis=1)
                weight = z[p] * z[q] if function.weighted else like
                out[atom, k] = np.sum(weight * _angular(function, *triplets))
    return out


def chebyshev(weights, pairs, radial_order, angular_order, rc, rc_angular):
    """Features (n_atoms, n_sets, n) with `weights`, a function of atomic numbers, for every set."""
    out = np.zeros((pairs.n_atoms, len(weights), radial_order + angular_order + 2))
    for atom in range(pairs.n_atoms):
        mine = pairs.i == atom
        r, v, z = pairs.distances[mine], pairs.vectors[mine], pairs.numbers[pairs.j[mine]]
        p, q = np.triu_indices(len(r), 1)
        angle = np.arccos(np.clip(np.sum(v[p] * v[q], axis=1) / (r[p] * r[q]), -1, 1))
        both = cutoff(r[p], rc_angular) * cutoff(r[q], rc_angular)
        for k, weight in enumerate(weights):
            w = np.array([weight[number] for number in z])
            x = np.arccos(np.clip(2 * r / rc - 1, -1, 1))
            radial = [np.sum(w * np.cos(n * x) * cutoff(r, rc)) for n in range(radial_order + 1)]
            angular = [np.sum(w[p] * w[q] * np.cos(n * angle) * both) for n in range(angular_order + 1)]
            out[atom, k] = [*radial, *angular]
    return out


def zernike(pairs, n_max, rc, kind="cosine"):
    """Features (n_atoms, n_features)."""
    rows = []
    for n in range(n_max + 1):
        for l in range(n % 2, n + 1, 2):
            k = (n - l) // 2
            terms = [
                (-1) ** s * binom(k, s) * binom(n - s + 0.5, k) * (pairs.distances / rc) ** (n - 2 * s)
                for s in range(k + 1)
            ]
            f = np.sqrt(2 * n + 3) * sum(terms) * cutoff(pairs.distances, rc, kind) * pairs.numbers[pairs.j]
            unit = pairs.vectors / pairs.distances[:, None]
            polar, azimuth = np.arccos(np.clip(unit[:, 2], -1, 1)), np.arctan2(unit[:, 1], unit[:, 0])
            total = np.zeros(pairs.n_atoms)
            for m in range(-l, l + 1):
                c = np.zeros(pairs.n_atoms, complex)
                np.add.at(c, pairs.i, f * sph_harm_y(l, m, polar, azimuth))
                total += np.abs(c) ** 2
            rows.append(total)
    return np.array(rows).T


def pullback(descriptor, pairs, cotangent, chosen, step=2e-4):
    """dE/dvectors (n_chosen, 3) of some pairs by fourth-order differences of the descriptor's own values."""
    gradients = np.zeros((len(chosen), 3))
    for k, pair in enumerate(chosen):
        for axis in range(3):
            for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                moved = pairs.vectors.copy()
                moved[pair, axis] += shift * step
                gradients[k, axis] += (
                    weight * np.sum(cotangent * descriptor.compute(pairs.with_vectors(moved))) / (12 * step)
                )
    return gradients
