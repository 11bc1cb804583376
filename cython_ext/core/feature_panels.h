/* Features of a panel of centres from maps of sums, and back. Lanes are centres, or members of an ensemble of some centres; what is
 * summed for each centre stands in rows. */
#pragma once
#include "feature_sources.h"
#include "member_block.h"

/* Work memory of one thread. */
typedef struct {
    source_memory *sources;  /* (n_sources) */
    int n_created;
    int n_outputs;           /* pullbacks of every centre: of the energy, and of the members */
    double *values;          /* (n_values, MLPOT_PANEL) sums, or their cotangents */
    double *rows;            /* (n_outputs, MLPOT_PANEL, n_values) the same, centre by centre */
} panel_memory;

static void panel_free(const mlpot_feature_map *f, panel_memory *w)
{
    while (w->n_created) {
        --w->n_created;
        source_free(f->sources + w->n_created, w->sources + w->n_created);
    }
    free(w->sources);
    free(w->values);
}

static int panel_create(const mlpot_feature_map *f, const mlpot_pairs *p, int64_t n_atoms, int n_outputs, panel_memory *w)
{
    const size_t panel = (size_t)f->n_values * MLPOT_PANEL;
    w->n_created = 0;
    w->n_outputs = n_outputs;
    w->sources = malloc(sizeof *w->sources * (size_t)f->n_sources);
    w->values = aligned(panel * (size_t)(1 + n_outputs));
    w->rows = w->values + panel;
    int failed = !w->sources || !w->values;
    for (int s = 0; s < f->n_sources && !failed; ++s) {
        failed = source_create(f->sources + s, p, n_atoms, w->sources + s);
        if (!failed) ++w->n_created;
    }
    if (failed) panel_free(f, w);
    return failed ? -1 : 0;
}

/* Sums of n centres -> w->values; idle lanes are 0. */
static void panel_sums(const mlpot_feature_map *f, const mlpot_pairs *p, int n, const int32_t *centres, panel_memory *w)
{
    double *rows = w->rows;
    for (int s = 0; s < f->n_sources; rows += mlpot_n_values(f->sources + s++)) {
        const int step = centres_at_once(f->sources + s);
        for (int k = 0; k < n; k += step)
            source_values(f->sources + s, p, centres + k, n - k < step ? n - k : step, w->sources + s,
                          rows + (ptrdiff_t)k * f->n_values, f->n_values);
    }
    for (ptrdiff_t v = 0; v < f->n_values; ++v)
        for (int k = 0; k < MLPOT_PANEL; ++k) w->values[v * MLPOT_PANEL + k] = k < n ? w->rows[(ptrdiff_t)k * f->n_values + v] : 0.0;
}

/* w->values -> features (n_mapped, MLPOT_PANEL), not normalised */
static void map_panel(const mlpot_feature_map *f, const panel_memory *w, double *features)
{
    for (ptrdiff_t row = 0; row < f->n_features; ++row)
        for (int k = 0; k < MLPOT_PANEL; k += MLPOT_LANES) {
            mlpot_vector sum = (mlpot_vector){0} + f->shift[row];
            for (int e = f->rows[row]; e < f->rows[row + 1]; ++e)
                sum += f->coefficients[e] * *(const mlpot_vector *)(w->values + (ptrdiff_t)f->columns[e] * MLPOT_PANEL + k);
            *(mlpot_vector *)(features + row * MLPOT_PANEL + k) = sum;
        }
    for (int k = 0; k < MLPOT_PANEL && f->offset > 0.0; ++k) features[(ptrdiff_t)f->n_features * MLPOT_PANEL + k] = f->offset;
}

/* Cotangents of features (n_features, MLPOT_PANEL) -> of sums, in w->values */
static void unmap_panel(const mlpot_feature_map *f, const double *cotangent, panel_memory *w)
{
    memset(w->values, 0, sizeof(double) * f->n_values * MLPOT_PANEL);
    for (ptrdiff_t row = 0; row < f->n_features; ++row)
        for (int e = f->rows[row]; e < f->rows[row + 1]; ++e) {
            double *to = w->values + (ptrdiff_t)f->columns[e] * MLPOT_PANEL;
            for (int k = 0; k < MLPOT_PANEL; k += MLPOT_LANES)
                *(mlpot_vector *)(to + k) += f->coefficients[e] * *(const mlpot_vector *)(cotangent + row * MLPOT_PANEL + k);
        }
}

/* Column `lane` of w->values is the cotangent of an output of a centre of the panel. */
static void to_row(const mlpot_feature_map *f, int lane, int output, int centre, panel_memory *w)
{
    double *row = w->rows + (ptrdiff_t)(output * MLPOT_PANEL + centre) * f->n_values;
    for (ptrdiff_t v = 0; v < f->n_values; ++v) row[v] = w->values[v * MLPOT_PANEL + lane];
}

/* Rows of cotangents of n centres, through all sources, ADDED to the gradients of the energy, and those of the members -> their block. */
static void pull_back_panel(const mlpot_feature_map *f, const mlpot_pairs *p, int n, const int32_t *centres, panel_memory *w,
                            double *pair_gradients, member_block *members)
{
    const double *rows = w->rows;
    int64_t shift[MLPOT_PANEL];
    if (w->n_outputs > 1) {
        member_block_begin(members);
        member_block_place(p, n, centres, shift, members);
    }
    for (int s = 0; s < f->n_sources; rows += mlpot_n_values(f->sources + s++)) {
        const int step = centres_at_once(f->sources + s);
        for (int k = 0; k < n; k += step) {
            const int count = n - k < step ? n - k : step;
            place_source(f->sources + s, p, centres + k, count, w->sources + s);
            for (int output = 0; output < w->n_outputs; ++output) {
                const pair_sink to = {output ? NULL : pair_gradients, output ? members->gradients + output - 1 : NULL, shift + k};
                pull_back_source(f->sources + s, count, rows + (ptrdiff_t)(output * MLPOT_PANEL + k) * f->n_values, f->n_values,
                                 w->sources + s, &to);
            }
        }
    }
    for (int k = 0; w->n_outputs > 1 && k < n; ++k) member_block_virial(p, k, members);
}
