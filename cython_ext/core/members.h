/* Pair gradients of an ensemble: for every member m the energy sum_s w_sm k(p, p_s) of the known points. The spread is needed to some
 * percent, so everything from the cotangents of the features on (member_cotangents.h) is in single precision.
 *
 * With D = dE/dc of all members, f and f' the radial functions of a neighbour at r along u, R the solid harmonics,
 *   t = sum_q (f / r) D,   t' = sum_q (f' - l f / r) D,   gradient = sum_lm t grad R_lm + u sum_lm t' Y_lm.
 * Summing over channels first makes 2 products of a channel instead of 4. Lanes are members up to D, then neighbours. */
#pragma once
#include "member_cotangents.h"

typedef float half_single __attribute__((vector_size(4 * MLPOT_LANES), aligned(4 * MLPOT_LANES)));

/* Of these, as many are transposed together. */
#define ABREAST_LANES (NEIGHBOURS < 8 ? NEIGHBOURS : 8)
/* Members processed at a time: six accumulators for each fit the registers. */
#define ABREAST (MLPOT_LANES == 8 ? 4 : 2)

/* D of n_m orders for one row; n_m is a compile-time constant in all calls. */
MLPOT_INLINE void member_row(const int n_m, const mlpot_members *m, int row, ptrdiff_t n_rows, const float *cotangent,
                             const float *c, float *dc)
{
    of_members sum[8];
    for (int i = 0; i < n_m; ++i) sum[i] = (of_members){0};
    for (int e = m->entries[row]; e < m->entries[row + 1]; ++e) {
        const of_members w = m->coupling[e] * *(const of_members *)(cotangent + (ptrdiff_t)m->feature[e] * MLPOT_MEMBERS);
        const float *other = c + (ptrdiff_t)m->partner[e] * MLPOT_LANES;
        for (int i = 0; i < n_m; ++i) sum[i] += other[i * n_rows * MLPOT_LANES] * w;
    }
    for (int i = 0; i < n_m; ++i) *(of_members *)(dc + i * n_rows * MLPOT_MEMBERS) = sum[i];
}

static void member_orders(int n_m, const mlpot_members *m, int row, ptrdiff_t n_rows, const float *cotangent,
                          const float *c, float *dc)
{
#define CASE(count) \
    case count: member_row(count, m, row, n_rows, cotangent, c, dc); return;
    for (; n_m > 8; n_m -= 8, c += 8 * n_rows * MLPOT_LANES, dc += 8 * n_rows * MLPOT_MEMBERS)
        member_row(8, m, row, n_rows, cotangent, c, dc);
    switch (n_m) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
}

/* Coefficients of some centres, their lanes, that the members depend on. */
static void member_coefficients(const mlpot_density *d, const double *c_lanes, member_memory *w)
{
    const mlpot_members *m = w->m;
    half_single *c = (half_single *)w->c;
    for (int l = 0; l <= d->l_max; ++l)
        for (int i = 0; i < 2 * l + 1; ++i)
            for (ptrdiff_t r = m->rows[l]; r < m->rows[l + 1]; ++r, ++c)
                *c = __builtin_convertvector(((const mlpot_vector *)c_lanes)[(ptrdiff_t)m->channel[r] * mlpot_n_harmonics(d) + l * l + i],
                                             half_single);
}

/* As power_spectrum_vjp, of one of these centres with members as lanes. */
static void member_spectrum_vjp(const mlpot_density *d, int lane, member_memory *w)
{
    const mlpot_members *m = w->m;
    const float *c = w->c + lane;
    float *dc = w->dc;
    for (int l = 0; l <= d->l_max; ++l) {
        const ptrdiff_t first = m->rows[l], n_rows = m->rows[l + 1] - first;
        for (ptrdiff_t r = 0; r < n_rows; ++r)
            member_orders(2 * l + 1, m, (int)(first + r), n_rows, w->cotangent, c, dc + r * MLPOT_MEMBERS);
        c += (2 * l + 1) * n_rows * MLPOT_LANES;
        dc += (2 * l + 1) * n_rows * MLPOT_MEMBERS;
    }
}

