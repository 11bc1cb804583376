/* Sums over neighbours and triplets from a model file, with checks of every size and index used by the loops. */
#include <math.h>
#include <string.h>

#include "model.h"

#define MOST_KNOTS (1 << 24)
#define MOST_COLUMNS (1 << 16)
#define MOST_VALUES (1 << 24)
#define MOST_PLACE 1e9
#define MOST_ZETA 1000.0
#define MOST_DEGREES 14

/* Curves at places from 0 to `farthest`. */
static void read_curves(mlpot_reader *r, const char *name, double farthest, mlpot_curves *c)
{
    const size_t outside = mlpot_enter(r, name, 0);
    const int32_t *n = mlpot_sizes(r, "sizes", 3); /* segments, columns, knots */
    if (n && (n[0] < 1 || n[0] > MOST_COLUMNS || n[1] < 1 || n[1] > MOST_COLUMNS || n[1] % MLPOT_CHANNELS || n[2] > MOST_KNOTS))
        mlpot_refuse(r, "%ssizes: no such curves", r->prefix);
    if (r->failed) return;
    c->n_segments = n[0];
    c->n_columns = n[1];
    c->start = mlpot_doubles(r, "start", n[0]);
    c->per_step = mlpot_doubles(r, "per_step", n[0]);
    c->first = mlpot_integers(r, "first", n[0], 0, n[2]);
    c->n_intervals = mlpot_integers(r, "n_intervals", n[0], 1, n[2]);
    c->knots = mlpot_doubles(r, "knots", mlpot_product(n[2], 3, n[1], 1));
    for (int s = 0; s < n[0] && !r->failed; ++s)
        if (!(c->start[s] >= (s ? c->start[s - 1] : 0.0)) || c->start[0] > 0.0 || !(c->per_step[s] > 0.0)
            || !(farthest * c->per_step[s] < MOST_PLACE) || (int64_t)c->first[s] + c->n_intervals[s] >= n[2])
            mlpot_refuse(r, "%sstart: segment %d does not fit the knots", r->prefix, s);
    r->prefix[outside] = 0;
}

static void read_shell(mlpot_reader *r, int n_species, mlpot_shell *shell)
{
    const int32_t *n_groups = mlpot_integers(r, "n_groups", 1, 1, 1 << 10);
    const double *cutoff = mlpot_doubles(r, "cutoff", 1);
    if (!n_groups || !cutoff) return;
    if (!(*cutoff > 0.0 && *cutoff < 1000.0)) {
        mlpot_refuse(r, "%scutoff = %g: no such distance", r->prefix, *cutoff);
        return;
    }
    shell->n_species = n_species;
    shell->n_groups = *n_groups;
    shell->cutoff = *cutoff;
    shell->group = mlpot_integers(r, "group", n_species, 0, (int64_t)*n_groups - 1);
    if (!r->failed) read_curves(r, "curves.", shell->cutoff, &shell->curves);
}

/* Harmonics and the places of the coefficients follow from the degrees. */
static void place_moments(mlpot_model *model, mlpot_reader *r, mlpot_moments *m)
{
    int32_t *place = mlpot_take(model, r, (size_t)m->n_entries, sizeof *place);
    m->l_max = m->n_entries ? m->degree[m->n_entries - 1] : 0;
    double *norms = mlpot_take(model, r, (size_t)(m->l_max + 1) * (m->l_max + 2) / 2, sizeof *norms);
    if (r->failed) return;
    mlpot_harmonics_norms(m->l_max, norms);
    for (int e = 0; e < m->n_entries; ++e) {
        if (e && m->degree[e] < m->degree[e - 1]) mlpot_refuse(r, "%sdegree: does not ascend", r->prefix);
        place[e] = m->n_coefficients;
        m->n_coefficients += 2 * m->degree[e] + 1;
    }
    m->place = place;
    m->harmonics = norms;
    if (mlpot_product(m->shell.n_groups, m->n_weights, m->n_coefficients, 1) > MOST_VALUES)
        mlpot_refuse(r, "%sdegree: too many moments", r->prefix);
}

