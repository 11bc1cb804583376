/* Many-body terms from a model file, with checks of every size and index used by the loops. */
#include <stdio.h>
#include <string.h>

#include "model.h"

#define MOST_CHANNELS (1 << 12)
#define MOST_POINTS (1 << 16)
#define MOST_ROWS (1 << 24)

size_t mlpot_enter(mlpot_reader *r, const char *format, int k)
{
    const size_t before = strlen(r->prefix);
    snprintf(r->prefix + before, sizeof r->prefix - before, format, k);
    return before;
}

static void read_groups(mlpot_reader *r, mlpot_density *d, int mixed)
{
    int next = 0;
    d->group = mlpot_integers(r, "d.group", d->n_species, 0, d->n_groups - 1);
    d->first = mlpot_integers(r, "d.first", d->n_groups, 0, d->n_channels);
    d->width = mlpot_integers(r, "d.width", d->n_groups, 1, d->n_channels);
    if (r->failed) return;
    for (int g = 0; g < d->n_groups; next += d->width[g++])
        if (d->first[g] != next || d->width[g] % MLPOT_CHANNELS || (!mixed && d->width[g] != d->n_radial)) {
            mlpot_refuse(r, "%sd.width: block %d of channels does not fit", r->prefix, g);
            return;
        }
    if (next != d->n_channels || (mixed && d->n_groups != 1)) mlpot_refuse(r, "%sd.width: the blocks are not all channels", r->prefix);
}

/* Rows of all features, whose slopes are kept at once. */
static void check_rows(mlpot_reader *r, const mlpot_contractions *c)
{
    int64_t total = 0;
    if (r->failed) return;
    for (int f = 0; f < c->n_features; ++f) total += c->rows[c->invariant[f] + 1] - c->rows[c->invariant[f]];
    if (total > MOST_ROWS) mlpot_refuse(r, "%sc.rows: too many rows", r->prefix);
    for (int k = 0, n_lm = (c->l_max + 1) * (c->l_max + 1); k < c->n_nodes - n_lm; ++k)
        if (c->left[k] >= n_lm + k || c->right[k] >= n_lm + k) {
            mlpot_refuse(r, "%sc.left: node %d is made of later ones", r->prefix, k);
            return;
        }
}

static void read_contractions(mlpot_reader *r, const mlpot_density *d, mlpot_contractions *c)
{
    const int32_t *n = mlpot_sizes(r, "c.sizes", 7);
    if (!n) return;
    const int l_max = n[0], n_mixed = n[1], n_products = n[2], n_invariants = n[3], n_rows = n[4], n_entries = n[5];
    if (l_max > d->l_max || n_mixed > MOST_CHANNELS || n_products > MOST_ROWS || n[6] > MOST_ROWS) {
        mlpot_refuse(r, "%sc.sizes: too large", r->prefix);
        return;
    }
    const int n_lm = (l_max + 1) * (l_max + 1);
    c->l_max = l_max;
    c->n_mixed = n_mixed;
    c->n_nodes = n_lm + n_products;
    c->n_features = n[6];
    c->shares = mlpot_doubles(r, "c.shares", mlpot_product(l_max + 1, n_mixed, d->n_channels, 1));
    c->left = mlpot_integers(r, "c.left", n_products, 0, c->n_nodes - 1);
    c->right = mlpot_integers(r, "c.right", n_products, 0, c->n_nodes - 1);
    c->rows = mlpot_ascending(r, "c.rows", (int64_t)n_invariants + 1, 0, n_rows);
    c->variable = mlpot_integers(r, "c.variable", n_rows, 0, n_lm - 1);
    c->entries = mlpot_ascending(r, "c.entries", (int64_t)n_rows + 1, 0, n_entries);
    c->node = mlpot_integers(r, "c.node", n_entries, 0, c->n_nodes - 1);
    c->coefficient = mlpot_doubles(r, "c.coefficient", n_entries);
    c->degree = mlpot_integers(r, "c.degree", n_invariants, 1, 64);
    c->mixed = mlpot_integers(r, "c.mixed", c->n_features, 0, (int64_t)n_mixed - 1);
    c->invariant = mlpot_integers(r, "c.invariant", c->n_features, 0, (int64_t)n_invariants - 1);
    c->scale = mlpot_doubles(r, "c.scale", c->n_features);
    check_rows(r, c);
}

