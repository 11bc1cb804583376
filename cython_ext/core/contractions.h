/* Contractions of more than two densities of MLPOT_LANES centres at once (lanes are centres). Only dB/dA is
 * computed: the value is sum_x A_x dB/dA_x / degree, and the pullback is its product with a cotangent. */
#pragma once
#include "scratch.h"

typedef struct {
    mlpot_vector *mixed;     /* (n_mixed, n_lm) A of the current centres */
    mlpot_vector *dmixed;    /* (n_mixed, n_lm) dE/dA */
    mlpot_vector *nodes;     /* (n_nodes) of one mixed density */
    mlpot_vector *slopes;    /* scaled dB/dA, rows of all features in sequence */
} contraction_memory;

static int n_orders(const mlpot_contractions *t) { return (t->l_max + 1) * (t->l_max + 1); }

static int n_slopes(const mlpot_contractions *t)
{
    int n = 0;
    for (int f = 0; f < t->n_features; ++f) n += t->rows[t->invariant[f] + 1] - t->rows[t->invariant[f]];
    return n;
}

static size_t contraction_size(const mlpot_contractions *t)
{
    return t ? MLPOT_LANES * (size_t)(2 * t->n_mixed * n_orders(t) + t->n_nodes + n_slopes(t)) : 0;
}

static void contraction_place(const mlpot_contractions *t, double *memory, contraction_memory *w)
{
    w->mixed = w->dmixed = w->nodes = w->slopes = (mlpot_vector *)memory;
    if (!t) return;
    w->dmixed = w->mixed + t->n_mixed * n_orders(t);
    w->nodes = w->dmixed + t->n_mixed * n_orders(t);
    w->slopes = w->nodes + t->n_nodes;
}

/* A = shares c */
static void mix_densities(const mlpot_density *d, const double *c_lanes, contraction_memory *w)
{
    const mlpot_contractions *t = d->contractions;
    const mlpot_vector *c = (const mlpot_vector *)c_lanes;
    const double *share = t->shares;
    memset(w->mixed, 0, sizeof(mlpot_vector) * t->n_mixed * n_orders(t));
    for (int l = 0; l <= t->l_max; ++l)
        for (int s = 0; s < t->n_mixed; ++s, share += d->n_channels)
            for (int q = 0; q < d->n_channels; ++q) {
                if (share[q] == 0.0) continue;
                mlpot_vector *a = w->mixed + s * n_orders(t);
                for (int lm = l * l; lm < (l + 1) * (l + 1); ++lm) a[lm] += share[q] * c[(ptrdiff_t)q * mlpot_n_harmonics(d) + lm];
            }
}

/* dc += shares' dA */
static void mix_densities_vjp(const mlpot_density *d, const contraction_memory *w, double *dc_lanes)
{
    const mlpot_contractions *t = d->contractions;
    mlpot_vector *dc = (mlpot_vector *)dc_lanes;
    const double *share = t->shares;
    for (int l = 0; l <= t->l_max; ++l)
        for (int s = 0; s < t->n_mixed; ++s, share += d->n_channels)
            for (int q = 0; q < d->n_channels; ++q) {
                if (share[q] == 0.0) continue;
                const mlpot_vector *a = w->dmixed + s * n_orders(t);
                for (int lm = l * l; lm < (l + 1) * (l + 1); ++lm) dc[(ptrdiff_t)q * mlpot_n_harmonics(d) + lm] += share[q] * a[lm];
            }
}

/* Products of one mixed density. */
static void fill_nodes(const mlpot_contractions *t, int mixed, contraction_memory *w)
{
    const int n_lm = n_orders(t);
    memcpy(w->nodes, w->mixed + mixed * n_lm, sizeof(mlpot_vector) * n_lm);
    for (int k = n_lm; k < t->n_nodes; ++k) w->nodes[k] = w->nodes[t->left[k - n_lm]] * w->nodes[t->right[k - n_lm]];
}

/* dB/dA of one row. */
MLPOT_INLINE mlpot_vector row_slope(const mlpot_contractions *t, int row, const mlpot_vector *nodes)
{
    mlpot_vector sum = {0};
    for (int e = t->entries[row]; e < t->entries[row + 1]; ++e) sum += t->coefficient[e] * nodes[t->node[e]];
    return sum;
}

static int first_row(const mlpot_contractions *t, int f) { return t->rows[t->invariant[f]]; }
static int end_row(const mlpot_contractions *t, int f) { return t->rows[t->invariant[f] + 1]; }

/* A and scaled dB/dA of these centres -> w->mixed, w->slopes */
static void contraction_slopes(const mlpot_density *d, const double *c_lanes, contraction_memory *w)
{
    const mlpot_contractions *t = d->contractions;
    if (!t) return;
    mlpot_vector *slope = w->slopes;
    mix_densities(d, c_lanes, w);
    for (int f = 0, mixed = -1; f < t->n_features; ++f) {
        if (t->mixed[f] != mixed) fill_nodes(t, mixed = t->mixed[f], w);
        for (int row = first_row(t, f); row < end_row(t, f); ++row) *slope++ = t->scale[f] * row_slope(t, row, w->nodes);
    }
}

/* Features (n_features, MLPOT_PANEL) of these centres. */
static void contract(const mlpot_density *d, const double *c_lanes, contraction_memory *w, double *features)
{
    const mlpot_contractions *t = d->contractions;
    if (!t) return;
    contraction_slopes(d, c_lanes, w);
    const mlpot_vector *slope = w->slopes;
    for (int f = 0; f < t->n_features; ++f) {
        const mlpot_vector *a = w->mixed + t->mixed[f] * n_orders(t);
        mlpot_vector sum = {0};
        for (int row = first_row(t, f); row < end_row(t, f); ++row) sum += a[t->variable[row]] * *slope++;
        *(mlpot_vector *)(features + (ptrdiff_t)f * MLPOT_PANEL) = sum / (double)t->degree[t->invariant[f]];
    }
}

/* Pullback, ADDED to dc_lanes; w->slopes must belong to these centres. */
static void contract_vjp(const mlpot_density *d, const double *cotangent, contraction_memory *w, double *dc_lanes)
{
    const mlpot_contractions *t = d->contractions;
    if (!t) return;
    const mlpot_vector *slope = w->slopes;
    memset(w->dmixed, 0, sizeof(mlpot_vector) * t->n_mixed * n_orders(t));
    for (int f = 0; f < t->n_features; ++f) {
        mlpot_vector *da = w->dmixed + t->mixed[f] * n_orders(t);
        const mlpot_vector weight = *(const mlpot_vector *)(cotangent + (ptrdiff_t)f * MLPOT_PANEL);
        for (int row = first_row(t, f); row < end_row(t, f); ++row) da[t->variable[row]] += weight * *slope++;
    }
    mix_densities_vjp(d, w, dc_lanes);
}
