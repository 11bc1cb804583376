/* Features of a block of centres and their pullback: between expansion (lanes are channels) and power spectrum (lanes
 * are centres) the coefficients are transposed. */
#pragma once
#include "contractions.h"
#include "expansion.h"
#include "members.h"
#include "power_spectrum.h"

/* Work memory of one block of up to `most` centres, a multiple of MLPOT_PANEL. */
typedef struct {
    double *c_lanes;         /* (most / lanes, n_channels, n_harmonics, lanes) */
    double *dc_lanes;        /* (n_channels, n_harmonics, lanes) */
    int n_rows;              /* n_features rounded up to MLPOT_TILE; rows beyond n_features are 0 */
    double *features;        /* (panels, n_rows, MLPOT_PANEL) normalised */
    double *cotangent;       /* (panels, n_rows, MLPOT_PANEL) */
    double *norms;           /* (most) */
    contraction_memory contractions;
    scratch scratch;
} block;

static int block_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int most, block *b)
{
    const size_t size = (size_t)mlpot_n_harmonics(d) * d->n_channels;
    b->n_rows = mlpot_round_up(mlpot_n_features(d), MLPOT_TILE);
    const size_t n_features = (size_t)b->n_rows * most;
    const size_t n_contractions = contraction_size(d->contractions);
    double *memory = aligned(size * (most + MLPOT_LANES) + 2 * n_features + most + n_contractions);
    if (!memory) return -1;
    if (scratch_create(d, p, n_atoms, &b->scratch)) {
        free(memory);
        return -1;
    }
    b->c_lanes = memory;
    b->features = memory += size * most;
    b->cotangent = memory += n_features;
    b->norms = memory += n_features;
    b->dc_lanes = memory += most;
    contraction_place(d->contractions, memory + size * MLPOT_LANES, &b->contractions);
    memset(b->features, 0, sizeof(double) * n_features);
    return 0;
}

static void block_free(block *b)
{
    free(b->c_lanes);
    scratch_free(&b->scratch);
}

/* Start of the features of the centres member, member + 1, ... of a block. */
MLPOT_INLINE ptrdiff_t panel_of(const block *b, int member)
{
    return (ptrdiff_t)(member / MLPOT_PANEL) * b->n_rows * MLPOT_PANEL + member % MLPOT_PANEL;
}

static void block_features(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, block *b)
{
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    double *c_lanes = b->c_lanes;
    const int whole = mlpot_round_up(n, MLPOT_PANEL);
    for (int k = 0; k < whole; k += MLPOT_LANES, c_lanes += size * MLPOT_LANES) {
        double *features = b->features + panel_of(b, k);
        double *c = b->scratch.c;
        if (k + MLPOT_LANES > n) memset(c, 0, sizeof(double) * size * MLPOT_LANES);
        for (int lane = 0; lane < MLPOT_LANES && k + lane < n; ++lane)
            expand_centre(d, p, centres[k + lane], &b->scratch, c + lane * size);
        to_lanes(mlpot_n_harmonics(d), d->n_channels, c, c_lanes);
        contract(d, c_lanes, &b->contractions, features);
        power_spectrum(d, c_lanes, features + (ptrdiff_t)mlpot_n_contracted(d) * MLPOT_PANEL);
        normalise(mlpot_n_invariants(d), features, b->norms + k);
    }
}

/* The pullback consumes b->cotangent and ADDS to pair_gradients; with `members` (may be NULL) also that of an ensemble -> their block. */
static void block_vjp(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, block *b,
                      double *pair_gradients, member_memory *members)
{
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    const double *c_lanes = b->c_lanes;
    for (int k = 0; k < n; k += MLPOT_LANES, c_lanes += size * MLPOT_LANES) {
        double *cotangent = b->cotangent + panel_of(b, k);
        normalise_vjp(mlpot_n_invariants(d), b->features + panel_of(b, k), b->norms + k, cotangent);
        power_spectrum_vjp(d, c_lanes, cotangent + (ptrdiff_t)mlpot_n_contracted(d) * MLPOT_PANEL, b->dc_lanes);
        contract_vjp(d, c_lanes, cotangent, &b->contractions, b->dc_lanes);
        if (members) {
            contraction_slopes(d, c_lanes, &b->contractions);
            member_coefficients(d, c_lanes, members);
            if (members->m->n_axes && k % MLPOT_PANEL == 0) member_panel(b->features + panel_of(b, k), members);
        }
        from_lanes(mlpot_n_harmonics(d), d->n_channels, b->dc_lanes, b->scratch.c);
        for (int lane = 0; lane < MLPOT_LANES && k + lane < n; ++lane) {
            expand_centre_vjp(d, p, centres[k + lane], &b->scratch, b->scratch.c + lane * size, pair_gradients);
            if (!members) continue;
            if (lane % SHARING == 0) member_products(k + lane, members);
            member_normalise_vjp(lane, b->features + panel_of(b, k + lane), b->norms[k + lane], members);
            member_spectrum_vjp(d, lane, members);
            member_contract_vjp(d, &b->contractions, lane, members);
            member_gradients(d, p, k + lane, &b->scratch, members);
        }
    }
}
