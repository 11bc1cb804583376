/* Density expansion of one centre and its pullback; lanes are channels. */
#pragma once
#include "harmonics.h"
#include "radial.h"

/* c[m] = sum_k f_k Y_mk over neighbours begin..end for n_m harmonics; n_m is a compile-time constant in all calls,
 * so the sums stay in registers. */
MLPOT_INLINE void accumulate(const int n_m, int begin, int end, const double *radial, ptrdiff_t stride,
                             const double *ylm, ptrdiff_t n_lm, double *c, ptrdiff_t n_channels)
{
    mlpot_vector sum[2 * 6 + 1];
    for (int m = 0; m < n_m; ++m) sum[m] = (mlpot_vector){0};
    for (int k = begin; k < end; ++k) {
        const mlpot_vector f = *(const mlpot_vector *)(radial + k * stride);
        const double *y = ylm + (k / MLPOT_LANES) * n_lm * MLPOT_LANES + k % MLPOT_LANES;
        for (int m = 0; m < n_m; ++m) sum[m] += y[m * MLPOT_LANES] * f;
    }
    for (int m = 0; m < n_m; ++m) *(mlpot_vector *)(c + m * n_channels) = sum[m];
}

MLPOT_INLINE void accumulate_degree(int n_m, int begin, int end, const double *radial, ptrdiff_t stride,
                                    const double *ylm, ptrdiff_t n_lm, double *c, ptrdiff_t n_channels)
{
#define CASE(count) \
    case count: accumulate(count, begin, end, radial, stride, ylm, n_lm, c, n_channels); return;
    while (n_m > 13) {
        accumulate(8, begin, end, radial, stride, ylm, n_lm, c, n_channels);
        n_m -= 8, ylm += 8 * MLPOT_LANES, c += 8 * n_channels;
    }
    switch (n_m) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13)
    }
#undef CASE
}

static void sum_neighbours(const mlpot_density *d, const scratch *s, double *c)
{
    const ptrdiff_t n_lm = mlpot_n_harmonics(d), n_channels = d->n_channels;
    for (int g = 0, begin = 0; g < d->n_groups; begin = s->group_end[g++])
        for (int l = 0; l <= d->l_max; ++l)
            for (int q = 0; q < d->width[g]; q += MLPOT_LANES)
                accumulate_degree(2 * l + 1, begin, s->group_end[g], s->radial + l * d->width[g] + q,
                                  s->radial_stride, s->ylm + l * l * MLPOT_LANES, n_lm,
                                  c + l * l * n_channels + d->first[g] + q, n_channels);
}

static void expand_centre(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, scratch *s, double *c)
{
    gather_neighbours(d, p, centre, s);
    harmonics(d->harmonics, d->l_max, s->n, s->unit, s->ylm);
    radial_values(d, p, s);
    sum_neighbours(d, s, c);
    const double *own = d->self + (int64_t)p->species[centre] * d->n_channels;
    for (int q = 0; q < d->n_channels; ++q) c[q] += own[q];
}

/* What is known of a neighbour's place. */
typedef struct {
    const double *ylm, *grad; /* its lane of the harmonics, and of their gradients */
    double inverse;           /* 1 / distance */
} spot;

MLPOT_INLINE spot spot_of(const mlpot_density *d, const scratch *s, int k)
{
    const ptrdiff_t first = k / MLPOT_LANES * (ptrdiff_t)mlpot_n_harmonics(d) * MLPOT_LANES, lane = k % MLPOT_LANES;
    return (spot){s->ylm + first + lane, s->grad + 3 * first + lane, s->inverse[k]};
}

/* dE/dr = rhat along + (x, y, z) / r, each summed over lanes */
MLPOT_INLINE void add_gradient(const scratch *s, int k, mlpot_vector along, mlpot_vector x, mlpot_vector y,
                               mlpot_vector z, double *pair_gradients)
{
    const double *unit = s->unit + k / MLPOT_LANES * 3 * MLPOT_LANES + k % MLPOT_LANES;
    const double radial = sum_lanes(along), inverse = s->inverse[k];
    double *gradient = pair_gradients + 3 * (int64_t)s->pair[k];
    gradient[0] += unit[0] * radial + inverse * sum_lanes(x);
    gradient[1] += unit[MLPOT_LANES] * radial + inverse * sum_lanes(y);
    gradient[2] += unit[2 * MLPOT_LANES] * radial + inverse * sum_lanes(z);
}

/* along = sum (f' - l f / r) Y dc, (x, y, z) = sum f grad R dc over channels first..end of group g: harmonics first. `count`
 * neighbours at once: one load of dc serves them all, and their sums do not wait for each other. */
