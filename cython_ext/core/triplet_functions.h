/* Functions of triplets of one centre and their pullback; lanes are the second neighbours of a first one. */
#pragma once
#include "shells.h"

enum { ALONG, X, Y, Z, N_GRADIENTS };

typedef struct {
    shell_memory near;
    double *values, *slopes; /* (n_columns, capacity) curves times weights, neighbours side by side */
    double *gradients;       /* (N_GRADIENTS, capacity) dE/dr of every slot: rhat ALONG + (X, Y, Z) */
    double *sums;            /* (n_functions, lanes) */
    double *apart, *d_apart; /* (n_columns, lanes) curves of r_jk */
    double *window, *d_window; /* (n_columns, lanes) curves of the angle */
    double *angular, *d_angular; /* (n_angular, lanes) */
    double *memory;
} triplet_functions_memory;

/* MLPOT_LANES triplets: of a first neighbour with the neighbours of slots k, k + 1, ... */
typedef struct {
    mlpot_vector unit[3];    /* of the second neighbours */
    mlpot_vector cosine, distance, between, mask;
} triplet_lanes;

static int triplet_functions_create(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms,
                                    triplet_functions_memory *w)
{
    if (shell_create(&t->shell, p, n_atoms, &w->near)) return -1;
    const size_t n = w->near.capacity, columns = w->near.n_columns;
    const size_t n_functions = (size_t)t->begin[t->n_shapes] * MLPOT_LANES;
    const size_t n_apart = (size_t)t->apart.n_columns * MLPOT_LANES, n_windows = (size_t)t->windows.n_columns * MLPOT_LANES;
    const size_t n_angular = lines((size_t)t->n_angular * MLPOT_LANES);
    double *memory = aligned(2 * n * columns + N_GRADIENTS * n + lines(n_functions) + 2 * (n_apart + n_windows + n_angular));
    if (!memory) {
        free(w->near.memory);
        return -1;
    }
    w->memory = w->values = memory;
    w->slopes = memory += n * columns;
    w->gradients = memory += n * columns;
    w->sums = memory += N_GRADIENTS * n;
    w->apart = memory += lines(n_functions);
    w->d_apart = memory += n_apart;
    w->window = memory += n_apart;
    w->d_window = memory += n_windows;
    w->angular = memory += n_windows;
    w->d_angular = memory + n_angular;
    return 0;
}

static void triplet_functions_free(triplet_functions_memory *w)
{
    free(w->memory);
    free(w->near.memory);
}

static void side_by_side(const mlpot_triplet_functions *t, const mlpot_pairs *p, const shell_memory *s, const double *rows,
                         double *out)
{
    for (int k = 0; k < s->begin[t->shell.n_groups]; ++k) {
        const double weight = s->pair[k] < 0 ? 0.0 : t->weights[p->species[p->j[s->pair[k]]]];
        for (int n = 0; n < s->n_columns; ++n)
            out[(ptrdiff_t)n * s->capacity + k] = weight * rows[(ptrdiff_t)k * s->n_columns + n];
    }
}

MLPOT_INLINE mlpot_vector roots(mlpot_vector x)
{
    for (int lane = 0; lane < MLPOT_LANES; ++lane) x[lane] = sqrt(x[lane]);
    return x;
}

/* Curves at x, (n_columns, lanes) */
MLPOT_INLINE void curves_of_lanes(const mlpot_curves *t, mlpot_vector x, int slopes, double *out, double *d_out)
{
    const double *knots[MLPOT_LANES];
    mlpot_vector value[6], slope[6];
    double rows[2][MLPOT_LANES][MLPOT_CHANNELS] __attribute__((aligned(64)));
    locate(t, x, knots, value, slopes ? slope : NULL);
    for (int n = 0; n < t->n_columns; n += MLPOT_CHANNELS, out += MLPOT_CHANNELS * MLPOT_LANES) {
        for (int lane = 0; lane < MLPOT_LANES; ++lane)
            for (int part = 0; part < MLPOT_CHANNELS; part += MLPOT_LANES) {
                mlpot_vector sum = {0}, d_sum = {0};
                for (int a = 0; a < 6; ++a) {
                    const mlpot_vector knot = *(const mlpot_vector *)(knots[lane] + (ptrdiff_t)a * t->n_columns + n + part);
                    sum += value[a][lane] * knot;
                    if (slopes) d_sum += slope[a][lane] * knot;
                }
                *(mlpot_vector *)(rows[0][lane] + part) = sum;
                if (slopes) *(mlpot_vector *)(rows[1][lane] + part) = d_sum;
            }
        for (int part = 0; part < MLPOT_CHANNELS; part += MLPOT_LANES) {
            transpose_block(rows[0][0] + part, MLPOT_CHANNELS, out + part * MLPOT_LANES, MLPOT_LANES);
            if (slopes) transpose_block(rows[1][0] + part, MLPOT_CHANNELS, d_out + part * MLPOT_LANES, MLPOT_LANES);
        }
        if (slopes) d_out += MLPOT_CHANNELS * MLPOT_LANES;
    }
}

