/* Sums of curves and spectra of moments of one centre, and their pullback; lanes are neighbours, or columns where curves are
 * summed. */
#pragma once
#include "chebyshev_sums.h"
#include "harmonics.h"

typedef struct {
    shell_memory near;
    double *ylm, *grad;      /* as in scratch.h */
    double *curve, *slope;   /* (n_weights, n_angular, capacity) times the weight */
    double *c, *dc;          /* (n_groups, n_weights, n_coefficients) */
    double *row;             /* (n_columns) */
    double *weights;         /* (n_sum_weights, capacity) of the sums */
    double *padded;          /* (n_sum_weights, n_columns) cotangents of the sums of one group */
    mlpot_vector *partial;   /* (n_sum_weights, n_polynomials) */
    double *along;           /* (capacity) */
    double *memory;
} moments_memory;

static int moments_create(const mlpot_moments *t, const mlpot_pairs *p, int64_t n_atoms, moments_memory *w)
{
    if (shell_create(&t->shell, p, n_atoms, &w->near)) return -1;
    const size_t n = w->near.capacity, n_lm = (size_t)(t->l_max + 1) * (t->l_max + 1);
    const size_t channels = (size_t)t->n_weights * t->n_angular;
    const size_t columns = (size_t)w->near.n_columns, sums = (size_t)t->n_sum_weights;
    const size_t polynomials = sums * t->n_polynomials * MLPOT_LANES;
    const size_t n_c = lines((size_t)t->shell.n_groups * t->n_weights * t->n_coefficients);
    const size_t of_neighbours = n * (4 * n_lm + 2 * channels + sums + 1);
    double *memory = w->memory = aligned(of_neighbours + 2 * n_c + (1 + sums) * columns + polynomials);
    if (!memory) {
        free(w->near.memory);
        return -1;
    }
    w->ylm = memory;
    w->grad = memory += n * n_lm;
    w->curve = memory += 3 * n * n_lm;
    w->slope = memory += n * channels;
    w->c = memory += n * channels;
    w->dc = memory += n_c;
    w->row = memory += n_c;
    w->weights = memory += columns;
    w->padded = memory += sums * n;
    w->along = memory += sums * columns;
    w->partial = (mlpot_vector *)(memory + n);
    return 0;
}

static void moments_free(moments_memory *w)
{
    free(w->memory);
    free(w->near.memory);
}

/* Weights in the sums of every slot, (n_sum_weights, capacity). */
static void weigh_sums(const mlpot_moments *t, const shell_memory *s, double *out)
{
    for (int u = 0; u < t->n_sum_weights; ++u)
        weigh_slots(&t->shell, s, t->sum_weights + u, t->n_sum_weights, out + (ptrdiff_t)u * s->capacity);
}

/* `count` vectors of columns of neighbours begin..end, times their weights, at once */
MLPOT_INLINE void sum_columns(const int count, int begin, int end, const double *weight, const double *values, ptrdiff_t apart,
                              double *out)
{
    mlpot_vector sum[3];
    for (int n = 0; n < count; ++n) sum[n] = (mlpot_vector){0};
    for (int k = begin; k < end; ++k)
        for (int n = 0; n < count; ++n) sum[n] += weight[k] * ((const mlpot_vector *)(values + k * apart))[n];
    for (int n = 0; n < count; ++n) ((mlpot_vector *)out)[n] = sum[n];
}

/* Columns of curves that are summed one by one. */
MLPOT_INLINE int first_summed(const mlpot_moments *t) { return t->n_polynomials > 0; }
MLPOT_INLINE int n_plain(const mlpot_moments *t) { return t->n_summed - t->n_polynomials; }
MLPOT_INLINE int first_angular(const mlpot_moments *t) { return first_summed(t) + n_plain(t); }