static void read_moments(mlpot_model *model, mlpot_reader *r, int n_species, mlpot_moments *m)
{
    /* sums of each weight, polynomials among these, weights of sums; curves of moments, weights; entries, products */
    const int32_t *n = mlpot_sizes(r, "sizes", 7);
    read_shell(r, n_species, &m->shell);
    if (r->failed) return;
    for (int k = 0; k < 7; ++k)
        if (n[k] > MOST_COLUMNS || n[1] > n[0]) {
            mlpot_refuse(r, "%ssizes: no such sums", r->prefix);
            return;
        }
    if ((n[1] > 0) + n[0] - n[1] + n[3] > m->shell.curves.n_columns) {
        mlpot_refuse(r, "%ssizes: more curves than there are", r->prefix);
        return;
    }
    const int64_t n_blocks = (int64_t)m->shell.n_groups * n[4];
    m->n_summed = n[0];
    m->n_polynomials = n[1];
    m->n_sum_weights = n[2];
    m->n_angular = n[3];
    m->n_weights = n[4];
    m->n_entries = n[5];
    m->n_products = n[6];
    m->sum_weights = mlpot_doubles(r, "sum_weights", mlpot_product(n_species, n[2], 1, 1));
    m->weights = mlpot_doubles(r, "weights", mlpot_product(n_species, n[4], 1, 1));
    m->degree = mlpot_integers(r, "degree", n[5], 0, MLPOT_MAX_L);
    m->column = mlpot_integers(r, "column", n[5], 0, (int64_t)n[3] - 1);
    m->left = mlpot_integers(r, "left", n[6], 0, n_blocks - 1);
    m->right = mlpot_integers(r, "right", n[6], 0, n_blocks - 1);
    if (!r->failed) place_moments(model, r, m);
}

static void read_triplet_functions(mlpot_reader *r, int n_species, mlpot_triplet_functions *t)
{
    /* polynomials of r_jk, their degree; shapes, functions, angular factors; whether there are other curves of r_jk, and windows */
    const int32_t *n = mlpot_sizes(r, "sizes", 7);
    read_shell(r, n_species, &t->shell);
    if (r->failed) return;
    for (int k = 0; k < 7; ++k)
        if (n[k] > MOST_COLUMNS || n[2] < 1) {
            mlpot_refuse(r, "%ssizes: no such functions", r->prefix);
            return;
        }
    t->even.n = n[0];
    t->even.degree = n[1];
    t->even.end_squares = mlpot_doubles(r, "end_squares", n[0]);
    t->even.coefficients = mlpot_doubles(r, "even", mlpot_product(n[0], (int64_t)n[1] + 1, 1, 1));
    t->weights = mlpot_doubles(r, "weights", n_species);
    if (n[5] && !r->failed) read_curves(r, "apart.", 2.0 * t->shell.cutoff, &t->apart);
    if (n[6] && !r->failed) read_curves(r, "windows.", 2.0, &t->windows);
    const int64_t n_apart = (int64_t)n[0] + t->apart.n_columns;
    t->n_shapes = n[2];
    t->n_angular = n[4];
    t->radial = mlpot_integers(r, "radial", n[2], 0, (int64_t)t->shell.curves.n_columns - 1);
    t->between = mlpot_integers(r, "between", n[2], 0, n_apart ? n_apart - 1 : MOST_COLUMNS); /* unused without any */
    t->begin = mlpot_ascending(r, "begin", (int64_t)n[2] + 1, 0, n[3]);
    t->angular = mlpot_integers(r, "angular", n[3], 0, (int64_t)n[4] - 1);
    t->zeta = mlpot_doubles(r, "zeta", n[4]);
    t->lambda = mlpot_doubles(r, "lambda", n[4]);
    t->window = mlpot_integers(r, "window", n[4], -1, (int64_t)t->windows.n_columns - 1);
    for (int a = 0; a < n[4] && !r->failed; ++a)
        if (!(t->zeta[a] >= 1.0 && t->zeta[a] <= MOST_ZETA)) mlpot_refuse(r, "%szeta: %g is no such power", r->prefix, t->zeta[a]);
    for (int k = 0; k < n[0] && !r->failed; ++k)
        if (!(t->even.end_squares[k] > 0.0)) mlpot_refuse(r, "%send_squares: no such distance", r->prefix);
}

/* Degrees from the highest down to which t1 >= t2 couple. */
static int n_coupled(const mlpot_bispectrum *b, int t1, int t2)
{
    const int sum = t1 + t2, highest = sum <= b->two_j_max ? sum : b->two_j_max - (sum - b->two_j_max) % 2;
    return highest < t1 - t2 ? 0 : (highest - (t1 - t2)) / 2 + 1;
}

