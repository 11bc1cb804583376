/* Pair gradients of an ensemble: for every member m the energy sum_s w_sm k(p, p_s) of the known points, with the leading
 * features only. The spread is needed to some percent, so everything is in single precision except for the sum over points,
 * whose terms cancel.
 *
 * With D = dE/dc of all members, f and f' the radial functions of a neighbour at r along u, R the solid harmonics,
 *   t = sum_q (f / r) D,   t' = sum_q (f' - l f / r) D,   gradient = sum_lm t grad R_lm + u sum_lm t' Y_lm.
 * Summing over channels first makes 2 products of a channel instead of 4. Lanes are members up to D, then neighbours. */
#pragma once
#include "contractions.h"
#include "products.h"
#include "scratch.h"

typedef float of_members __attribute__((vector_size(4 * MLPOT_MEMBERS), aligned(4 * MLPOT_MEMBERS)));
typedef float of_eight __attribute__((vector_size(32), aligned(32)));
typedef int32_t places_of_eight __attribute__((vector_size(32)));
typedef float half_single __attribute__((vector_size(4 * MLPOT_LANES), aligned(4 * MLPOT_LANES)));

/* Neighbours in a vector. */
#define NEIGHBOURS (2 * MLPOT_LANES)
/* Of these, as many are transposed together. */
#define ABREAST_LANES (NEIGHBOURS < 8 ? NEIGHBOURS : 8)
/* Centres whose members fill a panel. */
#define SHARING (MLPOT_PANEL / MLPOT_MEMBERS)
/* Members processed at a time: six accumulators for each fit the registers. */
#define ABREAST (MLPOT_LANES == 8 ? 4 : 2)

/* Work memory of one thread; rows are the pairs of degree and channel that the features depend on. */
typedef struct {
    const mlpot_members *m;
    int n_points;            /* rounded up to MLPOT_TILE */
    double *slopes;          /* (panels, n_points, MLPOT_PANEL) dk/d(overlap) of the block's centres */
    double *scaled;          /* (n_points, MLPOT_PANEL) slopes times weights; columns are members of SHARING centres */
    double *products;        /* (MLPOT_LANES / SHARING, n_features, MLPOT_PANEL) cotangents of normalised features */
    float *cotangent;        /* (n_features, MLPOT_MEMBERS) of one centre */
    float *c;                /* one centre: per degree (2l + 1, rows) */
    float *dc;               /* likewise (2l + 1, rows, MLPOT_MEMBERS) */
    float *dmixed;           /* (n_mixed, n_orders, MLPOT_MEMBERS) of the densities that are contracted */
    float *radial;           /* (l_max + 1, n_channels, 2, NEIGHBOURS) f/r and f' - l f/r */
    float *ylm;              /* (n_harmonics, 4, NEIGHBOURS) Y and grad R */
    double amplitudes[MLPOT_BLOCK]; /* of the block's centres: roots of the unexplained variances, eV */
} member_memory;

/* Memory up to the cotangents of normalised features, and so many doubles more, which begin where it returns; NULL: out of memory. */
static double *member_products_create(const mlpot_kernel_model *k, size_t more, member_memory *w)
{
    w->m = k->members;
    w->n_points = mlpot_round_up(k->known.n, MLPOT_TILE);
    const size_t panel = (size_t)w->n_points * MLPOT_PANEL, n_slopes = panel * MLPOT_BLOCK / MLPOT_PANEL;
    const size_t n_products = (size_t)MLPOT_LANES / SHARING * w->m->n_features * MLPOT_PANEL;
    const size_t total = n_slopes + panel + n_products + more;
    w->slopes = aligned(total);
    if (!w->slopes) return NULL;
    memset(w->slopes, 0, sizeof(double) * total);
    w->scaled = w->slopes + n_slopes;
    w->products = w->scaled + panel;
    return w->products + n_products;
}