/* As contract_vjp, of one lane of the slopes with members as lanes, ADDED to D. */
static void member_contract_vjp(const mlpot_density *d, const contraction_memory *k, int lane, member_memory *w)
{
    const mlpot_contractions *t = d->contractions;
    const mlpot_members *m = w->m;
    if (!t) return;
    const int n_lm = n_orders(t), n_features = t->n_features < m->n_features ? t->n_features : m->n_features;
    const double *slope = (const double *)k->slopes + lane;
    of_members *mixed = (of_members *)w->dmixed, *dc = (of_members *)w->dc;
    memset(mixed, 0, sizeof(of_members) * t->n_mixed * n_lm);
    for (int f = 0; f < n_features; ++f) {
        const of_members cotangent = ((const of_members *)w->cotangent)[f];
        for (int row = t->rows[t->invariant[f]]; row < t->rows[t->invariant[f] + 1]; ++row, slope += MLPOT_LANES)
            mixed[t->mixed[f] * n_lm + t->variable[row]] += (float)*slope * cotangent;
    }
    for (int l = 0; l <= t->l_max; ++l) {
        const int first = m->rows[l], n_rows = m->rows[l + 1] - first;
        for (int s = 0; s < t->n_mixed; ++s)
            for (int r = 0; r < n_rows; ++r) {
                const float share = (float)t->shares[(ptrdiff_t)(l * t->n_mixed + s) * d->n_channels + m->channel[first + r]];
                if (share == 0.0f) continue;
                for (int i = 0; i < 2 * l + 1; ++i) dc[i * n_rows + r] += share * mixed[s * n_lm + l * l + i];
            }
        dc += (2 * l + 1) * n_rows;
    }
}

/* Harmonics of the neighbours begin, begin + 1, ... in single precision; lanes without neighbour hold harmless numbers. */
static void member_harmonics(int n_lm, int begin, const scratch *s, float *out)
{
    const ptrdiff_t low = begin / MLPOT_LANES, high = begin + MLPOT_LANES < s->n ? low + 1 : low;
    const mlpot_vector *y_low = (const mlpot_vector *)s->ylm + low * n_lm, *y_high = (const mlpot_vector *)s->ylm + high * n_lm;
    const mlpot_vector *g_low = (const mlpot_vector *)s->grad + low * n_lm * 3;
    const mlpot_vector *g_high = (const mlpot_vector *)s->grad + high * n_lm * 3;
    for (int lm = 0; lm < n_lm; ++lm, out += 4 * NEIGHBOURS) {
        half_single *to = (half_single *)out;
        to[0] = __builtin_convertvector(y_low[lm], half_single);
        to[1] = __builtin_convertvector(y_high[lm], half_single);
        for (int x = 0; x < 3; ++x) {
            to[2 * x + 2] = __builtin_convertvector(g_low[3 * lm + x], half_single);
            to[2 * x + 3] = __builtin_convertvector(g_high[3 * lm + x], half_single);
        }
    }
}

/* f/r and f' - l f/r of neighbours of one group, from begin to end - 1, in eight channels of degree l from `column` of their
 * rows on; into lanes, those outside are 0. */
MLPOT_INLINE void member_channels(const scratch *s, int l, int column, int first, int begin, int end,
                                  const double *inverse, float *out)
{
    of_eight values[8], slopes[8];
    for (int u = 0; u < 8; ++u) {
        const int k = first + u;
        values[u] = slopes[u] = (of_eight){0};
        if (k < begin || k >= end) continue;
        const mlpot_vector *f = (const mlpot_vector *)(s->radial + (ptrdiff_t)k * s->radial_stride + column);
        const mlpot_vector *g = (const mlpot_vector *)(s->slope + (ptrdiff_t)k * s->radial_stride + column);
        for (int i = 0; i < 8 / MLPOT_LANES; ++i) {
            const mlpot_vector value = inverse[u] * f[i];
            ((half_single *)&values[u])[i] = __builtin_convertvector(value, half_single);
            ((half_single *)&slopes[u])[i] = __builtin_convertvector(g[i] - (double)l * value, half_single);
        }
    }
    TRANSPOSE_EIGHT(of_eight, places_of_eight, values)
    TRANSPOSE_EIGHT(of_eight, places_of_eight, slopes)
    for (int q = 0; q < 8; ++q, out += 2 * NEIGHBOURS) {
        memcpy(out, &values[q], sizeof(float) * ABREAST_LANES);
        memcpy(out + NEIGHBOURS, &slopes[q], sizeof(float) * ABREAST_LANES);
    }
}

/* Radial functions of `n` neighbours from begin on, 0 in the channels of other groups than theirs; first and last group. */
static void member_radial(const mlpot_density *d, int begin, int n, const scratch *s,
                          member_memory *w, int groups[2])
{
    double inverse[NEIGHBOURS + 8] = {0};
    int g = 0;
    for (int lane = 0; lane < n; ++lane) inverse[lane] = s->inverse[begin + lane];
    while (begin >= s->group_end[g]) ++g;
    for (groups[0] = g;; ++g) {
        const int from = g ? s->group_end[g - 1] : 0, end = s->group_end[g] < begin + n ? s->group_end[g] : begin + n;
        for (int lane = 0; lane < NEIGHBOURS; lane += ABREAST_LANES)
            for (int l = 0; l <= d->l_max; ++l)
                for (int q = 0; q < d->width[g]; q += 8)
                    member_channels(s, l, l * d->width[g] + q, begin + lane, from, end, inverse + lane,
                                    w->radial + (ptrdiff_t)(l * d->n_channels + d->first[g] + q) * 2 * NEIGHBOURS + lane);
        groups[1] = g;
        if (s->group_end[g] >= begin + n) return;
    }
}

