/* Products of three densities on the sphere, and their derivatives; formulas and tables in bispectrum.h. */
#pragma once
#include "hyperspheres.h"

/* A block with the degrees it couples to. */
typedef struct {
    int t1, t2, n_t;         /* n_t: as in the couplings */
    int highest;             /* degree of the first */
    const mlpot_vector *u1, *u2;
    const int32_t *rows;     /* (t1 + t2 + 1) */
    int output;
} sphere_block;

static sphere_block block_of(const mlpot_bispectrum *t, const sphere_memory *w, int b)
{
    const int32_t *own = t->blocks + 4 * b;
    const int t1 = own[0], t2 = own[2], sum = t1 + t2, n = t->two_j_max + 1;
    const int highest = sum <= t->two_j_max ? sum : t->two_j_max - (sum - t->two_j_max) % 2;
    const mlpot_vector *u1 = w->u + 2 * ((ptrdiff_t)own[1] * w->n_whole + mlpot_bispectrum_whole(t1));
    const mlpot_vector *u2 = w->u + 2 * ((ptrdiff_t)own[3] * w->n_whole + mlpot_bispectrum_whole(t2));
    return (sphere_block){t1, t2, (highest - (t1 - t2)) / 2 + 1, highest, u1, u2,
                          t->rows + (t1 * n + t2) * (2 * n - 1), t->first_output[b]};
}

/* Degrees that occur in row k of a block. */
MLPOT_INLINE int n_at(const sphere_block *b, int k)
{
    const int off = abs(2 * k - b->t1 - b->t2), least = off > b->t1 - b->t2 ? off : b->t1 - b->t2;
    return (b->highest - least) / 2 + 1;
}

/* Z of `count` degrees from `first` on, at one place: row k, column k'. */
MLPOT_INLINE void couple_at(const int count, const double *coefficients, const sphere_block *b, int first, int k, int column,
                            mlpot_vector *z)
{
    const int n1 = b->t1 + 1, n2 = b->t2 + 1;
    const int low = k > b->t2 ? k - b->t2 : 0, high = k < b->t1 ? k : b->t1;
    const int low_c = column > b->t2 ? column - b->t2 : 0, high_c = column < b->t1 ? column : b->t1;
    const double *outer = coefficients + b->rows[column] + first, *inner = coefficients + b->rows[k] + first;
    for (int j = 0; j < 2 * count; ++j) z[j] = (mlpot_vector){0};
    for (int c = low_c; c <= high_c; ++c, outer += b->n_t) {
        const mlpot_vector *u1 = b->u1 + 2 * (c * n1 + low), *u2 = b->u2 + 2 * ((column - c) * n2 + k - low);
        const double *coefficient = inner;
        mlpot_vector sum[2 * 8];
        for (int j = 0; j < 2 * count; ++j) sum[j] = (mlpot_vector){0};
        for (int m = low; m <= high; ++m, u1 += 2, u2 -= 2, coefficient += b->n_t) {
            const mlpot_vector re = u1[0] * u2[0] - u1[1] * u2[1], im = u1[0] * u2[1] + u1[1] * u2[0];
            for (int j = 0; j < count; ++j) {
                sum[2 * j] += coefficient[j] * re;
                sum[2 * j + 1] += coefficient[j] * im;
            }
        }
        for (int j = 0; j < count; ++j) {
            z[2 * j] += outer[j] * sum[2 * j];
            z[2 * j + 1] += outer[j] * sum[2 * j + 1];
        }
    }
}

/* What becomes of Z: products with U -> outputs, or its share, the cotangents in outputs, of Y. */
MLPOT_INLINE void use_at(const mlpot_bispectrum *t, const sphere_block *b, int count, int first, int k, int column, int values,
                         const mlpot_vector *z, sphere_memory *w)
{
    const double times = 2 * column == b->t1 + b->t2 ? 1.0 : 2.0;
    for (int j = 0; j < count; ++j) {
        const int degree = b->highest - 2 * (first + j), shift = (b->t1 + b->t2 - degree) / 2;
        const ptrdiff_t place = (ptrdiff_t)(column - shift) * (degree + 1) + k - shift;
        mlpot_vector *output = w->outputs + b->output + (first + j) * t->n_channels;
        for (int e = 0; e < t->n_channels; ++e) {
            if (values) {
                const mlpot_vector *u = w->u + 2 * ((ptrdiff_t)e * w->n_whole + mlpot_bispectrum_whole(degree) + place);
                output[e] += times * (u[0] * z[2 * j] + u[1] * z[2 * j + 1]);
            } else {
                mlpot_vector *y = w->y + 2 * ((ptrdiff_t)e * w->n_half + mlpot_bispectrum_half(degree) + place);
                y[0] += output[e] * z[2 * j];
                y[1] += output[e] * z[2 * j + 1];
            }
        }
    }
}

