/* Triangles into knots, knots into bins, and back; formulas in angle_histograms.h. */
#pragma once
#include "angle_histograms.h"
#include "shells.h"
#include "triplet_functions.h"

typedef struct {
    shell_memory near;
    double *weights;         /* (n_sets, capacity) of the neighbours */
    double *f, *d_f;         /* (capacity) */
    double *gradients;       /* (N_GRADIENTS, capacity) as in triplet_runs.h */
    double *knots;           /* (n_histograms, n_knots, MLPOT_KNOT) sums, or the function of the cosine that a cotangent makes */
    double *row;             /* (n_columns) */
    double *memory;
} histogram_memory;

static int histogram_create(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, histogram_memory *w)
{
    if (shell_create(&t->shell, p, n_atoms, &w->near)) return -1;
    const size_t n = w->near.capacity, knots = lines((size_t)mlpot_n_histograms(t) * t->n_knots * MLPOT_KNOT);
    double *memory = w->memory = aligned(n * (t->n_sets + 2 + N_GRADIENTS) + knots + t->n_columns);
    if (!memory) {
        free(w->near.memory);
        return -1;
    }
    w->weights = memory;
    w->f = memory += n * t->n_sets;
    w->d_f = memory += n;
    w->gradients = memory += n;
    w->knots = memory += n * N_GRADIENTS;
    w->row = memory + knots;
    return 0;
}

/* Neighbours side by side: weights, f and its slopes. */
static void spread_slots(const mlpot_angle_histograms *t, int slopes, histogram_memory *w)
{
    const shell_memory *s = &w->near;
    for (int k = 0; k < s->begin[t->shell.n_groups]; ++k) {
        w->f[k] = s->values[(ptrdiff_t)k * s->n_columns];
        w->d_f[k] = slopes ? s->slopes[(ptrdiff_t)k * s->n_columns] : 0.0;
    }
    for (int u = 0; u < t->n_sets; ++u)
        weigh_slots(&t->shell, s, t->weights + u, t->n_sets, w->weights + (ptrdiff_t)u * s->capacity);
}

/* Triangles of one neighbour j with the slots from k on; a lane that does not count has no weight. */
typedef struct {
    mlpot_vector unit[3], distance, apart, inverse; /* of k; r_jk, 1 / r_jk */
    mlpot_vector cosine[3];  /* at the centre, at j, at k */
    mlpot_vector decay;      /* exp(-s r_jk), 0 in idle lanes */
} triangles;

MLPOT_INLINE triangles triangles_at(const mlpot_angle_histograms *t, const shell_memory *s, int j, int k, int after)
{
    const double *of_first = s->unit + j / MLPOT_LANES * 3 * MLPOT_LANES + j % MLPOT_LANES;
    triangles at;
    mlpot_vector squares = {0}, c = {0};
    at.distance = *(const mlpot_vector *)(s->distance + k);
    for (int a = 0; a < 3; ++a) {
        at.unit[a] = ((const mlpot_vector *)(s->unit + 3 * k))[a];
        const mlpot_vector apart = at.unit[a] * at.distance - of_first[a * MLPOT_LANES] * s->distance[j];
        c += at.unit[a] * of_first[a * MLPOT_LANES];
        squares += apart * apart;
    }
    at.apart = roots(squares);
    for (int lane = 0; lane < MLPOT_LANES; ++lane) at.inverse[lane] = at.apart[lane] > 1e-9 ? 1.0 / at.apart[lane] : 0.0;
    at.cosine[0] = c;
    at.cosine[1] = (s->distance[j] - at.distance * c) * at.inverse;
    at.cosine[2] = (at.distance - s->distance[j] * c) * at.inverse;
    at.decay = t->decay > 0.0 ? exponential(-t->decay * at.apart) : (mlpot_vector){0} + 1.0;
    for (int lane = 0; lane < MLPOT_LANES; ++lane)
        if (k + lane <= after || s->pair[k + lane] < 0) at.decay[lane] = 0.0;
    return at;
}

