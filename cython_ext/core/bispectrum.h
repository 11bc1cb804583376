/* Bispectrum of the neighbour density on the three-sphere; descriptors/bispectrum.py makes the tables.
 *
 *   U^t[e](m, m') = self + sum_j w_j f_c(r_j) D^t(m, m'; M_j)          neighbours j of channel e,  t = 2 j = 0..two_j_max
 *   M_j = cos(omega) - i sin(omega) n_j . sigma                        n_j: unit vector; omega: an angle that grows with r_j
 *   Z[t1,e1,t2,e2; t](m, m') = sum C(t1 m1, t2 m2; t m) C(t1 m1', t2 m2'; t m') U^t1[e1](m1, m1') U^t2[e2](m2, m2')
 *   B = scale Re sum conj(U^t[e](m, m')) Z(m, m')
 *
 * D^t are the matrices of SU(2) on polynomials (M00 x + M01 y)^m' (M10 x + M11 y)^(t - m'): without square roots in the
 * recursion over t; their norms come once per centre. Only columns m' <= t / 2 are stored, the others are their conjugates.
 * Pullback (the adjoint of Thompson et al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018): one Y^t[e] = dE/dU
 * for each centre; and what rotates M by a generator of SU(2) acts on Y once per centre, not on D of every neighbour.
 *
 * Lanes are centres: nothing is summed across lanes, and every coefficient serves all of them. */
#ifndef MLPOT_BISPECTRUM_H
#define MLPOT_BISPECTRUM_H

#include "mlpot_tables.h"

typedef struct {
    int n_species, n_channels, two_j_max, n_features;
    int half_angle;              /* 0: omega = steepness (r - start) / (cutoff - start); 1: omega = arcsin(r / cutoff) / 2 */
    double steepness, start;     /* start: A */
    const int32_t *channel;      /* (n_species) */
    const double *weights;       /* (n_species) w_j */
    const double *cutoffs;       /* (n_species, n_species) A */
    const double *self;          /* (n_species, n_channels) weight of the centre itself */
    const double *norms;         /* (n_half) of the matrix elements, see mlpot_bispectrum_half */
    const double *couplings;     /* (k, m1, t) for every t1 >= t2; k = m1 + m2; t = highest, highest - 2, ... t1 - t2 */
    const int32_t *rows;         /* (two_j_max + 1, two_j_max + 1, 2 two_j_max + 1) first coefficient of t1, t2, k */
    int n_blocks;
    const int32_t *blocks;       /* (n_blocks, 4) t1, e1, t2, e2 */
    const int32_t *first_output; /* (n_blocks + 1); outputs of a block: (t, n_channels), t as in `couplings` */
    const int32_t *n_valued;     /* (n_blocks) leading t whose outputs give features */
    const int32_t *value;        /* (n_features) output with the value */
    const double *scale;         /* (n_features) */
    const int32_t *begin;        /* (n_features + 1) first entry of every feature: where dE/dU takes its cotangent to */
    const int32_t *entry_block, *entry_t, *entry_channel; /* (n_entries) */
    const double *entry_factor;  /* (n_entries) */
} mlpot_bispectrum;

/* Matrix elements of degrees below t: in the stored columns, and in all. */
static inline int mlpot_bispectrum_half(int t)
{
    int n = 0;
    for (int s = 0; s < t; ++s) n += (s + 1) * (s / 2 + 1);
    return n;
}
static inline int mlpot_bispectrum_whole(int t) { return t * (t + 1) * (2 * t + 1) / 6; }

/* Return 0, or -1 if out of memory; bitwise identical for any number of threads. `out` (n_atoms, n_features) is written; the
 * pullback ADDS to pair_gradients (n_pairs, 3); the derivatives (n_pairs, 3, n_features) of pairs within the cutoff are written. */
int mlpot_bispectrum_of(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, double *out);
int mlpot_bispectrum_vjp(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                         const double *cotangent, double *pair_gradients);
int mlpot_bispectrum_jacobian(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                              double *jacobian);

#endif
