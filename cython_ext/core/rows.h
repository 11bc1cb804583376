/* Rows of the design matrix for one structure: covariances of its energy, forces and virial with every sparse point.
 * Jacobians of neighbours are collected in tiles, which meet the sparse points while they are in the cache and are
 * then forgotten. */
#pragma once
#include "energies.h"
#include "jacobian.h"
#include "pair_gradients.h"

/* Neighbours of a tile: each has three columns. */
#define SLOTS (MLPOT_TILE / 3)
/* Tiles multiplied with a panel of sparse points at a time: the panel stays in the L1 cache, the tiles in L2. */
#define TILES 16

typedef struct slot {
    int member;               /* of the block */
    int64_t pair;
} slot;

typedef struct {
    block block;
    jacobian_memory jacobian;
    active_features active;
    char *present;            /* (n_groups) whether any centre of the block has a density of these channels */
    int *group_of;            /* (n_channels) */
    const double *panels;     /* (n_panels, active.n_rows, MLPOT_PANEL) sparse points */
    double *gathered;         /* room for them where not all elements are there */
    int n_panels;
    double *tiles;            /* (TILES, n_rows, MLPOT_TILE) columns (direction, slot); rows beyond the active are 0 */
    double *slopes;           /* (MLPOT_BLOCK, n_panels * MLPOT_PANEL) dk/d(overlap) */
    double *energy;           /* (n_panels * MLPOT_PANEL) */
    int n_slots;
    slot slots[TILES * SLOTS];
} row_memory;

static int row_memory_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, const mlpot_sparse *sparse,
                             row_memory *w)
{
    const size_t n_rows = mlpot_round_up(mlpot_n_features(d), MLPOT_TILE);
    w->n_panels = mlpot_round_up(sparse->n, MLPOT_PANEL) / MLPOT_PANEL;
    const size_t n_columns = (size_t)w->n_panels * MLPOT_PANEL, n_gathered = d->n_groups > 1 ? n_rows * n_columns : 0;
    const size_t n_whole = lines((n_rows + d->n_channels + 1) / 2 + d->n_groups / 8 + 1);
    if (block_create(d, p, n_atoms, MLPOT_BLOCK, &w->block)) return -1;
    const size_t n_tiles = n_rows * TILES * MLPOT_TILE, n_slopes = (MLPOT_BLOCK + 1) * n_columns;
    double *memory = aligned(n_tiles + n_slopes + n_gathered + jacobian_size(d) + n_whole);
    if (!memory) {
        block_free(&w->block);
        return -1;
    }
    w->tiles = memory;
    w->slopes = memory + n_tiles;
    w->energy = w->slopes + MLPOT_BLOCK * n_columns;
    w->gathered = memory + n_tiles + n_slopes;
    jacobian_place(d, w->gathered + n_gathered, &w->jacobian);
    w->active.which = (int *)(w->gathered + n_gathered + jacobian_size(d));
    w->group_of = w->active.which + n_rows;
    w->present = (char *)(w->group_of + d->n_channels);
    for (int g = 0; g < d->n_groups; ++g)
        for (int q = 0; q < d->width[g]; ++q) w->group_of[d->first[g] + q] = g;
    memset(w->energy, 0, sizeof(double) * n_columns);
    w->n_slots = 0;
    return 0;
}

static void row_memory_free(row_memory *w)
{
    free(w->tiles);
    block_free(&w->block);
}

static void find_present(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, char *present)
{
    memset(present, 0, d->n_groups);
    for (int k = 0; k < n; ++k) {
        const double *own = d->self + (ptrdiff_t)p->species[centres[k]] * d->n_channels;
        for (int g = 0; g < d->n_groups; ++g)
            for (int q = 0; q < d->width[g]; ++q) present[g] |= own[d->first[g] + q] != 0.0;
        for (int64_t pair = p->offsets[centres[k]]; pair < p->offsets[centres[k] + 1]; ++pair)
            if (p->distances[pair] < d->cutoff) present[d->group[p->species[p->j[pair]]]] = 1;
    }
}

/* The features present in a block of centres, and their values in the sparse points. */
static void choose_features(const mlpot_density *d, const mlpot_pairs *p, const mlpot_sparse *sparse, int n,
                            const int32_t *centres, row_memory *w)
{
    active_features *active = &w->active;
    const int n_features = mlpot_n_features(d), n_rows = mlpot_round_up(n_features, MLPOT_TILE);
    find_present(d, p, n, centres, w->present);
    active->n = 0;
    for (int f = 0; f < n_features; ++f) {
        const int e = f - mlpot_n_contracted(d);
        if (e < 0 || e == d->n_spectrum
            || (w->present[w->group_of[d->channel_a[e]]] && w->present[w->group_of[d->channel_b[e]]]))
            active->which[active->n++] = f;
    }
    active->n_rows = mlpot_round_up(active->n, MLPOT_TILE);
    memset(w->tiles, 0, sizeof(double) * TILES * MLPOT_TILE * active->n_rows);
    w->panels = sparse->panels;
    if (active->n == n_features) return;
    w->panels = w->gathered;
    for (ptrdiff_t panel = 0; panel < w->n_panels; ++panel) {
        double *to = w->gathered + panel * active->n_rows * MLPOT_PANEL;
        for (int k = 0; k < active->n; ++k)
            memcpy(to + k * MLPOT_PANEL, sparse->panels + (panel * n_rows + active->which[k]) * MLPOT_PANEL,
                   sizeof(double) * MLPOT_PANEL);
        memset(to + active->n * MLPOT_PANEL, 0, sizeof(double) * MLPOT_PANEL * (active->n_rows - active->n));
    }
}

