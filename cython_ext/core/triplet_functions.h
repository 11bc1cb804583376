/* Functions of triplets of one centre and their pullback; lanes are second neighbours of a first one. */
#pragma once
#include "triplet_runs.h"

static int triplet_functions_create(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms,
                                    triplet_functions_memory *w)
{
    if (shell_create(&t->shell, p, n_atoms, &w->near)) return -1;
    const size_t n = w->near.capacity, n_shapes = t->n_shapes, n_functions = t->begin[n_shapes];
    w->n_radial = 0;
    for (size_t k = 0; k < n_shapes; ++k) w->n_radial = w->n_radial > t->radial[k] ? w->n_radial : t->radial[k] + 1;
    const size_t size = n * (size_t)w->n_radial;
    const size_t n_curves = t->windows.n_columns > t->apart.n_columns ? t->windows.n_columns : t->apart.n_columns;
    w->n_apart = t->even.n + t->apart.n_columns;
    const size_t n_angular = RUN * (size_t)t->n_angular, n_apart = RUN * (size_t)w->n_apart;
    const size_t vectors = n_shapes + n_functions + 2 * (n_apart + n_curves + n_angular);
    double *memory = aligned(3 * size + N_GRADIENTS * n + vectors * MLPOT_LANES + 3 * n_functions);
    if (!memory) {
        free(w->near.memory);
        return -1;
    }
    w->memory = w->values = memory;
    w->slopes = memory += size;
    w->by_value = memory += size;
    w->gradients = memory += size;
    w->by_first = (mlpot_vector *)(memory + N_GRADIENTS * n);
    w->sums = w->by_first + n_shapes;
    w->apart = w->sums + n_functions;
    w->d_apart = w->apart + n_apart;
    w->angular = w->d_apart + n_apart;
    w->d_angular = w->angular + n_angular;
    w->curve = w->d_angular + n_angular;
    w->d_curve = w->curve + n_curves;
    w->cotangent = (double *)(w->d_curve + n_curves);
    w->d_cotangent = w->cotangent + n_functions;
    w->d_of_first = w->d_cotangent + n_functions;
    return 0;
}

static void triplet_functions_free(triplet_functions_memory *w)
{
    free(w->memory);
    free(w->near.memory);
}

MLPOT_INLINE const mlpot_vector *lanes_at(const double *array, ptrdiff_t n, ptrdiff_t apart, int k)
{
    return (const mlpot_vector *)(array + n * apart + k);
}

MLPOT_INLINE void add_values(const int count, const mlpot_triplet_functions *t, int j, int k, const triplet_run *at,
                             triplet_functions_memory *w)
{
    for (int shape = 0; shape < t->n_shapes; ++shape) {
        const double *column = w->values + (ptrdiff_t)t->radial[shape] * w->near.capacity;
        mlpot_vector f[RUN];
        EACH_OF_RUN f[v] = column[j] * *(const mlpot_vector *)(column + k + v * MLPOT_LANES);
        f[0] *= at->mask;
        if (w->n_apart) EACH_OF_RUN f[v] *= w->apart[t->between[shape] * RUN + v];
        for (int u = t->begin[shape]; u < t->begin[shape + 1]; ++u) {
            mlpot_vector sum = w->sums[u];
            EACH_OF_RUN sum += f[v] * w->angular[t->angular[u] * RUN + v];
            w->sums[u] = sum;
        }
    }
}

/* Slopes of one shape: by values of r_j and r_k to their sums, by the cosine and by r_jk, over r_jk, to cosine and between. */
MLPOT_INLINE void slopes_of_shape(const int count, const mlpot_triplet_functions *t, int shape, int j, int k,
                                  const triplet_run *at, triplet_functions_memory *w, mlpot_vector *cosine, mlpot_vector *between)
{
    const ptrdiff_t column = (ptrdiff_t)t->radial[shape] * w->near.capacity;
    const double of_first = w->values[column + j];
    mlpot_vector a[RUN], d_a[RUN], by_first = w->by_first[shape];
    EACH_OF_RUN a[v] = d_a[v] = (mlpot_vector){0};
    for (int u = t->begin[shape]; u < t->begin[shape + 1]; ++u)
        EACH_OF_RUN
        {
            a[v] += w->cotangent[u] * w->angular[t->angular[u] * RUN + v];
            d_a[v] += w->d_of_first[u] * w->d_angular[t->angular[u] * RUN + v];
        }
    a[0] *= at->mask;
    d_a[0] *= at->mask;
    EACH_OF_RUN
    {
        const mlpot_vector f = *(const mlpot_vector *)(w->values + column + k + v * MLPOT_LANES);
        if (w->n_apart) {
            const ptrdiff_t place = t->between[shape] * RUN + v;
            between[v] += of_first * a[v] * f * w->d_apart[place];
            a[v] *= w->apart[place];
            d_a[v] *= w->apart[place];
        }
        cosine[v] += d_a[v] * f;
        by_first += a[v] * f;
        *(mlpot_vector *)(w->by_value + column + k + v * MLPOT_LANES) += of_first * a[v];
    }
    w->by_first[shape] = by_first;
}

