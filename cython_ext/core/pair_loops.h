/* Two-body sums from tables. SIMD: lanes are neighbours for energies, features and sparse points for covariances.
 * Each centre writes memory of its own, so results are bitwise the same for any number of threads. */
#pragma once
#include "hermite.h"
#include "member_block.h"
#include "pair_sums.h"

/* MLPOT_LANES neighbours of a centre; an idle lane (beyond the cutoff, past the end, no sparse radii) has kind -1. */
typedef struct {
    mlpot_vector distance;
    int32_t kind[MLPOT_LANES];
    int n; /* lanes before the end */
} lanes;

static const double nothing[6] = {0};

MLPOT_INLINE lanes gather(const mlpot_pair_term *term, const mlpot_pairs *p, const int32_t *kind_with, int64_t begin,
                          int64_t end)
{
    lanes of = {.distance = (mlpot_vector){0} + term->cutoff, .n = end - begin < MLPOT_LANES ? (int)(end - begin) : MLPOT_LANES};
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        of.kind[lane] = -1;
        if (lane >= of.n || !(p->distances[begin + lane] < term->cutoff)) continue;
        of.distance[lane] = p->distances[begin + lane];
        of.kind[lane] = kind_with[p->species[p->j[begin + lane]]];
    }
    return of;
}

/* Data of one column at the two knots of each lane. */
MLPOT_INLINE void knots_of(const mlpot_grid *grid, const double *curves, const lanes *of, integers knot,
                           double (*data)[MLPOT_LANES])
{
    const int64_t size = 3 * ((int64_t)grid->n_intervals + 2);
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        const double *from = of->kind[lane] < 0 ? nothing : curves + of->kind[lane] * size + 3 * (int64_t)knot[lane];
        for (int a = 0; a < 6; ++a) data[a][lane] = from[a];
    }
}

MLPOT_INLINE mlpot_vector weighted(const mlpot_vector *weight, double (*data)[MLPOT_LANES])
{
    mlpot_vector sum = weight[0] * *(const mlpot_vector *)data[0];
    for (int a = 1; a < 6; ++a) sum += weight[a] * *(const mlpot_vector *)data[a];
    return sum;
}

MLPOT_INLINE mlpot_vector add_potential(const mlpot_pair_term *term, const mlpot_pairs *p, const lanes *of, int64_t begin,
                                    double *pair_gradients)
{
    double data[6][MLPOT_LANES] __attribute__((aligned(64)));
    double along[MLPOT_LANES] __attribute__((aligned(64))) = {0};
    mlpot_vector slope[6];
    const place at = place_of(&term->potential_grid, of->distance);
    knots_of(&term->potential_grid, term->potential, of, at.knot, data);
    slope_weights((mlpot_vector){0} + term->potential_grid.per_step, at.t, slope);
    *(mlpot_vector *)along = weighted(slope, data) / of->distance;
    for (int lane = 0; lane < of->n; ++lane)
        for (int a = 0; a < 3; ++a)
            pair_gradients[3 * (begin + lane) + a] += along[lane] * p->vectors[3 * (begin + lane) + a];
    return weighted(at.weight, data);
}

MLPOT_INLINE mlpot_vector instances(const mlpot_pair_term *term, const lanes *of)
{
    double data[6][MLPOT_LANES] __attribute__((aligned(64)));
    const place at = place_of(&term->instance_grid, of->distance);
    knots_of(&term->instance_grid, term->instance, of, at.knot, data);
    return weighted(at.weight, data);
}

/* Place of a distance in the table of features, and the factor of the features. */
MLPOT_INLINE double coordinate(const mlpot_pair_term *term, int kind, double r, double *envelope)
{
    *envelope = 1.0;
    if (!term->contact) return r;
    const double *c = term->contact + 4 * kind, inside = r - term->cutoff + term->cutoff_width;
    if (inside > 0.0) *envelope = 0.5 * (1.0 + cos(M_PI * inside / term->cutoff_width));
    *envelope *= 1.0 + exp(c[2] - c[3] * r * r);
    return c[1] * asinh(r / c[0]);
}