#define COUPLE(count)                                                      \
    case count:                                                            \
        couple_at(count, t->couplings, b, first, k, column, z);            \
        break;

/* Degrees first..end of a block, at every place of the stored columns. */
static void couple(const mlpot_bispectrum *t, const sphere_block *b, int first, int end, int values, sphere_memory *w)
{
    const int sum = b->t1 + b->t2, begin = (sum - b->highest + 2 * first) / 2;
    for (int column = begin; 2 * column <= sum; ++column)
        for (int k = begin; k <= sum - begin; ++k) {
            int count = n_at(b, k) < n_at(b, column) ? n_at(b, k) : n_at(b, column);
            count = (count < end ? count : end) - first;
            mlpot_vector z[2 * 8];
            switch (count) {
                COUPLE(1) COUPLE(2) COUPLE(3) COUPLE(4) COUPLE(5) COUPLE(6) COUPLE(7) COUPLE(8)
                default: continue;
            }
            use_at(t, b, count, first, k, column, values, z, w);
        }
}

/* The densities of `count` centres, one in every lane. */
static void place_spheres(const mlpot_bispectrum *t, const mlpot_pairs *p, const int32_t *centres, int count, sphere_memory *w)
{
    gather_slots(t, p, centres, count, w);
    expand_spheres(t, w);
    whole_matrices(t, p, centres, count, w);
}

/* Rows of features of the centres that were placed, `apart` from each other; likewise the cotangents below. */
static void sphere_values(const mlpot_bispectrum *t, int count, sphere_memory *w, double *out, ptrdiff_t apart)
{
    memset(w->outputs, 0, sizeof(mlpot_vector) * t->first_output[t->n_blocks]);
    for (int b = 0; b < t->n_blocks; ++b) {
        const sphere_block block = block_of(t, w, b);
        if (t->n_valued[b]) couple(t, &block, 0, t->n_valued[b], 1, w);
    }
    for (int lane = 0; lane < count; ++lane)
        for (int f = 0; f < t->n_features; ++f)
            out[lane * apart + f] = t->scale[f] * w->outputs[t->value[f]][lane];
}

static void sphere_vjp(const mlpot_bispectrum *t, int count, const double *cotangent, ptrdiff_t apart, sphere_memory *w,
                       const pair_sink *to)
{
    memset(w->outputs, 0, sizeof(mlpot_vector) * t->first_output[t->n_blocks]);
    for (int f = 0; f < t->n_features; ++f) {
        mlpot_vector d = {0};
        for (int lane = 0; lane < count; ++lane) d[lane] = cotangent[lane * apart + f];
        for (int k = t->begin[f]; k < t->begin[f + 1]; ++k)
            w->outputs[t->first_output[t->entry_block[k]] + t->entry_t[k] * t->n_channels + t->entry_channel[k]] +=
                t->entry_factor[k] * d;
    }
    memset(w->y, 0, sizeof(mlpot_vector) * 2 * t->n_channels * w->n_half);
    for (int b = 0; b < t->n_blocks; ++b) {
        const sphere_block block = block_of(t, w, b);
        couple(t, &block, 0, block.n_t, 0, w);
    }
    for (int e = 0; e < t->n_channels; ++e) {
        turn_adjoint(t, e, 0, t->two_j_max, w);
        for (int s = w->begin[e]; s < w->begin[e + 1]; ++s) {
            const mlpot_vector *slot = w->slots + (ptrdiff_t)s * SLOT_SIZE;
            mlpot_vector sums[4] = {{0}}, gradient[3];
            matrices(t->two_j_max, slot, matrices_of(w, s));
            project_slot(w, e, s, 0, t->two_j_max, sums);
            slot_gradient(slot, sums, gradient);
            for (int lane = 0; lane < MLPOT_LANES; ++lane)
                for (int x = 0; x < 3 && w->pair[s * MLPOT_LANES + lane] >= 0; ++x)
                    add_to_pair(to, lane, w->pair[s * MLPOT_LANES + lane], x, gradient[x][lane]);
        }
    }
}

