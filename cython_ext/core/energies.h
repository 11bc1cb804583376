/* Energies, gradients and uncertainties of many centres. Threads process blocks of centres and write to separate memory, so
 * results are bitwise identical for any number of threads. */
#pragma once
#include "blocks.h"
#include "gaussian_kernel.h"
#include "polynomial_kernel.h"
#include "products.h"

/* Tiles of points per chunk: the points of a chunk are still in the L2 cache for the second product. */
#define CHUNK 12
#define CHUNK_ROWS (CHUNK * MLPOT_TILE)
#define PANELS (MLPOT_BLOCK / MLPOT_PANEL)

typedef struct {
    block block;
    double *overlaps;        /* (PANELS, CHUNK_ROWS, MLPOT_PANEL) overlaps with a chunk of points, then slopes */
    double *covariances;     /* (PANELS, n_covariances, MLPOT_PANEL) with points of other terms, then known points */
    int n_covariances;       /* rounded up to MLPOT_TILE; 0 if not requested */
    float *features, *gradient; /* (PANELS, n_single, MLPOT_PANEL) in single precision, of the features that are */
    float *chunk;            /* (PANELS, CHUNK_ROWS, MLPOT_PANEL) slopes likewise */
    int n_single;
    member_memory members;
    int with_members;
} energy_memory;

MLPOT_INLINE int wants_members(const mlpot_kernel_model *m, const mlpot_results *r)
{
    return m->members && (r->members.gradients || r->members.forces);
}

static void energy_memory_free(energy_memory *w)
{
    free(w->overlaps);
    free(w->members.slopes);
    free(w->members.out.gradients);
    block_free(&w->block);
}

/* Memory of everything but the features of the block, and their members, of which there is already some. */
static int products_create(const mlpot_kernel_model *m, const mlpot_results *r, energy_memory *w)
{
    const int with_covariances = r->explained || r->covariances;
    w->n_covariances = with_covariances ? mlpot_round_up(m->n_other + m->known.n, MLPOT_TILE) : 0;
    const size_t n_double = (size_t)PANELS * (CHUNK_ROWS + w->n_covariances) * MLPOT_PANEL;
    w->n_single = m->energy.single ? w->block.n_rows - m->energy.n_double : 0;
    const size_t n_float = w->n_single ? (size_t)PANELS * (2 * w->n_single + CHUNK_ROWS) * MLPOT_PANEL : 0;
    w->overlaps = aligned(n_double + n_float / 2);
    if (!w->overlaps) {
        energy_memory_free(w);
        return -1;
    }
    w->covariances = w->overlaps + (size_t)PANELS * CHUNK_ROWS * MLPOT_PANEL;
    w->features = (float *)(w->overlaps + n_double);
    w->gradient = w->features + (size_t)PANELS * w->n_single * MLPOT_PANEL;
    w->chunk = w->gradient + (size_t)PANELS * w->n_single * MLPOT_PANEL;
    memset(w->covariances, 0, sizeof(double) * PANELS * w->n_covariances * MLPOT_PANEL);
    return 0;
}

static int energy_memory_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                                const int32_t *centres, const mlpot_kernel_model *m, const mlpot_results *r, energy_memory *w)
{
    if (block_create(d, p, n_atoms, MLPOT_BLOCK, &w->block)) return -1;
    w->overlaps = w->members.slopes = NULL;
    w->members.out.gradients = NULL;
    w->members.n_points = 0;
    w->with_members = wants_members(m, r);
    if (w->with_members
        && (member_memory_create(d, m, &w->members) || member_block_create(p, n_centres, centres, &w->members.out))) {
        energy_memory_free(w);
        return -1;
    }
    return products_create(m, r, w);
}

/* Value and slope of the points' kernel; `gaussian` is known to the compiler in all calls. */
MLPOT_INLINE void kernel_at(const int gaussian, const mlpot_points *points, int whole, mlpot_vector s, mlpot_vector *value,
                            mlpot_vector *slope)
{
    if (gaussian) gaussian_kernel(points->per_square, s, value, slope);
    else polynomial_kernel(points->zeta, whole, s, value, slope);
}

/* overlaps (.., MLPOT_PANEL) with points first, first + 1, ... of a chunk -> dE/d(overlap) in place, energies (MLPOT_PANEL)
 * added to. */
