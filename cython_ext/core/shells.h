/* The neighbours of one centre with their curves: sorted by group, each group starting at a whole vector. Idle lanes are at the
 * cutoff, where every curve is 0. */
#pragma once
#include "acsf.h"
#include "radial.h"

typedef struct {
    int capacity;            /* slots, a multiple of MLPOT_LANES */
    int n_columns;
    int32_t *pair, *species; /* (capacity) index of the pair; -1: idle */
    int32_t *near, *kind;    /* (capacity) pairs within the cutoff and their species, as found */
    int *begin;              /* (n_groups + 1) first slot, a multiple of MLPOT_LANES */
    int *count;              /* (n_groups) neighbours */
    double *distance, *inverse; /* (capacity) */
    double *unit;            /* (capacity / lanes, 3, lanes) */
    double *values, *slopes; /* (capacity, n_columns) */
    double *weight;          /* (capacity) of the slots, for whoever needs it */
    double *memory;
} shell_memory;

static int most_neighbours(const mlpot_pairs *p, int64_t n_atoms)
{
    int64_t most = 1;
    for (int64_t i = 0; i < n_atoms; ++i)
        if (p->offsets[i + 1] - p->offsets[i] > most) most = p->offsets[i + 1] - p->offsets[i];
    return (int)most;
}

static int shell_create(const mlpot_shell *t, const mlpot_pairs *p, int64_t n_atoms, shell_memory *s)
{
    const size_t n = lines((size_t)most_neighbours(p, n_atoms) + (size_t)t->n_groups * (MLPOT_LANES - 1));
    const size_t groups = lines((size_t)t->n_groups + 1), columns = (size_t)t->curves.n_columns;
    double *memory = aligned(2 * n + 2 * groups + 6 * n + 2 * n * columns + MLPOT_LANES); /* side_by_side reads beyond the end */
    if (!memory) return -1;
    s->memory = memory;
    s->capacity = (int)n;
    s->n_columns = (int)columns;
    s->pair = (int32_t *)memory;
    s->species = s->pair + n;
    s->near = s->pair + 2 * n;
    s->kind = s->pair + 3 * n;
    s->begin = (int *)(memory += 2 * n);
    s->count = (int *)(memory += groups);
    s->distance = memory += groups;
    s->inverse = memory += n;
    s->weight = memory += n;
    s->unit = memory += n;
    s->values = memory += 3 * n;
    s->slopes = memory + n * columns;
    return 0;
}

MLPOT_INLINE mlpot_vector select_lanes(lane_places where, mlpot_vector chosen, mlpot_vector other)
{
    return (mlpot_vector)(((lane_places)chosen & where) | ((lane_places)other & ~where));
}

/* Knots left of MLPOT_LANES places, and the weights of values there and, where asked, of slopes. */
MLPOT_INLINE void locate(const mlpot_curves *t, mlpot_vector x, const double **knots, mlpot_vector *value, mlpot_vector *slope)
{
    const int last = t->n_segments - 1;
    mlpot_vector start = (mlpot_vector){0} + t->start[0], per_step = (mlpot_vector){0} + t->per_step[0];
    integers first = (integers){0} + t->first[0], most = (integers){0} + (t->n_intervals[0] - 1);
    for (int s = 1; s <= last; ++s) {
        const lane_places behind = x >= t->start[s];
        const integers narrow = __builtin_convertvector(behind, integers);
        start = select_lanes(behind, (mlpot_vector){0} + t->start[s], start);
        per_step = select_lanes(behind, (mlpot_vector){0} + t->per_step[s], per_step);
        first = (first & ~narrow) | (((integers){0} + t->first[s]) & narrow);
        most = (most & ~narrow) | (((integers){0} + (t->n_intervals[s] - 1)) & narrow);
        if (s == last) x = select_lanes(behind, start, x); /* the last segment is 0 everywhere */
    }
    const mlpot_vector at = (x - start) * per_step;
    integers k = __builtin_convertvector(at, integers);
    const integers beyond = k > most;
    k = (k & ~beyond) | (most & beyond);
    const mlpot_vector place = at - __builtin_convertvector(k, mlpot_vector);
    k += first;
    for (int lane = 0; lane < MLPOT_LANES; ++lane) knots[lane] = t->knots + (ptrdiff_t)k[lane] * 3 * t->n_columns;
    value_weights(place, value);
    if (slope) slope_weights(per_step, place, slope);
}

/* Pairs within the cutoff into the slots of their groups. */
static void sort_neighbours(const mlpot_shell *t, const mlpot_pairs *p, int64_t centre, shell_memory *s)
{
    int n = 0;
    memset(s->count, 0, sizeof(int) * t->n_groups);
    for (int64_t k = p->offsets[centre]; k < p->offsets[centre + 1]; ++k) {
        if (!(p->distances[k] < t->cutoff)) continue;
        s->near[n] = (int32_t)k;
        s->kind[n] = p->species[p->j[k]];
        ++s->count[t->group[s->kind[n++]]];
    }
    s->begin[0] = 0;
    for (int g = 0; g < t->n_groups; ++g) {
        s->begin[g + 1] = s->begin[g] + mlpot_round_up(s->count[g], MLPOT_LANES);
        for (int k = s->begin[g] + s->count[g]; k < s->begin[g + 1]; ++k) s->pair[k] = -1;
        s->count[g] = 0;
    }
    for (int k = 0; k < n; ++k) {
        const int g = t->group[s->kind[k]], slot = s->begin[g] + s->count[g]++;
        s->pair[slot] = s->near[k];
        s->species[slot] = s->kind[k];
    }
}

