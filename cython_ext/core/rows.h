/* Rows of the design matrix for one structure: d(covariance with every sparse point)/d(energy, positions, strain).
 * The Jacobian of a centre's features lives for one matrix product only; lanes are neighbours. */
#pragma once
#include "energies.h"
#include "pair_gradients.h"

/* Jacobian rows that one product takes: enough that packing the sparse points into BLAS' buffers does not show. */
#define ROWS 768

typedef struct {
    block block;
    int capacity;             /* rows that fit: at least one centre's */
    double *u, *v;            /* (n_channels, l_max + 1, lanes) f' - l f / r and f / r of as many neighbours */
    double *a, *b;            /* (n_channels, l_max + 1, lanes), (.., 3, lanes) contractions with Y, grad R */
    double *features;         /* (MLPOT_BLOCK, n_features) */
    double *jacobian;         /* (n_features, capacity) */
    double *products;         /* (capacity, n_sparse) */
    double *slopes;           /* (MLPOT_BLOCK, n_sparse) overlaps, then dk/d(overlap) */
} row_memory;

static int row_memory_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int n_sparse, row_memory *w)
{
    if (block_create(d, p, n_atoms, &w->block)) return -1;
    const int one_centre = 3 * w->block.scratch.capacity;
    w->capacity = one_centre > ROWS ? one_centre : ROWS;
    const size_t n_ql = (size_t)d->n_channels * (d->l_max + 1) * MLPOT_LANES, n_f = mlpot_n_features(d);
    double *memory = aligned(6 * n_ql + n_f * (w->capacity + MLPOT_BLOCK) + (size_t)(w->capacity + MLPOT_BLOCK) * n_sparse);
    if (!memory) {
        block_free(&w->block);
        return -1;
    }
    w->u = memory;
    w->v = memory += n_ql;
    w->a = memory += n_ql;
    w->b = memory += n_ql;
    w->jacobian = memory += 3 * n_ql;
    w->features = memory += n_f * w->capacity;
    w->products = memory += n_f * MLPOT_BLOCK;
    w->slopes = memory + (size_t)w->capacity * n_sparse;
    return 0;
}

static void row_memory_free(row_memory *w)
{
    free(w->u);
    block_free(&w->block);
}

/* u and v of neighbours k, k + 1, ...; zero for channels they do not fill and for idle lanes */
static void radial_lanes(const mlpot_density *d, const mlpot_pairs *p, const scratch *s, int k, row_memory *w)
{
    const int n_l = d->l_max + 1;
    memset(w->u, 0, sizeof(double) * 2 * d->n_channels * n_l * MLPOT_LANES);
    for (int lane = 0, g = 0; lane < MLPOT_LANES && k + lane < s->n; ++lane) {
        while (k + lane >= s->group_end[g]) ++g;
        const double *f = s->radial + (ptrdiff_t)(k + lane) * s->radial_stride;
        const double *fp = s->slope + (ptrdiff_t)(k + lane) * s->radial_stride;
        const double inverse = 1.0 / p->distances[s->pair[k + lane]];
        for (int l = 0; l < n_l; ++l) {
            for (int q = 0; q < d->width[g]; ++q) {
                const ptrdiff_t at = ((ptrdiff_t)(d->first[g] + q) * n_l + l) * MLPOT_LANES + lane;
                w->u[at] = fp[l * d->width[g] + q] - l * inverse * f[l * d->width[g] + q];
                w->v[at] = inverse * f[l * d->width[g] + q];
            }
        }
    }
}

/* a = sum_m c Y, b = sum_m c grad R */
MLPOT_INLINE void contract_harmonics(const mlpot_density *d, const double *c, const mlpot_vector *ylm,
                                     const mlpot_vector *grad, row_memory *w)
{
    const int n_l = d->l_max + 1;
    mlpot_vector *a = (mlpot_vector *)w->a, *b = (mlpot_vector *)w->b;
    for (int q = 0; q < d->n_channels; ++q) {
        for (int l = 0; l < n_l; ++l) {
            mlpot_vector sum = {0}, x = {0}, y = {0}, z = {0};
            for (int lm = l * l; lm < (l + 1) * (l + 1); ++lm) {
                const double value = c[(ptrdiff_t)lm * d->n_channels + q];
                sum += value * ylm[lm];
                x += value * grad[3 * lm];
                y += value * grad[3 * lm + 1];
                z += value * grad[3 * lm + 2];
            }
            const ptrdiff_t at = (ptrdiff_t)q * n_l + l;
            a[at] = sum;
            b[3 * at] = x;
            b[3 * at + 1] = y;
            b[3 * at + 2] = z;
        }
    }
}

