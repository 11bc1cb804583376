/* Triplets of every centre: lanes are triplets where sparse points are summed, one direction of the table where it is
 * read. Each centre writes memory of its own, so results are bitwise the same for any number of threads. */
#pragma once
#include "exponential.h"
#include "products.h"
#include "triplets.h"

/* Columns of a table of triplets of one centre. */
enum { SUM, SQUARE, APART, CUTOFFS, VALUE, D_SUM, D_SQUARE, D_APART, N_COLUMNS };

typedef struct {
    int capacity;            /* triplets it has room for, a multiple of MLPOT_PANEL */
    int n;                   /* triplets in hand */
    int n_first, n_second;   /* neighbours in hand of either kind */
    int32_t *first, *second; /* their pairs */
    int32_t *j, *k;          /* (capacity) places of a triplet's neighbours among them */
    double *step, *slope;    /* cutoff function and slope: first neighbours, then second */
    double *columns;         /* (N_COLUMNS, capacity) */
    double *covariances;     /* (n_points rounded up to MLPOT_TILE, MLPOT_PANEL) */
    void *memory;
} triplet_memory;

static int triplet_memory_create(const mlpot_triplets *t, const mlpot_pairs *p, int64_t n_atoms, triplet_memory *w)
{
    int64_t most = 1;
    for (int64_t i = 0; i < n_atoms; ++i)
        if (p->offsets[i + 1] - p->offsets[i] > most) most = p->offsets[i + 1] - p->offsets[i];
    const int64_t n_triplets = t->first == t->second ? most * (most - 1) / 2 : most * most / 4 + 1;
    const size_t capacity = (size_t)(n_triplets + MLPOT_PANEL) / MLPOT_PANEL * MLPOT_PANEL;
    const size_t neighbours = lines((size_t)most), points = mlpot_round_up(t->n_points, MLPOT_TILE);
    double *memory = aligned(2 * neighbours + capacity + 4 * neighbours + N_COLUMNS * capacity + points * MLPOT_PANEL);
    if (!memory) return -1;
    w->memory = memory;
    w->capacity = (int)capacity;
    w->first = (int32_t *)memory;
    w->second = w->first + neighbours;
    w->j = (int32_t *)(memory += 2 * neighbours);
    w->k = w->j + capacity;
    w->step = memory += capacity;
    w->slope = memory += 2 * neighbours;
    w->columns = memory += 2 * neighbours;
    w->covariances = memory + N_COLUMNS * capacity;
    memset(w->covariances, 0, sizeof(double) * points * MLPOT_PANEL);
    return 0;
}

static int neighbours_of(const mlpot_triplets *t, const mlpot_pairs *p, int64_t centre, int species, int32_t *pairs,
                         double *step, double *slope)
{
    const double pi = 3.14159265358979323846, wave = pi / t->cutoff_width, plateau = t->cutoff - t->cutoff_width;
    int n = 0;
    for (int64_t pair = p->offsets[centre]; pair < p->offsets[centre + 1]; ++pair) {
        const double r = p->distances[pair];
        if (!(r < t->cutoff) || p->species[p->j[pair]] != species) continue;
        step[n] = r > plateau ? 0.5 * (1.0 + cos(wave * (r - plateau))) : 1.0;
        slope[n] = r > plateau ? -0.5 * wave * sin(wave * (r - plateau)) : 0.0;
        pairs[n++] = (int32_t)pair;
    }
    return n;
}

static void add_triplet(const mlpot_pairs *p, triplet_memory *w, int j, int k)
{
    const int64_t a = w->first[j], b = w->second[k];
    const int at = w->n++;
    double squares = 0.0;
    for (int x = 0; x < 3; ++x) {
        const double apart = p->vectors[3 * b + x] - p->vectors[3 * a + x];
        squares += apart * apart;
    }
    const double difference = p->distances[a] - p->distances[b];
    w->j[at] = j;
    w->k[at] = k;
    w->columns[SUM * w->capacity + at] = p->distances[a] + p->distances[b];
    w->columns[SQUARE * w->capacity + at] = difference * difference;
    w->columns[APART * w->capacity + at] = sqrt(squares);
    w->columns[CUTOFFS * w->capacity + at] = w->step[j] * w->step[w->n_first + k];
}

/* All triplets of a centre; idle places up to a whole panel repeat the last one with no weight. */
static void gather_triplets(const mlpot_triplets *t, const mlpot_pairs *p, int64_t centre, triplet_memory *w)
{
    const int same = t->first == t->second;
    w->n = 0;
    w->n_first = neighbours_of(t, p, centre, t->first, w->first, w->step, w->slope);
    w->n_second = neighbours_of(t, p, centre, t->second, w->second, w->step + w->n_first, w->slope + w->n_first);
    for (int j = 0; j < w->n_first; ++j)
        for (int k = same ? j + 1 : 0; k < w->n_second; ++k) add_triplet(p, w, j, k);
    for (int at = w->n; at % MLPOT_PANEL; ++at)
        for (int c = 0; c <= CUTOFFS; ++c)
            w->columns[c * w->capacity + at] = c == CUTOFFS ? 0.0 : w->columns[c * w->capacity + w->n - 1];
}