static void read_density(mlpot_reader *r, const model_term *t, many_body_part *p)
{
    mlpot_density *d = &p->density;
    const int32_t *n = mlpot_sizes(r, "d.sizes", 9);
    const double *reals = mlpot_doubles(r, "d.reals", 4); /* cutoff, start, step, constant */
    if (!n || !reals) return;
    const int n_knots = n[4], mixed = n[7] != 0;
    if (n[0] > MLPOT_MAX_L || n[1] < 1 || n[1] > MOST_CHANNELS || n[1] % MLPOT_CHANNELS || n[2] < 1 || n[2] > n[1] || n[3] < 1
        || n[3] > MOST_CHANNELS || n[3] % MLPOT_CHANNELS || n[6] > MOST_ROWS || !(reals[0] > 0.0) || !(reals[3] >= 0.0)) {
        mlpot_refuse(r, "%sd.sizes: no such density", r->prefix);
        return;
    }
    d->n_species = t->n_species;
    d->l_max = n[0];
    d->n_channels = n[1];
    d->n_groups = n[2];
    d->n_radial = n[3];
    d->n_spectrum = n[6];
    d->cutoff = reals[0];
    d->constant = reals[3];
    mlpot_read_grid(r, reals[1], reals[2], n_knots, n[5], d->cutoff, &d->grid);
    read_groups(r, d, mixed);
    d->table = mlpot_doubles(r, "d.table", mlpot_product(n_knots, 3, d->l_max + 1, d->n_radial));
    d->mixing = mixed ? mlpot_doubles(r, "d.mixing", mlpot_product(d->n_species, d->n_radial, d->n_channels, 1)) : NULL;
    d->self = mlpot_doubles(r, "d.self", mlpot_product(d->n_species, d->n_channels, 1, 1));
    d->degree = mlpot_integers(r, "d.degree", d->n_spectrum, 0, d->l_max);
    d->channel_a = mlpot_integers(r, "d.a", d->n_spectrum, 0, d->n_channels - 1);
    d->channel_b = mlpot_integers(r, "d.b", d->n_spectrum, 0, d->n_channels - 1);
    d->coupling = mlpot_doubles(r, "d.coupling", d->n_spectrum);
    mlpot_harmonics_norms(d->l_max, p->norms);
    d->harmonics = p->norms;
    d->contractions = n[8] ? &p->contractions : NULL;
    if (n[8]) read_contractions(r, d, &p->contractions);
    if (!r->failed && mlpot_n_invariants(d) < 1) mlpot_refuse(r, "%sd.sizes: no features", r->prefix);
}

/* Points whose features are in double precision up to n_double, and in single precision behind. */
void mlpot_read_points(mlpot_reader *r, many_body_part *p, int n_features)
{
    mlpot_points *energy = &p->kernels.energy, *known = &p->kernels.known;
    const int n_columns = mlpot_round_up(n_features, MLPOT_TILE);
    const int32_t *n = mlpot_sizes(r, "e.sizes", 2), *k = mlpot_sizes(r, "k.sizes", 2);
    const double *reals = mlpot_doubles(r, "e.reals", 2); /* energy scale, zeta */
    if (!n || !k || !reals) return;
    if (n[1] > n_columns || n[1] % MLPOT_TILE || (k[1] && (k[0] > n[0] || n[1] != n_columns))) {
        mlpot_refuse(r, "%se.sizes: no such points", r->prefix);
        return;
    }
    *energy = (mlpot_points){.n = n[0], .energy_scale = reals[0], .zeta = reals[1], .n_double = n[1]};
    if (mlpot_count(r, "e.gaussian") >= 0) {
        const double *per_square = mlpot_doubles(r, "e.gaussian", 1);
        if (per_square) energy->per_square = *per_square;
        if (per_square && !(*per_square > 0.0)) mlpot_refuse(r, "%se.gaussian: no such length scale", r->prefix);
    }
    energy->packed = mlpot_packed_rows(r, "e.packed", n[0], n[1]);
    energy->weights = mlpot_doubles(r, "e.weights", mlpot_round_up(n[0], MLPOT_TILE));
    if (n[1] < n_columns) energy->single = mlpot_floats(r, "e.single", (int64_t)mlpot_packed_size(MLPOT_TILE, n[0], n_columns - n[1]));
    *known = *energy;
    known->n = k[0];
    if (k[1]) return;
    known->weights = NULL;
    known->single = NULL;
    known->n_double = n_columns;
    known->packed = mlpot_packed_rows(r, "k.packed", k[0], n_columns);
}

/* Rows of the ensemble: within their degree, in the order of the groups. */
static void check_member_rows(mlpot_reader *r, const mlpot_density *d, const mlpot_members *m)
{
    for (int l = 0; l <= d->l_max && !r->failed; ++l) {
        const int32_t *bounds = m->group_rows + l * (d->n_groups + 1);
        for (int g = 0; g <= d->n_groups; ++g)
            if (bounds[g] < (g ? bounds[g - 1] : m->rows[l]) || bounds[g] > m->rows[l + 1])
                mlpot_refuse(r, "%sm.group_rows: rows of another degree", r->prefix);
        for (int64_t e = m->entries[m->rows[l]]; e < m->entries[m->rows[l + 1]]; ++e)
            if (m->partner[e] >= m->rows[l + 1] - m->rows[l]) mlpot_refuse(r, "%sm.partner: a row of another degree", r->prefix);
    }
}

