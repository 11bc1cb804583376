/* Derivatives of one centre's normalised features with respect to its neighbours; lanes are neighbours. */
#pragma once
#include "blocks.h"

/* Features that can be non-zero in a block of centres: channels of absent elements are left out. */
typedef struct {
    int n;                    /* how many */
    int n_rows;               /* rounded up to MLPOT_TILE */
    int *which;               /* (n_features) */
} active_features;

typedef struct {
    double *u, *v;            /* (n_channels, l_max + 1, lanes) f' - l f / r and f / r of as many neighbours */
    double *a, *b;            /* (n_channels, l_max + 1, lanes), (.., 3, lanes) contractions with Y, grad R */
    double *columns;          /* (n_features, 3, lanes) */
    double *mixed;            /* (n_orders, 3, lanes) dA/dr of one mixed density */
} jacobian_memory;

static size_t jacobian_size(const mlpot_density *d)
{
    const size_t n_mixed = d->contractions ? n_orders(d->contractions) : 0;
    return MLPOT_LANES * (6 * (size_t)d->n_channels * (d->l_max + 1) + 3 * (size_t)mlpot_n_features(d) + 3 * n_mixed);
}

static void jacobian_place(const mlpot_density *d, double *memory, jacobian_memory *w)
{
    const size_t n_ql = (size_t)d->n_channels * (d->l_max + 1) * MLPOT_LANES;
    w->u = memory;
    w->v = w->u + n_ql;
    w->a = w->v + n_ql;
    w->b = w->a + n_ql;
    w->columns = w->b + 3 * n_ql;
    w->mixed = w->columns + 3 * (size_t)mlpot_n_features(d) * MLPOT_LANES;
}

/* u and v of neighbours k, k + 1, ...; zero for channels they do not fill and for idle lanes */
static void radial_lanes(const mlpot_density *d, const scratch *s, int k, jacobian_memory *w)
{
    const int n_l = d->l_max + 1;
    memset(w->u, 0, sizeof(double) * 2 * d->n_channels * n_l * MLPOT_LANES);
    for (int lane = 0, g = 0; lane < MLPOT_LANES && k + lane < s->n; ++lane) {
        while (k + lane >= s->group_end[g]) ++g;
        const double *f = s->radial + (ptrdiff_t)(k + lane) * s->radial_stride;
        const double *fp = s->slope + (ptrdiff_t)(k + lane) * s->radial_stride;
        const double inverse = s->inverse[k + lane];
        for (int l = 0; l < n_l; ++l) {
            for (int q = 0; q < d->width[g]; ++q) {
                const ptrdiff_t at = ((ptrdiff_t)(d->first[g] + q) * n_l + l) * MLPOT_LANES + lane;
                w->u[at] = fp[l * d->width[g] + q] - l * inverse * f[l * d->width[g] + q];
                w->v[at] = inverse * f[l * d->width[g] + q];
            }
        }
    }
}

/* a = sum_m c Y, b = sum_m c grad R, of the channels of elements that are there */
MLPOT_INLINE void contract_harmonics(const mlpot_density *d, const char *present, const double *c,
                                     const mlpot_vector *ylm, const mlpot_vector *grad, jacobian_memory *w)
{
    const int n_l = d->l_max + 1;
    mlpot_vector *a = (mlpot_vector *)w->a, *b = (mlpot_vector *)w->b;
    for (int g = 0; g < d->n_groups; ++g) {
        if (!present[g]) continue;
        for (int q = d->first[g]; q < d->first[g] + d->width[g]; ++q) {
            for (int l = 0; l < n_l; ++l) {
                mlpot_vector sum = {0}, x = {0}, y = {0}, z = {0};
                for (int lm = l * l; lm < (l + 1) * (l + 1); ++lm) {
                    const double value = c[(ptrdiff_t)q * mlpot_n_harmonics(d) + lm];
                    sum += value * ylm[lm];
                    x += value * grad[3 * lm];
                    y += value * grad[3 * lm + 1];
                    z += value * grad[3 * lm + 2];
                }
                const ptrdiff_t at = (ptrdiff_t)q * n_l + l;
                a[at] = sum;
                b[3 * at] = x;
                b[3 * at + 1] = y;
                b[3 * at + 2] = z;
            }
        }
    }
}

/* rows (feature, direction) of the raw features, of as many neighbours as there are lanes */
MLPOT_INLINE void feature_gradients(const mlpot_density *d, const active_features *active, const mlpot_vector *unit,
                                    const jacobian_memory *w)
{
    const int n_l = d->l_max + 1;
    const mlpot_vector *u = (const mlpot_vector *)w->u, *v = (const mlpot_vector *)w->v;
    const mlpot_vector *a = (const mlpot_vector *)w->a, *b = (const mlpot_vector *)w->b;
    const int n_contracted = mlpot_n_contracted(d);
    mlpot_vector *out = (mlpot_vector *)w->columns + 3 * n_contracted;
    for (int k = n_contracted; k < active->n; ++k, out += 3) {
        const int f = active->which[k] - n_contracted;
        if (f == d->n_spectrum) { /* the constant */
            out[0] = out[1] = out[2] = (mlpot_vector){0};
            continue;
        }
        const ptrdiff_t p = (ptrdiff_t)d->channel_a[f] * n_l + d->degree[f];
        const ptrdiff_t q = (ptrdiff_t)d->channel_b[f] * n_l + d->degree[f];
        const mlpot_vector radial = u[p] * a[q] + u[q] * a[p];
        for (int x = 0; x < 3; ++x)
            out[x] = d->coupling[f] * (radial * unit[x] + v[p] * b[3 * q + x] + v[q] * b[3 * p + x]);
    }
}

