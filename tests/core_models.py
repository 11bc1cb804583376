"""Models of every kind that the core can hold, and structures as a program with ghost atoms sees them."""

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from conftest import NOISES, SMALL_TERMS, make_frames

import mlpot
from mlpot.models.sparse_gp import SparseGP
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.terms.baseline import Baseline
from mlpot.terms.glue import Glue
from mlpot.terms.three_body import ThreeBodyTerm

PAIR, SOAP = SMALL_TERMS
MIX = {"mix": "both", "n_channels": 12, "coupling": "element-wise", "symmetric": True}
FUNCTIONS = [
    ["G1"], ["G3", 1.5], ["G4", 0.05, 2, -1], ["G5", 0.1, 2, 1], ["G5", 0.1, 16, 1], ["G5", 0.05, 2.5, -1], ["G12", 0.5, 1.0],
    ["G13", 0.02, 4, 1], ["C20", "p2", 0.0, 3.5], ["C21", "p2", 0.0, 3.5, 20.0, 140.0], ["C24", "p2", 0.5, 3.6, -60.0, 60.0],
]  # fmt: skip
"""Every kind of sum: moments, polynomials and curves of r_jk, windows of the angle, powers that are not whole, weights."""
ON = {"cutoff": 3.8, "n_sparse": 12}
ACSF, BISPECTRUM = {**ON, "type": "acsf"}, {**ON, "type": "bispectrum"}
MBTR = {**ON, "type": "mbtr", "k2": {"n": 8, "sigma": 0.06}, "k3": {"n": 5, "sigma": 0.3}}
ISOLATED = {"isolated_atom_energies": {"C": -3.25, "Si": 1.75}}
FITS = {
    "one element": ((14,), {"terms": SMALL_TERMS}),
    "two elements": ((6, 14), {"terms": SMALL_TERMS}),
    "fast": ((14,), {"preset": "fast", "cutoff": 4.0}),
    "balanced": ((6, 14), {"preset": "balanced", "cutoff": 4.0}),
    "pairs alone": ((6, 14), {"terms": [PAIR]}),
    "pairs alone, lone atoms": ((6, 14), {"terms": [PAIR], **ISOLATED}),
    "no pairs": ((6, 14), {"terms": [{**SOAP, "zeta": 4}]}),
    "pair term last": ((14,), {"terms": [SOAP, PAIR]}),
    "two many-body terms": ((6, 14), {"terms": [PAIR, {**SOAP, "zeta": 4}, {**SOAP, "cutoff": 3.0, "zeta": 3}]}),
    "lone atoms": ((6, 14), {"terms": SMALL_TERMS, **ISOLATED}),
    "mixed channels": ((6, 14), {"terms": [PAIR, {**SOAP, **MIX}]}),
    "order 3": ((14,), {"terms": [PAIR, {**SOAP, "order": 3, "order_channels": 4}]}),
    "order 4": ((6, 14), {"terms": [{**SOAP, "order": 4, "order_channels": 2, "order_l_max": 2, "n_max": 3}]}),
    "acsf": ((6, 14), {"terms": [PAIR, {**ACSF, "functions": FUNCTIONS}]}),
    "acsf chosen": ((6, 14), {"terms": [PAIR, {**ACSF, "n_functions": 9, "weighted": True}]}),
    "chebyshev": ((6, 14), {"terms": [PAIR, {**ON, "type": "chebyshev", "radial_order": 5, "angular_order": 3}]}),
    "zernike, gaussian": ((6, 14), {"terms": [{**ON, "type": "zernike", "n_max": 3, "kernel": "gaussian"}], **ISOLATED}),
    "bispectrum": ((6, 14), {"terms": [PAIR, {**BISPECTRUM, "two_j_max": 3, "radii": {"C": 0.4, "Si": 0.5}}]}),
    "bispectrum chem": ((6, 14), {"terms": [PAIR, {**BISPECTRUM, "two_j_max": 2, "chem": True, "kernel": "gaussian"}]}),
    "mbtr": ((6, 14), {"terms": [PAIR, MBTR]}),
    "soap and acsf": ((6, 14), {"terms": [SOAP, {**ACSF, "functions": [["G2", 0.3, 0.0], ["G5", 0.1, 2, 1]], "zeta": 3}]}),
    "mbtr and soap": ((14,), {"terms": [{**MBTR, "n_sparse": 130, "standardise": False}, SOAP]}),
    "few representatives": ((14,), {"terms": [{**SOAP, "n_sparse": 130, "zeta": 4}]}),
}  # fmt: skip
IMPORTED = ("three bodies", "glue")
_made: dict[str, SparseGP] = {}


def made(name):
    """A model, once for all tests."""
    if name not in _made:
        _made[name] = imported(name) if name in IMPORTED else fitted(name)
    return _made[name]


def numbers_of(name):
    return (6, 14) if name in IMPORTED else FITS[name][0]


def fitted(name):
    numbers, settings = FITS[name]
    return mlpot.fit(make_frames(4, numbers=numbers, seed=1), FitConfig(check_labels=False, jitter=1e-6, **NOISES, **settings))