/* Features of the neighbours, added to the sums (n_kinds of this centre: a row per species of neighbour, rank). */
MLPOT_INLINE void add_features(const mlpot_pair_term *term, const mlpot_pairs *p, const lanes *of, int64_t begin,
                               double *sums)
{
    const int rank = term->rank;
    double envelope[MLPOT_LANES];
    mlpot_vector places = {0};
    for (int lane = 0; lane < of->n; ++lane)
        if (of->kind[lane] >= 0) places[lane] = coordinate(term, of->kind[lane], of->distance[lane], envelope + lane);
    const place at = place_of(&term->feature_grid, places);
    for (int lane = 0; lane < of->n; ++lane) {
        if (of->kind[lane] < 0) continue;
        const double *knots = term->features + 3 * (int64_t)at.knot[lane] * rank;
        double *sum = sums + (int64_t)p->species[p->j[begin + lane]] * rank;
        for (int m = 0; m < rank; m += MLPOT_LANES) {
            mlpot_vector value = {0};
            for (int a = 0; a < 6; ++a) value += at.weight[a][lane] * *(const mlpot_vector *)(knots + a * rank + m);
            *(mlpot_vector *)(sum + m) += envelope[lane] * value;
        }
    }
}

/* Covariances of the neighbours' potentials with those at sparse radii, added to the sums (all kinds in turn). */
MLPOT_INLINE void add_covariances(const mlpot_pair_term *term, const lanes *of, double *sums)
{
    const place at = place_of(&term->covariance_grid, of->distance);
    for (int lane = 0; lane < of->n; ++lane) {
        if (of->kind[lane] < 0) continue;
        const int32_t column = term->columns[of->kind[lane]], width = term->columns[of->kind[lane] + 1] - column;
        const double *knots = term->covariances + 3 * ((int64_t)column * term->n_covariance_knots + (int64_t)at.knot[lane] * width);
        for (int s = 0; s < width; s += MLPOT_LANES) {
            mlpot_vector value = *(mlpot_vector *)(sums + column + s);
            for (int a = 0; a < 6; ++a) value += at.weight[a][lane] * *(const mlpot_vector *)(knots + a * width + s);
            *(mlpot_vector *)(sums + column + s) = value;
        }
    }
}

/* Covariances of one kind from its features. */
MLPOT_INLINE void write_covariances(const mlpot_pair_term *term, int kind, const double *sum, double *row)
{
    const int first = term->first[kind], n = term->first[kind + 1] - first;
    const int width = mlpot_round_up(n, MLPOT_CHANNELS);
    const double *map = term->maps + term->map_of[kind];
    for (int s = 0; s < n; s += MLPOT_LANES) {
        mlpot_vector value = {0};
        for (int m = 0; m < term->rank; ++m) value += sum[m] * *(const mlpot_vector *)(map + (int64_t)m * width + s);
        const int filled = n - s < MLPOT_LANES ? n - s : MLPOT_LANES;
        for (int lane = 0; lane < filled; ++lane) row[first + s + lane] = value[lane];
    }
}

MLPOT_INLINE double prior_variance(int rank, const double *sum)
{
    mlpot_vector square = {0};
    for (int m = 0; m < rank; m += MLPOT_LANES) square += *(const mlpot_vector *)(sum + m) * *(const mlpot_vector *)(sum + m);
    return sum_lanes(square);
}

/* Covariances of a centre, whose features or covariances are in `sums`, which become 0 again; row or variance may be NULL. */
static void finish_sums(const mlpot_pair_term *term, const int32_t *kind_with, int tabulated, double *sums, double *row,
                        double *variance)
{
    if (row) memset(row, 0, sizeof(double) * (size_t)term->n_sparse);
    for (int s = 0; s < term->n_species; ++s) {
        const int kind = kind_with[s];
        if (kind < 0) continue;
        double *sum = sums + (tabulated ? term->columns[kind] : (int64_t)s * term->rank);
        const int n = term->first[kind + 1] - term->first[kind];
        if (tabulated) memcpy(row + term->first[kind], sum, sizeof(double) * (size_t)n);
        else if (row) write_covariances(term, kind, sum, row);
        if (variance) *variance += term->variance[kind] * prior_variance(term->rank, sum);
        memset(sum, 0, sizeof(double) * (size_t)(tabulated ? n : term->rank));
    }
}

