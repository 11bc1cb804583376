"""Slow NumPy twin of the bispectrum: rotations as exponentials of spin matrices, products in coupled bases made by lowering."""

from functools import cache

import numpy as np
from scipy.linalg import expm, null_space


@cache
def spin(t):
    """Spin matrices (3, t + 1, t + 1) of j = t / 2, in the basis m = j, j - 1, ..."""
    m = t / 2 - np.arange(t + 1)
    raising = np.diag(np.sqrt(t / 2 * (t / 2 + 1) - m[1:] * (m[1:] + 1)), 1)
    return np.array([(raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m)])


@cache
def coupled(t1, t2):
    """Bases ((t1 + 1) (t2 + 1), t + 1) of every degree t in the product of two, from the highest state of each downwards."""
    total = np.array([np.kron(spin(t1)[k], np.eye(t2 + 1)) + np.kron(np.eye(t1 + 1), spin(t2)[k]) for k in range(3)])
    lowering, m = (total[0] - 1j * total[1]).real, np.diag(total[2]).real
    found = {}
    for t in range(t1 + t2, abs(t1 - t2) - 1, -2):
        taken = [basis[:, [k]].T for basis in found.values() for k in range(basis.shape[1])]
        others = np.eye(len(m))[np.abs(m - t / 2) > 0.1]
        state = null_space(np.concatenate([others, *taken]))[:, 0]
        states = [state]
        for _ in range(t):
            state = lowering @ state
            state = state / np.linalg.norm(state)
            states.append(state)
        found[t] = np.array(states).T
    return found


def component(u1, u2, u):
    """B of three matrices, of degrees one below their sizes."""
    basis = coupled(len(u1) - 1, len(u2) - 1)[len(u) - 1]
    return np.trace(u.conj().T @ basis.T @ np.kron(u1, u2) @ basis).real


def densities(pairs, centre, t, reach, weight, angle, own):
    """U of a centre, (t + 1, t + 1); `weight` and `reach` are functions of atomic numbers, `angle` of distance and reach."""
    u = own * np.eye(t + 1, dtype=complex)
    for k in np.flatnonzero(pairs.i == centre):
        r, cutoff = pairs.distances[k], reach(pairs.numbers[centre], pairs.numbers[pairs.j[k]])
        if r < cutoff:
            omega, step = angle(r, cutoff)
            axis = np.tensordot(pairs.vectors[k] / r, spin(t), 1)
            u += weight(pairs.numbers[pairs.j[k]]) * step * expm(-2j * omega * axis)
    return u


def snap_angle(rfac0, rmin0):
    """omega and cutoff function of SNAP."""
    return lambda r, cutoff: (
        rfac0 * np.pi * (r - rmin0) / (cutoff - rmin0), 0.5 * np.cos(np.pi * (r - rmin0) / (cutoff - rmin0)) + 0.5
    )  # fmt: skip


def amp_angle(r, cutoff):
    """omega and cutoff function of AMP."""
    return np.arcsin(r / cutoff) / 2, 0.5 * np.cos(np.pi * r / cutoff) + 0.5