/* Knot left of a cosine in every lane, and the place behind it in steps. */
MLPOT_INLINE mlpot_vector knot_of(const mlpot_angle_histograms *t, mlpot_vector cosine, integers *knot)
{
    const mlpot_vector at = (cosine + 1.0) * t->per_step;
    integers k = __builtin_convertvector(at, integers);
    const integers last = (integers){0} + (t->n_knots - 2), beyond = k > last, before = k < 0;
    k = ((k & ~beyond) | (last & beyond)) & ~before;
    *knot = k;
    return at - __builtin_convertvector(k, mlpot_vector);
}

/* Two knots side by side are a row of eight numbers: (lanes, 8) from the weights of every number, and back. */
enum { TWO_KNOTS = 2 * MLPOT_KNOT };

MLPOT_INLINE void to_rows(const mlpot_vector *parts, double *rows)
{
    mlpot_vector columns[TWO_KNOTS] = {parts[0], parts[1], parts[2], {0}, parts[3], parts[4], parts[5], {0}};
    for (int n = 0; n < TWO_KNOTS; n += MLPOT_LANES)
        transpose_block((const double *)(columns + n), MLPOT_LANES, rows + n, TWO_KNOTS);
}

/* Adds triangles to the knots of a histogram. */
MLPOT_INLINE void add_triangles(const mlpot_angle_histograms *t, mlpot_vector cosine, mlpot_vector weight, double *knots)
{
    integers knot;
    mlpot_vector parts[6];
    double rows[MLPOT_LANES * TWO_KNOTS] __attribute__((aligned(64)));
    value_weights(knot_of(t, cosine, &knot), parts);
    for (int a = 0; a < 6; ++a) parts[a] *= weight;
    to_rows(parts, rows);
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        double *to = knots + (ptrdiff_t)knot[lane] * MLPOT_KNOT;
        for (int n = 0; n < TWO_KNOTS; n += MLPOT_LANES) {
            mlpot_vector sum;
            memcpy(&sum, to + n, sizeof sum);
            sum += *(const mlpot_vector *)(rows + lane * TWO_KNOTS + n);
            memcpy(to + n, &sum, sizeof sum);
        }
    }
}

/* Value and slope of the function of the cosine that the knots hold. */
MLPOT_INLINE void function_at(const mlpot_angle_histograms *t, mlpot_vector cosine, const double *knots, mlpot_vector *value,
                              mlpot_vector *slope)
{
    integers knot;
    mlpot_vector parts[6], d_parts[6], columns[TWO_KNOTS];
    double rows[MLPOT_LANES * TWO_KNOTS] __attribute__((aligned(64)));
    const mlpot_vector place = knot_of(t, cosine, &knot);
    value_weights(place, parts);
    slope_weights((mlpot_vector){0} + t->per_step, place, d_parts);
    for (int lane = 0; lane < MLPOT_LANES; ++lane)
        memcpy(rows + lane * TWO_KNOTS, knots + (ptrdiff_t)knot[lane] * MLPOT_KNOT, sizeof(double) * TWO_KNOTS);
    for (int n = 0; n < TWO_KNOTS; n += MLPOT_LANES)
        transpose_block(rows + n, TWO_KNOTS, (double *)(columns + n), MLPOT_LANES);
    *value = *slope = (mlpot_vector){0};
    for (int a = 0; a < 6; ++a) {
        const mlpot_vector number = columns[a / 3 * MLPOT_KNOT + a % 3];
        *value += parts[a] * number;
        *slope += d_parts[a] * number;
    }
}

/* First knots of the histograms of two groups g >= g': at the centre, at the neighbour of g, at the one of g'. */
static void histograms_of(const mlpot_angle_histograms *t, const histogram_memory *w, int a, int b, double **found)
{
    const int n = t->shell.n_groups, pairs = n * (n + 1) / 2;
    const ptrdiff_t size = (ptrdiff_t)t->n_sets * t->n_knots * MLPOT_KNOT;
    found[0] = w->knots + (a * (a + 1) / 2 + b) * size;
    found[1] = w->knots + (pairs + a * n + b) * size;
    found[2] = w->knots + (pairs + b * n + a) * size;
}

