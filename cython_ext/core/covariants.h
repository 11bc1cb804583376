/* Covariants of two densities, and the pullback of the expansion for several outputs. Lanes are channels. */
#pragma once
#include "expansion.h"

/* Every run couples `length` pairs of channels: a[k] = a + k * step and b[k] = b + k, to features first, first + 1, ... */
typedef struct {
    const int32_t *entries;
    int n_entries, length;
    const double *values, *scale;
    const double *a, *b; /* coefficients (n_harmonics, n_channels) from channels a and b on */
    ptrdiff_t step, a_offset, b_offset, first;
} coupled_run;

MLPOT_INLINE coupled_run run_of(const mlpot_covariants *t, int run, const double *c)
{
    const int32_t *r = t->runs + 6 * (ptrdiff_t)run;
    const int begin = t->couplings[r[0]];
    return (coupled_run){t->entries + 3 * (ptrdiff_t)begin, t->couplings[r[0] + 1] - begin, r[4], t->values + begin,
                         t->scale + r[5], c + r[1], c + r[2], r[3], r[1], r[2], r[5]};
}

/* out (2 lambda + 1, n_features) of one centre */
static void covariants_of_centre(const mlpot_covariants *t, const double *c, double *out)
{
    memset(out, 0, sizeof(double) * (2 * t->order + 1) * (size_t)t->n_features);
    for (int run = 0; run < t->n_runs; ++run) {
        const coupled_run r = run_of(t, run, c);
        for (int e = 0; e < r.n_entries; ++e) {
            const int32_t *entry = r.entries + 3 * e;
            const double value = r.values[e];
            const double *a = r.a + (ptrdiff_t)entry[1] * t->n_channels, *b = r.b + (ptrdiff_t)entry[2] * t->n_channels;
            double *q = out + entry[0] * (ptrdiff_t)t->n_features + r.first;
            if (r.step)
                for (int k = 0; k < r.length; ++k) q[k] += value * a[k] * b[k];
            else
                for (int k = 0; k < r.length; ++k) q[k] += value * a[0] * b[k];
        }
        for (int m = 0; m < 2 * t->order + 1; ++m)
            for (int k = 0; k < r.length; ++k) out[m * (ptrdiff_t)t->n_features + r.first + k] *= r.scale[k];
    }
}

/* dc (n_harmonics, n_channels) += d (sum_f cotangent_f q[row, f]) / dc */
static void covariant_row_vjp(const mlpot_covariants *t, const double *c, int row, const double *cotangent, double *dc)
{
    for (int run = 0; run < t->n_runs; ++run) {
        const coupled_run r = run_of(t, run, c);
        const double *g = cotangent + r.first;
        for (int e = 0; e < r.n_entries; ++e) {
            const int32_t *entry = r.entries + 3 * e;
            if (entry[0] != row) continue;
            const double value = r.values[e];
            const ptrdiff_t at_a = (ptrdiff_t)entry[1] * t->n_channels, at_b = (ptrdiff_t)entry[2] * t->n_channels;
            const double *a = r.a + at_a, *b = r.b + at_b;
            double *da = dc + at_a + r.a_offset, *db = dc + at_b + r.b_offset;
            if (r.step) {
                for (int k = 0; k < r.length; ++k) da[k] += value * r.scale[k] * g[k] * b[k];
                for (int k = 0; k < r.length; ++k) db[k] += value * r.scale[k] * g[k] * a[k];
            } else {
                double sum = 0.0;
                for (int k = 0; k < r.length; ++k) sum += r.scale[k] * g[k] * b[k];
                for (int k = 0; k < r.length; ++k) db[k] += value * a[0] * r.scale[k] * g[k];
                da[0] += value * sum;
            }
        }
    }
}

static int covariants(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_threads, double *out)
{
    const int64_t size = (int64_t)(t->l_max + 1) * (t->l_max + 1) * t->n_channels;
    const int64_t n_values = (int64_t)(2 * t->order + 1) * t->n_features;
#pragma omp parallel for schedule(static) num_threads(team(n_threads, BLOCKS(n_centres, MLPOT_FEW)))
    for (int64_t k = 0; k < n_centres; ++k) covariants_of_centre(t, c + k * size, out + k * n_values);
    return 0;
}

static int covariants_vjp(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_out, int is_shared,
                          const double *cotangent, int n_threads, double *dc)
{
    const int64_t size = (int64_t)(t->l_max + 1) * (t->l_max + 1) * t->n_channels;
#pragma omp parallel for schedule(static) num_threads(team(n_threads, BLOCKS(n_centres, MLPOT_FEW)))
    for (int64_t k = 0; k < n_centres; ++k)
        for (int out = 0; out < n_out; ++out)
            covariant_row_vjp(t, c + k * size, t->order ? out : 0,
                              cotangent + (is_shared ? k : k * n_out + out) * (int64_t)t->n_features,
                              dc + (k * n_out + out) * size);
    return 0;
}

static int expand_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                      const int32_t *centres, int n_out, const double *dc, int n_threads, double *pair_gradients)
{
    const int64_t size = (int64_t)mlpot_n_harmonics(d) * d->n_channels, n_pairs = p->offsets[n_atoms];
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_centres, MLPOT_FEW))) reduction(min : failed)
    {
        scratch s;
        failed = scratch_create(d, p, n_atoms, &s);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < n_centres; ++k) {
            if (failed) continue;
            gather_neighbours(d, p, centres[k], &s);
            harmonics_gradients(d->harmonics, d->l_max, s.n, s.unit, s.ylm, s.grad);
            radial_slopes(d, p, &s);
            for (int out = 0; out < n_out; ++out) {
                memcpy(s.c, dc + (k * n_out + out) * size, sizeof(double) * size); /* aligned */
                neighbour_gradients(d, &s, s.c, pair_gradients + 3 * out * n_pairs);
            }
        }
        if (!failed) scratch_free(&s);
    }
    return failed;
}
