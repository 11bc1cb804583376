/* Matrices D of the neighbours of MLPOT_LANES centres, their sums, and the pullback of these; formulas in bispectrum.h. */
#pragma once
#include "bispectrum.h"
#include "shells.h"

/* What a slot, one neighbour of every centre, is known by; every entry is a vector, idle lanes have no weight. */
enum { UNIT_X, UNIT_Y, UNIT_Z, SLOT_INVERSE, SLOT_COSINE, SLOT_SINE, SLOT_TURN, SLOT_WEIGHT, SLOT_SLOPE, SLOT_SIZE };

typedef struct {
    int n_half, n_whole;
    int n_slots;             /* of the current panel */
    int *begin;              /* (n_channels + 1) first slot */
    int32_t *pair;           /* (capacity, lanes) -1: idle */
    mlpot_vector *slots;     /* (capacity, SLOT_SIZE) */
    mlpot_vector *d;         /* (n_half, 2) D of one slot; of every slot where they are kept */
    ptrdiff_t apart;         /* vectors from slot to slot in d; 0: not kept */
    mlpot_vector *sums;      /* (n_channels, n_half, 2) */
    mlpot_vector *u;         /* (n_channels, n_whole, 2) U with norms */
    mlpot_vector *y;         /* (n_channels, n_half, 2) dE/dU */
    mlpot_vector *turned;    /* (n_channels, 4, n_half, 2) Y with norms, and the generators of SU(2) on it */
    mlpot_vector *outputs;   /* (n_outputs) values, or cotangents */
    void *memory;
} sphere_memory;

static int sphere_create(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int keep, sphere_memory *w)
{
    const size_t capacity = (size_t)most_neighbours(p, n_atoms) * (size_t)t->n_channels, channels = (size_t)t->n_channels;
    const size_t half = (size_t)mlpot_bispectrum_half(t->two_j_max + 1), whole = (size_t)mlpot_bispectrum_whole(t->two_j_max + 1);
    const size_t vectors = capacity * SLOT_SIZE + 2 * half * (keep ? capacity : 1)
                           + channels * (12 * half + 2 * whole) + (size_t)t->first_output[t->n_blocks];
    const size_t integers = lines(capacity * MLPOT_LANES) + lines(channels + 1);
    double *memory = w->memory = aligned(vectors * MLPOT_LANES + integers);
    if (!memory) return -1;
    w->n_half = (int)half;
    w->n_whole = (int)whole;
    w->apart = keep ? 2 * (ptrdiff_t)half : 0;
    w->slots = (mlpot_vector *)memory;
    w->d = w->slots + capacity * SLOT_SIZE;
    w->sums = w->d + 2 * half * (keep ? capacity : 1);
    w->u = w->sums + 2 * channels * half;
    w->y = w->u + 2 * channels * whole;
    w->turned = w->y + 2 * channels * half;
    w->outputs = w->turned + 8 * channels * half;
    w->pair = (int32_t *)(w->outputs + t->first_output[t->n_blocks]);
    w->begin = (int *)(w->pair + lines(capacity * MLPOT_LANES));
    return 0;
}

MLPOT_INLINE double reach_of(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t i, int64_t k)
{
    return t->cutoffs[p->species[i] * t->n_species + p->species[p->j[k]]];
}

/* One lane of a slot: angle, weight times cutoff function, and their derivatives by distance (SLOT_TURN, SLOT_SLOPE). */
static void fill_lane(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t k, double reach, double *lane)
{
    const double r = p->distances[k], inverse = 1.0 / r, span = 1.0 / (reach - t->start);
    for (int a = 0; a < 3; ++a) lane[(UNIT_X + a) * MLPOT_LANES] = p->vectors[3 * k + a] * inverse;
    const double turn = t->half_angle ? 0.5 / sqrt(reach * reach - r * r) : t->steepness * span;
    const double omega = t->half_angle ? 0.5 * asin(r / reach) : turn * (r - t->start);
    const double phase = M_PI * span * (r - t->start), weight = 0.5 * t->weights[p->species[p->j[k]]];
    lane[SLOT_INVERSE * MLPOT_LANES] = inverse;
    lane[SLOT_COSINE * MLPOT_LANES] = cos(omega);
    lane[SLOT_SINE * MLPOT_LANES] = sin(omega);
    lane[SLOT_TURN * MLPOT_LANES] = turn;
    lane[SLOT_WEIGHT * MLPOT_LANES] = weight * (1.0 + cos(phase));
    lane[SLOT_SLOPE * MLPOT_LANES] = -weight * M_PI * span * sin(phase);
}

