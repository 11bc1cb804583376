"""Declarations of the C core (core/mlpot_core.h)."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "mlpot_core.h" nogil:
    ctypedef void mlpot_dgemm(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *,
                              double *, double *, int *) noexcept nogil

    ctypedef struct mlpot_density:
        int n_species, l_max, n_channels, n_groups
        const int32_t *group
        const int32_t *first
        const int32_t *width
        double cutoff, start, step
        int n_intervals, kink
        const double *tables
        const int64_t *table_of
        const double *self
        int n_couplings
        const int32_t *channel_a
        const int32_t *channel_b
        const double *coupling
        double constant
        const double *harmonics

    ctypedef struct mlpot_pairs:
        const int32_t *species
        const int32_t *j
        const int64_t *offsets
        const double *vectors
        const double *distances

    ctypedef struct mlpot_kernel_model:
        int n_sparse
        const double *features
        const double *weights
        double energy_scale
        double zeta

    ctypedef struct mlpot_scratch:
        int n

    int mlpot_n_harmonics(const mlpot_density *d)
    int mlpot_n_features(const mlpot_density *d)
    void mlpot_harmonics_norms(int l_max, double *norms)
    int mlpot_scratch_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, mlpot_scratch *s)
    void mlpot_scratch_free(mlpot_scratch *s)
    void mlpot_expand(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s, double *c)
    int mlpot_local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m,
                             int64_t n_atoms, int64_t n_centres, const int32_t *centres, int n_threads,
                             mlpot_dgemm *dgemm, double *energies, double *pair_gradients, double *covariances,
                             int64_t covariance_stride)
    int mlpot_features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                       const int32_t *centres, int n_threads, double *features)
    int mlpot_features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                           const int32_t *centres, const double *cotangent, double *pair_gradients)
    int mlpot_design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m,
                          int64_t n_atoms, int64_t n_centres, const int32_t *centres, mlpot_dgemm *dgemm,
                          double *energy, double *forces, double *virial, int64_t stride)
