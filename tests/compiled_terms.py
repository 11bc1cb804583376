"""Compiled terms one at a time in the core."""

import numpy as np
from mlpot._ext.core import N_MEMBERS

from mlpot.terms.core_terms import Sums, alone, evaluate, no_members, observing_alone
from mlpot.terms.pair_ensemble import N_KNOTS, PairObserver

INSTANCES = {"kind": np.array([1]), "reals": np.zeros(10)}
"""Uncertainty of an imported model, whose variances are those of instances."""


def predicted(compiled, pairs):
    """Local energies and pair gradients."""
    return evaluate(alone(compiled.core_tables()), pairs)


def with_instances(compiled, pairs):
    """Local energies, pair gradients, and variances of instances."""
    variances = np.zeros(pairs.n_atoms)
    return *evaluate(alone(compiled.instance_tables(), INSTANCES), pairs, Sums(variances=variances)), variances


def observed_pairs(compiled, pairs, along=None):
    """Of a pair term: local energies, pair gradients, covariances, variances, and pair gradients of its members."""
    if along is None:
        along = np.zeros((sum(n > 0 for n in compiled.n_sparse_of), N_KNOTS + 1, N_MEMBERS), np.float32)
    core = observing_alone(PairObserver(compiled, along).core_tables(), compiled.n_sparse, is_many_body=False)
    covariances, variances = np.full((pairs.n_atoms, compiled.n_sparse), np.nan), np.zeros(pairs.n_atoms)
    sums = Sums(covariances=covariances, variances=variances, members=no_members(pairs))
    return *evaluate(core, pairs, sums), covariances, variances, sums.members
