/* Sums over neighbours of functions of the distance alone: a compiled two-body term (mlpot/terms/pair_compiled.py).
 *
 *   e_i = sum_j u[kind(i,j)](r_ij) / 2                              energy, and its gradient
 *   F_im[kind] = sum_{j of kind} phi_m(r_ij) / 2                    features: k(r, r') = s_kind^2 phi(r) . phi(r')
 *   cov(e_i, u(r_s)) = s_kind^2 F_i[kind(s)] . phi(r_s),  var(e_i) = sum_kind s_kind^2 |F_i[kind]|^2 */
#ifndef MLPOT_PAIR_SUMS_H
#define MLPOT_PAIR_SUMS_H

#include "mlpot_tables.h"

/* A "kind" is an unordered pair of elements that has sparse radii. */
#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int n_species, n_kinds;
    double cutoff;              /* A */
    const int32_t *kind;        /* (n_species, n_species); -1: no sparse radii, no energy */
    mlpot_grid potential_grid;
    const double *potential;    /* (n_kinds, n_knots, 3) u / 2, eV */
    mlpot_grid instance_grid;
    const double *instance;     /* (n_kinds, n_knots, 3) variance of a bond, eV^2; NULL: variances from the features */
    int rank;                   /* features, a multiple of MLPOT_CHANNELS */
    mlpot_grid feature_grid;
    const double *features;     /* (n_knots, 3, rank) phi / 2; aligned */
    const double *variance;     /* (n_kinds) s^2, the prior variance of u, eV^2 */
    int n_sparse;               /* of all kinds */
    const int32_t *first;       /* (n_kinds + 1) sparse columns of a kind, ordered */
    const int64_t *map_of;      /* (n_kinds) start of the map of each kind */
    const double *maps;         /* (rank, columns rounded up to MLPOT_CHANNELS) phi_m(r_s) s^2 of each kind, eV^2; aligned */
    mlpot_grid covariance_grid;
    int n_covariance_knots;
    const double *covariances;  /* kind after kind, (n_covariance_knots, 3, columns rounded up to MLPOT_CHANNELS) cov(u(r) / 2, u(r_s)),
                                 * eV^2; aligned; NULL: from the features */
    const int32_t *columns;     /* (n_kinds + 1) first of these columns */
    double cutoff_width;        /* A */
    const double *contact;      /* (n_kinds, 4) s, k, x, y: phi is a function of k asinh(r / s) and multiplied by
                                   f_c(r) (1 + exp(x - y r^2)); NULL: phi is a function of r */
} mlpot_pair_term;

/* ADDS to energies (n_atoms), pair_gradients (n_pairs, 3) and variances (n_atoms); WRITES covariances[centre * stride +
 * column]; the last two may be NULL. Threads over blocks of centres. 0, or -1 when memory is short. */
int mlpot_pair_sums(const mlpot_pair_term *term, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                    double *energies, double *pair_gradients, double *covariances, int64_t stride, double *variances);

/* An ensemble of pair potentials, whose deviations are needed only to some percent. */
typedef struct {
    int n_species, n_knots;
    double cutoff;              /* A */
    const int32_t *kind;        /* (n_species, n_species); -1: no potential */
    const float *along;         /* (n_kinds, n_knots + 1, MLPOT_MEMBERS) u'(r) / (2 r) at r = k cutoff / (n_knots - 1), eV/A^2 */
} mlpot_pair_members;

/* Derivatives of every member's energy, eV/A and eV. Threads over blocks of centres. 0, or -1 when memory is short. */
int mlpot_pair_member_gradients(const mlpot_pair_members *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                                const mlpot_member_sums *to);

#ifdef __cplusplus
}
#endif

#endif