/* dE/dU of one feature: few degrees of few channels, in `touched` (n_channels, two_j_max + 1). */
static void sphere_adjoint(const mlpot_bispectrum *t, int feature, char *touched, sphere_memory *w)
{
    memset(touched, 0, (size_t)t->n_channels * (t->two_j_max + 1));
    for (int k = t->begin[feature]; k < t->begin[feature + 1]; ++k) {
        const sphere_block block = block_of(t, w, t->entry_block[k]);
        const int degree = block.highest - 2 * t->entry_t[k], e = t->entry_channel[k];
        mlpot_vector *y = w->y + 2 * ((ptrdiff_t)e * w->n_half + mlpot_bispectrum_half(degree));
        char *mine = touched + e * (t->two_j_max + 1) + degree;
        if (!*mine) memset(y, 0, sizeof(mlpot_vector) * 2 * (degree + 1) * (degree / 2 + 1));
        *mine = 1;
        for (int c = 0; c < t->n_channels; ++c)
            w->outputs[block.output + t->entry_t[k] * t->n_channels + c] = (mlpot_vector){0} + (c == e ? t->entry_factor[k] : 0.0);
        couple(t, &block, t->entry_t[k], t->entry_t[k] + 1, 0, w);
    }
}

static void sphere_jacobian(const mlpot_bispectrum *t, char *touched, sphere_memory *w, double *jacobian)
{
    const int n = t->two_j_max + 1;
    for (int f = 0; f < t->n_features; ++f) {
        sphere_adjoint(t, f, touched, w);
        for (int e = 0; e < t->n_channels; ++e) {
            for (int degree = 0; degree < n; ++degree)
                if (touched[e * n + degree]) turn_adjoint(t, e, degree, degree, w);
            for (int s = w->begin[e]; s < w->begin[e + 1]; ++s) {
                mlpot_vector sums[4] = {{0}}, gradient[3];
                for (int degree = 0; degree < n; ++degree)
                    if (touched[e * n + degree]) project_slot(w, e, s, degree, degree, sums);
                slot_gradient(w->slots + (ptrdiff_t)s * SLOT_SIZE, sums, gradient);
                for (int lane = 0; lane < MLPOT_LANES; ++lane)
                    for (int x = 0; x < 3 && w->pair[s * MLPOT_LANES + lane] >= 0; ++x)
                        jacobian[(3 * (int64_t)w->pair[s * MLPOT_LANES + lane] + x) * t->n_features + f] = gradient[x][lane];
            }
        }
    }
}

/* Values if `out` is given, the pullback if a cotangent is, otherwise derivatives: without pairs `jacobian` may be NULL. */
static int bispectrum(const mlpot_bispectrum *t, const mlpot_pairs *p, int64_t n_atoms, int n_threads, const double *cotangent,
                      double *out, double *pair_gradients, double *jacobian)
{
    const pair_sink to = {.all = pair_gradients};
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_LANES))) reduction(min : failed)
    {
        sphere_memory w;
        char *touched = malloc((size_t)t->n_channels * (t->two_j_max + 1));
        failed = !touched || sphere_create(t, p, n_atoms, !out && !cotangent, &w) ? -1 : 0;
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < BLOCKS(n_atoms, MLPOT_LANES); ++block) {
            if (failed) continue;
            const int64_t first = block * MLPOT_LANES;
            const int count = BLOCK_SIZE(n_atoms, block, MLPOT_LANES);
            int32_t centres[MLPOT_LANES];
            for (int lane = 0; lane < MLPOT_LANES; ++lane) centres[lane] = (int32_t)(first + lane);
            place_spheres(t, p, centres, count, &w);
            if (out)
                sphere_values(t, count, &w, out + first * t->n_features, t->n_features);
            else if (cotangent)
                sphere_vjp(t, count, cotangent + first * t->n_features, t->n_features, &w, &to);
            else
                sphere_jacobian(t, touched, &w, jacobian);
        }
        if (!failed) free(w.memory);
        free(touched);
    }
    return failed;
}
