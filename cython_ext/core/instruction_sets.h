/* Entry points of one instruction set; isa_*.c fill one such table each. */
#ifndef MLPOT_INSTRUCTION_SETS_H
#define MLPOT_INSTRUCTION_SETS_H

#include "acsf.h"
#include "angle_histograms.h"
#include "bispectrum.h"
#include "feature_maps.h"
#include "mlpot_tables.h"
#include "pair_sums.h"
#include "triplets.h"

/* gcc and clang, which calls itself __GNUC__ too; other compilers and processors have the baseline. */
#ifndef MLPOT_DISPATCH
#if defined(__x86_64__) && defined(__GNUC__)
#define MLPOT_DISPATCH 1
#else
#define MLPOT_DISPATCH 0
#endif
#endif

typedef struct {
    int (*expand)(const mlpot_density *, const mlpot_pairs *, int64_t, int64_t, const int32_t *, double *);
    int (*features)(const mlpot_density *, const mlpot_pairs *, int64_t, int64_t, const int32_t *, int, double *);
    int (*features_vjp)(const mlpot_density *, const mlpot_pairs *, int64_t, int64_t, const int32_t *, const double *,
                        double *, double *);
    int (*local_energies)(const mlpot_density *, const mlpot_pairs *, const mlpot_kernel_model *, int64_t, int64_t,
                          const int32_t *, int, const mlpot_results *);
    int (*design_rows)(const mlpot_density *, const mlpot_pairs *, const mlpot_sparse *, int64_t, int64_t,
                       const int32_t *, double *, double *, double *, int64_t);
    int (*pair_sums)(const mlpot_pair_term *, const mlpot_pairs *, int64_t, int, double *, double *, double *, int64_t,
                     double *);
    int (*triplet_sums)(const mlpot_triplets *, const mlpot_triplet_variance *, const mlpot_pairs *, int64_t, int,
                        double *, double *, double *);
    int (*pair_member_gradients)(const mlpot_pair_members *, const mlpot_pairs *, int64_t, int, const mlpot_member_sums *);
    int (*moments)(const mlpot_moments *, const mlpot_pairs *, int64_t, int, const double *, double *, double *);
    int (*triplet_functions)(const mlpot_triplet_functions *, const mlpot_pairs *, int64_t, int, const double *, double *,
                             double *);
    int (*covariants)(const mlpot_covariants *, int64_t, const double *, int, double *);
    int (*covariants_vjp)(const mlpot_covariants *, int64_t, const double *, int, int, const double *, int, double *);
    int (*expand_vjp)(const mlpot_density *, const mlpot_pairs *, int64_t, int64_t, const int32_t *, int, const double *, int,
                      double *);
    int (*bispectrum)(const mlpot_bispectrum *, const mlpot_pairs *, int64_t, int, const double *, double *, double *, double *);
    int (*angle_histograms)(const mlpot_angle_histograms *, const mlpot_pairs *, int64_t, int, const double *, double *, double *);
    int64_t (*mapped_energies)(const mlpot_feature_map *, const mlpot_pairs *, const mlpot_kernel_model *,
                               const mlpot_linear_model *, int64_t, int64_t, const int32_t *, int, const mlpot_results *);
} mlpot_entry_points;

extern const mlpot_entry_points mlpot_entry_points_baseline, mlpot_entry_points_avx2, mlpot_entry_points_avx512;

#endif
