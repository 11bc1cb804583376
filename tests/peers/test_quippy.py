"""QUIP is the judge of every digit of a SOAP vector."""

import numpy as np
import pytest
from ase.build import bulk

from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.neighbours import find_pairs

descriptors = pytest.importorskip("quippy.descriptors", reason="quippy-ase is not installed")


@pytest.mark.parametrize(
    ("n_max", "l_max", "atom_sigma", "cutoff", "width"),
    [
        (8, 8, 0.5, 5.4, 0.5),
        (4, 3, 0.3, 3.0, 0.5),
        (12, 6, 0.5, 6.0, 1.0),
        (6, 9, 0.7, 4.5, 0.8),
        (1, 0, 0.5, 4.0, 0.5),
    ],
)
@pytest.mark.parametrize("species", [(14,), (6, 14)])
def test_soap_vector(n_max, l_max, atom_sigma, cutoff, width, species):
    rng = np.random.default_rng(n_max)
    atoms = bulk("Si", cubic=True)
    atoms.numbers = np.resize(species, len(atoms))
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    descriptor = SoapDescriptor(species, GapRadialBasis(n_max, l_max, cutoff, width, atom_sigma))
    ours = descriptor.compute(find_pairs(atoms, cutoff))
    for z in species:
        text = (
            f"soap n_max={n_max} l_max={l_max} cutoff={cutoff} cutoff_transition_width={width} atom_sigma={atom_sigma} "
            f"n_species={len(species)} species_Z={{{' '.join(map(str, species))}}} Z={z}"
        )
        theirs = descriptors.Descriptor(text).calc(atoms)["data"][:, : descriptor.n_features]
        np.testing.assert_allclose(ours[atoms.numbers == z], theirs, atol=1e-8)


@pytest.mark.parametrize("options", ["central_weight=0.5", "covariance_sigma0=0.1", "central_reference_all_species=T"])
def test_soap_options(options):
    atoms = bulk("Si", cubic=True)
    atoms.numbers[::2] = 6
    atoms.rattle(0.1, seed=0)
    ours = SoapDescriptor(
        (6, 14),
        GapRadialBasis(4, 3, 4.0, 0.5, 0.5),
        central_weight=0.5 if "weight" in options else 1.0,
        constant=0.1 if "sigma0" in options else 0.0,
        central_reference_all_species="all_species" in options,
    )
    text = (
        "soap n_max=4 l_max=3 cutoff=4.0 cutoff_transition_width=0.5 atom_sigma=0.5 n_species=2 species_Z={6 14} Z=14 "
        + options
    )
    theirs = descriptors.Descriptor(text).calc(atoms)["data"][:, : ours.n_features]
    np.testing.assert_allclose(ours.compute(find_pairs(atoms, 4.0))[atoms.numbers == 14], theirs, atol=1e-8)
