/* Energies, gradients and uncertainties of centres with mapped features: as in energies.h from the features on. */
#pragma once
#include "energies.h"
#include "feature_panels.h"

/* Features of a block and members' products, without those of a density. */
static int mapped_block_create(const mlpot_feature_map *f, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_centres,
                               const int32_t *centres, const mlpot_results *r, energy_memory *w)
{
    block *b = &w->block;
    memset(w, 0, sizeof *w);
    b->n_rows = mlpot_round_up(mlpot_n_mapped(f), MLPOT_TILE);
    const size_t n_features = (size_t)b->n_rows * MLPOT_PANEL;
    double *memory = b->c_lanes = aligned(2 * n_features + MLPOT_PANEL);
    if (!memory) return -1;
    memset(memory, 0, sizeof(double) * n_features);
    b->features = memory;
    b->cotangent = memory + n_features;
    b->norms = memory + 2 * n_features;
    if (!m) return 0;
    w->with_members = wants_members(m, r);
    if (w->with_members
        && (!member_products_create(m, 0, &w->members) || member_block_create(p, n_centres, centres, &w->members.out))) {
        energy_memory_free(w);
        return -1;
    }
    return products_create(m, r, w);
}

/* As normalise_vjp, of the members of SHARING centres, from `first` on; products and out (n_mapped, MLPOT_PANEL) */
static void member_panel_vjp(int n, const block *b, int first, const float *products, double *out)
{
    double overlap[MLPOT_PANEL] = {0}, inverse[MLPOT_PANEL];
    for (int k = 0; k < MLPOT_PANEL; ++k) {
        const double norm = b->norms[first + k / MLPOT_MEMBERS]; /* 0 in idle lanes alone */
        inverse[k] = norm > 0.0 ? 1.0 / norm : 0.0;
    }
    for (ptrdiff_t f = 0; f < n; ++f)
        for (int k = 0; k < MLPOT_PANEL; ++k)
            overlap[k] += b->features[f * MLPOT_PANEL + first + k / MLPOT_MEMBERS] * products[f * MLPOT_PANEL + k];
    for (ptrdiff_t f = 0; f < n; ++f)
        for (int k = 0; k < MLPOT_PANEL; ++k) {
            const double along = b->features[f * MLPOT_PANEL + first + k / MLPOT_MEMBERS] * overlap[k];
            out[f * MLPOT_PANEL + k] = (products[f * MLPOT_PANEL + k] - along) * inverse[k];
        }
}

/* Cotangents of the members of n centres; consumes those of the energy. */
static void member_rows(const mlpot_feature_map *f, int n, energy_memory *e, panel_memory *w)
{
    for (int k = 0; k < n; k += SHARING) {
        member_products(k, &e->members);
        member_panel_vjp(mlpot_n_mapped(f), &e->block, k, e->members.products, e->block.cotangent);
        unmap_panel(f, e->block.cotangent, w);
        for (int lane = 0; lane < MLPOT_PANEL && k + lane / MLPOT_MEMBERS < n; ++lane)
            to_row(f, lane, 1 + lane % MLPOT_MEMBERS, k + lane / MLPOT_MEMBERS, w);
    }
}

/* Normalises the features of n centres; the first that has none, or n. */
static int normalise_panel(const mlpot_feature_map *f, int n, block *b)
{
    for (int k = 0; k < MLPOT_PANEL; k += MLPOT_LANES) normalise(mlpot_n_mapped(f), b->features + k, b->norms + k);
    for (int k = 0; k < n; ++k)
        if (!(b->norms[k] > 0.0)) return k;
    return n;
}

/* Energies and cotangents (n_features, MLPOT_PANEL) of a linear model. */
static void linear_energies(const mlpot_feature_map *f, const mlpot_linear_model *m, block *b, double *energies)
{
    for (int k = 0; k < MLPOT_PANEL; ++k) energies[k] = m->constant;
    memset(b->cotangent, 0, sizeof(double) * b->n_rows * MLPOT_PANEL);
    for (int row = 0; m->curvatures && row < b->n_rows; row += MLPOT_TILE)
        product(m->curvatures + (ptrdiff_t)row * b->n_rows, b->n_rows, b->features, b->cotangent + row * MLPOT_PANEL);
    for (ptrdiff_t row = 0; row < f->n_features; ++row)
        for (int k = 0; k < MLPOT_PANEL; ++k) {
            double *cotangent = b->cotangent + row * MLPOT_PANEL + k;
            energies[k] += (m->slopes[row] + 0.5 * *cotangent) * b->features[row * MLPOT_PANEL + k];
            *cotangent += m->slopes[row];
        }
}