static int member_memory_create(const mlpot_density *d, const mlpot_kernel_model *k, member_memory *w)
{
    const mlpot_members *m = k->members;
    size_t n_c = 0;
    for (int l = 0; l <= d->l_max; ++l) n_c += (size_t)(2 * l + 1) * (m->rows[l + 1] - m->rows[l]);
    const size_t n_mixed = d->contractions ? (size_t)d->contractions->n_mixed * n_orders(d->contractions) : 0;
    const size_t sizes[] = {(size_t)m->n_features * MLPOT_MEMBERS, n_c, n_c * MLPOT_MEMBERS, n_mixed * MLPOT_MEMBERS,
                            (size_t)(d->l_max + 1) * d->n_channels * 2 * NEIGHBOURS,
                            (size_t)mlpot_n_harmonics(d) * 4 * NEIGHBOURS};
    float **parts[] = {&w->cotangent, &w->c, &w->dc, &w->dmixed, &w->radial, &w->ylm};
    size_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) total += lines((sizes[i] + 1) / 2);
    double *memory = member_products_create(k, total, w);
    if (!memory) return -1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; memory += lines((sizes[i++] + 1) / 2)) *parts[i] = (float *)memory;
    return 0;
}

/* Unexplained part: a draw of the prior, linear in the features, for the centres k to k + SHARING - 1. */
static void member_residual(int k, const member_memory *w, double *products)
{
    const mlpot_members *m = w->m;
    for (int i = 0; i < SHARING; ++i) {
        const double amplitude = w->amplitudes[k + i];
        if (!(amplitude > 0.0)) continue;
        for (ptrdiff_t f = 0; f < m->n_features; ++f)
            for (int u = 0; u < MLPOT_MEMBERS; ++u)
                products[f * MLPOT_PANEL + i * MLPOT_MEMBERS + u] += amplitude * m->residual[f * MLPOT_MEMBERS + u];
    }
}

/* Cotangents of the normalised features of the centres k, k + 1, ... of a block, MLPOT_LANES of them. */
static void member_products(int k, member_memory *w)
{
    const mlpot_members *m = w->m;
    const ptrdiff_t apart = (ptrdiff_t)m->n_features * MLPOT_TILE;
    const double *slopes = w->slopes + (ptrdiff_t)(k / MLPOT_PANEL) * w->n_points * MLPOT_PANEL + k % MLPOT_PANEL;
    double *products = w->products;
    memset(products, 0, sizeof(double) * MLPOT_LANES / SHARING * m->n_features * MLPOT_PANEL);
    for (int first = 0; first < MLPOT_LANES; first += SHARING, products += (ptrdiff_t)m->n_features * MLPOT_PANEL) {
        for (ptrdiff_t s = 0; s < w->n_points; ++s)
            for (int i = 0; i < MLPOT_PANEL; ++i)
                w->scaled[s * MLPOT_PANEL + i] = slopes[s * MLPOT_PANEL + first + i / MLPOT_MEMBERS]
                                                 * m->weights[s * MLPOT_MEMBERS + i % MLPOT_MEMBERS];
        for (ptrdiff_t column = 0; column < m->n_features; column += MLPOT_TILE)
            transposed_product(m->packed + column * MLPOT_TILE, apart, w->n_points / MLPOT_TILE, w->scaled,
                               products + column * MLPOT_PANEL);
        if (m->residual) member_residual(k + first, w, products);
    }
}

/* As normalise_vjp, of centre `lane` of these; `features` points at its column in a panel. */
static void member_normalise_vjp(int lane, const double *features, double norm, member_memory *w)
{
    typedef double numbers[MLPOT_MEMBERS];
    const int n_features = w->m->n_features;
    const double *products = w->products + (ptrdiff_t)(lane / SHARING) * n_features * MLPOT_PANEL
                             + lane % SHARING * MLPOT_MEMBERS;
    const double inverse = norm > 0.0 ? 1.0 / norm : 0.0;
    numbers overlap = {0};
    for (ptrdiff_t f = 0; f < n_features; ++f)
        for (int u = 0; u < MLPOT_MEMBERS; ++u) overlap[u] += features[f * MLPOT_PANEL] * products[f * MLPOT_PANEL + u];
    for (ptrdiff_t f = 0; f < n_features; ++f)
        for (int u = 0; u < MLPOT_MEMBERS; ++u)
            w->cotangent[f * MLPOT_MEMBERS + u] =
                (float)((products[f * MLPOT_PANEL + u] - features[f * MLPOT_PANEL] * overlap[u]) * inverse);
}