/* Windows of the angle: sin(theta / 2) and cos(theta / 2) are half the lengths of a difference and of a sum of unit vectors,
 * which keeps the digits of nearly collinear triplets. */
MLPOT_INLINE void angle_windows(const mlpot_triplet_functions *t, const double *first, const triplet_lanes *at, int slopes,
                                triplet_functions_memory *w)
{
    mlpot_vector less = {0}, more = {0}, place, inner;
    for (int a = 0; a < 3; ++a) {
        less += (at->unit[a] - first[a]) * (at->unit[a] - first[a]);
        more += (at->unit[a] + first[a]) * (at->unit[a] + first[a]);
    }
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        const int acute = at->cosine[lane] >= 0.0;
        const double half = 0.5 * sqrt(acute ? less[lane] : more[lane]);
        place[lane] = acute ? half : 1.41421356237309504880 - half;
        inner[lane] = -0.25 / (half > 1e-9 ? half : 1e-9); /* the slope of a curve at either end is 0 */
    }
    curves_of_lanes(&t->windows, place, slopes, w->window, w->d_window);
    for (int a = 0; a < t->n_angular; ++a) {
        if (t->window[a] < 0) continue;
        const ptrdiff_t from = (ptrdiff_t)t->window[a] * MLPOT_LANES, to = (ptrdiff_t)a * MLPOT_LANES;
        *(mlpot_vector *)(w->angular + to) = *(const mlpot_vector *)(w->window + from);
        if (slopes) *(mlpot_vector *)(w->d_angular + to) = *(const mlpot_vector *)(w->d_window + from) * inner;
    }
}

/* A = 2 ((1 + lambda cos) / 2)^zeta and its slope; the base of a power that is not whole is never below 0. */
MLPOT_INLINE void angle_powers(const mlpot_triplet_functions *t, mlpot_vector cosine, int slopes, triplet_functions_memory *w)
{
    for (int a = 0; a < t->n_angular; ++a) {
        if (t->window[a] >= 0) continue;
        const double zeta = t->zeta[a];
        mlpot_vector base = 0.5 + (0.5 * t->lambda[a]) * cosine, below;
        if (zeta == (int)zeta)
            below = whole_power(base, (int)zeta - 1);
        else
            for (int lane = 0; lane < MLPOT_LANES; ++lane) {
                base[lane] = base[lane] > 0.0 ? base[lane] : 0.0;
                below[lane] = pow(base[lane], zeta - 1.0);
            }
        *(mlpot_vector *)(w->angular + a * MLPOT_LANES) = 2.0 * below * base;
        if (slopes) *(mlpot_vector *)(w->d_angular + a * MLPOT_LANES) = (t->lambda[a] * zeta) * below;
    }
}

/* Triplets of first neighbour j with the slots from k on, of which only those beyond `after` count, and their factors;
 * returns 0 if all are too far apart to contribute. */