MLPOT_INLINE void energies_with(const int gaussian, const mlpot_points *points, int first, double *overlaps, double *energies)
{
    const int n_rows = points->n - first < CHUNK_ROWS ? points->n - first : CHUNK_ROWS;
    const double scale = points->energy_scale * points->energy_scale;
    const int whole = whole_exponent(points->zeta);
    for (int k = 0; k < MLPOT_PANEL; k += MLPOT_LANES) {
        mlpot_vector sum = {0}, value, slope;
        for (int s = 0; s < n_rows; ++s) {
            mlpot_vector *x = (mlpot_vector *)(overlaps + s * MLPOT_PANEL + k);
            const double strength = scale * points->weights[first + s];
            kernel_at(gaussian, points, whole, *x, &value, &slope);
            sum += strength * value;
            *x = strength * slope;
        }
        *(mlpot_vector *)(energies + k) += sum;
    }
}

static void kernel_energies(const mlpot_points *points, int first, double *overlaps, double *energies)
{
    if (points->per_square > 0.0) energies_with(1, points, first, overlaps, energies);
    else energies_with(0, points, first, overlaps, energies);
}

/* Covariances with the known points of this chunk, and dk/d(overlap) for an ensemble. */
MLPOT_INLINE void values_with(const int gaussian, const mlpot_kernel_model *m, int first, int panel, const double *overlaps,
                              energy_memory *w)
{
    const mlpot_points *points = &m->known;
    const int n_rows = points->n - first < CHUNK_ROWS ? points->n - first : CHUNK_ROWS;
    const double scale = points->energy_scale * points->energy_scale;
    const int whole = whole_exponent(points->zeta);
    double *values = w->covariances + ((ptrdiff_t)panel * w->n_covariances + m->n_other + first) * MLPOT_PANEL;
    double *slopes = w->members.slopes + ((ptrdiff_t)panel * w->members.n_points + first) * MLPOT_PANEL;
    for (int s = 0; s < n_rows; ++s)
        for (int k = 0; k < MLPOT_PANEL; k += MLPOT_LANES) {
            mlpot_vector value, slope;
            kernel_at(gaussian, points, whole, *(const mlpot_vector *)(overlaps + s * MLPOT_PANEL + k), &value, &slope);
            if (w->n_covariances) *(mlpot_vector *)(values + s * MLPOT_PANEL + k) = scale * value;
            if (w->members.n_points) *(mlpot_vector *)(slopes + s * MLPOT_PANEL + k) = scale * slope;
        }
}

static void kernel_values(const mlpot_kernel_model *m, int first, int panel, const double *overlaps, energy_memory *w)
{
    if (m->known.per_square > 0.0) values_with(1, m, first, panel, overlaps, w);
    else values_with(0, m, first, panel, overlaps, w);
}

/* One chunk of tiles times all panels -> w->overlaps. */
static void chunk_overlaps(const mlpot_points *points, int tile, int n_tiles, int n_panels, energy_memory *w)
{
    const ptrdiff_t size = (ptrdiff_t)w->block.n_rows * MLPOT_PANEL;
    const int n_double = points->n_double, n_single = points->single ? w->n_single : 0;
    for (int t = tile; t < tile + n_tiles; ++t)
        for (int panel = 0; panel < n_panels; ++panel) {
            double *out = w->overlaps + ((ptrdiff_t)panel * CHUNK_ROWS + (t - tile) * MLPOT_TILE) * MLPOT_PANEL;
            product(points->packed + (ptrdiff_t)t * n_double * MLPOT_TILE, n_double, w->block.features + panel * size, out);
            if (!n_single) continue;
            float rest[MLPOT_TILE * MLPOT_PANEL] __attribute__((aligned(64)));
            single_product(points->single + (ptrdiff_t)t * n_single * MLPOT_TILE, n_single,
                           w->features + (ptrdiff_t)panel * n_single * MLPOT_PANEL, rest);
            for (int k = 0; k < MLPOT_TILE * MLPOT_PANEL; ++k) out[k] += rest[k];
        }
}