/* One centre; sums (n_species, rank), or all columns of covariances, is scratch, zero on entry and on return. */
static void centre_sums(const mlpot_pair_term *term, const mlpot_pairs *p, int64_t centre, double *sums,
                        double *energies, double *pair_gradients, double *row, double *variances)
{
    const int32_t *kind_with = term->kind + (int64_t)p->species[centre] * term->n_species;
    const int64_t end = p->offsets[centre + 1];
    const int prior = variances && !term->instance, tabulated = row && !prior && term->covariances;
    mlpot_vector energy = {0}, variance = {0};
    for (int64_t k = p->offsets[centre]; k < end; k += MLPOT_LANES) {
        const lanes of = gather(term, p, kind_with, k, end);
        energy += add_potential(term, p, &of, k, pair_gradients);
        if (variances && term->instance) variance += instances(term, &of);
        if (tabulated) add_covariances(term, &of, sums);
        else if (row || prior) add_features(term, p, &of, k, sums);
    }
    energies[centre] += sum_lanes(energy);
    if (variances) variances[centre] += sum_lanes(variance);
    if (row || prior) finish_sums(term, kind_with, tabulated, sums, row, prior ? variances + centre : NULL);
}

/* Linear between knots: with a thousand of them the error is far below the statistical error of the draws. */
static void pair_members_of(const mlpot_pair_members *m, const mlpot_pairs *p, int64_t centre, member_block *b)
{
    const double per_step = (m->n_knots - 1) / m->cutoff;
    const int32_t *kind_with = m->kind + (int64_t)p->species[centre] * m->n_species;
    for (int64_t k = p->offsets[centre]; k < p->offsets[centre + 1]; ++k) {
        const int kind = kind_with[p->species[p->j[k]]];
        if (kind < 0 || !(p->distances[k] < m->cutoff)) continue;
        const double place = p->distances[k] * per_step;
        const int64_t knot = (int64_t)place;
        of_members low, high, *gradient = (of_members *)(b->gradients + (ptrdiff_t)b->n * OF_PAIR);
        memcpy(&low, m->along + ((int64_t)kind * (m->n_knots + 1) + knot) * MLPOT_MEMBERS, sizeof low);
        memcpy(&high, m->along + ((int64_t)kind * (m->n_knots + 1) + knot + 1) * MLPOT_MEMBERS, sizeof high);
        const of_members along = low + (float)(place - (double)knot) * (high - low);
        for (int x = 0; x < 3; ++x) gradient[x] = (float)p->vectors[3 * k + x] * along;
        b->pairs[b->n++] = (int32_t)k;
    }
}

static int pair_member_gradients(const mlpot_pair_members *m, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                                 const mlpot_member_sums *to)
{
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_BLOCK))) reduction(min : failed)
    {
        member_block b;
        failed = member_block_create(p, n_atoms, NULL, &b);
#pragma omp for schedule(dynamic) ordered
        for (int64_t k = 0; k < BLOCKS(n_atoms, MLPOT_BLOCK); ++k) {
            const int n = BLOCK_SIZE(n_atoms, k, MLPOT_BLOCK);
            if (failed) continue;
            member_block_begin(&b);
            for (int i = 0; i < n; ++i) {
                pair_members_of(m, p, k * MLPOT_BLOCK + i, &b);
                member_block_end(p, i, &b);
            }
#pragma omp ordered
            member_block_add(p, n, k * MLPOT_BLOCK, NULL, &b, to);
        }
        free(b.gradients);
    }
    return failed;
}

static int pair_sums(const mlpot_pair_term *term, const mlpot_pairs *p, int64_t n_atoms, int n_threads,
                     double *energies, double *pair_gradients, double *covariances, int64_t stride, double *variances)
{
    const size_t n_features = (size_t)term->n_species * (size_t)term->rank;
    const size_t n_columns = term->covariances ? (size_t)term->columns[term->n_kinds] : 0;
    const size_t n_sums = n_features > n_columns ? n_features : n_columns;
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_atoms, MLPOT_BLOCK))) reduction(min : failed)
    {
        double *sums = aligned(n_sums);
        failed = sums ? 0 : -1;
        if (sums) memset(sums, 0, sizeof(double) * n_sums);
#pragma omp for schedule(static)
        for (int64_t centre = 0; centre < n_atoms; ++centre)
            if (sums)
                centre_sums(term, p, centre, sums, energies, pair_gradients,
                            covariances ? covariances + centre * stride : NULL, variances);
        free(sums);
    }
    return failed;
}
