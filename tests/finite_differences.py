"""One harness of finite differences: values against positions and strain, fourth order."""

import numpy as np

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def position_gradient(function, atoms, step=1e-3):
    """d function(atoms) / d positions, (n_atoms, 3)."""
    gradient = np.zeros((len(atoms), 3))
    for atom in range(len(atoms)):
        for axis in range(3):
            for shift, weight in STENCIL:
                moved = atoms.copy()
                moved.positions[atom, axis] += shift * step
                gradient[atom, axis] += weight * function(moved) / step
    return gradient


def strain_gradient(function, atoms, step=1e-3):
    """d function(atoms) / d strain, (3, 3), symmetric."""
    gradient = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for shift, weight in STENCIL:
                strain = np.eye(3)
                strain[a, b] += 0.5 * shift * step
                strain[b, a] += 0.5 * shift * step
                moved = atoms.copy()
                moved.set_cell(atoms.cell.array @ strain)
                moved.positions = atoms.positions @ strain
                gradient[a, b] += weight * function(moved) / step
    return gradient


def pair_gradient(function, pairs, k, axis, step=1e-5):
    """d function(pairs) / d component `axis` of the vector of pair k, second order."""
    both = []
    for sign in (1, -1):
        vectors = pairs.vectors.copy()
        vectors[k, axis] += sign * step
        both.append(function(pairs.with_vectors(vectors)))
    return (both[0] - both[1]) / (2 * step)
