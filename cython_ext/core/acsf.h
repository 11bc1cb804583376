/* Sums over neighbours and triplets; symmetry functions, Chebyshev and Zernike descriptors are linear maps of these.
 *
 *   sums      S[g,u,n]   = sum_j v_u(j) f_n(r_j)                                neighbours j of group g
 *                          or v_u(j) T_n(2 r_j / cutoff - 1) f_0(r_j)
 *   moments   c[g,w,k,l,m] = sum_j v_w(j) f_k(r_j) Y_lm(r_j / |r_j|)
 *   spectra   P[b,b',k,l] = sum_m c[b,k,l,m] c[b',k,l,m]                        blocks b = (g, w)
 *   triplets  T[g,g',f]  = sum_{j<k} v(j) v(k) f_n(r_ij) f_n(r_ik) [h(r_jk)] A(cos)    A = 2 ((1 + lambda cos) / 2)^zeta
 *                          or a function of the angle
 *
 * v are weights of the neighbours' elements. All functions of one variable are quintic Hermite curves. The moments of a
 * centre have few channels, so the SIMD lanes are neighbours, unlike in the density expansion (expansion.h: channels). */
#ifndef MLPOT_ACSF_H
#define MLPOT_ACSF_H

#include "mlpot_tables.h"

/* Curves of one variable, on segments of uniform knots; the last segment extends to infinity and is 0. */
typedef struct {
    int n_segments, n_columns;       /* columns: a multiple of MLPOT_CHANNELS */
    const double *start, *per_step;  /* (n_segments) first knot, knots per unit */
    const int32_t *first, *n_intervals; /* (n_segments) first knot as stored; a segment stores n_intervals + 1 */
    const double *knots;             /* (n_knots, 3, n_columns) value, step * slope, step^2 * curvature */
} mlpot_curves;

/* Even functions of one distance r < end as polynomials of 2 (r / end)^2 - 1; 0 from end on. */
typedef struct {
    int n, degree;
    const double *end_squares;       /* (n) */
    const double *coefficients;      /* (n, degree + 1) the highest power first */
} mlpot_even_polynomials;

/* Grouping of neighbours. */
typedef struct {
    int n_species, n_groups;
    const int32_t *group;            /* (n_species) */
    double cutoff;                   /* A */
    mlpot_curves curves;             /* of the distance */
} mlpot_shell;

typedef struct {
    mlpot_shell shell;               /* curves: first the summed ones, or f_0 and these, then the curves of the moments */
    int n_summed;                    /* sums of each weight: the polynomials, then curves */
    int n_polynomials;               /* of the distance, times the first curve, which is not summed itself then; 0: none */
    int n_sum_weights;
    const double *sum_weights;       /* (n_species, n_sum_weights) */
    int n_angular;                   /* curves of the moments */
    int n_weights;
    const double *weights;           /* (n_species, n_weights) */
    int l_max, n_entries, n_coefficients;
    const int32_t *degree, *column;  /* (n_entries) l and k, by degree */
    const int32_t *place;            /* (n_entries) first of the 2 l + 1 coefficients */
    int n_products;
    const int32_t *left, *right;     /* (n_products) blocks */
    const double *harmonics;         /* from mlpot_harmonics_norms */
} mlpot_moments;

typedef struct {
    mlpot_shell shell;
    const double *weights;           /* (n_species) */
    mlpot_even_polynomials even;     /* of r_jk; n = 0: none */
    mlpot_curves apart;              /* those that are no such polynomials; n_segments = 0: none */
    mlpot_curves windows;            /* of the angle: sin(theta / 2) below 90 degrees, sqrt(2) - cos(theta / 2) above */
    int n_shapes;
    const int32_t *radial, *between; /* (n_shapes) curve of r_ij and r_ik; polynomial, or n + curve, of r_jk */
    const int32_t *begin;            /* (n_shapes + 1) first function with this shape */
    const int32_t *angular;          /* (n_functions) */
    int n_angular;
    const double *zeta, *lambda;     /* (n_angular) */
    const int32_t *window;           /* (n_angular) curve of the angle; -1: the power */
} mlpot_triplet_functions;

static inline int mlpot_n_sums(const mlpot_moments *m)
{
    return m->shell.n_groups * m->n_sum_weights * m->n_summed;
}
static inline int mlpot_n_moments(const mlpot_moments *m) { return mlpot_n_sums(m) + m->n_products * m->n_entries; }
static inline int mlpot_n_triplet_functions(const mlpot_triplet_functions *t)
{
    return t->shell.n_groups * (t->shell.n_groups + 1) / 2 * t->begin[t->n_shapes];
}

/* Return 0, or -1 if out of memory. Each centre writes to its own memory: results are bitwise identical for any number of threads.
 * `out` (n_atoms, n) is written: sums (group, weight, curve), then spectra (product, entry); or triplets, (pair of groups
 * a >= b, function). Pullbacks take their cotangent (n_atoms, n) and ADD to pair_gradients (n_pairs, 3). */
int mlpot_moments_of(const mlpot_moments *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out);
int mlpot_moments_vjp(const mlpot_moments *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                      const double *cotangent, double *pair_gradients);
int mlpot_triplets_of(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out);
int mlpot_triplets_vjp(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                       const double *cotangent, double *pair_gradients);

#endif
