/* dE/d(features) of an ensemble, with the leading features only.
 *
 * For zeta = 2 the energy of a member is a quadratic form of the features, and the forms of all members need few directions in common:
 *   y = axes p,   z_m = forms_m y,   dE_m/dp = back z_m,   or dE_m/dp = forms_m y with few features,
 * in single precision, since directions in which large weights cancel are left out. For other kernels, sums over the known points,
 * whose terms cancel, in double precision. */
#pragma once
#include "contractions.h"
#include "member_block.h"
#include "products.h"
#include "scratch.h"

typedef float of_eight __attribute__((vector_size(32), aligned(32)));
typedef int32_t places_of_eight __attribute__((vector_size(32)));

/* Neighbours in a vector. */
#define NEIGHBOURS (2 * MLPOT_LANES)
/* Centres whose members fill a panel. */
#define SHARING (MLPOT_PANEL / MLPOT_MEMBERS)

/* Work memory of one thread; rows are the pairs of degree and channel that the features depend on. */
typedef struct {
    const mlpot_members *m;
    int n_rows;              /* of the features of a block */
    int n_points;            /* rounded up to MLPOT_TILE; 0 with axes */
    double *slopes;          /* (panels, n_points, MLPOT_PANEL) dk/d(overlap) of the block's centres */
    double *scaled;          /* (n_points, MLPOT_PANEL) slopes times weights; columns are members of SHARING centres */
    double *sums;            /* (MLPOT_TILE, MLPOT_PANEL) */
    float *features;         /* (n_rows, MLPOT_PANEL) of a panel of centres */
    int n_z;                 /* rows of a form */
    float *y, *z;            /* (n_axes, MLPOT_PANEL) and (MLPOT_MEMBERS, n_z, MLPOT_PANEL) likewise */
    float *sides;            /* (MLPOT_PANEL / SHARING, n_z, MLPOT_PANEL) z; columns are members of SHARING centres */
    float *products;         /* (n_features, MLPOT_PANEL) cotangents of normalised features; likewise */
    float *cotangent;        /* (n_features, MLPOT_MEMBERS) of one centre */
    float *c;                /* per degree (2l + 1, rows, MLPOT_LANES) of as many centres */
    float *dc;               /* one centre: per degree (2l + 1, rows, MLPOT_MEMBERS) */
    float *dmixed;           /* (n_mixed, n_orders, MLPOT_MEMBERS) of the densities that are contracted */
    float *radial;           /* (l_max + 1, n_channels, 2, NEIGHBOURS) f/r and f' - l f/r */
    float *ylm;              /* (n_harmonics, 4, NEIGHBOURS) Y and grad R */
    double amplitudes[MLPOT_BLOCK]; /* of the block's centres: roots of the unexplained variances, eV */
    member_block out;
} member_memory;

/* Allocate up to the cotangents of normalised features, and `more` doubles, whose address is returned; NULL: out of memory.
 * Memory for the block comes later. */
static double *member_products_create(const mlpot_kernel_model *k, size_t more, member_memory *w)
{
    const mlpot_members *m = w->m = k->members;
    w->n_points = m->n_axes ? 0 : mlpot_round_up(k->known.n, MLPOT_TILE);
    const size_t panel = (size_t)w->n_points * MLPOT_PANEL, n_slopes = panel * MLPOT_BLOCK / MLPOT_PANEL;
    const size_t n_sums = MLPOT_TILE * MLPOT_PANEL, n_products = lines((size_t)m->n_features * MLPOT_PANEL / 2);
    const size_t total = n_slopes + panel + n_sums + n_products + more;
    w->slopes = aligned(total);
    if (!w->slopes) return NULL;
    memset(w->slopes, 0, sizeof(double) * total);
    w->scaled = w->slopes + n_slopes;
    w->sums = w->scaled + panel;
    w->products = (float *)(w->sums + n_sums);
    return w->sums + n_sums + n_products;
}

static int member_memory_create(const mlpot_density *d, const mlpot_kernel_model *k, member_memory *w)
{
    const mlpot_members *m = k->members;
    w->n_rows = mlpot_round_up(mlpot_n_features(d), MLPOT_TILE);
    size_t n_c = 0;
    for (int l = 0; l <= d->l_max; ++l) n_c += (size_t)(2 * l + 1) * (m->rows[l + 1] - m->rows[l]);
    w->n_z = m->back ? m->n_axes : m->n_axes ? m->n_features : 0;
    const size_t n_y = (size_t)m->n_axes * MLPOT_PANEL, n_z = (size_t)w->n_z * MLPOT_PANEL;
    const size_t n_mixed = d->contractions ? (size_t)d->contractions->n_mixed * n_orders(d->contractions) : 0;
    const size_t sizes[] = {(size_t)w->n_rows * MLPOT_PANEL, n_y, n_z * MLPOT_MEMBERS, n_z * MLPOT_PANEL / SHARING,
                            (size_t)m->n_features * MLPOT_MEMBERS, n_c * MLPOT_LANES, n_c * MLPOT_MEMBERS, n_mixed * MLPOT_MEMBERS,
                            (size_t)(d->l_max + 1) * d->n_channels * 2 * NEIGHBOURS, (size_t)mlpot_n_harmonics(d) * 4 * NEIGHBOURS};
    float **parts[] = {&w->features, &w->y, &w->z, &w->sides, &w->cotangent, &w->c, &w->dc, &w->dmixed, &w->radial, &w->ylm};
    size_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) total += lines((sizes[i] + 1) / 2);
    double *memory = member_products_create(k, total, w);
    if (!memory) return -1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; memory += lines((sizes[i++] + 1) / 2)) *parts[i] = (float *)memory;
    return 0;
}