/* G and its gradient of MLPOT_LANES triplets by summing over the sparse points. */
static void sum_points(const mlpot_triplets *t, const double *columns, ptrdiff_t capacity, double *out)
{
    mlpot_vector x[3], value = {0}, gradient[3] = {{0}};
    for (int a = 0; a < 3; ++a) x[a] = *(const mlpot_vector *)(columns + a * capacity) * t->per_scale[a];
    for (int s = 0; s < t->n_points; ++s) {
        const mlpot_vector u = x[0] - t->points[3 * s], v = x[1] - t->points[3 * s + 1], w = x[2] - t->points[3 * s + 2];
        const mlpot_vector e = t->strengths[s] * exponential(-0.5 * (u * u + v * v + w * w));
        value += e;
        gradient[0] -= e * u;
        gradient[1] -= e * v;
        gradient[2] -= e * w;
    }
    *(mlpot_vector *)out = value;
    for (int a = 0; a < 3; ++a) *(mlpot_vector *)(out + (a + 1) * capacity) = gradient[a] * t->per_scale[a];
}

/* Quintic B-splines that are not zero at t in [0, 1] of an interval, and their slopes. */
MLPOT_INLINE void splines(double t, double *value, double *slope)
{
    const double s = 1.0 - t, t2 = t * t, s2 = s * s, t4 = t2 * t2, s4 = s2 * s2;
    value[0] = s4 * s / 120;
    value[5] = t4 * t / 120;
    value[1] = (26 - 50 * t + 20 * t2 + 20 * t2 * t - 20 * t4 + 5 * t4 * t) / 120;
    value[4] = (26 - 50 * s + 20 * s2 + 20 * s2 * s - 20 * s4 + 5 * s4 * s) / 120;
    value[2] = (66 - 60 * t2 + 30 * t4 - 10 * t4 * t) / 120;
    value[3] = (66 - 60 * s2 + 30 * s4 - 10 * s4 * s) / 120;
    slope[0] = -s4 / 24;
    slope[5] = t4 / 24;
    slope[1] = (-50 + 40 * t + 60 * t2 - 80 * t2 * t + 25 * t4) / 120;
    slope[4] = -(-50 + 40 * s + 60 * s2 - 80 * s2 * s + 25 * s4) / 120;
    slope[2] = (-120 * t + 120 * t2 * t - 50 * t4) / 120;
    slope[3] = -(-120 * s + 120 * s2 * s - 50 * s4) / 120;
}

/* G and its gradient of one triplet from the table. */
static void read_table(const mlpot_triplets *t, const double *columns, ptrdiff_t capacity, double *out)
{
    double value[3][8] __attribute__((aligned(64))) = {{0}}, slope[3][8] __attribute__((aligned(64))) = {{0}};
    const double *corner = t->table;
    for (int a = 0; a < 3; ++a) {
        const double place = (columns[a * capacity] - t->start[a]) * t->per_step[a];
        int knot = place > 0.0 ? (int)place : 0;
        if (knot > t->size[a] - 6) knot = t->size[a] - 6;
        splines(place - knot, value[a], slope[a]);
        corner += a < 2 ? knot * t->stride[a] : knot;
    }
    double sums[4] = {0};
    for (int part = 0; part < 8; part += MLPOT_LANES) {
        mlpot_vector g = {0}, ga = {0}, gb = {0};
        for (int a = 0; a < 6; ++a)
            for (int b = 0; b < 6; ++b) {
                mlpot_vector c;
                memcpy(&c, corner + a * t->stride[0] + b * t->stride[1] + part, sizeof c);
                g += (value[0][a] * value[1][b]) * c;
                ga += (slope[0][a] * value[1][b]) * c;
                gb += (value[0][a] * slope[1][b]) * c;
            }
        const mlpot_vector v = *(const mlpot_vector *)(value[2] + part), s = *(const mlpot_vector *)(slope[2] + part);
        sums[0] += sum_lanes(g * v);
        sums[1] += sum_lanes(ga * v);
        sums[2] += sum_lanes(gb * v);
        sums[3] += sum_lanes(g * s);
    }
    out[0] = sums[0];
    for (int a = 0; a < 3; ++a) out[(a + 1) * capacity] = sums[a + 1] * t->per_step[a];
}

