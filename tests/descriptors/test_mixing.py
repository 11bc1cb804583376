"""Reductions of a power spectrum: channels, pairs, means of random kernels, options that exclude each other."""

from itertools import product

import numpy as np
import pytest
from ase.build import bulk

from mlpot.descriptors import mixing as mixing_module
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.mixing import Mixing, make_reduction
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.errors import ConfigError
from mlpot.neighbours import find_pairs

N_MAX = 3
CSI, CSIGE = (6, 14), (6, 14, 32)
DETERMINISTIC = [{"nu_R": r, "nu_S": s} for r, s in product((0, 1, 2), repeat=2)] + [
    {"diagonal_radial": True},
    {"diagonal_radial": True, "nu_S": 1},
    {"z_map": (("C", "Ge"),)},
    {"z_map": (("C", "Ge"), ("Si",)), "z_map_other": (("C", "Si", "Ge"),)},
    {"z_map": (("C", "Ge"),), "z_map_other": (("C", "Si"),), "nu_R": 1},
]
RANDOM = [
    {"mix": mix, "n_channels": 4, "coupling": coupling, "symmetric": symmetric}
    for mix, coupling, symmetric in product(("species", "radial", "both"), ("element-wise", "full"), (True, False))
] + [
    {"mix": "species", "n_channels": 2, "nu_R": 1},
    {"mix": "species", "n_channels": 4, "coupling": "element-wise", "diagonal_radial": True},
    {"mix": "radial", "n_channels": 2, "nu_S": 0},
    {"mix": "radial", "n_channels": 4, "coupling": "element-wise", "z_map": (("C", "Ge"),)},
]


def kernel(reduction, coefficients):
    """Unnormalised kernel of expansion coefficients (n_atoms, n_species, n_max, n_m) of one degree l."""
    c = np.einsum("qzn,iznm->iqm", reduction.weights, coefficients)
    features = np.einsum("ipm,ipm->ip", c[:, reduction.a], c[:, reduction.b]) * reduction.scale
    return features @ features.T


def all_pairs(first, second, coefficients):
    """The same where every channel of one density meets every one of the other, not merged."""
    c, d = (np.einsum("qzn,iznm->iqm", weights, coefficients) for weights in (first, second))
    features = np.einsum("iam,ibm->iab", c, d).reshape(len(c), -1)
    return features @ features.T


@pytest.fixture
def coefficients():
    return np.random.default_rng(0).normal(size=(4, len(CSIGE), N_MAX, 5))


@pytest.mark.parametrize("species", [(14,), CSI, CSIGE])
def test_without_options_it_is_full_soap(species):
    atoms = bulk("Si", cubic=True)
    atoms.numbers = np.resize(species, len(atoms))
    atoms.rattle(0.1, seed=0)
    basis, pairs = GapRadialBasis(N_MAX, 2, 4.0, 0.5, 0.5), find_pairs(atoms, 4.0)
    whole, reduced = (
        SoapDescriptor(species, basis, reduction=reduction).compute(pairs)
        for reduction in (None, make_reduction(Mixing(), species, N_MAX))
    )
    np.testing.assert_allclose(reduced, whole, atol=1e-13)