static void check_couplings(mlpot_reader *r, const mlpot_bispectrum *b, int n_couplings)
{
    const int n = b->two_j_max + 1;
    for (int t1 = 0; t1 < n && !r->failed; ++t1)
        for (int t2 = 0; t2 <= t1; ++t2)
            for (int k = 0; k <= t1 + t2; ++k) {
                const int low = k > t2 ? k - t2 : 0, high = k < t1 ? k : t1;
                const int64_t end = b->rows[(t1 * n + t2) * (2 * n - 1) + k] + (int64_t)(high - low + 1) * n_coupled(b, t1, t2);
                if (end > n_couplings) mlpot_refuse(r, "%srows: beyond the couplings", r->prefix);
            }
}

/* Products of two densities, and what features take from them. */
static void check_blocks(mlpot_reader *r, const mlpot_bispectrum *b, int n_entries)
{
    for (int k = 0; k < b->n_blocks && !r->failed; ++k) {
        const int32_t *own = b->blocks + 4 * k;
        const int ordered = own[0] >= own[2] && own[0] <= b->two_j_max && own[1] < b->n_channels && own[3] < b->n_channels;
        const int n = ordered ? n_coupled(b, own[0], own[2]) : 0;
        if (!n || b->n_valued[k] > n || b->first_output[k + 1] - b->first_output[k] != n * b->n_channels)
            mlpot_refuse(r, "%sblocks: block %d is no product of densities", r->prefix, k);
    }
    for (int f = 0; f < b->n_features && !r->failed; ++f)
        if (b->value[f] >= b->first_output[b->n_blocks]) mlpot_refuse(r, "%svalue: beyond the products", r->prefix);
    for (int e = 0; e < n_entries && !r->failed; ++e) {
        const int32_t *own = b->blocks + 4 * b->entry_block[e];
        if (b->entry_t[e] >= n_coupled(b, own[0], own[2])) mlpot_refuse(r, "%sentry_t: beyond the products", r->prefix);
    }
}

static void read_products(mlpot_reader *r, const int32_t *n, mlpot_bispectrum *b)
{
    const int n_t = n[0] + 1;
    b->norms = mlpot_doubles(r, "norms", mlpot_bispectrum_half(n_t));
    b->couplings = mlpot_doubles(r, "couplings", n[5]);
    b->rows = mlpot_integers(r, "rows", (int64_t)n_t * n_t * (2 * n_t - 1), 0, n[5]);
    b->blocks = mlpot_integers(r, "blocks", 4 * (int64_t)n[4], 0, MOST_COLUMNS);
    b->first_output = mlpot_ascending(r, "first_output", (int64_t)n[4] + 1, 0, MOST_VALUES);
    b->n_valued = mlpot_integers(r, "n_valued", n[4], 0, MOST_COLUMNS);
    b->value = mlpot_integers(r, "value", n[2], 0, MOST_VALUES);
    b->scale = mlpot_doubles(r, "scale", n[2]);
    b->begin = mlpot_ascending(r, "begin", (int64_t)n[2] + 1, 0, n[6]);
    b->entry_block = mlpot_integers(r, "entry_block", n[6], 0, (int64_t)n[4] - 1);
    b->entry_t = mlpot_integers(r, "entry_t", n[6], 0, MOST_COLUMNS);
    b->entry_channel = mlpot_integers(r, "entry_channel", n[6], 0, (int64_t)n[1] - 1);
    b->entry_factor = mlpot_doubles(r, "entry_factor", n[6]);
    if (!r->failed) check_couplings(r, b, n[5]);
    if (!r->failed) check_blocks(r, b, n[6]);
}

static void read_bispectrum(mlpot_reader *r, int n_species, mlpot_bispectrum *b)
{
    /* highest degree, densities, features; whether angles are halved; products of two, couplings, entries */
    const int32_t *n = mlpot_sizes(r, "sizes", 7);
    const double *x = mlpot_doubles(r, "reals", 2); /* steepness, start */
    if (!n || !x) return;
    if (n[0] > MOST_DEGREES || n[1] < 1 || n[1] > 128 || n[2] < 1 || n[2] > MOST_VALUES || n[4] < 1 || n[4] > MOST_COLUMNS
        || n[5] > MOST_VALUES || n[6] > MOST_VALUES) {
        mlpot_refuse(r, "%ssizes: no such bispectrum", r->prefix);
        return;
    }
    b->n_species = n_species;
    b->two_j_max = n[0];
    b->n_channels = n[1];
    b->n_features = n[2];
    b->half_angle = n[3] != 0;
    b->n_blocks = n[4];
    b->steepness = x[0];
    b->start = x[1];
    b->channel = mlpot_integers(r, "channel", n_species, 0, (int64_t)n[1] - 1);
    b->weights = mlpot_doubles(r, "weights", n_species);
    b->cutoffs = mlpot_doubles(r, "cutoffs", mlpot_product(n_species, n_species, 1, 1));
    b->self = mlpot_doubles(r, "self", mlpot_product(n_species, n[1], 1, 1));
    for (int k = 0; k < n_species * n_species && !r->failed; ++k)
        if (!(b->start >= 0.0 && b->cutoffs[k] > b->start)) mlpot_refuse(r, "%scutoffs: no such distance", r->prefix);
    if (!r->failed) read_products(r, n, b);
}

