"""Two-body sums from tables: typed memoryviews over core/pair_sums.c.

Everything here trusts its arguments: mlpot/terms/pair_compiled.py makes them.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t

from arrays cimport aligned_copy, block_start, grid_of, matrix_start, pairs_of, part_start, vector_start
from core cimport MLPOT_MEMBERS, mlpot_grid, mlpot_pairs

LANES = 8

include "instructions.pxi"

cdef extern from "pair_sums.h" nogil:
    ctypedef struct mlpot_pair_term:
        int n_species, n_kinds
        double cutoff
        const int32_t *kind
        mlpot_grid potential_grid
        const double *potential
        mlpot_grid instance_grid
        const double *instance
        int rank
        mlpot_grid feature_grid
        const double *features
        const double *variance
        int n_sparse
        const int32_t *first
        const int64_t *map_of
        const double *maps
        double cutoff_width
        const double *contact

    int mlpot_pair_sums(const mlpot_pair_term *term, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                        double *energies, double *pair_gradients, double *covariances, int64_t stride,
                        double *variances)

    ctypedef struct mlpot_pair_members:
        int n_species, n_knots
        double cutoff
        const int32_t *kind
        const float *along

    void mlpot_pair_member_gradients(const mlpot_pair_members *m, const mlpot_pairs *p, int64_t n_atoms,
                                     int n_threads, float *pair_gradients)


def add_member_gradients(
    const int32_t[:, ::1] kind,  # IN (n_species, n_species) -1: no potential
    double cutoff,
    const float[:, :, ::1] along,  # IN (n_kinds, n_knots + 1, MLPOT_MEMBERS) u'(r) / (2 r), eV/A^2; the last knot twice
    const int32_t[::1] species,  # IN (n_atoms)
    const int32_t[::1] j,  # IN (n_pairs)
    const int64_t[::1] offsets,  # IN (n_atoms + 1)
    const double[:, ::1] vectors,  # IN (n_pairs, 3) A
    const double[::1] distances,  # IN (n_pairs) A
    float[:, :, ::1] pair_gradients,  # OUT (n_pairs, 3, MLPOT_MEMBERS), added to
    int n_threads,
):
    """Pair gradients of an ensemble of pair potentials."""
    if not j.shape[0] or not along.shape[0]:
        return
    if along.shape[2] != MLPOT_MEMBERS or pair_gradients.shape[2] != MLPOT_MEMBERS:
        raise ValueError("an ensemble has MLPOT_MEMBERS members")
    cdef mlpot_pairs pairs = pairs_of(species, j, offsets, vectors, distances)
    cdef mlpot_pair_members m
    m.n_species = kind.shape[0]
    m.n_knots = along.shape[1] - 1
    m.cutoff = cutoff
    m.kind = matrix_start(kind)
    m.along = block_start(along)
    with nogil:
        mlpot_pair_member_gradients(&m, &pairs, species.shape[0], n_threads, block_start(pair_gradients))


cdef class PairSums:
    """Tables of one two-body term in the form that the core reads. A grid is (start, step, kink)."""

    cdef mlpot_pair_term term
    cdef object owners

    def __init__(
        self,
        *,
        double cutoff,
        const int32_t[:, ::1] kind,  # IN (n_species, n_species) -1: no table
        tuple potential_grid,
        const double[:, :, ::1] potential,  # IN (n_kinds, n_knots, 3)
        tuple instance_grid,
        const double[:, :, ::1] instance,  # IN (n_kinds, n_knots, 3) or None
        tuple feature_grid,
        const double[:, :, ::1] features,  # IN (n_knots, 3, rank)
        const double[::1] variance,  # IN (n_kinds) eV^2
        const int32_t[::1] first,  # IN (n_kinds + 1)
        const int64_t[::1] map_of,  # IN (n_kinds)
        const double[::1] maps,  # IN (rank, padded columns) of each kind, one after the other
        double cutoff_width,
        const double[:, ::1] contact,  # IN (n_kinds, 4) or None
    ):
        cdef const double[::1] knots = aligned_copy(np.asarray(features).ravel())
        cdef const double[::1] rows = aligned_copy(maps)
        self.owners = (kind, potential, instance, knots, variance, first, map_of, rows, contact)
        self.term.n_species = kind.shape[0]
        self.term.n_kinds = potential.shape[0]
        self.term.cutoff = cutoff
        self.term.kind = matrix_start(kind)
        self.term.potential_grid = grid_of(potential_grid, potential.shape[1])
        self.term.potential = block_start(potential)
        self.term.instance = NULL
        if instance is not None:
            self.term.instance_grid = grid_of(instance_grid, instance.shape[1])
            self.term.instance = block_start(instance)
        self.term.rank = features.shape[2]
        self.term.feature_grid = grid_of(feature_grid, features.shape[0])
        self.term.features = vector_start(knots)
        self.term.variance = vector_start(variance)
        self.term.n_sparse = first[first.shape[0] - 1]
        self.term.first = vector_start(first)
        self.term.map_of = vector_start(map_of)
        self.term.maps = vector_start(rows)
        self.term.cutoff_width = cutoff_width
        self.term.contact = NULL
        if contact is not None:
            self.term.contact = matrix_start(contact)

    def add(
        self,
        const int32_t[::1] species,  # IN (n_atoms) index into the term's species
        const int32_t[::1] j,  # IN (n_pairs)
        const int64_t[::1] offsets,  # IN (n_atoms + 1)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        const double[::1] distances,  # IN (n_pairs) A
        double[::1] energies,  # OUT (n_atoms), added to
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        double[:, :] covariances,  # OUT (n_atoms, n_sparse) or None, written; columns lie side by side
        double[::1] variances,  # OUT (n_atoms) or None, added to
        int n_threads,
    ):
        """Energies and gradients of all atoms; covariances and variances where asked."""
        cdef mlpot_pairs pairs = pairs_of(species, j, offsets, vectors, distances)
        cdef int64_t n_atoms = species.shape[0], stride = 0
        cdef double *rows = NULL
        cdef double *spread = NULL
        cdef double *gradients = matrix_start(pair_gradients)
        cdef int failed
        if covariances is not None:
            rows, stride = part_start(covariances), covariances.strides[0] // sizeof(double)
        if variances is not None:
            spread = vector_start(variances)
        with nogil:
            failed = mlpot_pair_sums(&self.term, &pairs, n_atoms, n_threads, vector_start(energies), gradients, rows,
                                     stride, spread)
        if failed:
            raise MemoryError
