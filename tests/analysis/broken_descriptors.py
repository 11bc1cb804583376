"""A descriptor that fulfils all criteria, in NumPy, and ten that break one each."""

import numpy as np

from mlpot.neighbours import find_pairs

CUTOFF = 4.0
SPECIES = (1, 6)
UPPER = np.triu_indices(6)


class Good:
    """Invariants of one to four moments of the neighbours, (1 - (r / cutoff)^2)^4 at the cutoff: three continuous derivatives."""

    species = SPECIES
    cutoff = CUTOFF

    def compute(self, atoms):
        pairs = find_pairs(atoms, CUTOFF)
        weights = self.radial(pairs.distances)
        weights = np.concatenate([weights * (atoms.numbers[pairs.j] == z) for z in SPECIES])
        rows = []
        for k in range(len(atoms)):
            own = slice(pairs.offsets[k], pairs.offsets[k + 1])
            r = pairs.vectors[own]
            moments = [np.einsum("kp,p...->k...", weights[:, own], tensor) for tensor in self.tensors(r)]
            rows.append(self.row(moments, r, pairs.distances[own], atoms, k))
        return np.array(rows)

    @staticmethod
    def tensors(r):
        return np.ones(len(r)), r, r[:, :, None] * r[:, None, :]

    @staticmethod
    def step(r):
        return (1 - (r / CUTOFF) ** 2) ** 4

    def radial(self, r):
        return np.array([self.step(r) * np.exp(-((r - s) ** 2)) for s in (0.8, 1.9, 3.0)])

    def row(self, moments, r, distances, atoms, k):
        zero, one, two = moments
        triples = np.einsum("abx,cx->abc", np.einsum("bxy,ay->abx", two, one), one)
        cubes = np.einsum("abxy,cyx->abc", np.einsum("axz,bzy->abxy", two, two), two)
        squares, traces = one @ one.T, np.einsum("axy,bxy->ab", two, two)
        return np.concatenate([zero, squares[UPPER], traces[UPPER], triples.ravel()[::3], cubes.ravel()[::3]])


class Turns(Good):
    """The first feature depends on a direction, by 1e-4."""

    def row(self, moments, r, distances, atoms, k):
        found = super().row(moments, r, distances, atoms, k)
        found[0] += 1e-4 * moments[1][0, 0] ** 2
        return found


class Ordered(Good):
    """Depends on the place of the atom in the file."""

    def row(self, moments, r, distances, atoms, k):
        found = super().row(moments, r, distances, atoms, k)
        return (
            found * (1 + 1e-3 * (k % 2))
            if len(atoms) > 4 and len(set(atoms.numbers)) > 1 and not atoms.pbc.any()
            else found
        )


class Placed(Good):
    """Depends on where a molecule is."""

    def row(self, moments, r, distances, atoms, k):
        found = super().row(moments, r, distances, atoms, k)
        return found if atoms.pbc.any() else found * (1 + 1e-5 * np.sin(atoms.positions.mean(axis=0)[2]))


class Celled(Good):
    """Depends on the number of atoms in the cell."""

    def row(self, moments, r, distances, atoms, k):
        return super().row(moments, r, distances, atoms, k) * (1 + 1e-4 * len(atoms) * bool(atoms.pbc.any()))


class Jumps(Good):
    """Neighbours enter at the cutoff with a small weight."""

    def row(self, moments, r, distances, atoms, k):
        found = super().row(moments, r, distances, atoms, k)
        found[0] += 1e-3 * np.sum(distances < 3.3)
        return found


class Kinks(Good):
    """The first derivative jumps at a distance inside of the cutoff."""

    def row(self, moments, r, distances, atoms, k):
        found = super().row(moments, r, distances, atoms, k)
        found[0] += 1e-2 * np.sum(np.maximum(2.7183 - distances, 0))
        return found


class Bends(Good):
    """The second derivative jumps at the cutoff, as with a cosine."""

    @staticmethod
    def step(r):
        return 0.5 * (1 + np.cos(np.pi * r / CUTOFF))


class Blind(Good):
    """Distances alone, a hundred of them."""

    def radial(self, r):
        return np.array([self.step(r) * np.exp(-(((r - s) / 0.1) ** 2)) for s in np.linspace(0.5, 3.5, 50)])

    def row(self, moments, r, distances, atoms, k):
        return moments[0]


class Varies(Good):
    """A number more for every neighbour above four."""

    def compute(self, atoms):
        found = super().compute(atoms)
        most = int(np.bincount(find_pairs(atoms, CUTOFF).i, minlength=1).max())
        return np.hstack([found, np.zeros((len(found), max(most - 4, 0)))])


class Refuses(Good):
    """NaN for an atom without neighbours."""

    def row(self, moments, r, distances, atoms, k):
        found = super().row(moments, r, distances, atoms, k)
        return found if len(r) else found * np.nan


GOOD = Good()
BROKEN = {
    "invariance: rotation": Turns(),
    "invariance: order of atoms": Ordered(),
    "invariance: translation": Placed(),
    "invariance: choice of the cell": Celled(),
    "continuity: value": Jumps(),
    "continuity: first derivative": Kinks(),
    "continuity: second derivative": Bends(),
    "uniqueness: angle of two neighbours": Blind(),
    "structure: lengths beyond one": Varies(),
    "generality: structures refused": Refuses(),
}
"""The row that catches each."""