/* Slopes of triangles from the functions of their cosines, into the second neighbours and, summed over these, the first one. */
MLPOT_INLINE void add_triangle_gradients(const mlpot_angle_histograms *t, int j, int k, const triangles *at, double *const *knots,
                                         histogram_memory *w, mlpot_vector *first)
{
    const shell_memory *s = &w->near;
    const ptrdiff_t n = s->capacity, size = (ptrdiff_t)t->n_knots * MLPOT_KNOT;
    const mlpot_vector f = *(const mlpot_vector *)(w->f + k), d_f = *(const mlpot_vector *)(w->d_f + k);
    const mlpot_vector r = at->distance, c = at->cosine[0], q = at->inverse;
    const double r_j = s->distance[j];
    mlpot_vector sum = {0}, d[3] = {{0}};
    for (int u = 0; u < t->n_sets; ++u) {
        const mlpot_vector both = w->weights[u * n + j] * *(const mlpot_vector *)(w->weights + u * n + k);
        for (int x = 0; x < (t->at_neighbours ? 3 : 1); ++x) {
            mlpot_vector value, slope;
            function_at(t, at->cosine[x], knots[x] + u * size, &value, &slope);
            sum += both * value;
            d[x] += both * slope;
        }
    }
    const mlpot_vector weight = w->f[j] * f * at->decay;
    const mlpot_vector by_apart = -t->decay * weight * sum - weight * q * (d[1] * at->cosine[1] + d[2] * at->cosine[2]);
    const mlpot_vector by_cosine = weight * (d[0] - q * (d[1] * r + d[2] * r_j)) - by_apart * q * r * r_j;
    const mlpot_vector by_j = w->d_f[j] * f * at->decay * sum + weight * q * (d[1] - d[2] * c) + by_apart * at->cosine[1];
    const mlpot_vector by_k = w->f[j] * d_f * at->decay * sum + weight * q * (d[2] - d[1] * c) + by_apart * at->cosine[2];
    const double *of_first = s->unit + j / MLPOT_LANES * 3 * MLPOT_LANES + j % MLPOT_LANES;
    *(mlpot_vector *)(w->gradients + ALONG * n + k) += by_k;
    first[ALONG] += by_j;
    for (int a = 0; a < 3; ++a) {
        *(mlpot_vector *)(w->gradients + (X + a) * n + k) += by_cosine * of_first[a * MLPOT_LANES];
        first[X + a] += by_cosine * at->unit[a];
    }
}

/* Triangles of two groups: added to the knots, or their gradients from these. */
static void triangles_of_groups(const mlpot_angle_histograms *t, int a, int b, int values, histogram_memory *w)
{
    const shell_memory *s = &w->near;
    const ptrdiff_t n = s->capacity, size = (ptrdiff_t)t->n_knots * MLPOT_KNOT;
    double *knots[3];
    histograms_of(t, w, a, b, knots);
    for (int j = s->begin[a]; j < s->begin[a] + s->count[a]; ++j) {
        const int after = a == b ? j : -1, begin = a == b ? (j + 1) / MLPOT_LANES * MLPOT_LANES : s->begin[b];
        mlpot_vector first[N_GRADIENTS] = {{0}, {0}, {0}, {0}};
        for (int k = begin; k < s->begin[b] + s->count[b]; k += MLPOT_LANES) {
            const triangles at = triangles_at(t, s, j, k, after);
            if (!values) {
                add_triangle_gradients(t, j, k, &at, knots, w, first);
                continue;
            }
            for (int u = 0; u < t->n_sets; ++u) {
                const mlpot_vector both = w->weights[u * n + j] * *(const mlpot_vector *)(w->weights + u * n + k);
                const mlpot_vector weight = both * w->f[j] * *(const mlpot_vector *)(w->f + k) * at.decay;
                for (int x = 0; x < (t->at_neighbours ? 3 : 1); ++x)
                    add_triangles(t, at.cosine[x], weight, knots[x] + u * size);
            }
        }
        for (int x = 0; x < N_GRADIENTS && !values; ++x) w->gradients[x * n + j] += sum_lanes(first[x]);
    }
}