/* overlaps (n_columns) -> dk/d(overlap) in place; covariances added to energy (n_columns) */
static void covariances_of(const mlpot_sparse *sparse, ptrdiff_t n_columns, double *overlaps, double *energy)
{
    const double scale = sparse->energy_scale * sparse->energy_scale;
    const int whole = whole_exponent(sparse->zeta);
    for (ptrdiff_t k = 0; k < n_columns; k += MLPOT_LANES) {
        mlpot_vector *x = (mlpot_vector *)(overlaps + k);
        const mlpot_vector below = power_below(*x, sparse->zeta, whole);
        *(mlpot_vector *)(energy + k) += scale * below * *x;
        *x = (scale * sparse->zeta) * below;
    }
}

/* Overlaps of the block's centres with all sparse points, a tile of centres at a time -> w->energy, w->slopes. */
static void block_slopes(const mlpot_sparse *sparse, int n, row_memory *w)
{
    const ptrdiff_t n_columns = (ptrdiff_t)w->n_panels * MLPOT_PANEL, size = (ptrdiff_t)w->active.n_rows * MLPOT_PANEL;
    double out[MLPOT_TILE * MLPOT_PANEL] __attribute__((aligned(64)));
    for (int first = 0; first < n; first += MLPOT_TILE) {
        const int members = n - first < MLPOT_TILE ? n - first : MLPOT_TILE;
        for (int k = 0; k < members; ++k)
            for (int f = 0; f < w->active.n; ++f)
                w->tiles[f * MLPOT_TILE + k] =
                    w->block.features[panel_of(&w->block, first + k) + (ptrdiff_t)w->active.which[f] * MLPOT_PANEL];
        for (ptrdiff_t panel = 0; panel < w->n_panels; ++panel) {
            product(w->tiles, w->active.n_rows, w->panels + panel * size, out);
            for (int k = 0; k < members; ++k)
                memcpy(w->slopes + (first + k) * n_columns + panel * MLPOT_PANEL, out + k * MLPOT_PANEL,
                       sizeof(double) * MLPOT_PANEL);
        }
    }
    for (int k = 0; k < n; ++k) covariances_of(sparse, n_columns, w->slopes + k * n_columns, w->energy);
}

typedef struct {
    double *forces, *virial;  /* (3 n_atoms, stride), (9, stride); either may be NULL */
    int64_t stride;
} label_rows;

/* gradients (MLPOT_TILE, MLPOT_PANEL) of a tile's overlaps with one panel of sparse points -> rows of the labels */
static void scatter(const mlpot_pairs *p, const int32_t *centres, const slot *slots, int n_slots, int n_points,
                    const double *slopes, ptrdiff_t n_columns, double *gradients, int column, const label_rows *to)
{
    for (int k = 0; k < n_slots; ++k) {
        const double *slope = slopes + slots[k].member * n_columns + column;
        double *rows = gradients + k * MLPOT_PANEL;
        const ptrdiff_t apart = SLOTS * MLPOT_PANEL;
        for (int x = 0; x < 3; ++x)
            for (int s = 0; s < MLPOT_PANEL; ++s) rows[x * apart + s] *= slope[s];
        const int64_t pair = slots[k].pair;
        if (to->forces)
            mlpot_add_pair_forces(centres[slots[k].member], p->j[pair], n_points, rows, apart, to->forces + column,
                                  to->stride);
        if (to->virial)
            mlpot_add_pair_virial(p->vectors + 3 * pair, n_points, rows, apart, to->virial + column, to->stride);
    }
}