/* Neighbours of `count` centres, one in every lane, by channel; slot s holds the s-th of every centre. */
static void gather_slots(const mlpot_bispectrum *t, const mlpot_pairs *p, const int32_t *centres, int count, sphere_memory *w)
{
    w->begin[0] = 0;
    for (int e = 0; e < t->n_channels; ++e) {
        int most = 0;
        for (int lane = 0; lane < MLPOT_LANES; ++lane) {
            const int64_t i = lane < count ? centres[lane] : 0, last = lane < count ? p->offsets[i + 1] : 0;
            int slot = w->begin[e];
            for (int64_t k = lane < count ? p->offsets[i] : 0; k < last; ++k) {
                if (t->channel[p->species[p->j[k]]] != e || !(p->distances[k] < reach_of(t, p, i, k))) continue;
                for (; slot - w->begin[e] >= most; ++most) {
                    memset(w->slots + (ptrdiff_t)slot * SLOT_SIZE, 0, sizeof(mlpot_vector) * SLOT_SIZE);
                    for (int x = 0; x < MLPOT_LANES; ++x) w->pair[slot * MLPOT_LANES + x] = -1;
                }
                w->pair[slot * MLPOT_LANES + lane] = (int32_t)k;
                fill_lane(t, p, k, reach_of(t, p, i, k), (double *)(w->slots + (ptrdiff_t)slot++ * SLOT_SIZE) + lane);
            }
        }
        w->begin[e + 1] = w->begin[e] + most;
    }
    w->n_slots = w->begin[t->n_channels];
}

/* A column of degree t from one of degree t - 1: out(m) = p before(m) + q before(m - 1). */
MLPOT_INLINE void next_column(int t, mlpot_vector p_r, mlpot_vector p_i, mlpot_vector q_r, mlpot_vector q_i,
                              const mlpot_vector *before, mlpot_vector *out)
{
    mlpot_vector x_r = {0}, x_i = {0};
    for (int m = 0; m < t; ++m) {
        const mlpot_vector y_r = before[2 * m], y_i = before[2 * m + 1];
        out[2 * m] = p_r * y_r - p_i * y_i + q_r * x_r - q_i * x_i;
        out[2 * m + 1] = p_r * y_i + p_i * y_r + q_r * x_i + q_i * x_r;
        x_r = y_r;
        x_i = y_i;
    }
    out[2 * t] = q_r * x_r - q_i * x_i;
    out[2 * t + 1] = q_r * x_i + q_i * x_r;
}

/* D of one slot, all degrees; the last factor of a column is (M10 x + M11 y), of the middle one (M00 x + M01 y). */
static void matrices(int two_j_max, const mlpot_vector *slot, mlpot_vector *d)
{
    const mlpot_vector s = slot[SLOT_SINE], a_r = slot[SLOT_COSINE], a_i = -s * slot[UNIT_Z];
    const mlpot_vector b_r = -s * slot[UNIT_Y], b_i = -s * slot[UNIT_X];
    d[0] = (mlpot_vector){0} + 1.0;
    d[1] = (mlpot_vector){0};
    mlpot_vector *before = d, *out = d + 2;
    for (int t = 1; t <= two_j_max; ++t) {
        mlpot_vector *const mine = out;
        for (int column = 0; column <= t / 2; ++column, out += 2 * (t + 1)) {
            if (2 * column < t)
                next_column(t, a_r, -a_i, -b_r, b_i, before + 2 * t * column, out);
            else
                next_column(t, b_r, b_i, a_r, a_i, before + 2 * t * (column - 1), out);
        }
        before = mine;
    }
}

MLPOT_INLINE mlpot_vector *matrices_of(const sphere_memory *w, int slot) { return w->d + slot * w->apart; }

static void expand_spheres(const mlpot_bispectrum *t, sphere_memory *w)
{
    memset(w->sums, 0, sizeof(mlpot_vector) * 2 * t->n_channels * w->n_half);
    for (int e = 0; e < t->n_channels; ++e)
        for (int s = w->begin[e]; s < w->begin[e + 1]; ++s) {
            const mlpot_vector *slot = w->slots + (ptrdiff_t)s * SLOT_SIZE, weight = slot[SLOT_WEIGHT];
            mlpot_vector *d = matrices_of(w, s), *sums = w->sums + (ptrdiff_t)2 * e * w->n_half;
            matrices(t->two_j_max, slot, d);
            for (int k = 0; k < 2 * w->n_half; ++k) sums[k] += weight * d[k];
        }
}