@pytest.mark.parametrize("options", DETERMINISTIC + RANDOM)
@pytest.mark.parametrize("species", [(14,), CSI, CSIGE])
def test_no_channel_or_pair_is_idle(options, species):
    reduction = make_reduction(Mixing(**options), species, N_MAX)
    n_channels, n_pairs = len(reduction.weights), len(reduction.a)
    assert reduction.weights.shape == (n_channels, len(species), N_MAX)
    assert reduction.b.shape == reduction.scale.shape == (n_pairs,)
    assert set(reduction.a) | set(reduction.b) == set(range(n_channels))
    assert (reduction.a >= reduction.b).all()
    assert len({*zip(reduction.a, reduction.b, strict=True)}) == n_pairs
    assert (reduction.scale > 0).all()
    rows = reduction.weights.reshape(n_channels, -1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert (abs(rows @ rows.T - np.eye(n_channels)) < 1 - 1e-9).all()


@pytest.mark.parametrize(
    ("options", "n_channels", "n_pairs"),
    [
        ({}, 9, 45),
        ({"nu_S": 1}, 12, 27),
        ({"nu_S": 0}, 3, 6),
        ({"nu_R": 1}, 12, 27),
        ({"nu_R": 1, "nu_S": 1}, 10, 9),
        ({"nu_R": 0, "nu_S": 0}, 1, 1),
        ({"diagonal_radial": True}, 9, 18),
        ({"z_map": (("C", "Si", "Ge"),)}, 3, 6),
        ({"z_map": (("C", "Si"),), "z_map_other": (("C",),)}, 12, 51),
        ({"z_map": (("C", "Nb"), ("B", "N"))}, 9, 45),
        ({"mix": "species", "n_channels": 8, "coupling": "element-wise"}, 48, 72),
        ({"mix": "species", "n_channels": 8, "coupling": "element-wise", "symmetric": True}, 24, 48),
        ({"mix": "species", "n_channels": 2, "nu_S": 2, "nu_R": 1}, 8, 12),
        ({"mix": "species", "n_channels": 2, "diagonal_radial": True}, 12, 12),
        ({"mix": "radial", "n_channels": 8, "coupling": "element-wise"}, 48, 72),
        ({"mix": "both", "n_channels": 8, "coupling": "element-wise"}, 16, 8),
        ({"mix": "both", "n_channels": 8, "coupling": "element-wise", "symmetric": True}, 8, 8),
        ({"mix": "both", "n_channels": 8}, 16, 64),
        ({"mix": "both", "n_channels": 8, "symmetric": True}, 8, 36),
        ({"mix": "both", "n_channels": 50, "symmetric": True}, 9, 45),
    ],
)
def test_numbers_of_channels_and_pairs(options, n_channels, n_pairs):
    reduction = make_reduction(Mixing(**options), CSIGE, N_MAX)
    assert (len(reduction.weights), len(reduction.a)) == (n_channels, n_pairs)


@pytest.mark.parametrize("options", [o for o in RANDOM if o.get("coupling") == "full"])
def test_merged_and_triangular_channels_keep_the_kernel(options, coefficients):
    """Of seven channels that all meet, whatever part is superfluous."""
    mixing = Mixing(**{**options, "n_channels": 7})
    rows = {
        number: [np.random.default_rng([0, number, stream]).normal(size=(7, width)) for stream in (0, 1)]
        for number, width in ((0, N_MAX), *((z, N_MAX if mixing.mix == "both" else 1) for z in CSIGE))
    }
    densities = []
    for stream in (0, 0 if mixing.symmetric else 1):
        over_species = np.stack([rows[z][stream] for z in CSIGE], axis=1) / np.sqrt(7)  # (7, n_species, width)
        over_radial = rows[0][stream] / np.sqrt(7)
        weights = {
            "both": over_species,
            "species": np.einsum("kz,nm->knzm", over_species[..., 0], np.eye(N_MAX)),
            "radial": np.einsum("zy,kn->zkyn", np.eye(len(CSIGE)), over_radial),
        }[mixing.mix]
        densities.append(weights.reshape(-1, len(CSIGE), N_MAX))
    expected = all_pairs(*densities, coefficients)
    np.testing.assert_allclose(kernel(make_reduction(mixing, CSIGE, N_MAX), coefficients), expected, rtol=1e-10)


def test_one_element_has_nothing_to_mix(coefficients):
    single = coefficients[:, :1]
    whole = kernel(make_reduction(Mixing(), (14,), N_MAX), single)
    mixed = make_reduction(Mixing(mix="species", n_channels=5, coupling="element-wise"), (14,), N_MAX)
    assert (len(mixed.weights), len(mixed.a)) == (N_MAX, N_MAX * (N_MAX + 1) // 2)
    np.testing.assert_allclose(kernel(mixed, single) / whole, kernel(mixed, single)[0, 0] / whole[0, 0])


@pytest.mark.parametrize(("mix", "coupling", "n_channels"), [
    ("species", "element-wise", 6), ("both", "element-wise", 6), ("species", "full", 2), ("both", "full", 6)
])  # fmt: skip
@pytest.mark.parametrize("symmetric", [True, False])
def test_elements_keep_their_weights(mix, coupling, n_channels, symmetric):
    mixing = Mixing(mix=mix, n_channels=n_channels, coupling=coupling, symmetric=symmetric)
    two, three = (make_reduction(mixing, species, N_MAX) for species in (CSI, CSIGE))
    np.testing.assert_array_equal(two.weights, three.weights[:, :2])
    np.testing.assert_array_equal([two.a, two.b], [three.a, three.b])


def test_more_channels_begin_with_the_fewer():
    few, many = (make_reduction(Mixing(mix="both", n_channels=n, symmetric=True), CSI, N_MAX) for n in (4, 6))
    np.testing.assert_allclose(few.weights * 4**0.5, many.weights[:4] * 6**0.5, rtol=1e-14)


def test_seed_decides():
    first, same, other = (
        make_reduction(Mixing(mix="both", n_channels=4, mix_seed=seed), CSI, N_MAX).weights for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert abs(first - other).min() > 0


@pytest.mark.parametrize("coupling", ["element-wise", "full"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mean_of_the_kernel(coupling, symmetric, coefficients):
    """The mean over mixings is the full kernel, and with one mixing for both densities what Isserlis' theorem says."""
    n_channels, n_seeds = 3, 4000
    c = coefficients.reshape(len(coefficients), -1, 5)
    power = c @ c.transpose(0, 2, 1)
    full = np.einsum("iab,jab->ij", power, power)
    traces = np.trace(power, axis1=1, axis2=2)
    expected = full
    if symmetric:
        factor, rest = (2, 1) if coupling == "element-wise" else (1 + 1 / n_channels, 1 / n_channels)
        expected = factor * full + rest * np.outer(traces, traces)
    options = {"mix": "both", "n_channels": n_channels, "coupling": coupling, "symmetric": symmetric}
    samples = np.array([
        kernel(make_reduction(Mixing(**options, mix_seed=seed), CSIGE, N_MAX), coefficients) for seed in range(n_seeds)
    ])  # fmt: skip
    np.testing.assert_array_less(abs(samples.mean(axis=0) - expected), 4 * samples.std(axis=0) / np.sqrt(n_seeds))
    np.testing.assert_allclose(samples.mean(axis=0), expected, rtol=0.15)


def test_channels_of_both_densities_merge(coefficients, monkeypatch):
    """Channels that another density has too, whatever their factor, are summed up once."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=(4, len(CSIGE), N_MAX))
    second = np.concatenate([-2 * first[:2], rng.normal(size=(2, len(CSIGE), N_MAX)), 0.5 * first[:1]])
    densities = [(w, np.arange(len(w)), np.zeros(len(w), int)) for w in (first, second)]
    monkeypatch.setattr(mixing_module, "_channels", lambda *arguments: densities[arguments[-1]])
    reduction = make_reduction(Mixing(), CSIGE, N_MAX)
    assert (len(reduction.weights), len(reduction.a)) == (6, 15)
    np.testing.assert_allclose(kernel(reduction, coefficients), all_pairs(first, second, coefficients), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "elements"}, 'must be "none", "species", "radial" or "both"'),
        ({"coupling": "half"}, 'must be "full" or "element-wise"'),
        ({"nu_R": 3}, "nu_R = 3: must be an integer of at least 0 and at most 2"),
        ({"nu_S": -1}, "nu_S = -1: must be an integer of at least 0 and at most 2"),
        ({"mix": "both", "n_channels": 0}, "n_channels = 0: must be a positive integer"),
        ({"mix": "both", "n_channels": 4, "mix_seed": -1}, "mix_seed = -1: must be an integer of at least 0"),
        ({"mix": "both"}, 'mix = "both" needs n_channels'),
        ({"n_channels": 4}, 'n_channels = 4 has no effect with mix = "none"; set mix to'),
        ({"coupling": "element-wise"}, 'coupling = "element-wise" has no effect'),
        ({"symmetric": True}, "symmetric = true has no effect"),
        ({"mix": "species", "n_channels": 4, "nu_S": 1}, 'nu_S = 1: mix = "species" leaves no elements to sum'),
        ({"mix": "both", "n_channels": 4, "z_map": (("C", "Si"),)}, 'z_map: mix = "both" leaves no elements to group'),
        ({"mix": "radial", "n_channels": 4, "nu_R": 0}, 'nu_R = 0: mix = "radial" leaves no radial functions'),
        ({"mix": "both", "n_channels": 4, "diagonal_radial": True}, 'diagonal_radial = true: with mix = "both"'),
        ({"nu_R": 1, "diagonal_radial": True}, "diagonal_radial = true: with nu_R = 1"),
        ({"nu_S": 1, "z_map": (("C", "Si"),)}, "nu_S = 1 sums over the groups of z_map; remove nu_S"),
        ({"z_map_other": (("C", "Si"),)}, "z_map_other is for the second density; add z_map"),
        ({"z_map": (("C", "Si"), ("Si", "Ge"))}, "Si is in two groups; keep it in one"),
        ({"z_map": (("C", "Si"), ())}, "a group is empty; remove it"),
    ],
)
def test_what_means_nothing_is_an_error(options, message):
    with pytest.raises(ConfigError) as error:
        Mixing(**options)
    assert message in str(error.value)