/* dA/dr = u Y rhat + v grad R of one mixed density */
MLPOT_INLINE void mixed_gradients(const mlpot_density *d, int mixed, const mlpot_vector *unit, const mlpot_vector *ylm,
                                  const mlpot_vector *grad, const jacobian_memory *w)
{
    const mlpot_contractions *t = d->contractions;
    const mlpot_vector *u = (const mlpot_vector *)w->u, *v = (const mlpot_vector *)w->v;
    mlpot_vector *out = (mlpot_vector *)w->mixed;
    for (int l = 0; l <= t->l_max; ++l) {
        const double *share = t->shares + (ptrdiff_t)(l * t->n_mixed + mixed) * d->n_channels;
        mlpot_vector along = {0}, across = {0};
        for (int q = 0; q < d->n_channels; ++q) {
            along += share[q] * u[(ptrdiff_t)q * (d->l_max + 1) + l];
            across += share[q] * v[(ptrdiff_t)q * (d->l_max + 1) + l];
        }
        for (int lm = l * l; lm < (l + 1) * (l + 1); ++lm)
            for (int x = 0; x < 3; ++x) out[3 * lm + x] = along * ylm[lm] * unit[x] + across * grad[3 * lm + x];
    }
}

/* rows of the contractions; `slopes` are those of one centre, MLPOT_LANES apart */
MLPOT_INLINE void contraction_gradients(const mlpot_density *d, const double *slopes, const mlpot_vector *unit,
                                        const mlpot_vector *ylm, const mlpot_vector *grad, const jacobian_memory *w)
{
    const mlpot_contractions *t = d->contractions;
    const mlpot_vector *of_mixed = (const mlpot_vector *)w->mixed;
    mlpot_vector *out = (mlpot_vector *)w->columns;
    for (int f = 0, mixed = -1; f < mlpot_n_contracted(d); ++f, out += 3) {
        if (t->mixed[f] != mixed) mixed_gradients(d, mixed = t->mixed[f], unit, ylm, grad, w);
        mlpot_vector sum[3] = {{0}, {0}, {0}};
        for (int row = t->rows[t->invariant[f]]; row < t->rows[t->invariant[f] + 1]; ++row, slopes += MLPOT_LANES)
            for (int x = 0; x < 3; ++x) sum[x] += *slopes * of_mixed[3 * t->variable[row] + x];
        for (int x = 0; x < 3; ++x) out[x] = sum[x];
    }
}

/* from raw to normalised features p: (J - p (p.J)) / |p|; p is a column (n_features, MLPOT_PANEL), the constant stays as it is */
MLPOT_INLINE void project(int n_invariants, const active_features *active, const double *p, double norm, double *columns)
{
    const double inverse = norm > 0.0 ? 1.0 / norm : 0.0;
    mlpot_vector along[3] = {{0}, {0}, {0}}, *j = (mlpot_vector *)columns;
    for (ptrdiff_t k = 0; k < active->n; ++k) {
        const double feature = p[(ptrdiff_t)active->which[k] * MLPOT_PANEL];
        for (int x = 0; x < 3; ++x) along[x] += feature * j[3 * k + x];
    }
    for (ptrdiff_t k = 0; k < active->n; ++k) {
        const double feature = active->which[k] < n_invariants ? p[(ptrdiff_t)active->which[k] * MLPOT_PANEL] : 0.0;
        for (int x = 0; x < 3; ++x) j[3 * k + x] = inverse * (j[3 * k + x] - feature * along[x]);
    }
}

/* The Jacobian of neighbours k, k + 1, ... of the centre in hand -> w->columns; `slopes` its dB/dA, MLPOT_LANES apart. */
static void neighbour_columns(const mlpot_density *d, const scratch *s, const char *present,
                              const active_features *active, const double *slopes, int k, const double *features,
                              double norm, jacobian_memory *w)
{
    const ptrdiff_t group = k / MLPOT_LANES, n_lm = mlpot_n_harmonics(d);
    const mlpot_vector *ylm = (const mlpot_vector *)s->ylm + group * n_lm;
    const mlpot_vector *grad = (const mlpot_vector *)s->grad + group * 3 * n_lm;
    const mlpot_vector *unit = (const mlpot_vector *)s->unit + 3 * group;
    radial_lanes(d, s, k, w);
    contract_harmonics(d, present, s->c, ylm, grad, w);
    contraction_gradients(d, slopes, unit, ylm, grad, w);
    feature_gradients(d, active, unit, w);
    project(mlpot_n_invariants(d), active, features, norm, w->columns);
}
