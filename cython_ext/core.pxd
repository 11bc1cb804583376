"""Declarations of the C core (core/mlpot_core.h)."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "mlpot_core.h" nogil:
    enum: MLPOT_TILE, MLPOT_PANEL, MLPOT_MEMBERS, MLPOT_CHANNELS, MLPOT_MAX_L

    ctypedef struct mlpot_grid:
        double start, per_step
        int n_intervals, kink

    ctypedef struct mlpot_contractions:
        int l_max, n_mixed, n_nodes, n_features
        const double *shares
        const int32_t *left
        const int32_t *right
        const int32_t *rows
        const int32_t *variable
        const int32_t *entries
        const int32_t *node
        const double *coefficient
        const int32_t *degree
        const int32_t *mixed
        const int32_t *invariant
        const double *scale

    ctypedef struct mlpot_density:
        int n_species, l_max, n_channels, n_groups
        const int32_t *group
        const int32_t *first
        const int32_t *width
        double cutoff
        mlpot_grid grid
        int n_radial
        const double *table
        const double *mixing
        const double *self
        const mlpot_contractions *contractions
        int n_spectrum
        const int32_t *degree
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

    ctypedef struct mlpot_points:
        int n
        double energy_scale, zeta
        const double *weights
        int n_double
        const double *packed
        const float *single

    ctypedef struct mlpot_sparse:
        int n
        double energy_scale, zeta
        const double *panels

    ctypedef struct mlpot_members:
        int n_features
        const double *packed
        const double *weights
        const int32_t *rows
        const int32_t *group_rows
        const int32_t *channel
        const int32_t *entries
        const int32_t *feature
        const int32_t *partner
        const float *coupling
        const double *residual
        double prior, expected

    ctypedef struct mlpot_kernel_model:
        mlpot_points energy, known
        int n_other, n_spreads
        const double *spread
        const mlpot_members *members

    ctypedef struct mlpot_results:
        double *energies
        double *pair_gradients
        double *explained
        float *member_gradients
        const double *other
        int64_t other_stride
        double *covariances
        int64_t covariance_stride

    int mlpot_round_up(int n, int multiple)
    int mlpot_n_harmonics(const mlpot_density *d)
    int mlpot_n_features(const mlpot_density *d)
    size_t mlpot_packed_size(int width, int n_rows, int n_columns)
    void mlpot_pack(int width, int n_rows, int n_columns, const double *matrix, double *packed)
    size_t mlpot_packed_lower_size(int n)
    void mlpot_pack_lower(int n, const double *matrix, double *packed)
    void mlpot_harmonics_norms(int l_max, double *norms)
    int mlpot_instructions(int level)
    int mlpot_expand(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                     const int32_t *centres, double *coefficients)
    int mlpot_features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                       const int32_t *centres, int n_threads, double *features)
    int mlpot_features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                           const int32_t *centres, const double *cotangent, double *features,
                           double *pair_gradients)
    int mlpot_local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m,
                             int64_t n_atoms, int64_t n_centres, const int32_t *centres, int n_threads,
                             const mlpot_results *r)
    int mlpot_design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_sparse *sparse, int64_t n_atoms,
                          int64_t n_centres, const int32_t *centres, double *energy, double *forces, double *virial,
                          int64_t stride)
