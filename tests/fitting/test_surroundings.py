"""Sparse points near the data where there are few environments."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from conftest import SMALL_TERMS, make_frames

import mlpot
from mlpot.fitting.surroundings import COPIES, ENOUGH, nearby, perturbed
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig, SoapTermSettings
from mlpot.terms.registry import empty_term

SETTINGS = SoapTermSettings(cutoff=4.0, n_max=4, l_max=3, zeta=2.0)


def test_copies_are_near_and_all_different():
    crystal = bulk("Cu", cubic=True)
    copies = perturbed(crystal, np.random.default_rng(0))
    assert len(copies) == COPIES
    for copy in copies:
        assert (copy.numbers == crystal.numbers).all() and (copy.pbc == crystal.pbc).all()
        assert 0 < np.abs(copy.positions - crystal.positions).max() < 1.5
        assert not np.allclose(copy.cell, crystal.cell)
    assert len({copy.positions.tobytes() for copy in copies}) == COPIES


@pytest.mark.parametrize("atoms", [bulk("Cu", cubic=True), molecule("H2O"), Atoms("Cu")], ids=["crystal", "molecule", "atom"])
def test_no_more_than_asked_and_what_is_known_is_left_out(atoms):
    number = int(atoms.numbers[0])
    term = empty_term(SETTINGS, tuple(sorted(set(atoms.numbers.tolist()))), 1.0)
    centres = np.flatnonzero(atoms.numbers == number)
    known = term.features.compute(find_pairs(atoms, 4.0), centres)[:1]
    found = [nearby(known, [atoms], number, term, most, np.random.default_rng(1)) for most in (0, 3, 100)]
    assert [len(f) <= most for f, most in zip(found, (0, 3, 100), strict=True)] == [True] * 3
    np.testing.assert_array_equal(found[1], found[2][: len(found[1])])
    assert (np.abs(found[2] @ known.T) < 1 - 1e-6).all()
    assert len(found[2]) == 0 if len(atoms) == 1 else 3 <= len(found[2]) <= COPIES * len(centres)


def test_only_data_with_few_environments_get_copies():
    config = FitConfig(terms=[SMALL_TERMS[0], {**SMALL_TERMS[1], "n_sparse": 150}], check_labels=False)
    perfect = bulk("Si", "fcc", a=3.6, cubic=True)
    perfect.calc = make_frames(1)[0].calc.__class__(perfect, energy=-1.0, forces=np.zeros((4, 3)))
    assert 5 < mlpot.fit([perfect], config).terms[1].n_sparse <= ENOUGH
    one_more = FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": 2}], check_labels=False)
    assert mlpot.fit([perfect], one_more).terms[0].n_sparse == 2
    assert mlpot.fit(make_frames(8), config).terms[1].n_sparse == 150
