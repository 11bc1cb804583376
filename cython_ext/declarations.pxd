"""Declarations of the C core (core/*.h)."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "mlpot_tables.h" nogil:
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
        double energy_scale, zeta, per_square
        const double *weights
        int n_double
        const double *packed
        const float *single

    ctypedef struct mlpot_sparse:
        int n
        double energy_scale, zeta
        const double *panels

    ctypedef struct mlpot_members:
        pass

    ctypedef struct mlpot_kernel_model:
        mlpot_points energy, known
        int n_other, n_spreads
        const double *spread
        const mlpot_members *members

    ctypedef struct mlpot_results:
        double *energies
        double *pair_gradients
        double *explained
        const double *other
        int64_t other_stride
        double *covariances
        int64_t covariance_stride

    ctypedef struct mlpot_covariants:
        int l_max, n_channels, order, n_features, n_runs
        const int32_t *runs
        const int32_t *couplings
        const int32_t *entries
        const double *values
        const double *scale

    int mlpot_covariants_of(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_threads, double *out)
    int mlpot_covariants_vjp(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_out, int is_shared,
                             const double *cotangent, int n_threads, double *dc)
    int mlpot_expand_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                         const int32_t *centres, int n_out, const double *dc, int n_threads, double *pair_gradients)
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

cdef extern from "mlpot_core.h" nogil:
    enum: MLPOT_DOUBLES, MLPOT_INTEGERS, MLPOT_FLOATS, MLPOT_OUT_OF_MEMORY

    ctypedef struct mlpot_model:
        pass

    ctypedef struct mlpot_input:
        size_t size
        int64_t n_centres, n_atoms
        const int32_t *numbers
        const int64_t *offsets
        const int32_t *neighbours
        const double *vectors
        int n_threads

    ctypedef struct mlpot_uncertainty:
        size_t size
        double *posterior
        double *unexplained
        double *novelty
        double *strongest
        double *crowding
        double *member_forces
        double *covariances
        double member_virial[72]

    ctypedef struct mlpot_sums:
        size_t size
        double *covariances
        double *explained
        double *variances
        float *member_gradients
        double *member_forces
        double *member_virial

    ctypedef struct mlpot_output:
        size_t size
        double *energies
        double *forces
        double *pair_gradients
        double *virials
        mlpot_uncertainty *uncertainty
        mlpot_sums *sums
        double virial[9]

    ctypedef struct mlpot_table:
        const char *name
        int type
        int64_t count
        const void *numbers

    mlpot_model *mlpot_load(const char *path, char *error, size_t error_size)
    mlpot_model *mlpot_load_tables(const mlpot_table *tables, size_t n, char *error, size_t error_size)
    void mlpot_free(mlpot_model *model)
    double mlpot_cutoff(const mlpot_model *model)
    int mlpot_n_species(const mlpot_model *model)
    const int32_t *mlpot_species(const mlpot_model *model)
    int mlpot_n_representatives(const mlpot_model *model)
    int mlpot_evaluate(const mlpot_model *model, const mlpot_input *input, mlpot_output *output, char *error, size_t error_size)
    int mlpot_deviations(const mlpot_model *model, const mlpot_input *input, const mlpot_uncertainty *parts, double *energies_std,
                         double *forces_std, double *owed, char *error, size_t error_size)
    int mlpot_share_deviations(const mlpot_model *model, const mlpot_input *input, const double *owed, double *forces_std,
                               char *error, size_t error_size)
    int mlpot_total_deviations(const mlpot_model *model, int64_t n_atoms, const double *covariances, double unexplained,
                               const double *member_virial, double *energy_std, double *virial_std, char *error,
                               size_t error_size)

cdef extern from "acsf.h" nogil:
    ctypedef struct mlpot_curves:
        int n_segments, n_columns
        const double *start
        const double *per_step
        const int32_t *first
        const int32_t *n_intervals
        const double *knots

    ctypedef struct mlpot_even_polynomials:
        int n, degree
        const double *end_squares
        const double *coefficients

    ctypedef struct mlpot_shell:
        int n_species, n_groups
        const int32_t *group
        double cutoff
        mlpot_curves curves

    ctypedef struct mlpot_moments:
        mlpot_shell shell
        int n_summed, n_polynomials, n_sum_weights
        const double *sum_weights
        int n_angular, n_weights
        const double *weights
        int l_max, n_entries, n_coefficients
        const int32_t *degree
        const int32_t *column
        const int32_t *place
        int n_products
        const int32_t *left
        const int32_t *right
        const double *harmonics

    ctypedef struct mlpot_triplet_functions:
        mlpot_shell shell
        const double *weights
        mlpot_even_polynomials even
        mlpot_curves apart, windows
        int n_shapes
        const int32_t *radial
        const int32_t *between
        const int32_t *begin
        const int32_t *angular
        int n_angular
        const double *zeta
        const double *lambda_ "lambda"
        const int32_t *window

    int mlpot_n_moments(const mlpot_moments *m)
    int mlpot_n_triplet_functions(const mlpot_triplet_functions *t)
    int mlpot_moments_of(const mlpot_moments *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out)
    int mlpot_moments_vjp(const mlpot_moments *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                          const double *cotangent, double *pair_gradients)
    int mlpot_triplets_of(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                          double *out)
    int mlpot_triplets_vjp(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                           const double *cotangent, double *pair_gradients)

cdef extern from "bispectrum.h" nogil:
    ctypedef struct mlpot_bispectrum:
        int n_species, n_channels, two_j_max, n_features
        int half_angle
        double steepness, start
        const int32_t *channel
        const double *weights
        const double *cutoffs
        const double *self
        const double *norms
        const double *couplings
        const int32_t *rows
        int n_blocks
        const int32_t *blocks
        const int32_t *first_output
        const int32_t *n_valued
        const int32_t *value
        const double *scale
        const int32_t *begin
        const int32_t *entry_block
        const int32_t *entry_t
        const int32_t *entry_channel
        const double *entry_factor

    int mlpot_bispectrum_of(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out)
    int mlpot_bispectrum_vjp(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                             const double *cotangent, double *pair_gradients)
    int mlpot_bispectrum_jacobian(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                                  double *jacobian)

cdef extern from "angle_histograms.h" nogil:
    ctypedef struct mlpot_angle_histograms:
        mlpot_shell shell
        int n_sets
        const double *weights
        double decay
        int at_neighbours
        double per_step
        int n_knots, n_bins, n_columns
        const double *table
        const int32_t *bands

    int mlpot_n_histograms(const mlpot_angle_histograms *t)
    int mlpot_angle_histograms_of(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                                  double *out)
    int mlpot_angle_histograms_vjp(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                                   const double *cotangent, double *pair_gradients)

cdef extern from "feature_maps.h" nogil:
    enum: MLPOT_MOMENTS, MLPOT_TRIPLETS, MLPOT_BISPECTRUM, MLPOT_HISTOGRAMS