/* Gradients of triplets to those of the second neighbours and, summed over these, of the first one. */
MLPOT_INLINE void add_triplet_gradients(const int count, const mlpot_triplet_functions *t, int j, int k, const triplet_run *at,
                                        triplet_functions_memory *w, mlpot_vector *first)
{
    const ptrdiff_t n = w->near.capacity;
    mlpot_vector cosine[RUN], between[RUN];
    EACH_OF_RUN cosine[v] = between[v] = (mlpot_vector){0};
    for (int shape = 0; shape < t->n_shapes; ++shape) slopes_of_shape(count, t, shape, j, k, at, w, cosine, between);
    const double r_j = w->near.distance[j];
    if (w->n_apart)
        EACH_OF_RUN
        {
            const mlpot_vector r_k = at->distance[v]; /* r_jk^2 = r_j^2 + r_k^2 - 2 r_j r_k cos */
            *(mlpot_vector *)(w->gradients + ALONG * n + k + v * MLPOT_LANES) += between[v] * (r_k - r_j * at->cosine[v]);
            first[ALONG] += between[v] * (r_j - r_k * at->cosine[v]);
            cosine[v] -= between[v] * (r_j * r_k);
        }
    EACH_OF_RUN
        for (int a = 0; a < 3; ++a) {
            *(mlpot_vector *)(w->gradients + (X + a) * n + k + v * MLPOT_LANES) += cosine[v] * at->first[a];
            first[X + a] += cosine[v] * at->unit[v][a];
        }
}

/* Values, or the pullback where `slopes` are asked for; `first` sums the gradients of the first neighbour. */
MLPOT_INLINE void add_run(const int count, const int slopes, const mlpot_triplet_functions *t, int j, int k, int after,
                          triplet_functions_memory *w, mlpot_vector *first)
{
    triplet_run at;
    gather_run(count, &w->near, j, k, after, &at);
    if (w->n_apart) squares_of_run(count, &w->near, j, k, &at);
    factors_of_run(count, t, &at, slopes, w);
    if (slopes)
        add_triplet_gradients(count, t, j, k, &at, w, first);
    else
        add_values(count, t, j, k, &at, w);
}

/* A first neighbour with the second ones of slots k to end. */
MLPOT_INLINE void triplets_of_first(const int slopes, const mlpot_triplet_functions *t, int j, int k, int end, int after,
                                    triplet_functions_memory *w)
{
    mlpot_vector first[N_GRADIENTS] = {{0}, {0}, {0}, {0}};
    for (; k + (RUN - 1) * MLPOT_LANES < end; k += RUN * MLPOT_LANES) add_run(RUN, slopes, t, j, k, after, w, first);
    for (; k < end; k += MLPOT_LANES) add_run(1, slopes, t, j, k, after, w, first);
    for (int x = 0; x < N_GRADIENTS && slopes; ++x) w->gradients[x * w->near.capacity + j] += sum_lanes(first[x]);
}

/* Of one first neighbour, before its triplets and after them. */
static void start_first(const mlpot_triplet_functions *t, int j, triplet_functions_memory *w)
{
    memset(w->by_first, 0, sizeof(mlpot_vector) * t->n_shapes);
    for (int shape = 0; shape < t->n_shapes; ++shape)
        for (int u = t->begin[shape]; u < t->begin[shape + 1]; ++u)
            w->d_of_first[u] = w->values[(ptrdiff_t)t->radial[shape] * w->near.capacity + j] * w->d_cotangent[u];
}

static void end_first(const mlpot_triplet_functions *t, int j, triplet_functions_memory *w)
{
    for (int shape = 0; shape < t->n_shapes; ++shape)
        w->by_value[(ptrdiff_t)t->radial[shape] * w->near.capacity + j] += sum_lanes(w->by_first[shape]);
}

static __attribute__((noinline)) void values_of_first(const mlpot_triplet_functions *t, int j, int k, int end, int after,
                                                      triplet_functions_memory *w)
{
    triplets_of_first(0, t, j, k, end, after, w);
}

static __attribute__((noinline)) void gradients_of_first(const mlpot_triplet_functions *t, int j, int k, int end, int after,
                                                         triplet_functions_memory *w)
{
    start_first(t, j, w);
    triplets_of_first(1, t, j, k, end, after, w);
    end_first(t, j, w);
}