/* Weights of the ensemble, or their quadratic forms, and what the points leave unexplained; its sizes, or NULL. */
const int32_t *mlpot_read_member_weights(mlpot_reader *r, many_body_part *p, int n_features)
{
    mlpot_members *e = &p->members;
    const int n_known = p->kernels.known.n;
    const int n_sizes = mlpot_count(r, "m.sizes") == 4 ? 4 : 5; /* version 2 has no axes */
    const int32_t *n = mlpot_sizes(r, "m.sizes", n_sizes); /* features, rows, entries, whether there is a residual, axes */
    const double *reals = mlpot_doubles(r, "m.reals", 2);
    if (!n || !reals) return NULL;
    const int n_columns = mlpot_round_up(n_features, MLPOT_TILE), n_axes = n_sizes > 4 ? n[4] : 0;
    if (n[0] % MLPOT_TILE || n[0] < 1 || n[0] > n_columns || n_axes % MLPOT_TILE || n_axes > n_columns) {
        mlpot_refuse(r, "%sm.sizes: no such ensemble", r->prefix);
        return NULL;
    }
    e->n_features = n[0];
    e->prior = reals[0];
    e->expected = reals[1];
    e->n_axes = n_axes;
    if (n_axes) {
        e->axes = mlpot_floats(r, "m.axes", mlpot_product(n_axes, n_columns, 1, 1));
        if (mlpot_count(r, "m.back") >= 0) e->back = mlpot_floats(r, "m.back", mlpot_product(n[0], n_axes, 1, 1));
        e->forms = mlpot_floats(r, "m.forms", mlpot_product(MLPOT_MEMBERS, e->back ? n_axes : n[0], n_axes, 1));
    } else {
        e->packed = mlpot_packed_rows(r, "m.packed", n_known, n[0]);
        e->weights = mlpot_doubles(r, "m.weights", mlpot_product(mlpot_round_up(n_known, MLPOT_TILE), MLPOT_MEMBERS, 1, 1));
    }
    e->residual = n[3] ? mlpot_doubles(r, "m.residual", mlpot_product(n[0], MLPOT_MEMBERS, 1, 1)) : NULL;
    return n;
}

/* And how its features follow from the density. */
static void read_members(mlpot_reader *r, many_body_part *p)
{
    const mlpot_density *d = &p->density;
    mlpot_members *e = &p->members;
    const int32_t *n = mlpot_read_member_weights(r, p, mlpot_n_features(d));
    if (r->failed) return;
    e->rows = mlpot_ascending(r, "m.rows", d->l_max + 2, 0, n[1]);
    e->group_rows = mlpot_integers(r, "m.group_rows", mlpot_product(d->l_max + 1, d->n_groups + 1, 1, 1), 0, n[1]);
    e->channel = mlpot_integers(r, "m.channel", n[1], 0, d->n_channels - 1);
    e->entries = mlpot_ascending(r, "m.entries", (int64_t)n[1] + 1, 0, n[2]);
    e->feature = mlpot_integers(r, "m.feature", n[2], 0, (int64_t)e->n_features - 1);
    e->partner = mlpot_integers(r, "m.partner", n[2], 0, (int64_t)n[1] - 1);
    e->coupling = mlpot_floats(r, "m.coupling", n[2]);
    if (r->failed) return;
    check_member_rows(r, d, e);
    p->kernels.members = e;
}

void mlpot_read_spread(mlpot_reader *r, many_body_part *p)
{
    const int32_t *n = mlpot_sizes(r, "s.sizes", 2);
    if (!n) return;
    const int64_t all = (int64_t)n[0] + p->kernels.known.n;
    if (n[1] < 1 || n[1] > 2 || all > MOST_POINTS) {
        mlpot_refuse(r, "%ss.sizes: no such triangles", r->prefix);
        return;
    }
    p->kernels.n_other = n[0];
    p->kernels.n_spreads = n[1];
    p->kernels.spread = mlpot_packed_triangles(r, "s.triangles", n[1], (int)all);
}

int mlpot_read_soap(mlpot_model *m, mlpot_reader *r, model_term *t)
{
    const int32_t *n_parts = mlpot_integers(r, "n_parts", 1, 1, t->n_species);
    t->prior = mlpot_doubles(r, "prior", t->n_species);
    if (!n_parts) return -1;
    t->n_parts = *n_parts;
    t->parts = mlpot_take(m, r, (size_t)t->n_parts, sizeof *t->parts);
    for (int k = 0; k < t->n_parts && !r->failed; ++k) {
        many_body_part *p = t->parts + k;
        const size_t outside = mlpot_enter(r, "p%d.", k);
        const int32_t *number = mlpot_integers(r, "number", 1, 1, 127);
        if (number) p->number = *number;
        read_density(r, t, p);
        if (!r->failed) mlpot_read_points(r, p, mlpot_n_features(&p->density));
        if (!r->failed && mlpot_count(r, "m.sizes") >= 0) read_members(r, p);
        if (!r->failed && mlpot_count(r, "s.sizes") >= 0) mlpot_read_spread(r, p);
        r->prefix[outside] = 0;
    }
    return r->failed ? -1 : 0;
}
