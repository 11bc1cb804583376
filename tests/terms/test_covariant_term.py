"""Kernels of covariants by brute force, and tables of a descriptor in files."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase import Atoms

from mlpot.data.stored import Stored, harmless
from mlpot.descriptors.contractions import Contractions
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.neighbours import find_pairs
from mlpot.terms.channel_tables import read_tables, tables_of
from mlpot.terms.covariant import CovariantTerm, Points

BASIS = GapRadialBasis(n_max=3, l_max=2, cutoff=3.0, cutoff_width=1.0, atom_sigma=0.5)
SIZE = 2.0


@pytest.fixture(params=[1, 2, 3], ids="zeta {}".format)
def term(request):
    """Of order 1, with three points of hydrogen and two of oxygen."""
    bare, points = CovariantTerm(SoapDescriptor((1, 8), BASIS), 1, request.param), []
    for number, n in ((1, 3), (8, 2)):
        found = bare.environments(find_pairs(molecules(0), 3.0), number, SIZE)
        points.append(Points(found.p[:n], found.q[:n], SIZE))
    return CovariantTerm(bare.descriptor, 1, request.param, tuple(points))


def molecules(seed):
    rng = np.random.default_rng(seed)
    return Atoms("OHHOHH", positions=rng.uniform(0, 2.5, (6, 3)))


def by_element(term, atoms):
    """Atoms of an element, their p and q, and its points."""
    pairs = find_pairs(atoms, 3.0)
    for number, points in zip((1, 8), term.points, strict=True):
        found = term.environments(pairs, number, SIZE)
        yield np.flatnonzero(atoms.numbers == number), found.p, found.q, points


def test_rows_are_kernels_with_the_points(term):
    atoms = molecules(1)
    rows, start = term.rows(find_pairs(atoms, 3.0), per_atom=True), 0
    for own, p, q, points in by_element(term, atoms):
        for place, atom in enumerate(own):
            for k in range(len(points)):
                expected = (p[place] @ points.p[k]) ** (term.zeta - 1) * q[place] @ points.q[k].T
                np.testing.assert_allclose(rows[atom, :, start : start + 3], expected, rtol=1e-9, atol=1e-12)
                start += 3
            start -= 3 * len(points)
        start += 3 * len(points)
    np.testing.assert_allclose(term.rows(find_pairs(atoms, 3.0), per_atom=False), rows.sum(axis=0), atol=1e-12)


def test_the_unexplained_part_of_a_prior(term):
    """Nothing at the points; elsewhere the share of the scalar kernel that regression on the points leaves."""
    scales = np.array([0.7, 1.3])
    at_points = term.unexplained(find_pairs(molecules(0), 3.0), scales)
    atoms = molecules(1)
    elsewhere = term.unexplained(find_pairs(atoms, 3.0), scales)
    for k, (own, p, q, points) in enumerate(by_element(term, atoms)):
        assert np.all(at_points[np.flatnonzero(molecules(0).numbers == (1, 8)[k])[: len(points)]] < 1e-6 * elsewhere[own].max())
        kernel, cross = (points.p @ points.p.T) ** term.zeta, (p @ points.p.T) ** term.zeta
        alone = np.sum(p * p, axis=1)
        share = 1 - np.sum(cross * np.linalg.solve(kernel, cross.T).T, axis=1) / alone**term.zeta
        prior = (alone ** (term.zeta - 1))[:, None] * np.sum(q**2, axis=2)
        np.testing.assert_allclose(elsewhere[own], scales[k] ** 2 * share[:, None] * prior, rtol=1e-4, atol=1e-9)


def tables_through(file, contractions):
    """Tables of a descriptor with these contractions, read back from a file."""
    with h5py.File(file, "w") as h5:
        for name, array in tables_of(SoapDescriptor((1, 8), BASIS, contractions=contractions)).items():
            h5[f"terms/0/{name}"] = array
    with h5py.File(file) as h5:
        return read_tables(Stored(harmless(h5, 2**20), h5.attrs, 0), "terms/0", (1, 8), 3, 2)


def test_chosen_contractions_travel_through_files(tmp_path):
    """Also the first of them; in their order alone."""
    rng = np.random.default_rng(0)
    everything = Contractions(3, rng.normal(size=(3, 2, 6)), np.array([0.4]))
    chosen = everything.only(np.array([0, 1, everything.n_features - 1]))
    assert tables_through(tmp_path / "tables.h5", chosen)["contractions"] == chosen
    for wrong in ([1, 0, 2], [0, 2, 2], []):
        with pytest.raises(ValueError, match="terms/0/contractions/kept: must be ascending without duplicates, and not empty"):
            tables_through(tmp_path / "wrong.h5", replace(everything, kept=np.array(wrong, int)))