static void place_neighbours(const mlpot_shell *t, const mlpot_pairs *p, shell_memory *s)
{
    for (int k = 0; k < s->begin[t->n_groups]; k += MLPOT_LANES) {
        mlpot_vector distance = (mlpot_vector){0} + t->cutoff, vector[3] = {{0}, {0}, distance};
        for (int lane = 0; lane < MLPOT_LANES && s->pair[k + lane] >= 0; ++lane) {
            const int64_t pair = s->pair[k + lane];
            distance[lane] = p->distances[pair];
            for (int a = 0; a < 3; ++a) vector[a][lane] = p->vectors[3 * pair + a];
        }
        const mlpot_vector inverse = 1.0 / distance;
        *(mlpot_vector *)(s->distance + k) = distance;
        *(mlpot_vector *)(s->inverse + k) = inverse;
        for (int a = 0; a < 3; ++a) ((mlpot_vector *)(s->unit + 3 * k))[a] = vector[a] * inverse;
    }
}

/* Weights of the species in the slots, 0 in idle ones; those of a species are `apart` from those of the next. */
MLPOT_INLINE void weigh_slots(const mlpot_shell *t, const shell_memory *s, const double *weights, ptrdiff_t apart, double *out)
{
    for (int g = 0; g < t->n_groups; ++g) {
        const int end = s->begin[g] + s->count[g];
        for (int k = s->begin[g]; k < end; ++k) out[k] = weights[s->species[k] * apart];
        for (int k = end; k < s->begin[g + 1]; ++k) out[k] = 0.0;
    }
}

/* `n` columns of (n_slots, n_columns) rows, from `first` on, times a weight of every slot: (n, capacity), neighbours side by side. */
static void side_by_side(const shell_memory *s, int n_slots, const double *rows, int first, int n, const double *weight,
                         double *out)
{
    mlpot_vector block[MLPOT_LANES];
    for (int k = 0; k < n_slots; k += MLPOT_LANES)
        for (int c = 0; c < n; c += MLPOT_LANES) {
            const int count = n - c < MLPOT_LANES ? n - c : MLPOT_LANES;
            transpose_block(rows + (ptrdiff_t)k * s->n_columns + first + c, s->n_columns, (double *)block, MLPOT_LANES);
            for (int i = 0; i < count; ++i)
                *(mlpot_vector *)(out + (ptrdiff_t)(c + i) * s->capacity + k) = *(const mlpot_vector *)(weight + k) * block[i];
        }
}

/* Neighbours of a centre, values of their curves and, where asked, slopes. */
MLPOT_INLINE void fill_shell(const mlpot_shell *t, const mlpot_pairs *p, int64_t centre, int slopes, shell_memory *s)
{
    sort_neighbours(t, p, centre, s);
    place_neighbours(t, p, s);
    for (int k = 0; k < s->begin[t->n_groups]; k += MLPOT_LANES) {
        const double *knots[MLPOT_LANES];
        mlpot_vector value[6], slope[6];
        locate(&t->curves, *(const mlpot_vector *)(s->distance + k), knots, value, slopes ? slope : NULL);
        for (int lane = 0; lane < MLPOT_LANES; ++lane) {
            const ptrdiff_t row = (ptrdiff_t)(k + lane) * s->n_columns;
            combine(knots[lane], s->n_columns, value, lane, s->values + row);
            if (slopes) combine(knots[lane], s->n_columns, slope, lane, s->slopes + row);
        }
    }
}

/* Where a pullback adds dE/dvectors: (n_pairs, 3), or, if that is NULL, to one member of (n_rows, 3, MLPOT_MEMBERS), with a row for every
 * pair of some centres: its number minus the shift of its centre. */
typedef struct {
    double *all;
    float *member;
    const int64_t *shift;    /* of the centres that are processed together */
} pair_sink;

/* `lane` is the place of the pair's centre among those that are processed together. */
MLPOT_INLINE void add_to_pair(const pair_sink *to, int lane, int64_t pair, int a, double gradient)
{
    if (to->all) to->all[3 * pair + a] += gradient;
    else to->member[(3 * (pair - to->shift[lane]) + a) * MLPOT_MEMBERS] += (float)gradient;
}

/* dE/dr of MLPOT_LANES neighbours from slot k on: rhat along + inverse (x, y, z), added to their pairs. */
MLPOT_INLINE void add_slot_gradients(const shell_memory *s, int k, mlpot_vector along, mlpot_vector x, mlpot_vector y,
                                     mlpot_vector z, const pair_sink *to)
{
    const mlpot_vector *unit = (const mlpot_vector *)(s->unit + k * 3), inverse = *(const mlpot_vector *)(s->inverse + k);
    const mlpot_vector gradient[3] = {unit[0] * along + inverse * x, unit[1] * along + inverse * y, unit[2] * along + inverse * z};
    for (int lane = 0; lane < MLPOT_LANES; ++lane)
        for (int a = 0; a < 3 && s->pair[k + lane] >= 0; ++a)
            add_to_pair(to, 0, s->pair[k + lane], a, gradient[a][lane]);
}
