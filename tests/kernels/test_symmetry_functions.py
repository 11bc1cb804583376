"""Compiled symmetry functions against their NumPy twin, finite differences, and the symmetries of space."""

import pickle

import numpy as np
import pytest
import twins_acsf as twins
from ase import Atoms
from ase.build import bulk, molecule
from finite_differences import position_gradient, strain_gradient
from scipy.spatial.transform import Rotation

from mlpot.descriptors.acsf import ACSF
from mlpot.errors import ConfigError, UnknownSpeciesError
from mlpot.neighbours import find_pairs

RADIAL = [["G1"], ["G2", 0.5, 1.0], ["G2", 2.0, 2.0], ["G3", 1.5], ["C20", "p2", 0.5, 3.0], ["C20", "ea", -3.5, 3.5]]
WIDE = [
    ["G5", 0.02, 1, 1],
    ["G5", 0.02, 4, -1],
    ["G5", 0.3, 3, 0.5],
    ["G5", 0.02, 16, 1],
    ["G5", 0.1, 2.5, -1],
    ["G5", 0.1, 6, -1, 1.5],
]
NARROW = [["G4", 0.01, 2, 1], ["G4", 0.01, 2, -1], ["G4", 0.2, 1.5, 1], ["G4", 0.05, 16, -1, 1.0]]
COMPACT = [
    ["C21", "p3", 0.3, 3.4, 20, 130],
    ["C22", "p2a", 0.2, 3.8, -60, 60],
    ["C22", "e", 0.5, 3.5, 90, 270],
    ["C21", "p1", 0, 3.9, 0, 180],
]
WEIGHTED = [
    ["G12", 0.5, 1.0],
    ["G13", 0.05, 2, -1, 0.5],
    ["C23", "p4", 0.5, 3.0],
    ["C24", "p2", 0.3, 3.8, 30, 150],
    ["C25", "p2", 0.3, 3.8, 30, 150],
]
CASES = {
    "one element": ((14,), RADIAL + WIDE + NARROW + COMPACT, {}),
    "two elements": ((6, 14), RADIAL + WIDE + NARROW + COMPACT + WEIGHTED, {}),
    "five elements": ((1, 6, 8, 14, 32), [*RADIAL, *WIDE[:3], *NARROW[:2], *WEIGHTED], {}),
    "weighted": ((6, 14), RADIAL + WIDE + NARROW + COMPACT, {"weighted": True}),
    "radial alone": ((6, 14), RADIAL, {}),
    "narrow alone": ((6, 14), NARROW, {}),
    "wide alone": ((14,), WIDE, {}),
}
CUTOFF = 4.0


def make(name):
    species, functions, options = CASES[name]
    return ACSF(species, CUTOFF, functions, **options)


