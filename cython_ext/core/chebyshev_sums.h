/* Sums of Chebyshev polynomials of the distance times one curve, from their recurrence: no table of each of them.
 *
 *   S[u,n] = sum_j v_u(j) T_n(x_j) f_0(r_j),  x = 2 r / cutoff - 1,  n < n_polynomials
 *
 * f_0 is the first column of the curves; lanes are neighbours. Slots are those of one group, from begin to end. */
#pragma once
#include "shells.h"

MLPOT_INLINE mlpot_vector column_lanes(const double *rows, ptrdiff_t n_columns, int k)
{
    mlpot_vector found;
    for (int lane = 0; lane < MLPOT_LANES; ++lane) found[lane] = rows[(ptrdiff_t)(k + lane) * n_columns];
    return found;
}

/* weights (n_sums, capacity); sums (n_sums, stride) is written; partial (n_sums, n_polynomials) vectors of scratch memory. */
static void sum_polynomials(const mlpot_moments *t, const shell_memory *s, int begin, int end, const double *weights,
                            mlpot_vector *partial, double *sums)
{
    const int n = t->n_polynomials;
    memset(partial, 0, sizeof(mlpot_vector) * t->n_sum_weights * n);
    for (int k = begin; k < end; k += MLPOT_LANES) {
        const mlpot_vector twice = *(const mlpot_vector *)(s->distance + k) * (4.0 / t->shell.cutoff) - 2.0;
        mlpot_vector now = column_lanes(s->values, s->n_columns, k), before = 0.5 * twice * now; /* T_1 f = T_-1 f */
        for (int a = 0; a < n; ++a) {
            for (int u = 0; u < t->n_sum_weights; ++u)
                partial[u * n + a] += *(const mlpot_vector *)(weights + (ptrdiff_t)u * s->capacity + k) * now;
            const mlpot_vector next = twice * now - before;
            before = now;
            now = next;
        }
    }
    for (int u = 0; u < t->n_sum_weights; ++u)
        for (int a = 0; a < n; ++a) sums[(ptrdiff_t)u * t->n_summed + a] = sum_lanes(partial[u * n + a]);
}

/* Adds dE/dr of every slot; cotangent (n_sums, n_summed) of the sums of the group. */
static void polynomial_slopes(const mlpot_moments *t, const shell_memory *s, int begin, int end, const double *weights,
                              const double *cotangent, double *along)
{
    const double scale = 2.0 / t->shell.cutoff;
    for (int k = begin; k < end; k += MLPOT_LANES) {
        const mlpot_vector twice = *(const mlpot_vector *)(s->distance + k) * (2.0 * scale) - 2.0;
        const mlpot_vector one = (mlpot_vector){0} + 1.0;
        mlpot_vector now = one, before = 0.5 * twice, d_now = {0}, d_before = one, sum = {0}, d_sum = {0}; /* T_-1 = T_1 */
        for (int a = 0; a < t->n_polynomials; ++a) {
            mlpot_vector d = {0};
            for (int u = 0; u < t->n_sum_weights; ++u)
                d += cotangent[(ptrdiff_t)u * t->n_summed + a] * *(const mlpot_vector *)(weights + (ptrdiff_t)u * s->capacity + k);
            sum += d * now;
            d_sum += d * d_now;
            const mlpot_vector next = twice * now - before, d_next = 2.0 * now + twice * d_now - d_before;
            before = now;
            d_before = d_now;
            now = next;
            d_now = d_next;
        }
        *(mlpot_vector *)(along + k) += scale * d_sum * column_lanes(s->values, s->n_columns, k)
                                        + sum * column_lanes(s->slopes, s->n_columns, k);
    }
}