/* Slopes of one chunk -> the cotangent of the features. */
static void chunk_cotangent(const mlpot_points *points, int tile, int n_tiles, int n_panels, energy_memory *w)
{
    const ptrdiff_t size = (ptrdiff_t)w->block.n_rows * MLPOT_PANEL, slopes = (ptrdiff_t)CHUNK_ROWS * MLPOT_PANEL;
    const ptrdiff_t apart = (ptrdiff_t)points->n_double * MLPOT_TILE, single_apart = (ptrdiff_t)w->n_single * MLPOT_TILE;
    for (int column = 0; column < points->n_double; column += MLPOT_TILE)
        for (int panel = 0; panel < n_panels; ++panel)
            transposed_product(points->packed + tile * apart + column * MLPOT_TILE, apart, n_tiles,
                               w->overlaps + panel * slopes, w->block.cotangent + panel * size + column * MLPOT_PANEL);
    if (!w->n_single) return;
    for (ptrdiff_t k = 0; k < n_panels * slopes; ++k) w->chunk[k] = w->overlaps[k];
    for (int column = 0; column < w->n_single; column += MLPOT_TILE)
        for (int panel = 0; panel < n_panels; ++panel)
            single_transposed_product(points->single + tile * single_apart + column * MLPOT_TILE, single_apart, n_tiles,
                                      w->chunk + panel * slopes,
                                      w->gradient + ((ptrdiff_t)panel * w->n_single + column) * MLPOT_PANEL);
}

/* Between the block and the copies in single precision of the features from n_double on. */
static void features_to_single(int n_double, int n_panels, energy_memory *w)
{
    const ptrdiff_t size = (ptrdiff_t)w->n_single * MLPOT_PANEL;
    memset(w->gradient, 0, sizeof(float) * n_panels * size);
    for (int panel = 0; panel < n_panels; ++panel) {
        const double *from = w->block.features + ((ptrdiff_t)panel * w->block.n_rows + n_double) * MLPOT_PANEL;
        for (ptrdiff_t k = 0; k < size; ++k) w->features[panel * size + k] = from[k];
    }
}

static void gradient_from_single(int n_double, int n_panels, energy_memory *w)
{
    const ptrdiff_t size = (ptrdiff_t)w->n_single * MLPOT_PANEL;
    for (int panel = 0; panel < n_panels; ++panel) {
        double *to = w->block.cotangent + ((ptrdiff_t)panel * w->block.n_rows + n_double) * MLPOT_PANEL;
        for (ptrdiff_t k = 0; k < size; ++k) to[k] = w->gradient[panel * size + k];
    }
}

/* Whether covariances are with the first of the energy's points; tables without points may lie where another begins. */
MLPOT_INLINE int shares_points(const mlpot_kernel_model *m) { return m->energy.n && m->known.packed == m->energy.packed; }

/* Energies of the block's centres and the cotangent of their features; also covariances if these use the same points. */
static void block_energies(const mlpot_kernel_model *m, int n_panels, energy_memory *w, double *energies)
{
    const mlpot_points *points = &m->energy;
    const int n_tiles = mlpot_round_up(points->n, MLPOT_TILE) / MLPOT_TILE;
    const ptrdiff_t size = (ptrdiff_t)n_panels * w->block.n_rows * MLPOT_PANEL;
    const int share = (w->n_covariances || w->members.n_points) && shares_points(m);
    memset(w->block.cotangent, 0, sizeof(double) * size);
    if (w->n_single) features_to_single(points->n_double, n_panels, w);
    for (int tile = 0; tile < n_tiles; tile += CHUNK) {
        const int tiles = n_tiles - tile < CHUNK ? n_tiles - tile : CHUNK, first = tile * MLPOT_TILE;
        chunk_overlaps(points, tile, tiles, n_panels, w);
        for (int panel = 0; panel < n_panels; ++panel) {
            double *overlaps = w->overlaps + (ptrdiff_t)panel * CHUNK_ROWS * MLPOT_PANEL;
            if (share) kernel_values(m, first, panel, overlaps, w);
            kernel_energies(points, first, overlaps, energies + panel * MLPOT_PANEL);
        }
        chunk_cotangent(points, tile, tiles, n_panels, w);
    }
    if (w->n_single) gradient_from_single(points->n_double, n_panels, w);
}

/* Covariances with the known points if the energy was computed from other points. */
static void block_covariances(const mlpot_kernel_model *m, int n_panels, energy_memory *w)
{
    const int n_tiles = mlpot_round_up(m->known.n, MLPOT_TILE) / MLPOT_TILE;
    for (int tile = 0; tile < n_tiles; tile += CHUNK) {
        const int tiles = n_tiles - tile < CHUNK ? n_tiles - tile : CHUNK, first = tile * MLPOT_TILE;
        chunk_overlaps(&m->known, tile, tiles, n_panels, w);
        for (int panel = 0; panel < n_panels; ++panel)
            kernel_values(m, first, panel, w->overlaps + (ptrdiff_t)panel * CHUNK_ROWS * MLPOT_PANEL, w);
    }
}

