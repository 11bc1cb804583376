"""QUIP's local_gap_variance of distance_2b, from a potential that gap_fit makes on the spot."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from compiled_terms import with_instances
from conftest import make_frames

from mlpot.neighbours import find_pairs
from mlpot.terms.pair import PairTerm

potential = pytest.importorskip("quippy.potential", reason="quippy-ase is not installed")
GAP_FIT = which("gap_fit", path=str(Path(sys.executable).parent)) or which("gap_fit")


@pytest.fixture(scope="module", params=[(14, 14), (6, 14)], ids=str)
def gap(request, tmp_path_factory):
    """A two-body GAP of one pair of elements: its file, its sparse radii, and the elements."""
    if GAP_FIT is None:
        pytest.skip("gap_fit is not installed")
    folder = tmp_path_factory.mktemp("gap")
    first, second = request.param
    ase.io.write(folder / "train.xyz", make_frames(3, numbers=(first, second), stress=False), format="extxyz")
    text = (
        f"distance_2b cutoff=4.5 cutoff_transition_width=1.0 Z1={first} Z2={second} n_sparse=15 theta_uniform=0.5 "
        "covariance_type=ard_se delta=2.0 sparse_method=uniform add_species=F"
    )
    subprocess.run(
        [
            GAP_FIT, "at_file=train.xyz", f"gap={{{text}}}", "e0_method=average", "default_sigma={0.01 0.1 0.1 0.0}",
            "force_parameter_name=none", "gp_file=gp.xml", "sparse_jitter=1e-8",
        ],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    name = re.search(r'sparseX_filename="([^"]+)"', (folder / "gp.xml").read_text()).group(1)
    return folder / "gp.xml", np.sort(np.loadtxt(folder / name)), request.param


@pytest.mark.slow
@pytest.mark.parametrize("regularisation", [None, 0.01])
def test_local_gap_variance(gap, regularisation):
    file, radii, kind = gap
    theirs = potential.Potential("IP GAP", param_filename=str(file))
    species = tuple(sorted(set(kind)))
    none = np.empty(0)
    term = PairTerm(species, 4.5, 1.0, 0.5, 4.0, (radii,) if len(species) == 1 else (none, radii, none))
    ours = 0.001 if regularisation is None else regularisation
    compiled = term.compile(np.zeros(len(radii)), regularisation=ours)
    arguments = "local_gap_variance=spread" + (f" gap_variance_regularisation={ours}" if regularisation else "")
    crystal = bulk("Si", cubic=True) * (2, 1, 1)
    crystal.rattle(0.1, seed=0)
    trimer = Atoms("Si3", positions=[[0, 0, 0], [0, 0, 2.3], [0, 2.9, 0]], cell=[20] * 3, pbc=True)
    for atoms in (crystal, bulk("Si"), Atoms("Si", cell=[2.6] * 3, pbc=True), trimer):
        atoms.numbers = np.resize(species, len(atoms))
        theirs.calculate(atoms, ["energy"], calc_args=arguments)
        expected = theirs.extra_results["atoms"]["spread"]
        pairs = find_pairs(atoms, 4.5)
        np.testing.assert_allclose(term.instance_variances(pairs, ours), expected, rtol=1e-6, atol=1e-12)
        found = with_instances(compiled, pairs)[2]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)
