"""QUIP is the judge of reduced SOAP vectors: generalised kernels, groups of elements, mixings with its own weights."""

from itertools import product

import numpy as np
import pytest
from ase.build import bulk

from mlpot.descriptors import mixing as mixing_module
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.mixing import Mixing, make_reduction
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.neighbours import find_pairs

descriptors = pytest.importorskip("quippy.descriptors", reason="quippy-ase is not installed")
quip_random = pytest.importorskip("quippy.system_module")

N_MAX, L_MAX, CUTOFF = 4, 3, 4.0
BASIS = GapRadialBasis(N_MAX, L_MAX, CUTOFF, 0.5, 0.5)
ELEMENTS = {1: (14,), 2: (6, 14), 3: (6, 14, 32), 4: (5, 6, 14, 32)}
QUIP_FLAGS = {"species": "Z_mix=T", "radial": "R_mix=T", "both": "Z_mix=T R_mix=T"}
N_SEEDS = 16


def structure(species):
    """A hot crystal in which every element has every other for a neighbour."""
    atoms = bulk("Si", cubic=True)
    atoms.numbers = np.resize(species, len(atoms))
    atoms.rattle(0.2, seed=1)
    return atoms


def ours(mixing, species, **options):
    """Features of all atoms and their number."""
    descriptor = SoapDescriptor(species, BASIS, reduction=make_reduction(mixing, species, N_MAX), **options)
    return descriptor.compute(find_pairs(structure(species), CUTOFF))


def quips(options, species):
    """QUIP's features of all atoms, without the constant at their end."""
    numbers = " ".join(map(str, species))
    text = (
        f"soap n_max={N_MAX} l_max={L_MAX} cutoff={CUTOFF} cutoff_transition_width=0.5 atom_sigma=0.5 "
        f"n_species={len(species)} species_Z={{{numbers}}} n_Z={len(species)} Z={{{numbers}}} {options}"
    )
    return descriptors.Descriptor(text).calc(structure(species))["data"][:, :-1]


def assert_same_kernel(features, others, tolerance=1e-9):
    np.testing.assert_allclose(features @ features.T, others @ others.T, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("nu_R", "nu_S"), list(product((0, 1, 2), repeat=2)))
@pytest.mark.parametrize("n_species", [1, 3])
@pytest.mark.parametrize("central_weight", [1.0, 0.5])
def test_generalised_kernels(nu_R, nu_S, n_species, central_weight):
    species = ELEMENTS[n_species]
    mine = ours(Mixing(nu_R=nu_R, nu_S=nu_S), species, central_weight=central_weight)
    theirs = quips(f"nu_R={nu_R} nu_S={nu_S} central_weight={central_weight}", species)
    assert_same_kernel(mine, theirs)
    if n_species == 1 and nu_R == 2:  # the densities are one: every pair that QUIP has twice is here once
        assert mine.shape[1] == N_MAX * (N_MAX + 1) // 2 * (L_MAX + 1)
    else:
        np.testing.assert_allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize("options", [{"nu_R": 1}, {"nu_S": 1}, {"nu_S": 0}])
def test_density_of_the_centre_in_all_species(options):
    quip_options = " ".join(f"{key}={value}" for key, value in options.items())
    mine = ours(Mixing(**options), ELEMENTS[3], central_reference_all_species=True)
    np.testing.assert_allclose(mine, quips(f"{quip_options} central_reference_all_species=T", ELEMENTS[3]), atol=1e-9)


@pytest.mark.parametrize("n_species", [1, 2, 3])
def test_diagonal_radial(n_species):
    species = ELEMENTS[n_species]
    mine = ours(Mixing(diagonal_radial=True), species)
    np.testing.assert_allclose(mine, quips("diagonal_radial=T", species), atol=1e-9)


@pytest.mark.parametrize(
    ("quip_map", "groups", "others"),
    [
        ("{5,6,14,32}", (("B",), ("C",), ("Si",), ("Ge",)), ()),
        ("{5 6,14 32}", (("B", "C"), ("Si", "Ge")), ()),
        ("{32 5,14,6}", (("Ge", "B"), ("Si",), ("C",)), ()),
        ("{6 14,5,32}", (("C", "Si"),), ()),
        ("{5 6 14 32}", (("B", "C", "Si", "Ge"),), ()),
        ("{5 6,14 32:5 6 14 32}", (("B", "C"), ("Si", "Ge")), (("B", "C", "Si", "Ge"),)),
        ("{5 6,14 32:5 14,6 32}", (("B", "C"), ("Si", "Ge")), (("B", "Si"), ("C", "Ge"))),
        ("{5,6,14,32:5 6,14 32}", (("B",),), (("B", "C"), ("Si", "Ge"))),
    ],
)
def test_groups_of_elements(quip_map, groups, others):
    mine = ours(Mixing(z_map=groups, z_map_other=others), ELEMENTS[4])
    np.testing.assert_allclose(mine, quips(f"Z_map={quip_map}", ELEMENTS[4]), atol=1e-9)