static void read_histograms(mlpot_reader *r, int n_species, mlpot_angle_histograms *t)
{
    const int32_t *n = mlpot_sizes(r, "sizes", 5); /* sets of weights, whether at neighbours too, knots, bins, columns */
    const double *x = mlpot_doubles(r, "reals", 2); /* decay, knots per unit */
    read_shell(r, n_species, &t->shell);
    if (r->failed) return;
    if (n[0] < 1 || n[0] > MOST_COLUMNS || n[2] < 2 || n[2] > (1 << 20) || n[3] < 1 || n[3] > n[4] || n[4] > MOST_COLUMNS
        || n[4] % MLPOT_CHANNELS || !(x[0] >= 0.0) || !(x[1] > 0.0 && x[1] < 1e6)) {
        mlpot_refuse(r, "%ssizes: no such histograms", r->prefix);
        return;
    }
    t->n_sets = n[0];
    t->at_neighbours = n[1] != 0;
    t->n_knots = n[2];
    t->n_bins = n[3];
    t->n_columns = n[4];
    t->decay = x[0];
    t->per_step = x[1];
    t->weights = mlpot_doubles(r, "weights", mlpot_product(n_species, n[0], 1, 1));
    t->table = mlpot_doubles(r, "table", mlpot_product(n[2], 3, n[4], 1));
    t->bands = mlpot_integers(r, "bands", 2 * (int64_t)n[2], 0, n[4]);
    for (int k = 0; k < 2 * n[2] && !r->failed; ++k)
        if (t->bands[k] % MLPOT_CHANNELS) mlpot_refuse(r, "%sbands: no whole vectors", r->prefix);
}

/* Sums that a centre has, as a number that cannot overflow. */
static int64_t values_of(const mlpot_source *s)
{
    const int64_t n = s->moments.shell.n_groups, m = s->triplets.shell.n_groups, h = s->histograms.shell.n_groups;
    switch (s->kind) {
    case MLPOT_MOMENTS:
        return mlpot_product(n, s->moments.n_sum_weights, s->moments.n_summed, 1)
               + mlpot_product(s->moments.n_products, s->moments.n_entries, 1, 1);
    case MLPOT_TRIPLETS: return mlpot_product(m * (m + 1) / 2, s->triplets.begin[s->triplets.n_shapes], 1, 1);
    case MLPOT_BISPECTRUM: return s->bispectrum.n_features;
    default: return mlpot_product(2 * h * h, s->histograms.n_sets, s->histograms.n_knots + (int64_t)s->histograms.n_bins, 1);
    }
}

int64_t mlpot_read_source(mlpot_model *m, mlpot_reader *r, int n_species, mlpot_source *s)
{
    const int32_t *kind = mlpot_integers(r, "kind", 1, 0, MLPOT_SOURCES - 1);
    if (!kind) return -1;
    s->kind = *kind;
    if (s->kind == MLPOT_MOMENTS) read_moments(m, r, n_species, &s->moments);
    if (s->kind == MLPOT_TRIPLETS) read_triplet_functions(r, n_species, &s->triplets);
    if (s->kind == MLPOT_BISPECTRUM) read_bispectrum(r, n_species, &s->bispectrum);
    if (s->kind == MLPOT_HISTOGRAMS) read_histograms(r, n_species, &s->histograms);
    const int64_t n = r->failed ? 0 : values_of(s);
    if (!r->failed && (n < 1 || n > MOST_VALUES)) mlpot_refuse(r, "%ssizes: %lld sums", r->prefix, (long long)n);
    return r->failed ? -1 : mlpot_n_values(s);
}
