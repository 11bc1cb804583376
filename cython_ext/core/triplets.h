/* Three-body energies of one centre element and one unordered pair of neighbour elements (GAP's angle_3b):
 *
 *   e_i = sum_{j<k} f_c(r_ij) f_c(r_ik) G(x),    x = (r_ij + r_ik, (r_ij - r_ik)^2, r_jk)
 *   G(x) = sum_s strength_s exp(-|(x - x_s) / length_scales|^2 / 2)
 *
 * G is summed directly, or read from a table: a tensor product of quintic B-splines with uniform knots. */
#ifndef MLPOT_TRIPLETS_H
#define MLPOT_TRIPLETS_H

#include "mlpot_tables.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int centre, first, second;    /* species indices: of the centre and of its two neighbours */
    double cutoff, cutoff_width;  /* A */
    double per_scale[3];          /* 1 / length_scales */
    int n_points;
    const double *points;         /* (n_points, 3) x_s / length_scales */
    const double *strengths;      /* (n_points) eV; for covariances: eV^2 */
    const double *table;          /* (size[0], size[1], size[2] + padding) coefficients, or NULL */
    int size[3];
    int64_t stride[2];            /* of the first two directions of the table */
    double start[3], per_step[3]; /* first knot of the valid range, and knots per unit */
    double nearest;               /* triplets with a neighbour nearer than this are summed directly, A */
} mlpot_triplets;

/* Variance of each triplet not explained by the sparse points: prior - |G k|^2, times the squared cutoff functions. */
typedef struct {
    const double *strengths;      /* (n_points) covariance of G(x) with each sparse point at x = x_s, eV^2 */
    const double *spread;         /* from mlpot_pack_lower, (n_points)^2 */
    double prior;                 /* eV^2 */
} mlpot_triplet_variance;

/* ADDS to energies (n_atoms), pair_gradients (n_pairs, 3), variances (n_atoms); the last, and `v`, may be NULL. */
int mlpot_triplet_sums(const mlpot_triplets *t, const mlpot_triplet_variance *v, const mlpot_pairs *p, int64_t n_atoms,
                       int n_threads, double *energies, double *pair_gradients, double *variances);

#ifdef __cplusplus
}
#endif

#endif