/* z of a panel of centres; `features` (n_rows, MLPOT_PANEL). */
static void member_panel(const double *features, member_memory *w)
{
    const mlpot_members *m = w->m;
    const ptrdiff_t n_axes = m->n_axes, n_z = w->n_z, size = n_z * MLPOT_PANEL;
    for (ptrdiff_t k = 0; k < (ptrdiff_t)w->n_rows * MLPOT_PANEL; ++k) w->features[k] = (float)features[k];
    for (ptrdiff_t tile = 0; tile < n_axes; tile += MLPOT_TILE)
        single_product(m->axes + tile * w->n_rows, w->n_rows, w->features, w->y + tile * MLPOT_PANEL);
    for (ptrdiff_t u = 0; u < MLPOT_MEMBERS; ++u)
        for (ptrdiff_t tile = 0; tile < n_z; tile += MLPOT_TILE)
            single_product(m->forms + (u * n_z + tile) * n_axes, (int)n_axes, w->y, w->z + u * size + tile * MLPOT_PANEL);
    for (ptrdiff_t k = 0; k < n_z; ++k)
        for (int first = 0; first < MLPOT_PANEL; first += 8) {
            of_eight rows[8];
            for (int u = 0; u < 8; ++u) memcpy(&rows[u], w->z + u * size + k * MLPOT_PANEL + first, sizeof rows[u]);
            TRANSPOSE_EIGHT(of_eight, places_of_eight, rows)
            for (int i = 0; i < 8; ++i)
                memcpy(w->sides + (first + i) / SHARING * size + k * MLPOT_PANEL + i % SHARING * MLPOT_MEMBERS, &rows[i], sizeof rows[i]);
        }
}

/* Unexplained part: a draw of the prior, linear in the features, for the centres k to k + SHARING - 1. */
static void member_residual(int k, member_memory *w)
{
    const mlpot_members *m = w->m;
    for (int i = 0; i < SHARING; ++i) {
        const double amplitude = w->amplitudes[k + i];
        if (!(amplitude > 0.0)) continue;
        for (ptrdiff_t f = 0; f < m->n_features; ++f)
            for (int u = 0; u < MLPOT_MEMBERS; ++u)
                w->products[f * MLPOT_PANEL + i * MLPOT_MEMBERS + u] += (float)(amplitude * m->residual[f * MLPOT_MEMBERS + u]);
    }
}

/* Sums over the known points for the centres k to k + SHARING - 1 of a block. */
static void member_sums_over_points(int k, member_memory *w)
{
    const mlpot_members *m = w->m;
    const ptrdiff_t apart = (ptrdiff_t)m->n_features * MLPOT_TILE;
    const double *slopes = w->slopes + (ptrdiff_t)(k / MLPOT_PANEL) * w->n_points * MLPOT_PANEL + k % MLPOT_PANEL;
    for (ptrdiff_t s = 0; s < w->n_points; ++s)
        for (int i = 0; i < MLPOT_PANEL; ++i)
            w->scaled[s * MLPOT_PANEL + i] =
                slopes[s * MLPOT_PANEL + i / MLPOT_MEMBERS] * m->weights[s * MLPOT_MEMBERS + i % MLPOT_MEMBERS];
    for (ptrdiff_t column = 0; column < m->n_features; column += MLPOT_TILE) {
        memset(w->sums, 0, sizeof(double) * MLPOT_TILE * MLPOT_PANEL);
        transposed_product(m->packed + column * MLPOT_TILE, apart, w->n_points / MLPOT_TILE, w->scaled, w->sums);
        for (int i = 0; i < MLPOT_TILE * MLPOT_PANEL; ++i) w->products[column * MLPOT_PANEL + i] = (float)w->sums[i];
    }
}

/* Cotangents of the normalised features of the centres k to k + SHARING - 1 of a block. */
static void member_products(int k, member_memory *w)
{
    const mlpot_members *m = w->m;
    if (m->n_axes) {
        const float *sides = w->sides + (ptrdiff_t)(k % MLPOT_PANEL / SHARING) * w->n_z * MLPOT_PANEL;
        if (!m->back) memcpy(w->products, sides, sizeof(float) * (size_t)m->n_features * MLPOT_PANEL);
        for (ptrdiff_t column = 0; m->back && column < m->n_features; column += MLPOT_TILE)
            single_product(m->back + column * m->n_axes, m->n_axes, sides, w->products + column * MLPOT_PANEL);
    } else {
        member_sums_over_points(k, w);
    }
    if (m->residual) member_residual(k, w);
}

/* As normalise_vjp, of the centre in column `lane` of a panel's features, which are here from its first on. */
static void member_normalise_vjp(int lane, const double *features, double norm, member_memory *w)
{
    typedef float numbers[MLPOT_MEMBERS];
    const int n_features = w->m->n_features;
    const float *products = w->products + lane % SHARING * MLPOT_MEMBERS, inverse = norm > 0.0 ? (float)(1.0 / norm) : 0.0f;
    numbers overlap = {0};
    for (ptrdiff_t f = 0; f < n_features; ++f)
        for (int u = 0; u < MLPOT_MEMBERS; ++u) overlap[u] += (float)features[f * MLPOT_PANEL] * products[f * MLPOT_PANEL + u];
    for (ptrdiff_t f = 0; f < n_features; ++f)
        for (int u = 0; u < MLPOT_MEMBERS; ++u)
            w->cotangent[f * MLPOT_MEMBERS + u] =
                (products[f * MLPOT_PANEL + u] - (float)features[f * MLPOT_PANEL] * overlap[u]) * inverse;
}
