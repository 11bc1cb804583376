"""The bispectrum against its NumPy twin, printed numbers, finite differences and its own symmetries."""

import numpy as np
import pytest
import twins_sphere as twins
from ase import Atoms
from ase.build import bulk, molecule
from conftest import make_frames
from finite_differences import pair_gradient
from mlpot._ext.core import INSTRUCTION_SETS, use_instructions

from mlpot.descriptors import Bispectrum
from mlpot.errors import ConfigError, StructureError, UnknownSpeciesError
from mlpot.neighbours import find_pairs

KINDS = {
    "plain": Bispectrum((6, 14), 3.9, 4),
    "radii and weights": Bispectrum((6, 14), 4.2, 5, 0.9, 0.4, (0.4, 0.5), (0.7, -1.1), 0.6),
    "channels": Bispectrum((6, 14), 3.6, 3, radii=(0.5, 0.4), weights=(0.8, 1.0), chem=True),
    "channels with all centres": Bispectrum((6, 14), 3.6, 2, chem=True, wselfall=True, bnorm=True, bzero=True),
    "amp": Bispectrum((6, 14), 3.9, 4, angle="amp"),
}
each = pytest.mark.parametrize("own", KINDS.values(), ids=KINDS)


@pytest.fixture(scope="module")
def atoms():
    """Eleven atoms in a triclinic cell that is shorter than the cutoffs, one of them alone."""
    return make_frames(1, numbers=(6, 14), seed=5)[0][:11]


def density(own, pairs, centre, t, channel):
    """U of one degree and channel."""
    radii = own.radii or (0.5,) * 2
    size = dict(zip(own.species, radii, strict=True))
    weight = dict(zip(own.species, own.weights or ((1.0, 1.0) if own.angle == "snap" else own.species), strict=True))
    mine = own.species.index(pairs.numbers[centre]) == channel
    alone = 0.0 if own.angle == "amp" or (own.chem and not own.wselfall and not mine) else own.self_weight
    return twins.densities(
        pairs, centre, t, lambda a, b: own.cutoff * (size[a] + size[b]) / (2 * max(radii)),
        lambda z: weight[z] * (not own.chem or own.species.index(z) == channel),
        twins.amp_angle if own.angle == "amp" else twins.snap_angle(own.rfac0, own.rmin0), alone,
    )  # fmt: skip


def twin(own, pairs):
    """Features of the first atoms from the formulas."""
    rows = []
    for centre in range(3):
        used = {key for triple in own.triples for key in triple}
        u = {key: density(own, pairs, centre, *key) for key in used}
        lone = [c[0] + 1 if own.bzero else 0 for *_, c in own.triples]
        degree = [c[0] + 1 if own.bnorm else 1 for *_, c in own.triples]
        row = [twins.component(u[a], u[b], u[c]) for a, b, c in own.triples]
        rows.append((np.array(row) - lone) / degree)
    return np.array(rows)


@each
def test_features_equal_the_twin(own, atoms):
    pairs = find_pairs(atoms, own.cutoff)
    np.testing.assert_allclose(own.compute(pairs)[:3], twin(own, pairs), rtol=1e-11, atol=1e-11)


@each
def test_pullback_is_the_derivative(own, atoms):
    rng = np.random.default_rng(0)
    pairs = find_pairs(atoms, own.cutoff)
    cotangent = rng.standard_normal((len(atoms), own.n_features))
    gradients = own.vjp(pairs, cotangent)
    for k in rng.choice(pairs.n_pairs, 6, replace=False):
        for axis in range(3):
            expected = pair_gradient(lambda moved: (own.compute(moved) * cotangent).sum(), pairs, k, axis)
            assert gradients[k, axis] == pytest.approx(expected, rel=1e-6, abs=1e-5)


@each
def test_derivatives_of_all_features_at_once(own, atoms):
    pairs = find_pairs(atoms, own.cutoff)
    cotangent = np.random.default_rng(1).standard_normal((len(atoms), own.n_features))
    found = np.einsum("pxf,pf->px", own.jacobian(pairs), cotangent[pairs.i])
    np.testing.assert_allclose(found, own.vjp(pairs, cotangent), rtol=1e-9, atol=1e-9)


def test_printed_numbers_of_amp():
    expected = [
        6.7771733435, 6.7536816629, 20.1674039824, 6.714746006, 20.0505970119, 33.1107003946, 6.6606898313, 19.8884284878,
        32.8404195211, 6.5919614893, 19.6822434616, 32.4967778109,
    ]  # fmt: skip
    found = Bispectrum((1, 8), 6.5, 4, angle="amp").compute(find_pairs(molecule("H2O"), 6.5))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_printed_numbers_of_lammps():
    own = Bispectrum((1, 8), 3.0, 4, weights=(0.5, 1.0))
    found = own.compute(find_pairs(molecule("H2O"), 3.0))[0]
    np.testing.assert_allclose(found[:5], [5.4901162808, 7.5511709416, 6.9601750965, 6.7238823243, 5.458055196], rtol=1e-10)