static void sum_curves(const mlpot_moments *t, const shell_memory *s, moments_memory *w, double *sums)
{
    if (!t->n_summed) return;
    weigh_sums(t, s, w->weights);
    for (int g = 0; g < t->shell.n_groups; ++g, sums += (ptrdiff_t)t->n_sum_weights * t->n_summed) {
        const int begin = s->begin[g], end = begin + s->count[g];
        if (t->n_polynomials) sum_polynomials(t, s, begin, s->begin[g + 1], w->weights, w->partial, sums);
        for (int u = 0; u < t->n_sum_weights; ++u) {
            const double *weight = w->weights + (ptrdiff_t)u * s->capacity;
            const int columns = mlpot_round_up(first_angular(t), MLPOT_LANES);
            int n = 0;
            for (; n + 3 * MLPOT_LANES <= columns; n += 3 * MLPOT_LANES)
                sum_columns(3, begin, end, weight, s->values + n, s->n_columns, w->row + n);
            for (; n < columns; n += MLPOT_LANES)
                sum_columns(1, begin, end, weight, s->values + n, s->n_columns, w->row + n);
            memcpy(sums + (ptrdiff_t)u * t->n_summed + t->n_polynomials, w->row + first_summed(t), sizeof(double) * n_plain(t));
        }
    }
}

/* Curves of the moments, neighbours side by side, times every weight. */
static void weigh_curves(const mlpot_moments *t, const shell_memory *s, const double *rows, double *out)
{
    for (int u = 0; u < t->n_weights; ++u) {
        weigh_slots(&t->shell, s, t->weights + u, t->n_weights, s->weight);
        side_by_side(s, s->begin[t->shell.n_groups], rows, first_angular(t), t->n_angular, s->weight,
                     out + (ptrdiff_t)u * t->n_angular * s->capacity);
    }
}

/* `count` coefficients of one channel at once, so that their sums do not wait for each other. */
MLPOT_INLINE void sum_moments(const int count, int begin, int end, const double *curve, const double *ylm, ptrdiff_t n_lm,
                              double *c)
{
    mlpot_vector sum[8];
    for (int m = 0; m < count; ++m) sum[m] = (mlpot_vector){0};
    for (int k = begin; k < end; k += MLPOT_LANES) {
        const mlpot_vector f = *(const mlpot_vector *)(curve + k);
        const mlpot_vector *y = (const mlpot_vector *)(ylm + k * n_lm);
        for (int m = 0; m < count; ++m) sum[m] += f * y[m];
    }
    for (int m = 0; m < count; ++m) c[m] = sum_lanes(sum[m]);
}

static void expand_moments(const mlpot_moments *t, const shell_memory *s, moments_memory *w)
{
    const ptrdiff_t n_lm = (ptrdiff_t)(t->l_max + 1) * (t->l_max + 1);
    for (int b = 0; b < t->shell.n_groups * t->n_weights; ++b) {
        const int begin = s->begin[b / t->n_weights], end = s->begin[b / t->n_weights + 1];
        for (int e = 0; e < t->n_entries; ++e) {
            const int l = t->degree[e];
            const double *curve = w->curve + (ptrdiff_t)(b % t->n_weights * t->n_angular + t->column[e]) * s->capacity;
            const double *ylm = w->ylm + (ptrdiff_t)l * l * MLPOT_LANES;
            double *c = w->c + (ptrdiff_t)b * t->n_coefficients + t->place[e];
            int m = 0;
            for (; m + 8 <= 2 * l + 1; m += 8) sum_moments(8, begin, end, curve, ylm + m * MLPOT_LANES, n_lm, c + m);
            ylm += m * MLPOT_LANES;
            switch (2 * l + 1 - m) { /* what is left is an odd number */
            case 1: sum_moments(1, begin, end, curve, ylm, n_lm, c + m); break;
            case 3: sum_moments(3, begin, end, curve, ylm, n_lm, c + m); break;
            case 5: sum_moments(5, begin, end, curve, ylm, n_lm, c + m); break;
            default: sum_moments(7, begin, end, curve, ylm, n_lm, c + m);
            }
        }
    }
}

/* Whether a block has any neighbours. */
MLPOT_INLINE int is_present(const mlpot_moments *t, const shell_memory *s, int block)
{
    return s->count[block / t->n_weights] > 0;
}