/* Bins of one histogram from its knots. */
static void fill_bins(const mlpot_angle_histograms *t, const double *knots, double *row, double *out)
{
    memset(row, 0, sizeof(double) * t->n_columns);
    for (int k = 0; k < t->n_knots; ++k, knots += MLPOT_KNOT)
        for (int b = t->bands[2 * k]; b < t->bands[2 * k + 1]; b += MLPOT_LANES) {
            const double *table = t->table + (ptrdiff_t)3 * k * t->n_columns + b;
            mlpot_vector sum = *(mlpot_vector *)(row + b);
            for (int a = 0; a < 3; ++a) sum += knots[a] * *(const mlpot_vector *)(table + (ptrdiff_t)a * t->n_columns);
            *(mlpot_vector *)(row + b) = sum;
        }
    memcpy(out, row, sizeof(double) * t->n_bins);
}

/* The function of the cosine sum_b cotangent_b D_b, at the knots. */
static void fill_knots(const mlpot_angle_histograms *t, const double *cotangent, double *row, double *knots)
{
    memset(row, 0, sizeof(double) * t->n_columns);
    memcpy(row, cotangent, sizeof(double) * t->n_bins);
    for (int k = 0; k < t->n_knots; ++k, knots += MLPOT_KNOT)
        for (int a = 0; a < 3; ++a) {
            const double *table = t->table + ((ptrdiff_t)3 * k + a) * t->n_columns;
            mlpot_vector sum = {0};
            for (int b = t->bands[2 * k]; b < t->bands[2 * k + 1]; b += MLPOT_LANES)
                sum += *(const mlpot_vector *)(row + b) * *(const mlpot_vector *)(table + b);
            knots[a] = sum_lanes(sum);
        }
}

/* The neighbours of a centre, with slopes for pullbacks, which share all of it. */
static void place_triangles(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t centre, int slopes, histogram_memory *w)
{
    fill_shell(&t->shell, p, centre, slopes, &w->near);
    spread_slots(t, slopes, w);
}

/* Of the centre that was placed. */
static void histograms_of_centre(const mlpot_angle_histograms *t, double *out, histogram_memory *w)
{
    const int n_histograms = mlpot_n_histograms(t);
    const ptrdiff_t size = (ptrdiff_t)t->n_knots * MLPOT_KNOT;
    memset(w->knots, 0, sizeof(double) * n_histograms * size);
    for (int a = 0; a < t->shell.n_groups; ++a)
        for (int b = 0; b <= a; ++b) triangles_of_groups(t, a, b, 1, w);
    for (int h = 0; h < n_histograms; ++h) fill_bins(t, w->knots + h * size, w->row, out + (ptrdiff_t)h * t->n_bins);
}

static void pull_back_histograms(const mlpot_angle_histograms *t, const double *cotangent, histogram_memory *w, const pair_sink *to)
{
    const shell_memory *s = &w->near;
    const ptrdiff_t size = (ptrdiff_t)t->n_knots * MLPOT_KNOT;
    memset(w->gradients, 0, sizeof(double) * N_GRADIENTS * s->capacity);
    for (int h = 0; h < mlpot_n_histograms(t); ++h)
        fill_knots(t, cotangent + (ptrdiff_t)h * t->n_bins, w->row, w->knots + h * size);
    for (int a = 0; a < t->shell.n_groups; ++a)
        for (int b = 0; b <= a; ++b) triangles_of_groups(t, a, b, 0, w);
    add_gradients(s, s->begin[t->shell.n_groups], w->gradients, to);
}

static void histogram_free(histogram_memory *w)
{
    free(w->memory);
    free(w->near.memory);
}

/* Values where `out` is given, else the pullback. */
static int angle_histograms(const mlpot_angle_histograms *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                            const double *cotangent, double *out, double *pair_gradients)
{
    const ptrdiff_t n = (ptrdiff_t)mlpot_n_histograms(t) * t->n_bins;
    const pair_sink to = {.all = pair_gradients};
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_PANEL))) reduction(min : failed)
    {
        histogram_memory w;
        failed = histogram_create(t, p, n_atoms, &w);
#pragma omp for schedule(dynamic, MLPOT_PANEL)
        for (int64_t i = 0; i < n_atoms; ++i) {
            if (failed) continue;
            place_triangles(t, p, i, !out, &w);
            if (out) histograms_of_centre(t, out + i * n, &w);
            else pull_back_histograms(t, cotangent + i * n, &w, &to);
        }
        if (!failed) histogram_free(&w);
    }
    return failed;
}