/* Energies of a panel, and the cotangents of its features; the first centre without features, or n. */
static int panel_energies(const mlpot_feature_map *f, const mlpot_kernel_model *m, const mlpot_linear_model *linear, int n,
                          const int32_t *centres, energy_memory *e, const mlpot_results *r)
{
    double energies[MLPOT_PANEL] __attribute__((aligned(64))) = {0};
    if (linear) {
        linear_energies(f, linear, &e->block, energies);
    } else {
        const int without = normalise_panel(f, n, &e->block);
        if (without < n) return without;
        memset(e->members.amplitudes, 0, sizeof e->members.amplitudes);
        block_energies(m, 1, e, energies);
        if ((e->n_covariances || e->members.n_points) && !shares_points(m)) block_covariances(m, 1, e);
        if (e->n_covariances) block_spread(m, n, centres, e, r);
        for (int k = 0; k < MLPOT_PANEL; k += MLPOT_LANES)
            normalise_vjp(mlpot_n_mapped(f), e->block.features + k, e->block.norms + k, e->block.cotangent + k);
    }
    for (int k = 0; k < n; ++k) r->energies[centres[k]] += energies[k];
    return n;
}

static int energies_of_panel(const mlpot_feature_map *f, const mlpot_pairs *p, const mlpot_kernel_model *m,
                             const mlpot_linear_model *linear, int n, const int32_t *centres, energy_memory *e, panel_memory *w,
                             const mlpot_results *r)
{
    panel_sums(f, p, n, centres, w);
    map_panel(f, w, e->block.features);
    const int found = panel_energies(f, m, linear, n, centres, e, r);
    if (found < n) return found;
    unmap_panel(f, e->block.cotangent, w);
    for (int k = 0; k < n; ++k) to_row(f, k, 0, k, w);
    if (e->with_members) member_rows(f, n, e, w);
    pull_back_panel(f, p, n, centres, w, r->pair_gradients, &e->members.out);
    return n;
}

static int64_t mapped_energies(const mlpot_feature_map *f, const mlpot_pairs *p, const mlpot_kernel_model *m,
                               const mlpot_linear_model *linear, int64_t n_atoms, int64_t n_centres, const int32_t *centres,
                               int n_threads, const mlpot_results *r)
{
    int failed = 0;
    int64_t without = INT64_MAX;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_centres, MLPOT_PANEL))) reduction(min : failed, without)
    {
        energy_memory e;
        panel_memory w;
        failed = mapped_block_create(f, p, m, n_centres, centres, r, &e);
        if (!failed && panel_create(f, p, n_atoms, e.with_members ? 1 + MLPOT_MEMBERS : 1, &w)) {
            energy_memory_free(&e);
            failed = -1;
        }
#pragma omp for schedule(dynamic) ordered
        for (int64_t k = 0; k < BLOCKS(n_centres, MLPOT_PANEL); ++k) {
            const int n = BLOCK_SIZE(n_centres, k, MLPOT_PANEL);
            const int found = failed ? n : energies_of_panel(f, p, m, linear, n, centres + k * MLPOT_PANEL, &e, &w, r);
            if (found < n && centres[k * MLPOT_PANEL + found] < without) without = centres[k * MLPOT_PANEL + found];
            if (failed || found < n || !e.with_members) continue;
#pragma omp ordered
            member_block_add(p, n, 0, centres + k * MLPOT_PANEL, &e.members.out, &r->members);
        }
        if (!failed) {
            panel_free(f, &w);
            energy_memory_free(&e);
        }
    }
    return failed ? failed : without < INT64_MAX ? 1 + without : 0;
}