def triplets(n_sparse, scales):
    rng = np.random.default_rng(0)
    r, s = rng.uniform(1.8, 3.5, (2, n_sparse))
    points = np.stack([r + s, (r - s) ** 2, np.sqrt(r**2 + s**2 - 2 * r * s * rng.uniform(-1, 0.9, n_sparse))], axis=1)
    return ThreeBodyTerm((6, 14), 14, (14, 6), 3.6, 0.8, np.array(scales), 0.4, points, rng.uniform(0.2, 1.0, n_sparse))


def imported(name):
    """As `read_gap` makes them: of whose data nothing is known; triplets that are summed, and some in a table."""
    base = made("two elements")
    terms = (triplets(30, (1.0, 1.5, 0.8)), triplets(170, (2.0, 3.0, 1.6)), *base.terms) if name == "three bodies" else base.terms
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=term.n_sparse) for term in terms[: len(terms) - len(base.terms)]]
    baseline = Baseline(base.baseline.isolated_atom_energies, repulsion=False, glue=glue() if name == "glue" else None)
    return replace(
        base, terms=terms, weights=np.concatenate([*weights, base.weights]), baseline=baseline, factor=None, regularisation=0.02,
        config=None, report=None,
    )  # fmt: skip


def fewer_elements(model):
    """The model of a pair and a many-body term of two elements, without points of the second in the many-body term."""
    pair, soap = model.terms
    kept = np.arange(pair.n_sparse + len(soap.sparse_features[0]))
    return replace(
        model, terms=(pair, replace(soap, sparse_features=(soap.sparse_features[0], soap.sparse_features[1][:0]))),
        weights=model.weights[kept], factor=np.linalg.qr(model.factor[:, kept]).R,
    )  # fmt: skip


def glue():
    rho, r = tuple(np.linspace(0.1, 2.0, 7)), tuple(np.linspace(1.8, 3.9, 10))
    embedding = (rho, tuple(0.2 * np.array(rho) - np.sqrt(rho)))
    curve = tuple(np.exp(-np.array(r)) * (3.9 - np.array(r)) ** 2)
    return Glue((6, 14), (0.02, 0.03), (3.6, 3.9), (embedding, embedding), ((6, 14, (r, curve)), (14, 14, (r, curve))))


def structures(numbers):
    """A rattled crystal, a small cell that meets its own images, a molecule with near atoms and one far away, a lone atom."""
    rng = np.random.default_rng(7)
    crystal = make_frames(1, numbers=numbers, seed=11)[0][:13]
    cell = Atoms(rng.choice(numbers, 2), [[0, 0, 0], [1.6, 1.2, 1.4]], cell=[[3.1, 0, 0], [0.4, 3.0, 0], [0, 0.3, 3.3]], pbc=True)
    positions = [[0, 0, 0], [0, 0, 1.0], [1.9, 0, 0.2], [0.3, 2.1, 0], [2.0, 1.8, 0.4], [60.0, 0, 0]]
    molecule = Atoms(np.resize(numbers, 6), positions)
    return {"crystal": crystal, "cell": cell, "molecule": molecule, "atom": Atoms([numbers[0]])}


@dataclass(frozen=True)
class Ghosted:
    """A structure with its periodic images as atoms of their own, behind the true ones; `owner` tells whose images they are."""

    numbers: np.ndarray
    offsets: np.ndarray
    neighbours: np.ndarray
    vectors: np.ndarray
    owner: np.ndarray

    @property
    def arrays(self):
        """What the core takes."""
        return self.numbers, self.offsets, self.neighbours, self.vectors

    def returned(self, values):
        """Reverse communication of values (n_atoms, ...): those of ghosts are added to their owners'."""
        out = np.zeros((len(self.offsets) - 1, *values.shape[1:]))
        np.add.at(out, self.owner, values)
        return out


def ghosted(atoms, cutoff, with_ghosts=True):
    """The structure as a program with domain decomposition holds it, or with neighbours that are atoms themselves."""
    pairs = find_pairs(atoms, cutoff)
    images = np.concatenate([pairs.j[:, None], pairs.shifts], axis=1)
    moved = np.any(pairs.shifts != 0, axis=1) & with_ghosts
    ghosts, place = np.unique(images[moved], axis=0, return_inverse=True)
    neighbours = pairs.j.copy()
    neighbours[moved] = len(atoms) + place.ravel()
    owner = np.concatenate([np.arange(len(atoms)), ghosts[:, 0]])
    return Ghosted(pairs.numbers[owner], pairs.offsets, neighbours, pairs.vectors, owner)


def part_of(g, own):
    """What the process sees that has these centres (n,): they come first, all other atoms are its ghosts."""
    order = np.concatenate([own, np.setdiff1d(np.arange(len(g.numbers)), own)])
    place = np.argsort(order).astype(np.int32)
    pairs = np.concatenate([np.arange(g.offsets[i], g.offsets[i + 1]) for i in own])
    offsets = np.concatenate([[0], np.cumsum(np.diff(g.offsets)[own])])
    return Ghosted(g.numbers[order], offsets, place[g.neighbours[pairs]], g.vectors[pairs], g.owner[order])