/* The tiles that are filled, times all sparse points. */
static void flush_tiles(const mlpot_pairs *p, const mlpot_sparse *sparse, const int32_t *centres, row_memory *w,
                        const label_rows *to)
{
    const ptrdiff_t n_columns = (ptrdiff_t)w->n_panels * MLPOT_PANEL, size = (ptrdiff_t)w->active.n_rows * MLPOT_PANEL;
    double out[MLPOT_TILE * MLPOT_PANEL] __attribute__((aligned(64)));
    for (int panel = 0; panel < w->n_panels; ++panel) {
        const int column = panel * MLPOT_PANEL, left = sparse->n - column;
        for (int first = 0; first < w->n_slots; first += SLOTS) {
            const int n_slots = w->n_slots - first < SLOTS ? w->n_slots - first : SLOTS;
            product(w->tiles + (ptrdiff_t)first / SLOTS * w->active.n_rows * MLPOT_TILE, w->active.n_rows,
                    w->panels + panel * size, out);
            if (left >= MLPOT_PANEL) /* a compile-time constant */
                scatter(p, centres, w->slots + first, n_slots, MLPOT_PANEL, w->slopes, n_columns, out, column, to);
            else
                scatter(p, centres, w->slots + first, n_slots, left, w->slopes, n_columns, out, column, to);
        }
    }
    w->n_slots = 0;
}

/* `count` neighbours of (n, 3, lanes) columns -> slots of a tile; a count that the compiler knows becomes one move */
MLPOT_INLINE void copy_lanes(int n, const int count, const double *from, double *tile)
{
    for (int k = 0; k < n; ++k, from += 3 * MLPOT_LANES, tile += MLPOT_TILE)
        for (int x = 0; x < 3; ++x) memcpy(tile + x * SLOTS, from + x * MLPOT_LANES, sizeof(double) * count);
}

/* Columns of the neighbours in hand, from `lane` on -> free slots of one tile; returns how many found room. */
static int fill_slots(int member, const int32_t *pairs, int lane, int n, row_memory *w)
{
    const int slot = w->n_slots % SLOTS, count = n - lane < SLOTS - slot ? n - lane : SLOTS - slot;
    double *tile = w->tiles + (ptrdiff_t)(w->n_slots / SLOTS) * w->active.n_rows * MLPOT_TILE + slot;
    const double *from = w->jacobian.columns + lane;
    switch (count) {
    case 1: copy_lanes(w->active.n, 1, from, tile); break;
    case 2: copy_lanes(w->active.n, 2, from, tile); break;
    case 3: copy_lanes(w->active.n, 3, from, tile); break;
    default: copy_lanes(w->active.n, SLOTS, from, tile);
    }
    for (int k = 0; k < count; ++k) w->slots[w->n_slots++] = (struct slot){member, pairs[lane + k]};
    return count;
}

static void centre_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_sparse *sparse,
                        const int32_t *centres, int member, row_memory *w, const label_rows *to)
{
    scratch *s = &w->block.scratch;
    const ptrdiff_t size = (ptrdiff_t)mlpot_n_harmonics(d) * d->n_channels;
    const double *lanes = w->block.c_lanes + member / MLPOT_LANES * size * MLPOT_LANES + member % MLPOT_LANES;
    for (ptrdiff_t k = 0; k < size; ++k) s->c[k] = lanes[k * MLPOT_LANES];
    if (member % MLPOT_LANES == 0) contraction_slopes(d, lanes, &w->block.contractions);
    const double *slopes = (const double *)w->block.contractions.slopes + member % MLPOT_LANES;
    gather_neighbours(d, p, centres[member], s);
    harmonics_gradients(d->harmonics, d->l_max, s->n, s->unit, s->ylm, s->grad);
    radial_slopes(d, p, s);
    for (int k = 0; k < s->n; k += MLPOT_LANES) {
        neighbour_columns(d, s, w->present, &w->active, slopes, k,
                          w->block.features + panel_of(&w->block, member), w->block.norms[member], &w->jacobian);
        const int n = s->n - k < MLPOT_LANES ? s->n - k : MLPOT_LANES;
        for (int lane = 0; lane < n;) {
            lane += fill_slots(member, s->pair + k, lane, n, w);
            if (w->n_slots == TILES * SLOTS) flush_tiles(p, sparse, centres, w, to);
        }
    }
}

static int design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_sparse *sparse, int64_t n_atoms,
                       int64_t n_centres, const int32_t *centres, double *energy, double *forces, double *virial,
                       int64_t stride)
{
    row_memory w;
    const label_rows to = {forces, virial, stride};
    if (row_memory_create(d, p, n_atoms, sparse, &w)) return -1;
    for (int64_t begin = 0; begin < n_centres; begin += MLPOT_BLOCK) {
        const int n = BLOCK_SIZE(n_centres, begin / MLPOT_BLOCK, MLPOT_BLOCK);
        block_features(d, p, n, centres + begin, &w.block);
        choose_features(d, p, sparse, n, centres + begin, &w);
        block_slopes(sparse, n, &w);
        if (!forces && !virial) continue;
        for (int member = 0; member < n; ++member) centre_rows(d, p, sparse, centres + begin, member, &w, &to);
        flush_tiles(p, sparse, centres + begin, &w, &to);
    }
    for (int s = 0; s < sparse->n; ++s) energy[s] += w.energy[s];
    row_memory_free(&w);
    return 0;
}