/* Columns of the triangle processed at a time: they stay in the L1 cache for all panels. */
#define STRIP (20 * MLPOT_TILE)

/* |G k|^2 of the covariances of all panels, added to sums (PANELS, MLPOT_PANEL) */
static void squared_products(const double *tile, int n_panels, const energy_memory *w, double *sums)
{
    double rows[PANELS][MLPOT_TILE * MLPOT_PANEL] __attribute__((aligned(64)));
    const ptrdiff_t size = (ptrdiff_t)w->n_covariances * MLPOT_PANEL;
    for (int columns = MLPOT_TILE; columns <= w->n_covariances; columns += MLPOT_TILE) {
        memset(rows, 0, sizeof rows);
        for (int begin = 0; begin < columns; begin += STRIP) {
            const int strip = columns - begin < STRIP ? columns - begin : STRIP;
            for (int panel = 0; panel < n_panels; ++panel)
                add_product(tile + begin * MLPOT_TILE, strip, w->covariances + panel * size + begin * MLPOT_PANEL,
                            rows[panel]);
        }
        tile += columns * MLPOT_TILE;
        for (int panel = 0; panel < n_panels; ++panel)
            for (int row = 0; row < MLPOT_TILE; ++row)
                for (int k = 0; k < MLPOT_PANEL; ++k)
                    sums[panel * MLPOT_PANEL + k] += rows[panel][row * MLPOT_PANEL + k] * rows[panel][row * MLPOT_PANEL + k];
    }
}

/* |G k|^2 of every centre of the block for every G, and on request the covariances. */
static void block_spread(const mlpot_kernel_model *m, int n, const int32_t *centres, energy_memory *w,
                         const mlpot_results *r)
{
    const ptrdiff_t size = (ptrdiff_t)w->n_covariances * MLPOT_PANEL;
    for (int k = 0; k < n; ++k) {
        double *own = w->covariances + k / MLPOT_PANEL * size + k % MLPOT_PANEL;
        for (int s = 0; r->explained && s < m->n_other; ++s) own[s * MLPOT_PANEL] = r->other[centres[k] * r->other_stride + s];
        if (r->covariances)
            for (int s = 0; s < m->known.n; ++s)
                r->covariances[centres[k] * r->covariance_stride + s] = own[(m->n_other + s) * MLPOT_PANEL];
    }
    if (!r->explained) return;
    for (int t = 0; t < m->n_spreads; ++t) {
        double sums[MLPOT_BLOCK] __attribute__((aligned(64))) = {0};
        squared_products(m->spread + t * mlpot_packed_lower_size(m->n_other + m->known.n),
                         mlpot_round_up(n, MLPOT_PANEL) / MLPOT_PANEL, w, sums);
        for (int k = 0; k < n; ++k) r->explained[centres[k] * (ptrdiff_t)m->n_spreads + t] += sums[k];
    }
    if (!w->with_members || !m->members->residual) return;
    for (int k = 0; k < n; ++k) {
        const double left = m->members->prior - r->explained[centres[k] * (ptrdiff_t)m->n_spreads] - m->members->expected;
        w->members.amplitudes[k] = left > 0.0 ? sqrt(left) : 0.0;
    }
}

static void energies_of_block(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int n,
                              const int32_t *centres, energy_memory *w, const mlpot_results *r)
{
    double energies[MLPOT_BLOCK] __attribute__((aligned(64))) = {0};
    const int n_panels = mlpot_round_up(n, MLPOT_PANEL) / MLPOT_PANEL;
    memset(w->members.amplitudes, 0, sizeof w->members.amplitudes);
    block_features(d, p, n, centres, &w->block);
    block_energies(m, n_panels, w, energies);
    for (int k = 0; k < n; ++k) r->energies[centres[k]] += energies[k];
    if ((w->n_covariances || w->members.n_points) && !shares_points(m)) block_covariances(m, n_panels, w);
    if (w->n_covariances) block_spread(m, n, centres, w, r);
    if (w->with_members) member_block_begin(&w->members.out);
    block_vjp(d, p, n, centres, &w->block, r->pair_gradients, w->with_members ? &w->members : NULL);
}

