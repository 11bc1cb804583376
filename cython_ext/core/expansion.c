/* Density expansion of one centre and its pullback; lanes are channels. */
#include <string.h>

#include "mlpot_core.h"

/* c[m] += sum_k f_k Y_mk over neighbours begin..end for n_m harmonics; n_m is a constant wherever this is called,
 * so the sums stay in registers. */
MLPOT_INLINE void accumulate(const int n_m, int begin, int end, const double *radial, ptrdiff_t stride,
                             const double *ylm, ptrdiff_t n_lm, double *c, ptrdiff_t n_channels)
{
    mlpot_v8 sum[2 * 6 + 1];
    for (int m = 0; m < n_m; ++m) sum[m] = *(mlpot_v8 *)(c + m * n_channels);
    for (int k = begin; k < end; ++k) {
        const mlpot_v8 f = *(const mlpot_v8 *)(radial + k * stride);
        const double *y = ylm + (k / MLPOT_LANES) * n_lm * MLPOT_LANES + k % MLPOT_LANES;
        for (int m = 0; m < n_m; ++m) sum[m] += y[m * MLPOT_LANES] * f;
    }
    for (int m = 0; m < n_m; ++m) *(mlpot_v8 *)(c + m * n_channels) = sum[m];
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

MLPOT_CLONES
static void sum_neighbours(const mlpot_density *d, const mlpot_scratch *s, double *c)
{
    const ptrdiff_t n_lm = mlpot_n_harmonics(d), n_channels = d->n_channels;
    for (int g = 0, begin = 0; g < d->n_groups; begin = s->group_end[g++])
        for (int l = 0; l <= d->l_max; ++l)
            for (int q = 0; q < d->width[g]; q += MLPOT_LANES)
                accumulate_degree(2 * l + 1, begin, s->group_end[g], s->radial + l * d->width[g] + q,
                                  s->radial_stride, s->ylm + l * l * MLPOT_LANES, n_lm,
                                  c + l * l * n_channels + d->first[g] + q, n_channels);
}

void mlpot_expand(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s, double *c)
{
    mlpot_gather_neighbours(d, p, centre, s);
    mlpot_harmonics(d->harmonics, d->l_max, s->n, s->unit, s->ylm);
    mlpot_radial(d, p, s);
    memset(c, 0, sizeof(double) * mlpot_n_harmonics(d) * d->n_channels);
    memcpy(c, d->self + (int64_t)p->species[centre] * d->n_channels, sizeof(double) * d->n_channels);
    sum_neighbours(d, s, c);
}

MLPOT_INLINE double sum_lanes(mlpot_v8 v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* dE/dr = rhat sum A (f' - l f / r) + (1/r) sum f B,   A = sum_m dc Y, B = sum_m dc grad R */
MLPOT_INLINE void neighbour_gradient(const mlpot_density *d, const mlpot_scratch *s, int g, int k, double distance,
                                     const double *dc, double *gradient)
{
    const ptrdiff_t n_lm = mlpot_n_harmonics(d), n_channels = d->n_channels;
    const int lane = k % MLPOT_LANES, width = d->width[g];
    const double *ylm = s->ylm + (k / MLPOT_LANES) * n_lm * MLPOT_LANES + lane;
    const double *grad = s->grad + (k / MLPOT_LANES) * n_lm * 3 * MLPOT_LANES + lane;
    const double *f = s->radial + (ptrdiff_t)k * s->radial_stride, *fp = s->slope + (ptrdiff_t)k * s->radial_stride;
    const double inverse = 1.0 / distance;
    mlpot_v8 radial = {0}, gx = {0}, gy = {0}, gz = {0};
    for (int l = 0; l <= d->l_max; ++l) {
        for (int q = 0; q < width; q += MLPOT_LANES) {
            const double *cot = dc + l * l * n_channels + d->first[g] + q;
            mlpot_v8 a = {0}, bx = {0}, by = {0}, bz = {0};
            for (int m = 0; m < 2 * l + 1; ++m) {
                const mlpot_v8 v = *(const mlpot_v8 *)(cot + m * n_channels);
                const double *y = ylm + (l * l + m) * MLPOT_LANES, *dy = grad + (l * l + m) * 3 * MLPOT_LANES;
                a += y[0] * v;
                bx += dy[0] * v;
                by += dy[MLPOT_LANES] * v;
                bz += dy[2 * MLPOT_LANES] * v;
            }
            const mlpot_v8 value = *(const mlpot_v8 *)(f + l * width + q);
            const mlpot_v8 slope = *(const mlpot_v8 *)(fp + l * width + q);
            radial += a * (slope - (l * inverse) * value);
            gx += bx * value;
            gy += by * value;
            gz += bz * value;
        }
    }
    const double *unit = s->unit + (k / MLPOT_LANES) * 3 * MLPOT_LANES + lane;
    const double along = sum_lanes(radial);
    gradient[0] += unit[0] * along + inverse * sum_lanes(gx);
    gradient[1] += unit[MLPOT_LANES] * along + inverse * sum_lanes(gy);
    gradient[2] += unit[2 * MLPOT_LANES] * along + inverse * sum_lanes(gz);
}

MLPOT_CLONES
static void neighbour_gradients(const mlpot_density *d, const mlpot_pairs *p, const mlpot_scratch *s,
                                const double *dc, double *pair_gradients)
{
    for (int k = 0, g = 0; k < s->n; ++k) {
        while (k >= s->group_end[g]) ++g;
        const int64_t pair = s->pair[k];
        neighbour_gradient(d, s, g, k, p->distances[pair], dc, pair_gradients + 3 * pair);
    }
}

void mlpot_expand_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s,
                      const double *dc, double *pair_gradients)
{
    mlpot_gather_neighbours(d, p, centre, s);
    mlpot_harmonics_gradients(d->harmonics, d->l_max, s->n, s->unit, s->ylm, s->grad);
    mlpot_radial_slopes(d, p, s);
    neighbour_gradients(d, p, s, dc, pair_gradients);
}
