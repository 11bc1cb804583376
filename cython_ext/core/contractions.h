/* Contractions of more than two densities of MLPOT_LANES centres at once (lanes are centres). Values come from the monomials,
 * each once; the pullback of a known cotangent adds up dB/dA row by row, which is kept only where an ensemble or the rows of a
 * fit need it. */
#pragma once
#include "scratch.h"

typedef struct {
    mlpot_vector *mixed;     /* (n_mixed, n_lm) A of the current centres */
    mlpot_vector *dmixed;    /* (n_mixed, n_lm) dE/dA */
    mlpot_vector *nodes;     /* (n_nodes) of one mixed density */
    mlpot_vector *slopes;    /* scaled dB/dA, rows of all features in sequence */
    double *coefficient;     /* (n_entries) of the monomials whose row is their last variable, else 0: values */
    int32_t *node;           /* (n_entries) theirs, those of a row side by side */
    int32_t *end;            /* (n_rows) end of the row's monomials, which begin with its entries */
} contraction_memory;

static int n_orders(const mlpot_contractions *t) { return (t->l_max + 1) * (t->l_max + 1); }

static int n_slopes(const mlpot_contractions *t)
{
    int n = 0;
    for (int f = 0; f < t->n_features; ++f) n += t->rows[t->invariant[f] + 1] - t->rows[t->invariant[f]];
    return n;
}

/* Ends of the tables: invariants are counted by the features. */
static int n_invariants(const mlpot_contractions *t)
{
    int n = 0;
    for (int f = 0; f < t->n_features; ++f)
        if (t->invariant[f] >= n) n = t->invariant[f] + 1;
    return n;
}

static size_t contraction_size(const mlpot_contractions *t)
{
    if (!t) return 0;
    const size_t n_rows = t->rows[n_invariants(t)], n_entries = t->entries[n_rows];
    return MLPOT_LANES * (size_t)(2 * t->n_mixed * n_orders(t) + t->n_nodes + n_slopes(t)) + 2 * n_entries + n_rows
           + t->n_nodes + 4 * 8;
}

/* A monomial is in the row of each of its variables; values take it from the row of the last one, divided by its power there.
 * `last` and `power` (n_nodes) are work memory: the last variable of a node. */
static void choose_monomials(const mlpot_contractions *t, int32_t *last, int32_t *power, contraction_memory *w)
{
    const int n_lm = n_orders(t), n_rows = t->rows[n_invariants(t)];
    for (int k = 0; k < t->n_nodes; ++k) {
        const int left = k < n_lm ? k : t->left[k - n_lm], right = k < n_lm ? k : t->right[k - n_lm];
        last[k] = k < n_lm ? k : last[left] > last[right] ? last[left] : last[right];
        power[k] = k < n_lm ? 1 : (last[left] == last[k] ? power[left] : 0) + (last[right] == last[k] ? power[right] : 0);
    }
    for (int row = 0; row < n_rows; ++row) {
        int to = t->entries[row];
        for (int e = t->entries[row]; e < t->entries[row + 1]; ++e) {
            const int k = t->node[e], x = t->variable[row];
            if (last[k] > x) continue;
            w->node[to] = k;
            w->coefficient[to++] = t->coefficient[e] / (last[k] == x ? power[k] + 1 : 1);
        }
        w->end[row] = to;
    }
}

static void contraction_place(const mlpot_contractions *t, double *memory, contraction_memory *w)
{
    w->mixed = w->dmixed = w->nodes = w->slopes = (mlpot_vector *)memory;
    if (!t) return;
    w->dmixed = w->mixed + t->n_mixed * n_orders(t);
    w->nodes = w->dmixed + t->n_mixed * n_orders(t);
    w->slopes = w->nodes + t->n_nodes;
    const size_t n_rows = t->rows[n_invariants(t)], n_entries = t->entries[n_rows];
    w->coefficient = (double *)(w->slopes + n_slopes(t));
    w->node = (int32_t *)(w->coefficient + n_entries);
    w->end = w->node + lines(n_entries);
    int32_t *work = w->end + lines(n_rows);
    choose_monomials(t, work, work + t->n_nodes, w);
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

/* Value of the invariant of one feature, over its scale. */
MLPOT_INLINE mlpot_vector invariant_value(const mlpot_contractions *t, int f, const contraction_memory *w)
{
    mlpot_vector value = {0};
    for (int row = first_row(t, f); row < end_row(t, f); ++row) {
        mlpot_vector sum = {0};
        if (w->end[row] == t->entries[row]) continue;
        for (int e = t->entries[row]; e < w->end[row]; ++e) sum += w->coefficient[e] * w->nodes[w->node[e]];
        value += w->nodes[t->variable[row]] * sum;
    }
    return value;
}

/* Features (n_features, MLPOT_PANEL) of these centres. */
static void contract(const mlpot_density *d, const double *c_lanes, contraction_memory *w, double *features)
{
    const mlpot_contractions *t = d->contractions;
    if (!t) return;
    mix_densities(d, c_lanes, w);
    for (int f = 0, mixed = -1; f < t->n_features; ++f) {
        if (t->mixed[f] != mixed) fill_nodes(t, mixed = t->mixed[f], w);
        *(mlpot_vector *)(features + (ptrdiff_t)f * MLPOT_PANEL) = t->scale[f] * invariant_value(t, f, w);
    }
}

/* Pullback of the cotangent (n_features, MLPOT_PANEL), ADDED to dc_lanes. */
static void contract_vjp(const mlpot_density *d, const double *c_lanes, const double *cotangent, contraction_memory *w,
                         double *dc_lanes)
{
    const mlpot_contractions *t = d->contractions;
    if (!t) return;
    mix_densities(d, c_lanes, w);
    memset(w->dmixed, 0, sizeof(mlpot_vector) * t->n_mixed * n_orders(t));
    for (int f = 0, mixed = -1; f < t->n_features; ++f) {
        if (t->mixed[f] != mixed) fill_nodes(t, mixed = t->mixed[f], w);
        mlpot_vector *da = w->dmixed + mixed * n_orders(t);
        const mlpot_vector weight = t->scale[f] * *(const mlpot_vector *)(cotangent + (ptrdiff_t)f * MLPOT_PANEL);
        for (int row = first_row(t, f); row < end_row(t, f); ++row) da[t->variable[row]] += weight * row_slope(t, row, w->nodes);
    }
    mix_densities_vjp(d, w, dc_lanes);
}