static void spectra(const mlpot_moments *t, const moments_memory *w, double *out)
{
    for (int b = 0; b < t->n_products; ++b, out += t->n_entries) {
        const double *x = w->c + (ptrdiff_t)t->left[b] * t->n_coefficients;
        const double *y = w->c + (ptrdiff_t)t->right[b] * t->n_coefficients;
        const int absent = !is_present(t, &w->near, t->left[b]) || !is_present(t, &w->near, t->right[b]);
        for (int e = 0; e < t->n_entries; ++e) {
            double sum = 0.0;
            for (int m = t->place[e]; !absent && m <= t->place[e] + 2 * t->degree[e]; ++m) sum += x[m] * y[m];
            out[e] = sum;
        }
    }
}

static void spectra_vjp(const mlpot_moments *t, const double *cotangent, moments_memory *w)
{
    memset(w->dc, 0, sizeof(double) * t->shell.n_groups * t->n_weights * t->n_coefficients);
    for (int b = 0; b < t->n_products; ++b, cotangent += t->n_entries) {
        if (!is_present(t, &w->near, t->left[b]) || !is_present(t, &w->near, t->right[b])) continue;
        const ptrdiff_t x = (ptrdiff_t)t->left[b] * t->n_coefficients, y = (ptrdiff_t)t->right[b] * t->n_coefficients;
        for (int e = 0; e < t->n_entries; ++e)
            for (int m = t->place[e]; m <= t->place[e] + 2 * t->degree[e]; ++m) {
                w->dc[x + m] += cotangent[e] * w->c[y + m];
                w->dc[y + m] += cotangent[e] * w->c[x + m];
            }
    }
}

/* dE/dr of every neighbour through the sums -> w->along */
static void sum_slopes(const mlpot_moments *t, const double *cotangent, moments_memory *w)
{
    const shell_memory *s = &w->near;
    const ptrdiff_t size = (ptrdiff_t)t->n_sum_weights * s->n_columns;
    memset(w->along, 0, sizeof(double) * s->begin[t->shell.n_groups]);
    if (!t->n_summed) return;
    weigh_sums(t, s, w->weights);
    memset(w->padded, 0, sizeof(double) * size);
    const int columns = mlpot_round_up(first_angular(t), MLPOT_LANES);
    for (int g = 0; g < t->shell.n_groups; ++g, cotangent += (ptrdiff_t)t->n_sum_weights * t->n_summed) {
        for (int u = 0; u < t->n_sum_weights; ++u)
            memcpy(w->padded + (ptrdiff_t)u * s->n_columns + first_summed(t),
                   cotangent + (ptrdiff_t)u * t->n_summed + t->n_polynomials, sizeof(double) * n_plain(t));
        for (int k = s->begin[g]; k < s->begin[g] + s->count[g]; ++k) {
            mlpot_vector sum = {0};
            for (int n = 0; n < columns; n += MLPOT_LANES) {
                mlpot_vector total = {0};
                for (int u = 0; u < t->n_sum_weights; ++u)
                    total += w->weights[(ptrdiff_t)u * s->capacity + k]
                             * *(const mlpot_vector *)(w->padded + (ptrdiff_t)u * s->n_columns + n);
                sum += total * *(const mlpot_vector *)(s->slopes + (ptrdiff_t)k * s->n_columns + n);
            }
            w->along[k] = sum_lanes(sum);
        }
        if (t->n_polynomials) polynomial_slopes(t, s, s->begin[g], s->begin[g + 1], w->weights, cotangent, w->along);
    }
}