/* columns (direction, lane) of the Jacobian of the raw features */
MLPOT_INLINE void feature_gradients(const mlpot_density *d, const mlpot_vector *unit, const row_memory *w, double *jacobian)
{
    const int n_l = d->l_max + 1;
    const mlpot_vector *u = (const mlpot_vector *)w->u, *v = (const mlpot_vector *)w->v;
    const mlpot_vector *a = (const mlpot_vector *)w->a, *b = (const mlpot_vector *)w->b;
    for (int k = 0; k < d->n_invariants; ++k, jacobian += w->capacity) {
        const ptrdiff_t p = (ptrdiff_t)d->channel_a[k] * n_l + d->degree[k];
        const ptrdiff_t q = (ptrdiff_t)d->channel_b[k] * n_l + d->degree[k];
        const mlpot_vector radial = u[p] * a[q] + u[q] * a[p];
        mlpot_vector *out = (mlpot_vector *)jacobian;
        for (int x = 0; x < 3; ++x)
            out[x] = d->coupling[k] * (radial * unit[x] + v[p] * b[3 * q + x] + v[q] * b[3 * p + x]);
    }
    if (d->constant > 0.0) memset(jacobian, 0, sizeof(mlpot_vector) * 3);
}

/* from raw to normalised features: (J - p (p.J)) / |p| */
MLPOT_INLINE void project(int n_invariants, const double *features, double norm, int stride, double *jacobian)
{
    const double inverse = norm > 0.0 ? 1.0 / norm : 0.0;
    mlpot_vector x = {0}, y = {0}, z = {0};
    for (ptrdiff_t f = 0; f < n_invariants; ++f) {
        const mlpot_vector *j = (const mlpot_vector *)(jacobian + f * stride);
        x += features[f] * j[0];
        y += features[f] * j[1];
        z += features[f] * j[2];
    }
    for (ptrdiff_t f = 0; f < n_invariants; ++f) {
        mlpot_vector *j = (mlpot_vector *)(jacobian + f * stride);
        j[0] = inverse * (j[0] - features[f] * x);
        j[1] = inverse * (j[1] - features[f] * y);
        j[2] = inverse * (j[2] - features[f] * z);
    }
}

static void vector_of_neighbours(const mlpot_density *d, const scratch *s, int k, const double *features, double norm,
                                 row_memory *w, double *jacobian)
{
    const ptrdiff_t group = k / MLPOT_LANES, n_lm = mlpot_n_harmonics(d);
    contract_harmonics(d, s->c, (const mlpot_vector *)s->ylm + group * n_lm, (const mlpot_vector *)s->grad + group * 3 * n_lm, w);
    feature_gradients(d, (const mlpot_vector *)s->unit + 3 * group, w, jacobian);
    project(d->n_invariants, features, norm, w->capacity, jacobian);
}

/* Jacobian of centre number `member` of the block into columns row..; returns the number of columns it took. */
static int centre_jacobian(const mlpot_density *d, const mlpot_pairs *p, int32_t centre, int member, int row,
                           row_memory *w)
{
    scratch *s = &w->block.scratch;
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    const double *lanes = w->block.c_lanes + member / MLPOT_LANES * size * MLPOT_LANES + member % MLPOT_LANES;
    const double *features = w->features + (ptrdiff_t)member * mlpot_n_features(d);
    for (ptrdiff_t k = 0; k < size; ++k) s->c[k] = lanes[k * MLPOT_LANES];
    gather_neighbours(d, p, centre, s);
    harmonics_gradients(d->harmonics, d->l_max, s->n, s->unit, s->ylm, s->grad);
    radial_slopes(d, p, s);
    int taken = 0;
    for (int k = 0; k < s->n; k += MLPOT_LANES, taken += 3 * MLPOT_LANES) {
        radial_lanes(d, p, s, k, w);
        vector_of_neighbours(d, s, k, features, w->block.norms[member], w, w->jacobian + row + taken);
    }
    return taken;
}