/* D of n_m orders for one row; n_m is a compile-time constant in all calls. */
MLPOT_INLINE void member_row(const int n_m, const mlpot_members *m, int row, ptrdiff_t n_rows, const float *cotangent,
                             const float *c, float *dc)
{
    of_members sum[8];
    for (int i = 0; i < n_m; ++i) sum[i] = (of_members){0};
    for (int e = m->entries[row]; e < m->entries[row + 1]; ++e) {
        const of_members w = m->coupling[e] * *(const of_members *)(cotangent + (ptrdiff_t)m->feature[e] * MLPOT_MEMBERS);
        const float *other = c + m->partner[e];
        for (int i = 0; i < n_m; ++i) sum[i] += other[i * n_rows] * w;
    }
    for (int i = 0; i < n_m; ++i) *(of_members *)(dc + i * n_rows * MLPOT_MEMBERS) = sum[i];
}

static void member_orders(int n_m, const mlpot_members *m, int row, ptrdiff_t n_rows, const float *cotangent,
                          const float *c, float *dc)
{
#define CASE(count) \
    case count: member_row(count, m, row, n_rows, cotangent, c, dc); return;
    for (; n_m > 8; n_m -= 8, c += 8 * n_rows, dc += 8 * n_rows * MLPOT_MEMBERS)
        member_row(8, m, row, n_rows, cotangent, c, dc);
    switch (n_m) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
}

/* As power_spectrum_vjp, of one lane of c_lanes with members as lanes. */
static void member_spectrum_vjp(const mlpot_density *d, const double *c_lanes, member_memory *w)
{
    const mlpot_members *m = w->m;
    float *c = w->c, *dc = w->dc;
    for (int l = 0; l <= d->l_max; ++l) {
        const ptrdiff_t first = m->rows[l], n_rows = m->rows[l + 1] - first;
        for (int i = 0; i < 2 * l + 1; ++i)
            for (ptrdiff_t r = 0; r < n_rows; ++r)
                c[i * n_rows + r] =
                    (float)c_lanes[((ptrdiff_t)m->channel[first + r] * mlpot_n_harmonics(d) + l * l + i) * MLPOT_LANES];
        for (ptrdiff_t r = 0; r < n_rows; ++r)
            member_orders(2 * l + 1, m, (int)(first + r), n_rows, w->cotangent, c, dc + r * MLPOT_MEMBERS);
        c += (2 * l + 1) * n_rows;
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

/* The pullback of D through the expansion of the current centre, ADDED to pair_gradients (n_pairs, 3, MLPOT_MEMBERS). */
static void member_gradients(const mlpot_density *d, const scratch *s, member_memory *w,
                             float *pair_gradients)
{
    for (int begin = 0; begin < s->n; begin += NEIGHBOURS) {
        const int n = s->n - begin < NEIGHBOURS ? s->n - begin : NEIGHBOURS;
        mlpot_single sums[MLPOT_MEMBERS][4];
        int groups[2];
        member_harmonics(mlpot_n_harmonics(d), begin, s, w->ylm);
        member_radial(d, begin, n, s, w, groups);
        for (int u = 0; u < MLPOT_MEMBERS; u += ABREAST) member_sums(ABREAST, d, w, groups, u, sums + u);
        for (int lane = 0; lane < n; ++lane) {
            const double *unit = s->unit + (begin + lane) / MLPOT_LANES * 3 * MLPOT_LANES + (begin + lane) % MLPOT_LANES;
            float *gradient = pair_gradients + 3 * MLPOT_MEMBERS * (int64_t)s->pair[begin + lane];
            for (int x = 0; x < 3; ++x)
                for (int u = 0; u < MLPOT_MEMBERS; ++u)
                    gradient[x * MLPOT_MEMBERS + u] +=
                        sums[u][x][lane] + (float)unit[x * MLPOT_LANES] * sums[u][3][lane];
        }
    }
}