/* Degree l of entries first..end of MLPOT_LANES neighbours: sums[0] along, the others times 1 / distance. */
MLPOT_INLINE void degree_gradients(const mlpot_moments *t, const moments_memory *w, int group, int k, int first, int end,
                                   mlpot_vector *sums)
{
    const shell_memory *s = &w->near;
    const int l = t->degree[first], n_m = 2 * l + 1;
    const ptrdiff_t n_lm = (ptrdiff_t)(t->l_max + 1) * (t->l_max + 1);
    const mlpot_vector *ylm = (const mlpot_vector *)(w->ylm + k * n_lm) + l * l;
    const mlpot_vector *grad = (const mlpot_vector *)(w->grad + 3 * k * n_lm) + 3 * l * l;
    mlpot_vector total[2 * MLPOT_MAX_L + 1];
    for (int m = 0; m < n_m; ++m) total[m] = (mlpot_vector){0};
    for (int u = 0; u < t->n_weights; ++u)
        for (int e = first; e < end; ++e) {
            const ptrdiff_t at = (ptrdiff_t)(u * t->n_angular + t->column[e]) * s->capacity + k;
            const mlpot_vector f = *(const mlpot_vector *)(w->curve + at);
            const double *dc = w->dc + (ptrdiff_t)(group * t->n_weights + u) * t->n_coefficients + t->place[e];
            mlpot_vector a = {0};
            for (int m = 0; m < n_m; ++m) {
                a += dc[m] * ylm[m];
                total[m] += dc[m] * f;
            }
            sums[0] += a * (*(const mlpot_vector *)(w->slope + at) - (double)l * *(const mlpot_vector *)(s->inverse + k) * f);
        }
    for (int m = 0; m < n_m; ++m)
        for (int x = 0; x < 3; ++x) sums[x + 1] += total[m] * grad[3 * m + x];
}

static void moment_gradients(const mlpot_moments *t, moments_memory *w, const pair_sink *to)
{
    const shell_memory *s = &w->near;
    for (int g = 0; g < t->shell.n_groups; ++g)
        for (int k = s->begin[g]; k < s->begin[g + 1]; k += MLPOT_LANES) {
            mlpot_vector sums[4] = {*(const mlpot_vector *)(w->along + k), {0}, {0}, {0}};
            for (int first = 0, end; first < t->n_entries; first = end) {
                for (end = first + 1; end < t->n_entries && t->degree[end] == t->degree[first];) ++end;
                degree_gradients(t, w, g, k, first, end, sums);
            }
            add_slot_gradients(s, k, sums[0], sums[1], sums[2], sums[3], to);
        }
}

static void moments_of_centre(const mlpot_moments *t, const mlpot_pairs *p, int64_t centre, moments_memory *w, double *out)
{
    const shell_memory *s = &w->near;
    fill_shell(&t->shell, p, centre, 0, &w->near);
    sum_curves(t, s, w, out);
    if (!t->n_products) return;
    harmonics(t->harmonics, t->l_max, s->begin[t->shell.n_groups], s->unit, w->ylm);
    weigh_curves(t, s, s->values, w->curve);
    expand_moments(t, s, w);
    spectra(t, w, out + mlpot_n_sums(t));
}

/* What all pullbacks of a centre share. */
static void slopes_of_moments(const mlpot_moments *t, const mlpot_pairs *p, int64_t centre, moments_memory *w)
{
    const shell_memory *s = &w->near;
    fill_shell(&t->shell, p, centre, 1, &w->near);
    if (!t->n_products) return;
    harmonics_gradients(t->harmonics, t->l_max, s->begin[t->shell.n_groups], s->unit, w->ylm, w->grad);
    weigh_curves(t, s, s->values, w->curve);
    weigh_curves(t, s, s->slopes, w->slope);
    expand_moments(t, s, w);
}

static void pull_back_moments(const mlpot_moments *t, const double *cotangent, moments_memory *w, const pair_sink *to)
{
    if (t->n_products) spectra_vjp(t, cotangent + mlpot_n_sums(t), w);
    sum_slopes(t, cotangent, w);
    moment_gradients(t, w, to);
}

/* Values if `out` is given, otherwise the pullback. */
static int moments(const mlpot_moments *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, const double *cotangent,
                   double *out, double *pair_gradients)
{
    const ptrdiff_t n = mlpot_n_moments(t);
    const pair_sink to = {.all = pair_gradients};
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_PANEL))) reduction(min : failed)
    {
        moments_memory w;
        failed = moments_create(t, p, n_atoms, &w);
#pragma omp for schedule(dynamic, MLPOT_PANEL)
        for (int64_t i = 0; i < n_atoms; ++i) {
            if (failed) continue;
            if (out) {
                moments_of_centre(t, p, i, &w, out + i * n);
                continue;
            }
            slopes_of_moments(t, p, i, &w);
            pull_back_moments(t, cotangent + i * n, &w, &to);
        }
        if (!failed) moments_free(&w);
    }
    return failed;
}