static void evaluate_triplets(const mlpot_triplets *t, const mlpot_pairs *p, triplet_memory *w)
{
    const ptrdiff_t capacity = w->capacity;
    for (int at = 0; at < w->n; at += MLPOT_LANES) {
        int near = !t->table;
        for (int lane = at; lane < at + MLPOT_LANES && lane < w->n; ++lane)
            near |= p->distances[w->first[w->j[lane]]] < t->nearest || p->distances[w->second[w->k[lane]]] < t->nearest;
        if (near) sum_points(t, w->columns + at, capacity, w->columns + VALUE * capacity + at);
        for (int lane = at; !near && lane < at + MLPOT_LANES && lane < w->n; ++lane)
            read_table(t, w->columns + lane, capacity, w->columns + VALUE * capacity + lane);
    }
}

/* Chain rule from G(x) to the vectors of a triplet's two pairs. */
static double triplet_gradients(const mlpot_pairs *p, const triplet_memory *w, double *pair_gradients)
{
    double energy = 0.0;
    for (int at = 0; at < w->n; ++at) {
        const double *c = w->columns + at;
        const ptrdiff_t n = w->capacity;
        const int j = w->j[at], k = w->n_first + w->k[at];
        const int64_t a = w->first[w->j[at]], b = w->second[w->k[at]];
        const double value = c[VALUE * n], both = c[CUTOFFS * n], across = both * c[D_APART * n] / c[APART * n];
        const double apart = 2.0 * (p->distances[a] - p->distances[b]) * c[D_SQUARE * n];
        const double along_a = (w->slope[j] * w->step[k] * value + both * (c[D_SUM * n] + apart)) / p->distances[a];
        const double along_b = (w->step[j] * w->slope[k] * value + both * (c[D_SUM * n] - apart)) / p->distances[b];
        energy += both * value;
        for (int x = 0; x < 3; ++x) {
            const double u = p->vectors[3 * a + x], v = p->vectors[3 * b + x];
            pair_gradients[3 * a + x] += along_a * u - across * (v - u);
            pair_gradients[3 * b + x] += along_b * v + across * (v - u);
        }
    }
    return energy;
}

/* Covariances of a panel of triplets with the sparse points, then their variances. */
static double triplet_variances(const mlpot_triplets *t, const mlpot_triplet_variance *v, triplet_memory *w)
{
    double total = 0.0;
    const int n_rows = mlpot_round_up(t->n_points, MLPOT_TILE);
    for (int at = 0; at < w->n; at += MLPOT_PANEL) {
        double rows[MLPOT_TILE * MLPOT_PANEL] __attribute__((aligned(64))), explained[MLPOT_PANEL] = {0};
        for (int part = 0; part < MLPOT_PANEL; part += MLPOT_LANES) {
            mlpot_vector x[3];
            for (int a = 0; a < 3; ++a)
                x[a] = *(const mlpot_vector *)(w->columns + a * w->capacity + at + part) * t->per_scale[a];
            for (int s = 0; s < t->n_points; ++s) {
                const double *point = t->points + 3 * s;
                const mlpot_vector a = x[0] - point[0], b = x[1] - point[1], c = x[2] - point[2];
                *(mlpot_vector *)(w->covariances + s * MLPOT_PANEL + part) =
                    v->strengths[s] * exponential(-0.5 * (a * a + b * b + c * c));
            }
        }
        const double *tile = v->spread;
        for (int columns = MLPOT_TILE; columns <= n_rows; tile += columns * MLPOT_TILE, columns += MLPOT_TILE) {
            product(tile, columns, w->covariances, rows);
            for (int k = 0; k < MLPOT_TILE * MLPOT_PANEL; ++k) explained[k % MLPOT_PANEL] += rows[k] * rows[k];
        }
        for (int k = 0; k < MLPOT_PANEL && at + k < w->n; ++k) {
            const double both = w->columns[CUTOFFS * w->capacity + at + k];
            total += both * both * (v->prior - explained[k]);
        }
    }
    return total;
}

static int triplet_sums(const mlpot_triplets *t, const mlpot_triplet_variance *v, const mlpot_pairs *p, int64_t n_atoms,
                        int n_threads, double *energies, double *pair_gradients, double *variances)
{
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_BLOCK))) reduction(min : failed)
    {
        triplet_memory w;
        failed = triplet_memory_create(t, p, n_atoms, &w);
#pragma omp for schedule(dynamic, MLPOT_BLOCK)
        for (int64_t i = 0; i < n_atoms; ++i) {
            if (failed || p->species[i] != t->centre) continue;
            gather_triplets(t, p, i, &w);
            evaluate_triplets(t, p, &w);
            energies[i] += triplet_gradients(p, &w, pair_gradients);
            if (variances) variances[i] += triplet_variances(t, v, &w);
        }
        if (!failed) free(w.memory);
    }
    return failed;
}
