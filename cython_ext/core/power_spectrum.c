/* Power spectrum of eight centres at once (lanes are centres), its normalisation, and their pullbacks. */
#include <math.h>
#include <string.h>

#include "mlpot_core.h"

MLPOT_CLONES
void mlpot_power_spectrum(const mlpot_density *d, const double *c_lanes, double *features, ptrdiff_t stride)
{
    const mlpot_v8 *c = (const mlpot_v8 *)c_lanes;
    const ptrdiff_t n = d->n_channels;
    const int n_l = d->l_max + 1;
    for (int l = 0; l < n_l; ++l) {
        const mlpot_v8 *degree = c + (ptrdiff_t)l * l * n;
        for (int k = 0; k < d->n_couplings; ++k) {
            const mlpot_v8 *a = degree + d->channel_a[k], *b = degree + d->channel_b[k];
            mlpot_v8 sum = a[0] * b[0];
            for (int m = 1; m < 2 * l + 1; ++m) sum += a[m * n] * b[m * n];
            const ptrdiff_t f = (ptrdiff_t)k * n_l + l;
            *(mlpot_v8 *)(features + f * stride) = d->coupling[f] * sum;
        }
    }
    if (d->constant > 0.0) *(mlpot_v8 *)(features + (ptrdiff_t)d->n_couplings * n_l * stride) = (mlpot_v8){0} + d->constant;
}

MLPOT_CLONES
void mlpot_power_spectrum_vjp(const mlpot_density *d, const double *c_lanes, const double *cotangent,
                              ptrdiff_t stride, double *dc_lanes)
{
    const mlpot_v8 *c = (const mlpot_v8 *)c_lanes;
    mlpot_v8 *dc = (mlpot_v8 *)dc_lanes;
    const ptrdiff_t n = d->n_channels;
    const int n_l = d->l_max + 1;
    memset(dc_lanes, 0, sizeof(mlpot_v8) * n * mlpot_n_harmonics(d));
    for (int l = 0; l < n_l; ++l) {
        for (int k = 0; k < d->n_couplings; ++k) {
            const ptrdiff_t f = (ptrdiff_t)k * n_l + l;
            const ptrdiff_t a = (ptrdiff_t)l * l * n + d->channel_a[k], b = (ptrdiff_t)l * l * n + d->channel_b[k];
            const mlpot_v8 w = d->coupling[f] * *(const mlpot_v8 *)(cotangent + f * stride);
            for (int m = 0; m < 2 * l + 1; ++m) dc[a + m * n] += w * c[b + m * n];
            for (int m = 0; m < 2 * l + 1; ++m) dc[b + m * n] += w * c[a + m * n];
        }
    }
}

/* An atom without any density (no neighbours and central_weight = 0) keeps zero features. */
MLPOT_CLONES
void mlpot_normalise(int n_invariants, int n, ptrdiff_t stride, double *features, double *norms)
{
    for (int k = 0; k < n; k += MLPOT_LANES) {
        mlpot_v8 squares = {0}, inverse = {0};
        for (ptrdiff_t f = 0; f < n_invariants; ++f) {
            const mlpot_v8 v = *(mlpot_v8 *)(features + f * stride + k);
            squares += v * v;
        }
        for (int lane = 0; lane < MLPOT_LANES; ++lane) {
            const double norm = sqrt(squares[lane]);
            norms[k + lane] = norm;
            inverse[lane] = norm > 0.0 ? 1.0 / norm : 0.0;
        }
        for (ptrdiff_t f = 0; f < n_invariants; ++f) *(mlpot_v8 *)(features + f * stride + k) *= inverse;
    }
}

/* d/dp of h(p/|p|): (g - p (p.g)) / |p| with p normalised. */
MLPOT_CLONES
void mlpot_normalise_vjp(int n_invariants, int n, ptrdiff_t stride, const double *features, const double *norms,
                         double *cotangent)
{
    for (int k = 0; k < n; k += MLPOT_LANES) {
        mlpot_v8 overlap = {0}, inverse = {0};
        for (ptrdiff_t f = 0; f < n_invariants; ++f)
            overlap += *(const mlpot_v8 *)(features + f * stride + k) * *(mlpot_v8 *)(cotangent + f * stride + k);
        for (int lane = 0; lane < MLPOT_LANES; ++lane)
            inverse[lane] = norms[k + lane] > 0.0 ? 1.0 / norms[k + lane] : 0.0;
        for (ptrdiff_t f = 0; f < n_invariants; ++f) {
            mlpot_v8 *g = (mlpot_v8 *)(cotangent + f * stride + k);
            *g = (*g - *(const mlpot_v8 *)(features + f * stride + k) * overlap) * inverse;
        }
    }
}