static int local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                          int64_t n_centres, const int32_t *centres, int n_threads, const mlpot_results *r)
{
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_centres, MLPOT_BLOCK))) reduction(min : failed)
    {
        energy_memory w;
        failed = energy_memory_create(d, p, n_atoms, n_centres, centres, m, r, &w);
#pragma omp for schedule(dynamic) ordered
        for (int64_t k = 0; k < BLOCKS(n_centres, MLPOT_BLOCK); ++k) {
            const int n = BLOCK_SIZE(n_centres, k, MLPOT_BLOCK);
            if (!failed) energies_of_block(d, p, m, n, centres + k * MLPOT_BLOCK, &w, r);
            if (failed || !w.with_members) continue;
#pragma omp ordered
            member_block_add(p, n, 0, centres + k * MLPOT_BLOCK, &w.members.out, &r->members);
        }
        if (!failed) energy_memory_free(&w);
    }
    return failed;
}

/* Rows (n, n_features) of centres from and to the panels of a block, some features of all centres at a time: a panel does not
 * fit the L1 cache. */
#define SOME 8

static void copy_features(const block *b, int n, int n_features, double *features)
{
    for (int first = 0; first < n_features; first += SOME)
        for (int k = 0; k < n; ++k)
            for (int f = first; f < first + SOME && f < n_features; ++f)
                features[(ptrdiff_t)k * n_features + f] = b->features[panel_of(b, k) + f * MLPOT_PANEL];
}

static void copy_cotangent(const double *cotangent, int n, int n_features, block *b)
{
    for (int first = 0; first < n_features; first += SOME)
        for (int k = 0; k < n; ++k)
            for (int f = first; f < first + SOME && f < n_features; ++f)
                b->cotangent[panel_of(b, k) + f * MLPOT_PANEL] = cotangent[(ptrdiff_t)k * n_features + f];
}

static int features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                    const int32_t *centres, int n_threads, double *out)
{
    const int n_features = mlpot_n_features(d);
    int failed = 0;
#pragma omp parallel num_threads(team(n_threads, BLOCKS(n_centres, MLPOT_FEW))) reduction(min : failed)
    {
        block b;
        failed = block_create(d, p, n_atoms, MLPOT_FEW, &b);
#pragma omp for schedule(dynamic)
        for (int64_t k = 0; k < BLOCKS(n_centres, MLPOT_FEW); ++k) {
            if (failed) continue;
            block_features(d, p, BLOCK_SIZE(n_centres, k, MLPOT_FEW), centres + k * MLPOT_FEW, &b);
            copy_features(&b, BLOCK_SIZE(n_centres, k, MLPOT_FEW), n_features, out + k * MLPOT_FEW * n_features);
        }
        if (!failed) block_free(&b);
    }
    return failed;
}

static int features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                        const int32_t *centres, const double *cotangent, double *out, double *pair_gradients)
{
    const int n_features = mlpot_n_features(d);
    block b;
    if (block_create(d, p, n_atoms, MLPOT_FEW, &b)) return -1;
    memset(b.cotangent, 0, sizeof(double) * b.n_rows * MLPOT_FEW);
    for (int64_t k = 0; k < BLOCKS(n_centres, MLPOT_FEW); ++k) {
        const int n = BLOCK_SIZE(n_centres, k, MLPOT_FEW);
        block_features(d, p, n, centres + k * MLPOT_FEW, &b);
        copy_features(&b, n, n_features, out + k * MLPOT_FEW * n_features);
        copy_cotangent(cotangent + k * MLPOT_FEW * n_features, n, n_features, &b);
        block_vjp(d, p, n, centres + k * MLPOT_FEW, &b, pair_gradients, NULL);
    }
    block_free(&b);
    return 0;
}

static int expand(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                  const int32_t *centres, double *coefficients)
{
    const int64_t size = (int64_t)mlpot_n_harmonics(d) * d->n_channels;
    scratch s;
    if (scratch_create(d, p, n_atoms, &s)) return -1;
    for (int64_t k = 0; k < n_centres; ++k) {
        expand_centre(d, p, centres[k], &s, s.c);
        memcpy(coefficients + k * size, s.c, sizeof(double) * size);
    }
    scratch_free(&s);
    return 0;
}
