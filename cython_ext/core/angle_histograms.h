/* Distributions of the cosines of angles in triangles of a centre and two neighbours; descriptors/mbtr.py makes the tables.
 *
 *   vertex at the centre:     V[g,g',u,b]  = sum_{j<k} v_u(j) v_u(k) f(r_j) f(r_k) exp(-s r_jk) D_b(cos at the centre)
 *   vertex at neighbour j:    W[g,g',u,b]  = sum_{j!=k} v_u(j) v_u(k) f(r_j) f(r_k) exp(-s r_jk) D_b(cos at j)
 *
 * j of group g, k of g'; V for pairs g >= g', then W for all g, g'. D_b is a broadened bin: a quintic Hermite curve of the cosine.
 * A triangle does not evaluate the curves: it adds its six weights to two knots, and bins are a product of knots and table once
 * per centre; backwards likewise. The cost of a triangle does not depend on the number of bins. */
#ifndef MLPOT_ANGLE_HISTOGRAMS_H
#define MLPOT_ANGLE_HISTOGRAMS_H

#include "acsf.h"

/* Numbers at a knot: value, slope and curvature, and one that is idle. */
#define MLPOT_KNOT 4

typedef struct {
    mlpot_shell shell;           /* one curve: f */
    int n_sets;
    const double *weights;       /* (n_species, n_sets) v */
    double decay;                /* s, 1/A; 0: no factor of r_jk */
    int at_neighbours;           /* whether W is computed */
    double per_step;             /* knots per unit of the cosine, from -1 on */
    int n_knots, n_bins, n_columns; /* columns: bins rounded up to a multiple of MLPOT_CHANNELS */
    const double *table;         /* (n_knots, 3, n_columns) value, step * slope, step^2 * curvature */
    const int32_t *bands;        /* (n_knots, 2) first and last + 1 column that is not 0, multiples of MLPOT_CHANNELS */
} mlpot_angle_histograms;

static inline int mlpot_n_histograms(const mlpot_angle_histograms *t)
{
    const int n = t->shell.n_groups;
    return (n * (n + 1) / 2 + (t->at_neighbours ? n * n : 0)) * t->n_sets;
}

/* Return 0, or -1 if out of memory; bitwise identical for any number of threads. `out` (n_atoms, histograms, n_bins) is written, the
 * pullback of a cotangent of this shape ADDS to pair_gradients (n_pairs, 3). */
int mlpot_angle_histograms_of(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                              double *out);
int mlpot_angle_histograms_vjp(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                               const double *cotangent, double *pair_gradients);

#endif