/* products (taken, n_sparse) times the kernel's slope, scattered to the rows of the atoms */
static void scatter(const mlpot_density *d, const mlpot_pairs *p, int32_t centre, int n_sparse, const double *slopes,
                    double *products, row_memory *w, double *forces, double *virial, int64_t stride)
{
    scratch *s = &w->block.scratch;
    gather_neighbours(d, p, centre, s);
    for (int k = 0; k < s->n; ++k) {
        double *rows = products + (ptrdiff_t)(k / MLPOT_LANES * 3 * MLPOT_LANES + k % MLPOT_LANES) * n_sparse;
        const int64_t pair = s->pair[k], apart = (int64_t)MLPOT_LANES * n_sparse;
        for (int x = 0; x < 3; ++x)
            for (ptrdiff_t t = 0; t < n_sparse; ++t) rows[x * apart + t] *= slopes[t];
        if (forces) mlpot_add_pair_forces(centre, p->j[pair], n_sparse, rows, apart, forces, stride);
        if (virial) mlpot_add_pair_virial(p->vectors + 3 * pair, n_sparse, rows, apart, virial, stride);
    }
}

/* covariances of the block's energies; overlaps -> dk/d(overlap) in w->slopes */
static void energy_rows(int n, int n_sparse, double energy_scale, double zeta, row_memory *w, double *energy)
{
    const double scale = energy_scale * energy_scale;
    for (int k = 0; k < n; ++k) {
        for (ptrdiff_t s = 0; s < n_sparse; ++s) {
            double *x = w->slopes + k * n_sparse + s;
            const double base = zeta == floor(zeta) || *x > 0.0 ? *x : 0.0, below = pow(base, zeta - 1.0);
            energy[s] += scale * below * base;
            *x = scale * zeta * below;
        }
    }
}

static void gradient_rows(const mlpot_density *d, const mlpot_pairs *p, int n_s, const double *sparse, int n,
                          const int32_t *centres, mlpot_dgemm *dgemm, row_memory *w, double *forces, double *virial,
                          int64_t stride)
{
    double one = 1.0, zero = 0.0;
    int n_f = mlpot_n_features(d), taken[MLPOT_BLOCK];
    for (int begin = 0, end; begin < n; begin = end) {
        int rows = 0;
        for (end = begin; end < n; rows += taken[end++]) {
            const int64_t bound = p->offsets[centres[end] + 1] - p->offsets[centres[end]] + MLPOT_LANES - 1;
            if (rows && rows + 3 * bound > w->capacity) break;
            taken[end] = centre_jacobian(d, p, centres[end], end, rows, w);
        }
        if (!rows) continue;
        dgemm("T", "T", &n_s, &rows, &n_f, &one, (double *)sparse, &n_f, w->jacobian, &w->capacity, &zero,
              w->products, &n_s);
        double *products = w->products;
        for (int k = begin; k < end; products += (ptrdiff_t)taken[k++] * n_s)
            scatter(d, p, centres[k], n_s, w->slopes + (ptrdiff_t)k * n_s, products, w, forces, virial, stride);
    }
}

static int design_rows(const mlpot_density *d, const mlpot_pairs *p, int n_sparse, const double *sparse,
                       double energy_scale, double zeta, int64_t n_atoms, int64_t n_centres, const int32_t *centres,
                       mlpot_dgemm *dgemm, double *energy, double *forces, double *virial, int64_t stride)
{
    row_memory w;
    double one = 1.0, zero = 0.0;
    int n_f = mlpot_n_features(d);
    if (row_memory_create(d, p, n_atoms, n_sparse, &w)) return -1;
    for (int64_t begin = 0; begin < n_centres; begin += MLPOT_BLOCK) {
        int n = BLOCK_SIZE(n_centres, begin / MLPOT_BLOCK);
        block_features(d, p, n, centres + begin, &w.block);
        copy_features(&w.block, n, n_f, w.features);
        dgemm("T", "N", &n_sparse, &n, &n_f, &one, (double *)sparse, &n_f, w.features, &n_f, &zero, w.slopes,
              &n_sparse);
        energy_rows(n, n_sparse, energy_scale, zeta, &w, energy);
        if (forces || virial)
            gradient_rows(d, p, n_sparse, sparse, n, centres + begin, dgemm, &w, forces, virial, stride);
    }
    row_memory_free(&w);
    return 0;
}
