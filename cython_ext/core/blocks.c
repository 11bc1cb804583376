/* Features of a block of centres and their pullback: between expansion (lanes are channels) and power spectrum (lanes
 * are centres) the coefficients are transposed. */
#include <stdlib.h>
#include <string.h>

#include "mlpot_core.h"

static void to_lanes(const double *c, ptrdiff_t n, double *c_lanes, int lane)
{
    for (ptrdiff_t k = 0; k < n; ++k) c_lanes[k * MLPOT_LANES + lane] = c[k];
}

static void from_lanes(const double *c_lanes, ptrdiff_t n, int lane, double *c)
{
    for (ptrdiff_t k = 0; k < n; ++k) c[k] = c_lanes[k * MLPOT_LANES + lane];
}

int mlpot_block_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int n_sparse, mlpot_block *b)
{
    const size_t size = (size_t)mlpot_n_harmonics(d) * d->n_channels, n_f = mlpot_n_features(d), n_s = n_sparse;
    double *memory = mlpot_aligned((size + 2 * n_f + 2 * n_s + 1) * MLPOT_BLOCK + size * MLPOT_LANES);
    if (!memory) return -1;
    if (mlpot_scratch_create(d, p, n_atoms, &b->scratch)) {
        free(memory);
        return -1;
    }
    b->c_lanes = memory;
    b->features = memory += size * MLPOT_BLOCK;
    b->cotangent = memory += n_f * MLPOT_BLOCK;
    b->kernel = memory += n_f * MLPOT_BLOCK;
    b->slope = memory += n_s * MLPOT_BLOCK;
    b->norms = memory += n_s * MLPOT_BLOCK;
    b->dc_lanes = memory + MLPOT_BLOCK;
    return 0;
}

void mlpot_block_free(mlpot_block *b)
{
    free(b->c_lanes);
    mlpot_scratch_free(&b->scratch);
}

void mlpot_block_features(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, mlpot_block *b)
{
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    double *c_lanes = b->c_lanes;
    for (int k = 0; k < n; k += MLPOT_LANES, c_lanes += size * MLPOT_LANES) {
        if (k + MLPOT_LANES > n) memset(c_lanes, 0, sizeof(double) * size * MLPOT_LANES);
        for (int lane = 0; lane < MLPOT_LANES && k + lane < n; ++lane) {
            mlpot_expand(d, p, centres[k + lane], &b->scratch, b->scratch.c);
            to_lanes(b->scratch.c, size, c_lanes, lane);
        }
        mlpot_power_spectrum(d, c_lanes, b->features + k, MLPOT_BLOCK);
    }
    mlpot_normalise(mlpot_n_invariants(d), n, MLPOT_BLOCK, b->features, b->norms);
}

void mlpot_block_vjp(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, mlpot_block *b,
                     double *pair_gradients)
{
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    double *c_lanes = b->c_lanes;
    mlpot_normalise_vjp(mlpot_n_invariants(d), n, MLPOT_BLOCK, b->features, b->norms, b->cotangent);
    for (int k = 0; k < n; k += MLPOT_LANES, c_lanes += size * MLPOT_LANES) {
        mlpot_power_spectrum_vjp(d, c_lanes, b->cotangent + k, MLPOT_BLOCK, b->dc_lanes);
        for (int lane = 0; lane < MLPOT_LANES && k + lane < n; ++lane) {
            from_lanes(b->dc_lanes, size, lane, b->scratch.c);
            mlpot_expand_vjp(d, p, centres[k + lane], &b->scratch, b->scratch.c, pair_gradients);
        }
    }
}