def structure(species, seed=0):
    """A triclinic cell that is smaller than the cutoff in every direction."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell.array * 0.72 @ np.array([[1, 0.2, 0], [0, 1, 0.1], [0.1, 0, 0.9]]), scale_atoms=True)
    atoms = atoms[:5]
    atoms.numbers = rng.permutation(np.resize(species, len(atoms)))
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


def cluster(species):
    return Atoms(numbers=np.resize(species, 7), positions=4 * np.random.default_rng(2).random((7, 3)))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", CASES)
def test_equal_to_their_twin(name):
    acsf = make(name)
    for atoms in (structure(acsf.species), cluster(acsf.species)):
        pairs = find_pairs(atoms, CUTOFF + 0.5)
        exact = twins.acsf(acsf, pairs)
        assert np.abs(exact).max() > 0.5
        scale = np.abs(exact).max(axis=0) + 0.1
        np.testing.assert_allclose(acsf.compute(pairs) / scale, exact / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("cosine", {"cutoff_alpha": 0.4}), ("exponential", {"cutoff_alpha": 0.2}), ("poly1", {}), ("poly2", {"cutoff_alpha": 0.5}),
     ("poly3", {}), ("poly4", {}), ("tanh", {}), ("tanhu", {}), ("hard", {}), ("polynomial", {"cutoff_gamma": 3})],
)  # fmt: skip
def test_every_cutoff_function(kind, options):
    acsf = ACSF(
        (6, 14),
        CUTOFF,
        [["G1"], ["G2", 0.3, 1.0], ["G4", 0.02, 2, 1], ["G5", 0.1, 2, -1]],
        cutoff_function=kind,
        **options,
    )
    pairs = find_pairs(structure((6, 14)), CUTOFF)
    exact = twins.acsf(acsf, pairs)
    np.testing.assert_allclose(acsf.compute(pairs), exact, rtol=0, atol=1e-12 * np.abs(exact).max())
    cotangent = np.random.default_rng(0).normal(size=exact.shape)
    chosen = np.arange(0, pairs.n_pairs, 37)
    far = np.abs(pairs.distances[chosen] - CUTOFF) > 2e-3
    np.testing.assert_allclose(
        acsf.vjp(pairs, cotangent)[chosen][far], twins.pullback(acsf, pairs, cotangent, chosen)[far], atol=1e-7
    )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", CASES)
def test_pullback(name):
    acsf = make(name)
    pairs = find_pairs(structure(acsf.species), CUTOFF)
    cotangent = np.random.default_rng(1).normal(size=(pairs.n_atoms, acsf.n_features))
    chosen = np.arange(0, pairs.n_pairs, pairs.n_pairs // 10)
    exact = twins.pullback(acsf, pairs, cotangent, chosen)
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(acsf.vjp(pairs, cotangent)[chosen], exact, atol=1e-6)


@pytest.mark.parametrize("name", ["two elements", "five elements"])
def test_positions_and_strain(name):
    """Forces and virial of an energy that is linear in the features."""
    acsf = make(name)
    atoms = structure(acsf.species, seed=3)
    weights = np.random.default_rng(4).normal(size=acsf.n_features)

    def energy(moved):
        return float((acsf.compute(find_pairs(moved, CUTOFF)) @ weights).sum())

    pairs = find_pairs(atoms, CUTOFF)
    gradients = acsf.vjp(pairs, np.tile(weights, (pairs.n_atoms, 1)))
    np.testing.assert_allclose(pairs.forces(gradients), -position_gradient(energy, atoms), atol=1e-6)
    np.testing.assert_allclose(pairs.virial(gradients), -strain_gradient(energy, atoms, step=1e-4), atol=1e-5)


@pytest.mark.parametrize("name", ["two elements", "weighted"])
def test_symmetries_of_space(name):
    acsf = make(name)
    atoms = structure(acsf.species, seed=5)
    features = acsf.compute(find_pairs(atoms, CUTOFF))
    rotation = Rotation.random(random_state=0).as_matrix()
    turned = atoms.copy()
    turned.set_cell(-atoms.cell.array @ rotation)
    turned.positions = -atoms.positions @ rotation + 0.3
    order = np.random.default_rng(0).permutation(len(atoms))
    tolerance = {"rtol": 1e-11, "atol": 1e-11 * np.abs(features).max()}
    np.testing.assert_allclose(acsf.compute(find_pairs(turned, CUTOFF)), features, **tolerance)
    np.testing.assert_allclose(acsf.compute(find_pairs(atoms[order], CUTOFF)), features[order], **tolerance)
    doubled = acsf.compute(find_pairs(atoms * (2, 1, 1), CUTOFF))
    np.testing.assert_allclose(doubled, np.tile(features, (2, 1)), **tolerance)


def test_isolated_atoms_have_no_features():
    acsf = make("two elements")
    pairs = find_pairs(Atoms("SiC", positions=[[0, 0, 0], [0, 0, 9.0]]), CUTOFF)
    assert not acsf.compute(pairs).any()
    assert acsf.vjp(pairs, np.ones((2, acsf.n_features))).shape == (0, 3)


@pytest.mark.parametrize("angle", [0.0, 180.0])
def test_collinear_triplets(angle):
    """Neither a cosine of 1 nor of -1 makes anything infinite, and derivatives are those of what is near."""
    functions = [f for f in WIDE + NARROW + COMPACT if f[0] != "C21" or f[-1] != 180]
    acsf = ACSF((14,), CUTOFF, functions)

    def pairs(bend):
        turn = np.radians(angle) + bend
        return find_pairs(
            Atoms("Si3", positions=[[0, 0, 0], [0, 0, 1.4], [2.2 * np.sin(turn), 0, 2.2 * np.cos(turn)]]), CUTOFF
        )

    straight, cotangent = pairs(0.0), np.random.default_rng(0).normal(size=(3, acsf.n_features))
    np.testing.assert_allclose(acsf.compute(straight), twins.acsf(acsf, straight), rtol=1e-11, atol=1e-12)
    gradients = acsf.vjp(straight, cotangent)
    assert np.isfinite(gradients).all() and np.abs(gradients[:, :2]).max() < 1e-7
    np.testing.assert_allclose(acsf.vjp(pairs(1e-7), cotangent), gradients, atol=1e-5)


@pytest.mark.parametrize("name", ["one element", "weighted"])
def test_smooth_at_the_cutoff(name):
    """Features and their slopes vanish as a neighbour leaves."""
    acsf = make(name)

    def found(distance):
        pairs = find_pairs(Atoms([acsf.species[0]] * 3, positions=[[0, 0, 0], [0, 0, 1.7], [distance, 0, 0]]), 5.0)
        return acsf.compute(pairs)[0], acsf.vjp(pairs, np.ones((3, acsf.n_features)) * [[1], [0], [0]])[1]

    (inside, slope), (outside, nothing) = found(CUTOFF - 1e-4), found(CUTOFF)
    assert 0 < np.abs(inside - outside).max() < 1e-5 and np.abs(slope).max() < 0.02
    assert not nothing.any()


@pytest.mark.parametrize("threads", [2, 7])
def test_threads_make_no_difference(monkeypatch, threads):
    acsf = make("two elements")
    pairs = find_pairs(structure((6, 14)) * (3, 2, 2), CUTOFF)
    cotangent = np.random.default_rng(0).normal(size=(pairs.n_atoms, acsf.n_features))
    results = []
    for n in (1, threads):
        monkeypatch.setenv("OMP_NUM_THREADS", str(n))
        results.append((acsf.compute(pairs), acsf.vjp(pairs, cotangent)))
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


def test_some_features_alone():
    """A choice of columns has the same numbers, and survives a file."""
    acsf = make("two elements")
    pairs = find_pairs(structure((6, 14)), CUTOFF)
    columns = np.random.default_rng(0).permutation(acsf.n_features)[:25]
    whole = acsf.compute(pairs)
    chosen = pickle.loads(pickle.dumps(acsf)).chosen(columns)
    columns = np.sort(columns)
    np.testing.assert_allclose(chosen.compute(pairs), whole[:, columns], rtol=1e-12, atol=1e-12)
    cotangent = np.random.default_rng(1).normal(size=(pairs.n_atoms, 25))
    spread = np.zeros((pairs.n_atoms, acsf.n_features))
    spread[:, columns] = cotangent
    np.testing.assert_allclose(chosen.vjp(pairs, cotangent), acsf.vjp(pairs, spread), atol=1e-11)


def test_water_in_numbers():
    """Two elements in dscribe's order: G1, G2, G3 of H, then of O; G4, G5 of H-H, O-H, O-O."""
    functions = [
        ["G1"],
        ["G2", 0.5, 1],
        ["G2", 2, 2],
        ["G3", 1.5],
        ["G4", 0.01, 2, 1],
        ["G4", 0.01, 2, -1],
        ["G5", 0.02, 4, 1],
    ]
    found = ACSF((1, 8), 4.0, functions).compute(find_pairs(molecule("H2O"), 4.0))
    oxygen = [
        1.7243472547,
        1.7234955013,
        0.2053852763,
        0.2029134378,
        0,
        0,
        0,
        0,
        0.1396084301,
        0.3746868078,
        0.0295572047,
        *[0] * 6,
    ]
    np.testing.assert_allclose(found[0], oxygen, atol=1e-10)
    hydrogen = [0.6816946415, 0.5934733297, 0.4353436194, -0.4489455788, 0.8621736274]
    np.testing.assert_allclose(found[1][:5], hydrogen, atol=1e-10)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([["G5", 0.1, 0.5, 1]], "zeta = 0.5: must be at least 1"),
        ([["G4", 0.1, 1.5, 0.5]], "use lambda = 1 or -1"),
        ([["G5", 0.1, 2, 3]], "must lie between -1 and 1"),
        ([["G2", -1, 0]], "eta must be at least 0"),
        ([["G2", 1.0]], "eta r_s"),
        ([["G2", 1.0, float("nan")]], "finite"),
        ([["G7", 1.0]], "must be one of G1"),
        (["G2", 1.0, 0.0], "must be a list such as"),
        ([], "or a list of functions"),
        ("all", "or a list of functions"),
        ([["G2", 1, 0], ["G1"], ["G2", 1.0, 0.0]], r"functions\[2\].*same as functions\[0\]"),
        ([["C20", "p2", 0, 4.5]], "beyond cutoff = 4.0"),
        ([["C20", "p9", 0, 3]], "must be one of p1"),
        ([["C22", "p2", 0, 3, 100, 200]], "must be centred there"),
        ([["C22", "p2", 0, 3, 200, 300]], "must overlap"),
        ([["C20", "p2", 3, 2]], "must be less"),
    ],
)
def test_functions_that_cannot_be(functions, message):
    with pytest.raises(ConfigError, match=message):
        ACSF((14,), CUTOFF, functions)


def test_other_inputs_that_cannot_be():
    with pytest.raises(ConfigError, match="sorted atomic numbers"):
        ACSF((14, 6), CUTOFF, RADIAL)
    with pytest.raises(ConfigError, match="cutoff_alpha = 1"):
        ACSF((14,), CUTOFF, RADIAL, cutoff_alpha=1.0)
    with pytest.raises(ConfigError, match="cutoff_function = 'cos'"):
        ACSF((14,), CUTOFF, RADIAL, cutoff_function="cos")
    with pytest.raises(ConfigError, match="cutoff = -1"):
        ACSF((14,), -1.0, [["G1"]])
    with pytest.raises(UnknownSpeciesError):
        ACSF((14,), CUTOFF, [["G1"]]).compute(find_pairs(Atoms("Ge"), CUTOFF))