/* Sums over channels and harmonics of `count` members, from `member` on: (count, 4) x, y, z and along the distance. */
MLPOT_INLINE void member_sums(const int count, const mlpot_density *d, const member_memory *w, const int groups[2],
                              int member, mlpot_single (*out)[4])
{
    const mlpot_members *m = w->m;
    const mlpot_single *harmonics = (const mlpot_single *)w->ylm;
    const float *dc = w->dc + member;
    mlpot_single sums[4][4];
    for (int u = 0; u < count; ++u)
        for (int x = 0; x < 4; ++x) sums[u][x] = (mlpot_single){0};
    for (int l = 0; l <= d->l_max; ++l) {
        const int first = m->rows[l], n_rows = m->rows[l + 1] - first;
        const int *bounds = m->group_rows + l * (d->n_groups + 1);
        const int begin = bounds[groups[0]], end = bounds[groups[1] + 1];
        const mlpot_single *of_degree = (const mlpot_single *)w->radial + (ptrdiff_t)l * d->n_channels * 2;
        for (int i = 0; i < 2 * l + 1; ++i, dc += n_rows * MLPOT_MEMBERS, harmonics += 4) {
            mlpot_single t[4], slope[4];
            for (int u = 0; u < count; ++u) t[u] = slope[u] = (mlpot_single){0};
            for (int r = begin; r < end; ++r) {
                const mlpot_single *radial = of_degree + 2 * m->channel[r];
                for (int u = 0; u < count; ++u) {
                    const float v = dc[(r - first) * MLPOT_MEMBERS + u];
                    t[u] += v * radial[0];
                    slope[u] += v * radial[1];
                }
            }
            for (int u = 0; u < count; ++u) {
                for (int x = 0; x < 3; ++x) sums[u][x] += harmonics[x + 1] * t[u];
                sums[u][3] += harmonics[0] * slope[u];
            }
        }
    }
    for (int u = 0; u < count; ++u)
        for (int x = 0; x < 4; ++x) out[u][x] = sums[u][x];
}

/* Unit vectors of the neighbours begin, begin + 1, ...; harmless numbers in lanes without neighbour. */
static void member_directions(int begin, const scratch *s, half_single *out)
{
    const ptrdiff_t low = begin / MLPOT_LANES, high = begin + MLPOT_LANES < s->n ? low + 1 : low;
    const mlpot_vector *unit = (const mlpot_vector *)s->unit;
    for (int x = 0; x < 3; ++x) {
        out[2 * x] = __builtin_convertvector(unit[3 * low + x], half_single);
        out[2 * x + 1] = __builtin_convertvector(unit[3 * high + x], half_single);
    }
}

/* Numbers of n neighbours, lanes of `from` (MLPOT_MEMBERS), to one row for each of them, OF_PAIR apart. */
static void member_columns(const mlpot_single *from, int n, float *to)
{
    for (int first = 0; first < n; first += ABREAST_LANES) {
        of_eight rows[8];
        for (int u = 0; u < MLPOT_MEMBERS; ++u) {
            rows[u] = (of_eight){0};
            memcpy(&rows[u], (const float *)&from[u] + first, sizeof(float) * ABREAST_LANES);
        }
        TRANSPOSE_EIGHT(of_eight, places_of_eight, rows)
        for (int lane = 0; lane < ABREAST_LANES && first + lane < n; ++lane)
            memcpy(to + (first + lane) * OF_PAIR, &rows[lane], sizeof rows[lane]);
    }
}

/* The pullback of D through the expansion of the current centre, centre k of the block -> w->out. */
static void member_gradients(const mlpot_density *d, const mlpot_pairs *p, int k, const scratch *s, member_memory *w)
{
    float *out = w->out.gradients + (ptrdiff_t)w->out.n * OF_PAIR;
    for (int begin = 0; begin < s->n; begin += NEIGHBOURS) {
        const int n = s->n - begin < NEIGHBOURS ? s->n - begin : NEIGHBOURS;
        mlpot_single sums[MLPOT_MEMBERS][4], direction[3], columns[MLPOT_MEMBERS];
        int groups[2];
        member_harmonics(mlpot_n_harmonics(d), begin, s, w->ylm);
        member_radial(d, begin, n, s, w, groups);
        for (int u = 0; u < MLPOT_MEMBERS; u += ABREAST) member_sums(ABREAST, d, w, groups, u, sums + u);
        member_directions(begin, s, (half_single *)direction);
        for (int x = 0; x < 3; ++x) {
            for (int u = 0; u < MLPOT_MEMBERS; ++u) columns[u] = sums[u][x] + direction[x] * sums[u][3];
            member_columns(columns, n, out + (ptrdiff_t)begin * OF_PAIR + x * MLPOT_MEMBERS);
        }
    }
    memcpy(w->out.pairs + w->out.n, s->pair, sizeof(int32_t) * (size_t)s->n);
    w->out.n += s->n;
    member_block_end(p, k, &w->out);
}
