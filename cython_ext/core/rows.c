/* Rows of the design matrix for one structure: d(covariance with every sparse point)/d(energy, positions, strain).
 * The Jacobian of a centre's features lives for one matrix product only; lanes are neighbours. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mlpot_core.h"
#include "pair_gradients.h"

/* Jacobian rows that one product takes: enough that packing the sparse points into BLAS' buffers does not show. */
#define ROWS 768

typedef struct {
    mlpot_block block;
    int capacity;             /* rows that fit: at least one centre's */
    double *u, *v;            /* (n_channels, l_max + 1, 8) f' - l f / r and f / r of eight neighbours */
    double *a, *b;            /* (n_channels, l_max + 1, 8), (n_channels, l_max + 1, 3, 8) contractions with Y, grad R */
    double *centre_features;  /* (n_features) of one centre */
    double *jacobian;         /* (n_features, capacity) */
    double *products;         /* (capacity, n_sparse) */
    double *slopes;           /* (MLPOT_BLOCK, n_sparse) dk/d(overlap) */
} row_memory;

static int create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int n_sparse, row_memory *w)
{
    if (mlpot_block_create(d, p, n_atoms, n_sparse, &w->block)) return -1;
    const int one_centre = 3 * w->block.scratch.capacity;
    w->capacity = one_centre > ROWS ? one_centre : ROWS;
    const size_t n_ql = (size_t)d->n_channels * (d->l_max + 1) * MLPOT_LANES, n_f = mlpot_n_features(d);
    const size_t n_f8 = (n_f + MLPOT_LANES - 1) / MLPOT_LANES * MLPOT_LANES;
    double *memory = mlpot_aligned(6 * n_ql + n_f8 + n_f * w->capacity + (size_t)(w->capacity + MLPOT_BLOCK) * n_sparse);
    if (!memory) {
        mlpot_block_free(&w->block);
        return -1;
    }
    w->u = memory;
    w->v = memory += n_ql;
    w->a = memory += n_ql;
    w->b = memory += n_ql;
    w->centre_features = memory += 3 * n_ql;
    w->jacobian = memory += n_f8;
    w->products = memory += n_f * w->capacity;
    w->slopes = memory + (size_t)w->capacity * n_sparse;
    return 0;
}

static void destroy(row_memory *w)
{
    free(w->u);
    mlpot_block_free(&w->block);
}