def test_a_lone_atom():
    for own in (KINDS["plain"], KINDS["channels with all centres"]):
        found = own.compute(find_pairs(Atoms("Si"), own.cutoff))[0]
        expected = np.zeros(own.n_features) if own.bzero else [t[0] + 1 for *_, t in own.triples]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert np.isfinite(own.vjp(find_pairs(Atoms("Si"), own.cutoff), np.ones((1, own.n_features)))).all()


@each
def test_results_do_not_depend_on_threads_or_lanes(own, atoms, monkeypatch):
    several = atoms.repeat((2, 1, 1))[:19]
    pairs = find_pairs(several, own.cutoff)
    cotangent = np.random.default_rng(2).standard_normal((len(several), own.n_features))

    def results():
        return own.compute(pairs), own.vjp(pairs, cotangent), own.jacobian(pairs)

    first = results()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for one, other in zip(results(), first, strict=True):
        np.testing.assert_array_equal(one, other)
    try:
        for level in range(len(INSTRUCTION_SETS)):
            use_instructions(level)
            for one, other in zip(results(), first, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)
    finally:
        use_instructions()


def test_highest_degree():
    """Every number of coupled degrees that the loops are compiled for."""
    own = Bispectrum((14,), 3.5, 14)
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=1)
    pairs = find_pairs(atoms, 3.5)
    turned = find_pairs(Atoms(atoms, positions=atoms.positions[:, [1, 2, 0]], cell=atoms.cell[:, [1, 2, 0]]), 3.5)
    np.testing.assert_allclose(own.compute(pairs), own.compute(turned), rtol=1e-11, atol=1e-9)
    cotangent = np.random.default_rng(2).standard_normal((2, own.n_features))
    np.testing.assert_allclose(
        np.einsum("pxf,pf->px", own.jacobian(pairs), cotangent[pairs.i]), own.vjp(pairs, cotangent), rtol=1e-8, atol=1e-7
    )


def test_it_vanishes_smoothly_at_the_cutoff():
    for own in (KINDS["plain"], KINDS["amp"]):
        values = [own.compute(find_pairs(Atoms("Si2", [[0, 0, 0], [0, 0, own.cutoff - d]]), own.cutoff))[0] for d in (-1, 1e-4)]
        np.testing.assert_allclose(values[1], values[0], atol=1e-6)
        near = find_pairs(Atoms("Si2", [[0, 0, 0], [0, 0, own.cutoff - 1e-4]]), own.cutoff)
        assert np.abs(own.vjp(near, np.ones((2, own.n_features)))).max() < 1e-2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"two_j_max": 15}, "two_j_max = 15: must lie between 0 and 14; the cost grows"),
        ({"two_j_max": -1}, "two_j_max = -1"),
        ({"rfac0": 1.0}, "rfac0 = 1.0: must lie between 0 and 1.*half a turn"),
        ({"rmin0": 4.0}, "rmin0 = 4.0: must be at least 0 and below the shortest cutoff, 4 A"),
        ({"rmin0": 3.0, "radii": (0.1, 0.5)}, "rmin0 = 3.0"),
        ({"radii": (0.5,)}, "radii = .*one for each of 2 elements"),
        ({"radii": (0.5, 0.0)}, "radii = .*positive"),
        ({"weights": (0.5, float("nan"))}, "weights = .*finite"),
        ({"self_weight": float("inf")}, "self_weight"),
        ({"angle": "gap"}, "angle = 'gap': must be one of snap, amp"),
        ({"angle": "amp", "rmin0": 0.5}, 'rmin0 = 0.5: is for angle = "snap"'),
        ({"wselfall": True}, "wselfall = true: is for chem = true"),
    ],
)
def test_what_cannot_be(keys, message):
    with pytest.raises(ConfigError, match=message):
        Bispectrum((6, 14), 4.0, **keys)


def test_too_many_channels():
    with pytest.raises(ConfigError, match="chem = true: 9 elements"):
        Bispectrum(tuple(range(1, 10)), 4.0, chem=True)


def test_atoms_that_are_too_close_or_unknown():
    own = Bispectrum((14,), 4.0, rmin0=1.0)
    with pytest.raises(StructureError, match=r"atoms 0 and 1 \(Si-Si\) are 0.900 A apart, closer than rmin0 = 1.0 A"):
        own.compute(find_pairs(Atoms("Si2", [[0, 0, 0], [0, 0, 0.9]]), 4.0))
    with pytest.raises(UnknownSpeciesError):
        own.compute(find_pairs(Atoms("O"), 4.0))