/* Triplets of two groups of neighbours a >= b: values where `out` is given, else the pullback of a cotangent. */
static void triplets_of_groups(const mlpot_triplet_functions *t, int a, int b, const double *cotangent, double *out,
                               triplet_functions_memory *w)
{
    const shell_memory *s = &w->near;
    const int n_functions = t->begin[t->n_shapes], end = s->begin[b] + s->count[b];
    if (out) memset(w->sums, 0, sizeof(mlpot_vector) * n_functions);
    for (int u = 0; u < n_functions && !out; ++u) {
        w->cotangent[u] = cotangent[u] * angular_factor(t, t->angular[u]);
        w->d_cotangent[u] = cotangent[u] * d_angular_factor(t, t->angular[u]);
    }
    for (int j = s->begin[a]; j < s->begin[a] + s->count[a]; ++j) {
        const int after = a == b ? j : -1, begin = a == b ? (j + 1) / MLPOT_LANES * MLPOT_LANES : s->begin[b];
        if (out)
            values_of_first(t, j, begin, end, after, w);
        else
            gradients_of_first(t, j, begin, end, after, w);
    }
    for (int u = 0; u < n_functions && out; ++u) out[u] = angular_factor(t, t->angular[u]) * sum_lanes(w->sums[u]);
}

/* Gradients of lengths and unit vectors -> of the vectors, added to their pairs. */
static void add_gradients(const shell_memory *s, int n_slots, const double *gradients, const pair_sink *to)
{
    for (int k = 0; k < n_slots; k += MLPOT_LANES) {
        const mlpot_vector *unit = (const mlpot_vector *)(s->unit + 3 * k);
        mlpot_vector of[N_GRADIENTS], along = {0};
        for (int x = 0; x < N_GRADIENTS; ++x) of[x] = *lanes_at(gradients, x, s->capacity, k);
        for (int a = 0; a < 3; ++a) along += of[X + a] * unit[a]; /* a unit vector turns, and keeps its length */
        along = of[ALONG] - along * *(const mlpot_vector *)(s->inverse + k);
        add_slot_gradients(s, k, along, of[X], of[Y], of[Z], to);
    }
}

static void add_slopes_of_values(const triplet_functions_memory *w, int n_slots)
{
    for (int n = 0; n < w->n_radial; ++n)
        for (int k = 0; k < n_slots; ++k)
            w->gradients[ALONG * (ptrdiff_t)w->near.capacity + k] +=
                w->by_value[(ptrdiff_t)n * w->near.capacity + k] * w->slopes[(ptrdiff_t)n * w->near.capacity + k];
}

/* The neighbours of a centre and their curves, with slopes for pullbacks, which share all of it. */
static void place_triplets(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t centre, int slopes,
                           triplet_functions_memory *w)
{
    const shell_memory *s = &w->near;
    fill_shell(&t->shell, p, centre, slopes, &w->near);
    const int n_slots = s->begin[t->shell.n_groups];
    weigh_slots(&t->shell, s, t->weights, 1, s->weight);
    side_by_side(s, n_slots, s->values, 0, w->n_radial, s->weight, w->values);
    if (slopes) side_by_side(s, n_slots, s->slopes, 0, w->n_radial, s->weight, w->slopes);
}

/* Triplets of all pairs of groups of the centre that was placed. */
static void triplets_of_centre(const mlpot_triplet_functions *t, const double *cotangent, double *out, triplet_functions_memory *w)
{
    const ptrdiff_t n_functions = t->begin[t->n_shapes];
    for (int a = 0; a < t->shell.n_groups; ++a)
        for (int b = 0; b <= a; ++b) {
            const ptrdiff_t at = (a * (a + 1) / 2 + b) * n_functions;
            triplets_of_groups(t, a, b, out ? NULL : cotangent + at, out ? out + at : NULL, w);
        }
}

static void pull_back_triplets(const mlpot_triplet_functions *t, const double *cotangent, triplet_functions_memory *w,
                               const pair_sink *to)
{
    const shell_memory *s = &w->near;
    const int n_slots = s->begin[t->shell.n_groups];
    memset(w->gradients, 0, sizeof(double) * N_GRADIENTS * s->capacity);
    memset(w->by_value, 0, sizeof(double) * w->n_radial * s->capacity);
    triplets_of_centre(t, cotangent, NULL, w);
    add_slopes_of_values(w, n_slots);
    add_gradients(s, n_slots, w->gradients, to);
}

/* Values where `out` is given, else the pullback. */
static int triplet_functions(const mlpot_triplet_functions *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                             const double *cotangent, double *out, double *pair_gradients)
{
    const ptrdiff_t n = mlpot_n_triplet_functions(t);
    const pair_sink to = {.all = pair_gradients};
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_PANEL))) reduction(min : failed)
    {
        triplet_functions_memory w;
        failed = triplet_functions_create(t, p, n_atoms, &w);
#pragma omp for schedule(dynamic, MLPOT_PANEL)
        for (int64_t i = 0; i < n_atoms; ++i) {
            if (failed) continue;
            place_triplets(t, p, i, !out, &w);
            if (out) triplets_of_centre(t, NULL, out + i * n, &w);
            else pull_back_triplets(t, cotangent + i * n, &w, &to);
        }
        if (!failed) triplet_functions_free(&w);
    }
    return failed;
}