MLPOT_INLINE void gradients_of(const int count, const mlpot_density *d, const scratch *s, int g, int first, int end, int k,
                               const double *dc, double *pair_gradients)
{
    const ptrdiff_t n_channels = d->n_channels;
    spot at[4];
    mlpot_vector along[4], x[4], y[4], z[4];
    for (int u = 0; u < count; ++u) {
        at[u] = spot_of(d, s, k + u);
        along[u] = x[u] = y[u] = z[u] = (mlpot_vector){0};
    }
    for (int l = 0; l <= d->l_max; ++l) {
        for (int q = first; q < end; q += MLPOT_LANES) {
            const double *cot = dc + l * l * n_channels + d->first[g] + q;
            mlpot_vector a[4], bx[4], by[4], bz[4];
            for (int u = 0; u < count; ++u) a[u] = bx[u] = by[u] = bz[u] = (mlpot_vector){0};
            for (int lm = l * l; lm < (l + 1) * (l + 1); ++lm, cot += n_channels) {
                const mlpot_vector v = *(const mlpot_vector *)cot;
                for (int u = 0; u < count; ++u) {
                    const double *slope = at[u].grad + (ptrdiff_t)lm * 3 * MLPOT_LANES;
                    a[u] += at[u].ylm[(ptrdiff_t)lm * MLPOT_LANES] * v;
                    bx[u] += slope[0] * v;
                    by[u] += slope[MLPOT_LANES] * v;
                    bz[u] += slope[2 * MLPOT_LANES] * v;
                }
            }
            for (int u = 0; u < count; ++u) {
                const ptrdiff_t column = (ptrdiff_t)(k + u) * s->radial_stride + l * d->width[g] + q;
                const mlpot_vector value = *(const mlpot_vector *)(s->radial + column);
                along[u] += a[u] * (*(const mlpot_vector *)(s->slope + column) - (l * at[u].inverse) * value);
                x[u] += bx[u] * value;
                y[u] += by[u] * value;
                z[u] += bz[u] * value;
            }
        }
    }
    for (int u = 0; u < count; ++u)
        add_gradient(s, k + u, along[u], x[u], y[u], z[u], pair_gradients);
}

/* Degree l of the same for `count` vectors of channels of one neighbour, channels first: 2 count + 4 products for each harmonic
 * in place of 4 count. */
MLPOT_INLINE void add_degree(const int count, const mlpot_density *d, const scratch *s, int g, int first, int k, int l,
                             const double *dc)
{
    const spot at = spot_of(d, s, k);
    const ptrdiff_t column = (ptrdiff_t)k * s->radial_stride + l * d->width[g] + first;
    const mlpot_vector *value = (const mlpot_vector *)(s->radial + column);
    mlpot_vector *sum = (mlpot_vector *)s->sums + 4 * k;
    mlpot_vector along = sum[0], x = sum[1], y = sum[2], z = sum[3], f[8], slope[8];
    for (int u = 0; u < count; ++u) {
        f[u] = value[u];
        slope[u] = ((const mlpot_vector *)(s->slope + column))[u] - (l * at.inverse) * f[u];
    }
    for (ptrdiff_t lm = l * l; lm < (l + 1) * (l + 1); ++lm) {
        const mlpot_vector *cot = (const mlpot_vector *)(dc + lm * d->n_channels + d->first[g] + first);
        const double *grad = at.grad + lm * 3 * MLPOT_LANES;
        mlpot_vector a = {0}, b = {0};
        for (int u = 0; u < count; ++u) {
            mlpot_vector v = cot[u];
            KEEP(v);
            a += slope[u] * v;
            b += f[u] * v;
        }
        along += at.ylm[lm * MLPOT_LANES] * a;
        x += grad[0] * b;
        y += grad[MLPOT_LANES] * b;
        z += grad[2 * MLPOT_LANES] * b;
    }
    sum[0] = along, sum[1] = x, sum[2] = y, sum[3] = z;
}

/* Neighbours begin..end of group g; degrees come first: dc of one stays in the L1 cache, of all in L2. */
MLPOT_INLINE void gradients_across(const int count, const mlpot_density *d, const scratch *s, int g, int first, int begin,
                                   int end, const double *dc, double *pair_gradients)
{
    memset(s->sums + 4 * begin * MLPOT_LANES, 0, sizeof(mlpot_vector) * 4 * (end - begin));
    for (int l = 0; l <= d->l_max; ++l)
        for (int k = begin; k < end; ++k) add_degree(count, d, s, g, first, k, l, dc);
    for (int k = begin; k < end; ++k) {
        const mlpot_vector *sum = (const mlpot_vector *)s->sums + 4 * k;
        add_gradient(s, k, sum[0], sum[1], sum[2], sum[3], pair_gradients);
    }
}

/* AVX-512 has 32 registers: 4 accumulators x 4 neighbours; AVX2 and SSE have 16: 4 x 2. The same numbers apply to radial
 * functions and slopes of channels. */
#define TOGETHER (MLPOT_LANES == 8 ? 4 : 2)
#define ACROSS (MLPOT_LANES == 8 ? 8 : 4)

static void neighbour_gradients(const mlpot_density *d, const scratch *s, const double *dc, double *pair_gradients)
{
    for (int k = 0, g = 0; g < d->n_groups; ++g) {
        const int end = d->width[g], across = end / (ACROSS * MLPOT_LANES) * (ACROSS * MLPOT_LANES);
        for (int q = 0; q < across; q += ACROSS * MLPOT_LANES)
            gradients_across(ACROSS, d, s, g, q, k, s->group_end[g], dc, pair_gradients);
        if (across == end) k = s->group_end[g];
        for (; k + TOGETHER <= s->group_end[g]; k += TOGETHER)
            gradients_of(TOGETHER, d, s, g, across, end, k, dc, pair_gradients);
        for (; k < s->group_end[g]; ++k) gradients_of(1, d, s, g, across, end, k, dc, pair_gradients);
    }
}

static void expand_centre_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, scratch *s,
                      const double *dc, double *pair_gradients)
{
    gather_neighbours(d, p, centre, s);
    harmonics_gradients(d->harmonics, d->l_max, s->n, s->unit, s->ylm, s->grad);
    radial_slopes(d, p, s);
    neighbour_gradients(d, s, dc, pair_gradients);
}