MLPOT_INLINE int triplet_factors(const mlpot_triplet_functions *t, int j, int k, int after, int slopes,
                                 triplet_functions_memory *w, triplet_lanes *found)
{
    const shell_memory *s = &w->near;
    const double *of_first = s->unit + j / MLPOT_LANES * 3 * MLPOT_LANES + j % MLPOT_LANES;
    const double first[3] = {of_first[0], of_first[MLPOT_LANES], of_first[2 * MLPOT_LANES]};
    triplet_lanes at = {.cosine = {0}};
    mlpot_vector squares = {0};
    at.distance = *(const mlpot_vector *)(s->distance + k);
    for (int a = 0; a < 3; ++a) {
        at.unit[a] = ((const mlpot_vector *)(s->unit + 3 * k))[a];
        const mlpot_vector apart = at.unit[a] * at.distance - first[a] * s->distance[j];
        at.cosine += at.unit[a] * first[a];
        squares += apart * apart;
    }
    for (int lane = 0; lane < MLPOT_LANES; ++lane) at.mask[lane] = k + lane > after ? 1.0 : 0.0;
    if (t->apart.n_segments) {
        const double end = t->apart.start[t->apart.n_segments - 1];
        int near = 0;
        for (int lane = 0; lane < MLPOT_LANES; ++lane) near |= squares[lane] < end * end;
        if (!near) return 0;
        at.between = roots(squares);
        curves_of_lanes(&t->apart, at.between, slopes, w->apart, w->d_apart);
    }
    if (t->windows.n_segments) angle_windows(t, first, &at, slopes, w);
    angle_powers(t, at.cosine, slopes, w);
    *found = at;
    return 1;
}

MLPOT_INLINE const mlpot_vector *lanes_at(const double *array, ptrdiff_t n, ptrdiff_t apart, int k)
{
    return (const mlpot_vector *)(array + n * apart + k);
}

static void add_values(const mlpot_triplet_functions *t, int j, int k, const triplet_lanes *at, triplet_functions_memory *w)
{
    const ptrdiff_t n = w->near.capacity;
    mlpot_vector *sums = (mlpot_vector *)w->sums;
    const mlpot_vector *angular = (const mlpot_vector *)w->angular;
    for (int shape = 0; shape < t->n_shapes; ++shape) {
        mlpot_vector f = w->values[t->radial[shape] * n + j] * at->mask * *lanes_at(w->values, t->radial[shape], n, k);
        if (t->apart.n_segments) f *= *lanes_at(w->apart, t->between[shape], MLPOT_LANES, 0);
        for (int u = t->begin[shape]; u < t->begin[shape + 1]; ++u) sums[u] += f * angular[t->angular[u]];
    }
}

/* dE/dr of triplets into the gradients of the second neighbours and, summed over these, into those of the first one. */
static void add_triplet_gradients(const mlpot_triplet_functions *t, int j, int k, const triplet_lanes *at,
                                  const double *cotangent, triplet_functions_memory *w, mlpot_vector *first)
{
    const shell_memory *s = &w->near;
    const ptrdiff_t n = s->capacity;
    const mlpot_vector *angular = (const mlpot_vector *)w->angular, *d_angular = (const mlpot_vector *)w->d_angular;
    mlpot_vector along_j = {0}, along_k = {0}, cosine = {0}, between = {0};
    for (int shape = 0; shape < t->n_shapes; ++shape) {
        mlpot_vector a = {0}, d_a = {0}, h = at->mask, d_h = {0};
        for (int u = t->begin[shape]; u < t->begin[shape + 1]; ++u) {
            a += cotangent[u] * angular[t->angular[u]];
            d_a += cotangent[u] * d_angular[t->angular[u]];
        }
        if (t->apart.n_segments) {
            h *= *lanes_at(w->apart, t->between[shape], MLPOT_LANES, 0);
            d_h = at->mask * *lanes_at(w->d_apart, t->between[shape], MLPOT_LANES, 0);
        }
        const ptrdiff_t column = t->radial[shape] * n;
        const mlpot_vector f = *lanes_at(w->values, t->radial[shape], n, k), both = w->values[column + j] * f;
        cosine += both * h * d_a;
        between += both * d_h * a;
        along_j += w->slopes[column + j] * f * h * a;
        along_k += w->values[column + j] * h * a * *lanes_at(w->slopes, t->radial[shape], n, k);
    }
    if (t->apart.n_segments) {
        mlpot_vector inverse;
        for (int lane = 0; lane < MLPOT_LANES; ++lane) inverse[lane] = at->between[lane] > 0.0 ? 1.0 / at->between[lane] : 0.0;
        between *= inverse;
    }
    const mlpot_vector inverse = *(const mlpot_vector *)(s->inverse + k), turn_k = cosine * inverse;
    const mlpot_vector turn_j = cosine * s->inverse[j], push = between * at->distance, pull = between * s->distance[j];
    const double *of_first = s->unit + j / MLPOT_LANES * 3 * MLPOT_LANES + j % MLPOT_LANES;
    double *to = w->gradients + k;
    *(mlpot_vector *)(to + ALONG * n) += along_k - turn_k * at->cosine + push;
    first[ALONG] += along_j - turn_j * at->cosine + pull;
    for (int a = 0; a < 3; ++a) {
        *(mlpot_vector *)(to + (X + a) * n) += (turn_k - pull) * of_first[a * MLPOT_LANES];
        first[X + a] += (turn_j - push) * at->unit[a];
    }
}