/* U with norms and the centre itself, in all columns. */
static void whole_matrices(const mlpot_bispectrum *t, const mlpot_pairs *p, const int32_t *centres, int count, sphere_memory *w)
{
    for (int e = 0; e < t->n_channels; ++e) {
        mlpot_vector self = {0}, *u = w->u + (ptrdiff_t)2 * e * w->n_whole;
        for (int lane = 0; lane < count; ++lane) self[lane] = t->self[p->species[centres[lane]] * t->n_channels + e];
        const mlpot_vector *sums = w->sums + (ptrdiff_t)2 * e * w->n_half;
        const double *norm = t->norms;
        for (int n = 0; n <= t->two_j_max; u += 2 * (n + 1) * (n + 1), ++n)
            for (int column = 0; column <= n / 2; ++column, sums += 2 * (n + 1), norm += n + 1)
                for (int m = 0; m <= n; ++m) {
                    const mlpot_vector re = norm[m] * sums[2 * m] + (m == column ? self : (mlpot_vector){0});
                    const mlpot_vector im = norm[m] * sums[2 * m + 1];
                    const double sign = (m - column) % 2 ? -1.0 : 1.0;
                    mlpot_vector *here = u + 2 * (column * (n + 1) + m), *there = u + 2 * ((n - column) * (n + 1) + n - m);
                    there[0] = sign * re;
                    there[1] = -sign * im;
                    here[0] = re;
                    here[1] = im;
                }
    }
}

/* Y in the stored columns with norms, twice where a column stands for two; then -i sigma_x, sigma_y, sigma_z on it:
 * turned[0] = Y, [1] = -i (m Y(m-1) + (t-m) Y(m+1)), [2] = m Y(m-1) - (t-m) Y(m+1), [3] = -i (2 m - t) Y(m) */
static void turn_adjoint(const mlpot_bispectrum *t, int channel, int lowest, int highest, sphere_memory *w)
{
    const ptrdiff_t size = (ptrdiff_t)2 * w->n_half, start = mlpot_bispectrum_half(lowest);
    mlpot_vector *plain = w->turned + channel * 4 * size + 2 * start;
    const mlpot_vector *y = w->y + channel * size + 2 * start;
    const double *norm = t->norms + start;
    for (int n = lowest; n <= highest; ++n)
        for (int column = 0; column <= n / 2; ++column, plain += 2 * (n + 1), y += 2 * (n + 1), norm += n + 1) {
            const double times = 2 * column == n ? 1.0 : 2.0;
            for (int m = 0; m <= n; ++m)
                for (int part = 0; part < 2; ++part) plain[2 * m + part] = times * norm[m] * y[2 * m + part];
            for (int m = 0; m <= n; ++m) {
                const mlpot_vector none = {0}, *v = plain + 2 * m;
                const double up = m, down = n - m;
                const mlpot_vector low_r = m ? up * v[-2] : none, low_i = m ? up * v[-1] : none;
                const mlpot_vector high_r = m < n ? down * v[2] : none, high_i = m < n ? down * v[3] : none;
                mlpot_vector *x = plain + size + 2 * m, *other = x + size, *z = other + size;
                x[0] = low_i + high_i;
                x[1] = -low_r - high_r;
                other[0] = low_r - high_r;
                other[1] = low_i - high_i;
                z[0] = (up - down) * v[1];
                z[1] = (down - up) * v[0];
            }
        }
}

/* Adds Re sum conj(turned) D over degrees lowest..highest of one slot to four sums. */
MLPOT_INLINE void project_slot(const sphere_memory *w, int channel, int slot, int lowest, int highest, mlpot_vector *sums)
{
    const ptrdiff_t size = (ptrdiff_t)2 * w->n_half, end = 2 * mlpot_bispectrum_half(highest + 1);
    const mlpot_vector *turned = w->turned + channel * 4 * size, *d = matrices_of(w, slot);
    for (ptrdiff_t k = 2 * mlpot_bispectrum_half(lowest); k < end; ++k)
        for (int x = 0; x < 4; ++x) sums[x] += turned[x * size + k] * d[k];
}

/* dE/dvector of one slot from its four sums: the weight moves along the unit vector n, D with the angle and with n. */
MLPOT_INLINE void slot_gradient(const mlpot_vector *slot, const mlpot_vector *sums, mlpot_vector *gradient)
{
    const mlpot_vector *n = slot + UNIT_X, *l = sums + 1, s = slot[SLOT_SINE];
    const mlpot_vector along = n[0] * l[0] + n[1] * l[1] + n[2] * l[2];
    const mlpot_vector across = -slot[SLOT_WEIGHT] * slot[SLOT_COSINE] * s * slot[SLOT_INVERSE];
    const mlpot_vector around = slot[SLOT_WEIGHT] * s * s * slot[SLOT_INVERSE];
    const mlpot_vector ahead = slot[SLOT_SLOPE] * sums[0] - (slot[SLOT_WEIGHT] * slot[SLOT_TURN] + across) * along;
    for (int x = 0; x < 3; ++x) {
        const int y = (x + 1) % 3, z = (x + 2) % 3;
        gradient[x] = ahead * n[x] + across * l[x] + around * (l[y] * n[z] - l[z] * n[y]);
    }
}
