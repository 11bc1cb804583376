/* One binary for a mixed cluster: the widest instruction set that the processor has is chosen at run time. */
#include "instruction_sets.h"

static int level_in_use = -1;

static int best_level(void)
{
#if MLPOT_DISPATCH
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        const int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
                         && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
        return wide ? 2 : 1;
    }
#endif
    return 0;
}

int mlpot_instructions(int level)
{
    const int best = best_level();
    level_in_use = level < 0 || level > best ? best : level;
    return level_in_use;
}

static const mlpot_entry_points *chosen(void)
{
    if (level_in_use < 0) mlpot_instructions(-1);
#if MLPOT_DISPATCH
    if (level_in_use == 2) return &mlpot_entry_points_avx512;
    if (level_in_use == 1) return &mlpot_entry_points_avx2;
#endif
    return &mlpot_entry_points_baseline;
}

int mlpot_expand(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                 const int32_t *centres, double *coefficients)
{
    return chosen()->expand(d, p, n_atoms, n_centres, centres, coefficients);
}

int mlpot_features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                   const int32_t *centres, int n_threads, double *features)
{
    return chosen()->features(d, p, n_atoms, n_centres, centres, n_threads, features);
}

int mlpot_features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                       const int32_t *centres, const double *cotangent, double *features, double *pair_gradients)
{
    return chosen()->features_vjp(d, p, n_atoms, n_centres, centres, cotangent, features, pair_gradients);
}

int mlpot_local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                         int64_t n_centres, const int32_t *centres, int n_threads, const mlpot_results *r)
{
    return chosen()->local_energies(d, p, m, n_atoms, n_centres, centres, n_threads, r);
}

int mlpot_design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_sparse *sparse, int64_t n_atoms,
                      int64_t n_centres, const int32_t *centres, double *energy, double *forces, double *virial,
                      int64_t stride)
{
    return chosen()->design_rows(d, p, sparse, n_atoms, n_centres, centres, energy, forces, virial, stride);
}

int mlpot_pair_sums(const mlpot_pair_term *term, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                    double *energies, double *pair_gradients, double *covariances, int64_t stride, double *variances)
{
    return chosen()->pair_sums(term, p, n_atoms, n_threads, energies, pair_gradients, covariances, stride, variances);
}

int mlpot_triplet_sums(const mlpot_triplets *t, const mlpot_triplet_variance *v, const mlpot_pairs *p, int64_t n_atoms,
                       int n_threads, double *energies, double *pair_gradients, double *variances)
{
    return chosen()->triplet_sums(t, v, p, n_atoms, n_threads, energies, pair_gradients, variances);
}

int mlpot_pair_member_gradients(const mlpot_pair_members *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                                const mlpot_member_sums *to)
{
    return chosen()->pair_member_gradients(m, p, n_atoms, n_threads, to);
}

int mlpot_moments_of(const mlpot_moments *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out)
{
    return chosen()->moments(m, p, n_atoms, n_threads, NULL, out, NULL);
}

int mlpot_moments_vjp(const mlpot_moments *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                      const double *cotangent, double *pair_gradients)
{
    return chosen()->moments(m, p, n_atoms, n_threads, cotangent, NULL, pair_gradients);
}

int mlpot_triplets_of(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out)
{
    return chosen()->triplet_functions(t, p, n_atoms, n_threads, NULL, out, NULL);
}

int mlpot_triplets_vjp(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                       const double *cotangent, double *pair_gradients)
{
    return chosen()->triplet_functions(t, p, n_atoms, n_threads, cotangent, NULL, pair_gradients);
}

int mlpot_covariants_of(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_threads, double *out)
{
    return chosen()->covariants(t, n_centres, c, n_threads, out);
}

int mlpot_covariants_vjp(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_out, int is_shared,
                         const double *cotangent, int n_threads, double *dc)
{
    return chosen()->covariants_vjp(t, n_centres, c, n_out, is_shared, cotangent, n_threads, dc);
}

int mlpot_expand_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                     const int32_t *centres, int n_out, const double *dc, int n_threads, double *pair_gradients)
{
    return chosen()->expand_vjp(d, p, n_atoms, n_centres, centres, n_out, dc, n_threads, pair_gradients);
}

int mlpot_bispectrum_of(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out)
{
    return chosen()->bispectrum(t, p, n_atoms, n_threads, NULL, out, NULL, NULL);
}

int mlpot_bispectrum_vjp(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                         const double *cotangent, double *pair_gradients)
{
    return chosen()->bispectrum(t, p, n_atoms, n_threads, cotangent, NULL, pair_gradients, NULL);
}

int mlpot_bispectrum_jacobian(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                              double *jacobian)
{
    return chosen()->bispectrum(t, p, n_atoms, n_threads, NULL, NULL, NULL, jacobian);
}

int mlpot_angle_histograms_of(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                              double *out)
{
    return chosen()->angle_histograms(t, p, n_atoms, n_threads, NULL, out, NULL);
}

int mlpot_angle_histograms_vjp(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                               const double *cotangent, double *pair_gradients)
{
    return chosen()->angle_histograms(t, p, n_atoms, n_threads, cotangent, NULL, pair_gradients);
}

int64_t mlpot_mapped_energies(const mlpot_feature_map *f, const mlpot_pairs *p, const mlpot_kernel_model *m,
                              const mlpot_linear_model *linear, int64_t n_atoms, int64_t n_centres, const int32_t *centres,
                              int n_threads, const mlpot_results *r)
{
    return chosen()->mapped_energies(f, p, m, linear, n_atoms, n_centres, centres, n_threads, r);
}