/* Triplets of two groups of neighbours a >= b: values where `out` is given, else the pullback of a cotangent. */
static void triplets_of_groups(const mlpot_triplet_functions *t, int a, int b, const double *cotangent, double *out,
                               triplet_functions_memory *w)
{
    const shell_memory *s = &w->near;
    const int n_functions = t->begin[t->n_shapes];
    if (out) memset(w->sums, 0, sizeof(mlpot_vector) * n_functions);
    for (int j = s->begin[a]; j < s->begin[a] + s->count[a]; ++j) {
        const int after = a == b ? j : -1, begin = a == b ? (j + 1) / MLPOT_LANES * MLPOT_LANES : s->begin[b];
        mlpot_vector first[N_GRADIENTS] = {{0}, {0}, {0}, {0}};
        for (int k = begin; k < s->begin[b] + s->count[b]; k += MLPOT_LANES) {
            triplet_lanes at;
            if (!triplet_factors(t, j, k, after, !out, w, &at)) continue;
            if (out)
                add_values(t, j, k, &at, w);
            else
                add_triplet_gradients(t, j, k, &at, cotangent, w, first);
        }
        for (int x = 0; x < N_GRADIENTS && !out; ++x) w->gradients[x * s->capacity + j] += sum_lanes(first[x]);
    }
    for (int u = 0; u < n_functions && out; ++u) out[u] = sum_lanes(((const mlpot_vector *)w->sums)[u]);
}

/* Adds the gradients of the slots of a centre, rhat ALONG + (X, Y, Z), to its pairs. */
static void add_gradients(const shell_memory *s, int n_slots, const double *gradients, double *pair_gradients)
{
    const ptrdiff_t n = s->capacity;
    for (int k = 0; k < n_slots; k += MLPOT_LANES) {
        const double *from = gradients + k;
        const mlpot_vector distance = *(const mlpot_vector *)(s->distance + k);
        add_slot_gradients(s, k, *lanes_at(from, ALONG, n, 0), distance * *lanes_at(from, X, n, 0),
                           distance * *lanes_at(from, Y, n, 0), distance * *lanes_at(from, Z, n, 0), pair_gradients);
    }
}

static void triplets_of_centre(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t centre, const double *cotangent,
                               double *out, double *pair_gradients, triplet_functions_memory *w)
{
    const shell_memory *s = &w->near;
    const ptrdiff_t n_functions = t->begin[t->n_shapes], n = s->capacity;
    fill_shell(&t->shell, p, centre, !out, &w->near);
    side_by_side(t, p, s, s->values, w->values);
    if (!out) side_by_side(t, p, s, s->slopes, w->slopes);
    if (!out) memset(w->gradients, 0, sizeof(double) * N_GRADIENTS * n);
    for (int a = 0; a < t->shell.n_groups; ++a)
        for (int b = 0; b <= a; ++b) {
            const ptrdiff_t at = (a * (a + 1) / 2 + b) * n_functions;
            triplets_of_groups(t, a, b, out ? NULL : cotangent + at, out ? out + at : NULL, w);
        }
    if (!out) add_gradients(s, s->begin[t->shell.n_groups], w->gradients, pair_gradients);
}

/* Values where `out` is given, else the pullback. */
static int triplet_functions(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                             const double *cotangent, double *out, double *pair_gradients)
{
    const ptrdiff_t n = mlpot_n_triplet_functions(t);
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_PANEL))) reduction(min : failed)
    {
        triplet_functions_memory w;
        failed = triplet_functions_create(t, p, n_atoms, &w);
#pragma omp for schedule(dynamic, MLPOT_PANEL)
        for (int64_t i = 0; i < n_atoms; ++i)
            if (!failed)
                triplets_of_centre(t, p, i, out ? NULL : cotangent + i * n, out ? out + i * n : NULL, pair_gradients, &w);
        if (!failed) triplet_functions_free(&w);
    }
    return failed;
}