def test_a_group_in_both_densities_is_one_channel():
    """QUIP has the pair of (Si, Ge) twice."""
    mine = ours(Mixing(z_map=(("B", "C"), ("Si",), ("Ge",)), z_map_other=(("B", "C", "Si"),)), ELEMENTS[4])
    theirs = quips("Z_map={5 6,14,32:5 6 14,32}", ELEMENTS[4])
    assert_same_kernel(mine, theirs)
    assert mine.shape[1] == theirs.shape[1] - N_MAX * (N_MAX - 1) // 2 * (L_MAX + 1)


def quip_sums(mixing, density, numbers, width):
    """QUIP's normal weights: a stream for each element and density; n_max seeds that of radial functions alone."""
    rows = []
    for number in numbers:
        quip_random.system_reseed_rng(
            (number or N_MAX) + mixing.mix_seed + 200 * (1 if mixing.symmetric else density + 1)
        )
        rows.append([[quip_random.ran_normal() for _ in range(mixing.n_channels)] for _ in range(width)])
    return np.array(rows).transpose(2, 0, 1)


@pytest.mark.parametrize("mix", ["species", "radial", "both"])
@pytest.mark.parametrize("coupling", ["element-wise", "full"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n_species", [1, 2, 4])
def test_mixing_with_the_weights_of_quip(mix, coupling, symmetric, n_species, monkeypatch):
    monkeypatch.setattr(mixing_module, "_random_sums", quip_sums)
    species, n_channels = ELEMENTS[n_species], 5
    mixing = Mixing(mix=mix, n_channels=n_channels, coupling=coupling, symmetric=symmetric, mix_seed=7)
    mine = ours(mixing, species)
    flags = f"coupling={'F' if coupling == 'element-wise' else 'T'} sym_mix={'T' if symmetric else 'F'}"
    theirs = quips(f"{QUIP_FLAGS[mix]} K={n_channels} mix_shift=7 {flags}", species)
    # QUIP holds the sqrt(2) of pairs that stand for both orders in single precision when coupling=F
    tolerance = 5e-8 if symmetric and coupling == "element-wise" else 1e-9
    assert_same_kernel(mine, theirs, tolerance)
    if mix == "species" and n_species == 1:
        assert mine.shape[1] == N_MAX * (N_MAX + 1) // 2 * (L_MAX + 1)  # K times the same in QUIP
    else:
        assert mine.shape[1] == theirs.shape[1]
        np.testing.assert_allclose(np.sort(mine), np.sort(theirs), atol=tolerance)


def kernel(features):
    """Similarity of every two atoms."""
    return (features @ features.T)[np.triu_indices(len(features), 1)]


def kernel_errors(mix, symmetric, n_channels):
    """Errors (whose, seeds, pairs of atoms) of reduced kernels against full SOAP: ours and QUIP's."""
    species = ELEMENTS[4]
    exact = kernel(ours(Mixing(), species))
    flags = f"{QUIP_FLAGS[mix]} K={n_channels} coupling=F sym_mix={'T' if symmetric else 'F'}"
    options = {"mix": mix, "n_channels": n_channels, "coupling": "element-wise", "symmetric": symmetric}
    mine = [kernel(ours(Mixing(**options, mix_seed=seed), species)) for seed in range(N_SEEDS)]
    theirs = [kernel(quips(f"{flags} mix_shift={1000 * seed}", species)) for seed in range(N_SEEDS)]
    return np.array([mine, theirs]) - exact


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["species", "radial", "both"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_errors_are_distributed_as_quips(mix, symmetric):
    """Our weights are not QUIP's, but as good: bias and spread of the kernel agree; the spread falls as K^(-1/2)."""
    spreads = []
    for n_channels in (4, 36):
        errors = kernel_errors(mix, symmetric, n_channels)
        mine, theirs = spread = np.sqrt(errors.var(axis=1).mean(axis=1))
        assert 0.7 < mine / theirs < 1.4
        of_seeds = errors.mean(axis=2)
        difference = np.diff(of_seeds.mean(axis=1))[0]
        assert abs(difference) < 3.5 * np.sqrt(of_seeds.var(axis=1).sum() / N_SEEDS)
        spreads.append(spread)
    np.testing.assert_array_less(spreads[1], spreads[0] / 1.6)
    bias, of_seeds = abs(errors[0].mean()), errors[0].mean(axis=1)
    assert bias > 0.08 if symmetric else bias < 3.5 * of_seeds.std() / np.sqrt(N_SEEDS) + 0.005
