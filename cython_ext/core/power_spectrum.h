/* Power spectrum of MLPOT_LANES centres at once (lanes are centres), its normalisation, and their pullbacks: features
 * and cotangent point at the centres' lanes in a panel, (n_features, MLPOT_PANEL). */
#pragma once
#include "vectors.h"

static void power_spectrum(const mlpot_density *d, const double *c_lanes, double *features)
{
    const mlpot_vector *c = (const mlpot_vector *)c_lanes;
    const ptrdiff_t n_lm = mlpot_n_harmonics(d);
    for (int f = 0; f < d->n_spectrum; ++f, features += MLPOT_PANEL) {
        const int l = d->degree[f];
        const mlpot_vector *a = c + d->channel_a[f] * n_lm + l * l, *b = c + d->channel_b[f] * n_lm + l * l;
        mlpot_vector sum = a[0] * b[0];
        for (int m = 1; m < 2 * l + 1; ++m) sum += a[m] * b[m];
        *(mlpot_vector *)features = d->coupling[f] * sum;
    }
    if (d->constant > 0.0) *(mlpot_vector *)features = (mlpot_vector){0} + d->constant;
}

static void power_spectrum_vjp(const mlpot_density *d, const double *c_lanes, const double *cotangent, double *dc_lanes)
{
    const mlpot_vector *c = (const mlpot_vector *)c_lanes;
    mlpot_vector *dc = (mlpot_vector *)dc_lanes;
    const ptrdiff_t n_lm = mlpot_n_harmonics(d);
    memset(dc_lanes, 0, sizeof(mlpot_vector) * d->n_channels * n_lm);
    for (int f = 0; f < d->n_spectrum; ++f, cotangent += MLPOT_PANEL) {
        const int l = d->degree[f];
        const ptrdiff_t a = d->channel_a[f] * n_lm + l * l, b = d->channel_b[f] * n_lm + l * l;
        const mlpot_vector w = d->coupling[f] * *(const mlpot_vector *)cotangent;
        if (a == b) {
            for (int m = 0; m < 2 * l + 1; ++m) dc[a + m] += 2.0 * w * c[a + m];
            continue;
        }
        for (int m = 0; m < 2 * l + 1; ++m) dc[a + m] += w * c[b + m];
        for (int m = 0; m < 2 * l + 1; ++m) dc[b + m] += w * c[a + m];
    }
}

/* An atom without any density (no neighbours and central_weight = 0) keeps zero features. */
static void normalise(int n_invariants, double *features, double *norms)
{
    mlpot_vector squares = {0}, inverse = {0};
    for (ptrdiff_t f = 0; f < n_invariants; ++f) {
        const mlpot_vector v = *(mlpot_vector *)(features + f * MLPOT_PANEL);
        squares += v * v;
    }
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        norms[lane] = sqrt(squares[lane]);
        inverse[lane] = norms[lane] > 0.0 ? 1.0 / norms[lane] : 0.0;
    }
    for (ptrdiff_t f = 0; f < n_invariants; ++f) *(mlpot_vector *)(features + f * MLPOT_PANEL) *= inverse;
}

/* d/dp of h(p/|p|): (g - p (p.g)) / |p| with p normalised. */
static void normalise_vjp(int n_invariants, const double *features, const double *norms, double *cotangent)
{
    mlpot_vector overlap = {0}, inverse = {0};
    for (ptrdiff_t f = 0; f < n_invariants; ++f)
        overlap += *(const mlpot_vector *)(features + f * MLPOT_PANEL) * *(mlpot_vector *)(cotangent + f * MLPOT_PANEL);
    for (int lane = 0; lane < MLPOT_LANES; ++lane) inverse[lane] = norms[lane] > 0.0 ? 1.0 / norms[lane] : 0.0;
    for (ptrdiff_t f = 0; f < n_invariants; ++f) {
        mlpot_vector *g = (mlpot_vector *)(cotangent + f * MLPOT_PANEL);
        *g = (*g - *(const mlpot_vector *)(features + f * MLPOT_PANEL) * overlap) * inverse;
    }
}
