/* What a simulation needs of many centres: threads over blocks of centres, each writing memory of its own, so the
 * results are bitwise the same for any number of threads. */
#include <math.h>

#include "mlpot_core.h"

static int round_up(int n) { return (n + MLPOT_LANES - 1) / MLPOT_LANES * MLPOT_LANES; }

MLPOT_INLINE mlpot_v8 power(mlpot_v8 x, int exponent)
{
    mlpot_v8 result = (mlpot_v8){0} + 1.0;
    for (; exponent > 0; exponent >>= 1, x *= x)
        if (exponent & 1) result *= x;
    return result;
}

/* x^zeta and x^(zeta-1); a negative overlap has no real power, and no meaning, unless zeta is an integer */
MLPOT_INLINE void powers(mlpot_v8 x, double zeta, int whole, mlpot_v8 *value, mlpot_v8 *below)
{
    if (whole > 0) {
        *below = power(x, whole - 1);
        *value = *below * x;
        return;
    }
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        const double base = x[lane] > 0.0 ? x[lane] : 0.0;
        (*value)[lane] = pow(base, zeta);
        (*below)[lane] = base > 0.0 ? (*value)[lane] / base : 0.0;
    }
}

/* overlaps in b->kernel -> covariances in b->kernel, dE/d(overlap) in b->slope, energies (MLPOT_BLOCK) */
MLPOT_CLONES
static void kernel_energies(const mlpot_kernel_model *m, int n, mlpot_block *b, double *energies)
{
    const double scale = m->energy_scale * m->energy_scale;
    const int whole = m->zeta == floor(m->zeta) && m->zeta < 64 ? (int)m->zeta : 0;
    for (int k = 0; k < n; k += MLPOT_LANES) {
        mlpot_v8 sum = {0};
        for (ptrdiff_t s = 0; s < m->n_sparse; ++s) {
            mlpot_v8 *x = (mlpot_v8 *)(b->kernel + s * MLPOT_BLOCK + k), value, below;
            powers(*x, m->zeta, whole, &value, &below);
            *x = scale * value;
            sum += m->weights[s] * *x;
            *(mlpot_v8 *)(b->slope + s * MLPOT_BLOCK + k) = (scale * m->zeta * m->weights[s]) * below;
        }
        *(mlpot_v8 *)(energies + k) = sum;
    }
}

static void block_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int n,
                           const int32_t *centres, mlpot_dgemm *dgemm, mlpot_block *b, double *energies,
                           double *pair_gradients, double *covariances, int64_t stride)
{
    double one = 1.0, zero = 0.0, *sparse = (double *)m->features;
    double local[MLPOT_BLOCK] __attribute__((aligned(64)));
    int lanes = round_up(n), ld = MLPOT_BLOCK, n_f = mlpot_n_features(d), n_s = m->n_sparse;
    mlpot_block_features(d, p, n, centres, b);
    dgemm("N", "N", &lanes, &n_s, &n_f, &one, b->features, &ld, sparse, &n_f, &zero, b->kernel, &ld);
    kernel_energies(m, lanes, b, local);
    for (int k = 0; k < n; ++k) energies[centres[k]] += local[k];
    if (covariances)
        for (int k = 0; k < n; ++k)
            for (ptrdiff_t s = 0; s < n_s; ++s) covariances[centres[k] * stride + s] = b->kernel[s * MLPOT_BLOCK + k];
    dgemm("N", "T", &lanes, &n_f, &n_s, &one, b->slope, &ld, sparse, &n_f, &zero, b->cotangent, &ld);
    mlpot_block_vjp(d, p, n, centres, b, pair_gradients);
}

/* A thread without a block would only spin at the barrier. */
static int team(int n_threads, int64_t n_blocks) { return n_blocks < n_threads ? (int)n_blocks : n_threads; }

#define BLOCKS(n_centres) (((n_centres) + MLPOT_BLOCK - 1) / MLPOT_BLOCK)
#define BLOCK_SIZE(n_centres, block) \
    (int)((n_centres) - (block)*MLPOT_BLOCK < MLPOT_BLOCK ? (n_centres) - (block)*MLPOT_BLOCK : MLPOT_BLOCK)

int mlpot_local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                         int64_t n_centres, const int32_t *centres, int n_threads, mlpot_dgemm *dgemm,
                         double *energies, double *pair_gradients, double *covariances, int64_t stride)
{
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_centres)))
    {
        mlpot_block b;
        const int lost = mlpot_block_create(d, p, n_atoms, m->n_sparse, &b);
        if (lost) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < BLOCKS(n_centres); ++block)
            if (!lost)
                block_energies(d, p, m, BLOCK_SIZE(n_centres, block), centres + block * MLPOT_BLOCK, dgemm, &b,
                               energies, pair_gradients, covariances, stride);
        if (!lost) mlpot_block_free(&b);
    }
    return failed ? -1 : 0;
}

static void copy_features(const mlpot_block *b, int n, int n_f, double *features)
{
    for (int k = 0; k < n; ++k)
        for (ptrdiff_t f = 0; f < n_f; ++f) features[k * n_f + f] = b->features[f * MLPOT_BLOCK + k];
}

int mlpot_features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                   const int32_t *centres, int n_threads, double *features)
{
    const int n_f = mlpot_n_features(d);
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_centres)))
    {
        mlpot_block b;
        const int lost = mlpot_block_create(d, p, n_atoms, 0, &b);
        if (lost) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < BLOCKS(n_centres); ++block) {
            if (lost) continue;
            mlpot_block_features(d, p, BLOCK_SIZE(n_centres, block), centres + block * MLPOT_BLOCK, &b);
            copy_features(&b, BLOCK_SIZE(n_centres, block), n_f, features + block * MLPOT_BLOCK * n_f);
        }
        if (!lost) mlpot_block_free(&b);
    }
    return failed ? -1 : 0;
}

int mlpot_features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                       const int32_t *centres, const double *cotangent, double *pair_gradients)
{
    const int n_f = mlpot_n_features(d);
    mlpot_block b;
    if (mlpot_block_create(d, p, n_atoms, 0, &b)) return -1;
    for (int64_t block = 0; block < BLOCKS(n_centres); ++block) {
        const int n = BLOCK_SIZE(n_centres, block);
        mlpot_block_features(d, p, n, centres + block * MLPOT_BLOCK, &b);
        for (int k = 0; k < n; ++k)
            for (ptrdiff_t f = 0; f < n_f; ++f)
                b.cotangent[f * MLPOT_BLOCK + k] = cotangent[(block * MLPOT_BLOCK + k) * n_f + f];
        mlpot_block_vjp(d, p, n, centres + block * MLPOT_BLOCK, &b, pair_gradients);
    }
    mlpot_block_free(&b);
    return 0;
}