/* u and v of neighbours k..k+7; zero for channels they do not fill and for idle lanes */
static void radial_lanes(const mlpot_density *d, const mlpot_pairs *p, const mlpot_scratch *s, int k, row_memory *w)
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
MLPOT_INLINE void contract_harmonics(const mlpot_density *d, const double *c, const mlpot_v8 *ylm,
                                     const mlpot_v8 *grad, row_memory *w)
{
    const int n_l = d->l_max + 1;
    mlpot_v8 *a = (mlpot_v8 *)w->a, *b = (mlpot_v8 *)w->b;
    for (int q = 0; q < d->n_channels; ++q) {
        for (int l = 0; l < n_l; ++l) {
            mlpot_v8 sum = {0}, x = {0}, y = {0}, z = {0};
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

/* columns rows..rows+23 (direction, lane) of the Jacobian of the raw features */
MLPOT_INLINE void feature_gradients(const mlpot_density *d, const mlpot_v8 *unit, const row_memory *w, double *jacobian)
{
    const int n_l = d->l_max + 1;
    const mlpot_v8 *u = (const mlpot_v8 *)w->u, *v = (const mlpot_v8 *)w->v;
    const mlpot_v8 *a = (const mlpot_v8 *)w->a, *b = (const mlpot_v8 *)w->b;
    for (int k = 0; k < d->n_couplings; ++k) {
        for (int l = 0; l < n_l; ++l) {
            const ptrdiff_t p = (ptrdiff_t)d->channel_a[k] * n_l + l, q = (ptrdiff_t)d->channel_b[k] * n_l + l;
            const ptrdiff_t f = (ptrdiff_t)k * n_l + l;
            const double scale = d->coupling[f];
            const mlpot_v8 along = u[p] * a[q] + u[q] * a[p];
            mlpot_v8 *out = (mlpot_v8 *)(jacobian + f * w->capacity);
            for (int x = 0; x < 3; ++x)
                out[x] = scale * (along * unit[x] + v[p] * b[3 * q + x] + v[q] * b[3 * p + x]);
        }
    }
    if (d->constant > 0.0)
        memset(jacobian + (ptrdiff_t)d->n_couplings * n_l * w->capacity, 0, sizeof(mlpot_v8) * 3);
}

/* from raw to normalised features: (J - p (p.J)) / |p| */
MLPOT_INLINE void project(int n_invariants, const double *features, double norm, int stride, double *jacobian)
{
    const double inverse = norm > 0.0 ? 1.0 / norm : 0.0;
    mlpot_v8 x = {0}, y = {0}, z = {0};
    for (ptrdiff_t f = 0; f < n_invariants; ++f) {
        const mlpot_v8 *j = (const mlpot_v8 *)(jacobian + f * stride);
        x += features[f] * j[0];
        y += features[f] * j[1];
        z += features[f] * j[2];
    }
    for (ptrdiff_t f = 0; f < n_invariants; ++f) {
        mlpot_v8 *j = (mlpot_v8 *)(jacobian + f * stride);
        j[0] = inverse * (j[0] - features[f] * x);
        j[1] = inverse * (j[1] - features[f] * y);
        j[2] = inverse * (j[2] - features[f] * z);
    }
}

MLPOT_CLONES
static void eight_neighbours(const mlpot_density *d, const mlpot_scratch *s, int k, double norm, row_memory *w,
                             double *jacobian)
{
    const ptrdiff_t group = k / MLPOT_LANES, n_lm = mlpot_n_harmonics(d);
    contract_harmonics(d, s->c, (const mlpot_v8 *)s->ylm + group * n_lm, (const mlpot_v8 *)s->grad + group * 3 * n_lm, w);
    feature_gradients(d, (const mlpot_v8 *)s->unit + 3 * group, w, jacobian);
    project(mlpot_n_invariants(d), w->centre_features, norm, w->capacity, jacobian);
}

/* Jacobian of centre number `member` of the block into columns row..; returns the number of columns it took. */
static int centre_jacobian(const mlpot_density *d, const mlpot_pairs *p, int32_t centre, int member, int row,
                           row_memory *w)
{
    mlpot_scratch *s = &w->block.scratch;
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    const double *lanes = w->block.c_lanes + member / MLPOT_LANES * size * MLPOT_LANES + member % MLPOT_LANES;
    for (ptrdiff_t k = 0; k < size; ++k) s->c[k] = lanes[k * MLPOT_LANES];
    for (ptrdiff_t f = 0; f < mlpot_n_features(d); ++f)
        w->centre_features[f] = w->block.features[f * MLPOT_BLOCK + member];
    mlpot_gather_neighbours(d, p, centre, s);
    mlpot_harmonics_gradients(d->harmonics, d->l_max, s->n, s->unit, s->ylm, s->grad);
    mlpot_radial_slopes(d, p, s);
    int taken = 0;
    for (int k = 0; k < s->n; k += MLPOT_LANES, taken += 3 * MLPOT_LANES) {
        radial_lanes(d, p, s, k, w);
        eight_neighbours(d, s, k, w->block.norms[member], w, w->jacobian + row + taken);
    }
    return taken;
}

/* products (taken, n_sparse) times the kernel's slope, scattered to the rows of the atoms */
static void scatter(const mlpot_density *d, const mlpot_pairs *p, int32_t centre, int n_sparse, const double *slopes,
                    double *products, row_memory *w, double *forces, double *virial, int64_t stride)
{
    mlpot_scratch *s = &w->block.scratch;
    mlpot_gather_neighbours(d, p, centre, s);
    for (int k = 0; k < s->n; ++k) {
        double *rows = products + (ptrdiff_t)(k / MLPOT_LANES * 3 * MLPOT_LANES + k % MLPOT_LANES) * n_sparse;
        const int64_t pair = s->pair[k], apart = (int64_t)MLPOT_LANES * n_sparse;
        for (int x = 0; x < 3; ++x)
            for (ptrdiff_t t = 0; t < n_sparse; ++t) rows[x * apart + t] *= slopes[t];
        if (forces) mlpot_add_pair_forces(centre, p->j[pair], n_sparse, rows, apart, forces, stride);
        if (virial) mlpot_add_pair_virial(p->vectors + 3 * pair, n_sparse, rows, apart, virial, stride);
    }
}

/* covariances of the block's energies; dk/d(overlap) into w->slopes */
static void energy_rows(const mlpot_kernel_model *m, int n, row_memory *w, double *energy)
{
    const double scale = m->energy_scale * m->energy_scale;
    for (ptrdiff_t s = 0; s < m->n_sparse; ++s) {
        for (int k = 0; k < n; ++k) {
            const double x = w->block.kernel[s * MLPOT_BLOCK + k];
            const double base = m->zeta == floor(m->zeta) || x > 0.0 ? x : 0.0, below = pow(base, m->zeta - 1.0);
            energy[s] += scale * below * base;
            w->slopes[k * m->n_sparse + s] = scale * m->zeta * below;
        }
    }
}

static void gradient_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int n,
                          const int32_t *centres, mlpot_dgemm *dgemm, row_memory *w, double *forces, double *virial,
                          int64_t stride)
{
    double one = 1.0, zero = 0.0;
    int n_s = m->n_sparse, n_f = mlpot_n_features(d), taken[MLPOT_BLOCK];
    for (int begin = 0, end; begin < n; begin = end) {
        int rows = 0;
        for (end = begin; end < n; rows += taken[end++]) {
            const int64_t bound = p->offsets[centres[end] + 1] - p->offsets[centres[end]] + MLPOT_LANES - 1;
            if (rows && rows + 3 * bound > w->capacity) break;
            taken[end] = centre_jacobian(d, p, centres[end], end, rows, w);
        }
        if (!rows) continue;
        dgemm("T", "T", &n_s, &rows, &n_f, &one, (double *)m->features, &n_f, w->jacobian, &w->capacity, &zero,
              w->products, &n_s);
        double *products = w->products;
        for (int k = begin; k < end; products += (ptrdiff_t)taken[k++] * n_s)
            scatter(d, p, centres[k], n_s, w->slopes + (ptrdiff_t)k * n_s, products, w, forces, virial, stride);
    }
}

int mlpot_design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                      int64_t n_centres, const int32_t *centres, mlpot_dgemm *dgemm, double *energy, double *forces,
                      double *virial, int64_t stride)
{
    row_memory w;
    double one = 1.0, zero = 0.0;
    int n_s = m->n_sparse, n_f = mlpot_n_features(d), ld = MLPOT_BLOCK;
    if (create(d, p, n_atoms, n_s, &w)) return -1;
    for (int64_t begin = 0; begin < n_centres; begin += MLPOT_BLOCK) {
        int n = (int)(n_centres - begin < MLPOT_BLOCK ? n_centres - begin : MLPOT_BLOCK);
        mlpot_block_features(d, p, n, centres + begin, &w.block);
        dgemm("N", "N", &n, &n_s, &n_f, &one, w.block.features, &ld, (double *)m->features, &n_f, &zero,
              w.block.kernel, &ld);
        energy_rows(m, n, &w, energy);
        if (forces || virial)
            gradient_rows(d, p, m, n, centres + begin, dgemm, &w, forces, virial, stride);
    }
    destroy(&w);
    return 0;
}
