/* Pair and three-body terms, the baseline and the uncertainty from a model file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model.h"

#define MOST_KNOTS (1 << 20)
#define MOST_PLACE 1e9

static int is_positive(double x) { return x > 0.0 && isfinite(x); }

int mlpot_read_grid(mlpot_reader *r, double start, double step, int n_knots, int kink, double farthest, mlpot_grid *grid)
{
    if (n_knots < 3 || n_knots > MOST_KNOTS || !(start <= 0.0) || !is_positive(step) || !is_positive(1 / step)
        || !((farthest - start) / step < MOST_PLACE))
        return mlpot_refuse(r, "%sgrid: %d knots from %g in steps of %g are no table", r->prefix, n_knots, start, step);
    *grid = (mlpot_grid){.start = start, .per_step = 1 / step, .n_intervals = n_knots - 2, .kink = kink};
    return 0;
}

/* Largest coordinate at which features are evaluated. */
static double farthest_place(mlpot_reader *r, const mlpot_pair_term *p)
{
    double farthest = p->cutoff;
    for (int k = 0; p->contact && k < p->n_kinds; ++k) {
        const double *c = p->contact + 4 * k, place = c[1] * asinh(p->cutoff / c[0]);
        if (!(c[0] > 0.0) || !(c[1] >= 0.0) || !isfinite(place)) mlpot_refuse(r, "%scontact: kind %d has no coordinate", r->prefix, k);
        if (place > farthest) farthest = place;
    }
    return farthest;
}

/* Start of the map of each kind; returns the total size. */
static int64_t place_maps(mlpot_pair_term *p, int64_t *map_of)
{
    int64_t next = 0;
    for (int k = 0; k < p->n_kinds; ++k) {
        map_of[k] = next;
        next += mlpot_product(p->rank, mlpot_round_up(p->first[k + 1] - p->first[k], MLPOT_CHANNELS), 1, 1);
    }
    p->map_of = map_of;
    return next;
}

/* A table of covariances with the sparse radii themselves, if there is one. */
static void read_covariances(mlpot_model *m, mlpot_reader *r, mlpot_pair_term *p)
{
    if (mlpot_count(r, "c.sizes") < 0) return;
    const int32_t *n = mlpot_sizes(r, "c.sizes", 2); /* knots, kink */
    const double *x = mlpot_doubles(r, "c.reals", 2); /* start, step */
    int32_t *columns = mlpot_take(m, r, (size_t)p->n_kinds + 1, sizeof *columns);
    if (r->failed || mlpot_read_grid(r, x[0], x[1], n[0], n[1], p->cutoff, &p->covariance_grid)) return;
    for (int k = 0; k < p->n_kinds; ++k)
        columns[k + 1] = columns[k] + mlpot_round_up(p->first[k + 1] - p->first[k], MLPOT_CHANNELS);
    p->n_covariance_knots = n[0];
    p->columns = columns;
    p->covariances = mlpot_doubles(r, "covariances", mlpot_product(n[0], 3, columns[p->n_kinds], 1));
}

int mlpot_read_pair(mlpot_model *m, mlpot_reader *r, model_term *t)
{
    mlpot_pair_term *p = &t->pair;
    /* kinds; knots and kink of the potential, of the instances (0: none), of the features; rank; contacts or not; sparse radii */
    const int32_t *n = mlpot_sizes(r, "sizes", 10);
    const double *x = mlpot_doubles(r, "reals", 8); /* cutoff, its width, start and step of the three tables */
    if (!n || !x) return -1;
    if (n[0] < 1 || n[0] > (1 << 14) || n[9] > (1 << 24) || n[7] < 1 || n[7] > (1 << 14) || n[7] % MLPOT_CHANNELS || !(x[0] > 0.0) || !(x[1] > 0.0))
        return mlpot_refuse(r, "%ssizes: no such pair term", r->prefix);
    p->n_species = t->n_species;
    p->n_kinds = n[0];
    p->rank = n[7];
    p->n_sparse = n[9];
    p->cutoff = x[0];
    p->cutoff_width = x[1];
    p->kind = mlpot_integers(r, "kind", mlpot_product(t->n_species, t->n_species, 1, 1), -1, (int64_t)p->n_kinds - 1);
    p->contact = n[8] ? mlpot_doubles(r, "contact", 4 * (int64_t)p->n_kinds) : NULL;
    if (r->failed) return -1;
    mlpot_read_grid(r, x[2], x[3], n[1], n[2], p->cutoff, &p->potential_grid);
    mlpot_read_grid(r, x[6], x[7], n[5], n[6], farthest_place(r, p), &p->feature_grid);
    if (n[3]) mlpot_read_grid(r, x[4], x[5], n[3], n[4], p->cutoff, &p->instance_grid);
    p->potential = mlpot_doubles(r, "potential", mlpot_product(p->n_kinds, n[1], 3, 1));
    p->instance = n[3] ? mlpot_doubles(r, "instance", mlpot_product(p->n_kinds, n[3], 3, 1)) : NULL;
    p->features = mlpot_doubles(r, "features", mlpot_product(n[5], 3, p->rank, 1));
    p->variance = mlpot_doubles(r, "variance", p->n_kinds);
    p->first = mlpot_ascending(r, "first", (int64_t)p->n_kinds + 1, 0, p->n_sparse);
    int64_t *map_of = mlpot_take(m, r, (size_t)p->n_kinds, sizeof *map_of);
    if (r->failed) return -1;
    if (p->first[p->n_kinds] != p->n_sparse) return mlpot_refuse(r, "%sfirst: does not end at all radii", r->prefix);
    p->maps = mlpot_doubles(r, "maps", place_maps(p, map_of));
    read_covariances(m, r, p);
    if (mlpot_count(r, "m.along") < 0) return r->failed ? -1 : 0;
    const int32_t *knots = mlpot_integers(r, "m.knots", 1, 2, MOST_KNOTS);
    if (!knots) return -1;
    t->members = (mlpot_pair_members){.n_species = t->n_species, .n_knots = *knots, .cutoff = p->cutoff, .kind = p->kind};
    t->members.along = mlpot_floats(r, "m.along", mlpot_product(p->n_kinds, *knots + 1, MLPOT_MEMBERS, 1));
    return r->failed ? -1 : 0;
}

/* The B-splines' table, whose places must stay within an int. */
static void read_table(mlpot_reader *r, const int32_t *n, const double *x, mlpot_triplets *t)
{
    const double farthest = 4.0 * t->cutoff + t->cutoff * t->cutoff;
    for (int a = 0; a < 3; ++a) {
        t->size[a] = n[4 + a];
        t->start[a] = x[5 + a];
        t->per_step[a] = 1 / x[8 + a];
        if (t->size[a] < 6 || t->size[a] > MOST_KNOTS || !is_positive(t->per_step[a])
            || !((farthest + fabs(t->start[a])) * t->per_step[a] < MOST_PLACE)) {
            mlpot_refuse(r, "%ssizes: no such table", r->prefix);
            return;
        }
    }
    t->stride[1] = t->size[2] + 2;
    t->stride[0] = mlpot_product(t->size[1], t->stride[1], 1, 1);
    t->nearest = x[11];
    t->table = mlpot_doubles(r, "table", mlpot_product(t->size[0], t->size[1], t->stride[1], 1));
}

int mlpot_read_triplets(mlpot_reader *r, model_term *t)
{
    mlpot_triplets *c = &t->triplets;
    const int32_t *n = mlpot_sizes(r, "sizes", 8); /* centre, both neighbours, points, table (0: none), spread or not */
    const double *x = mlpot_doubles(r, "reals", 13); /* cutoff, its width, length scales, start, step, nearest, prior */
    if (!n || !x) return -1;
    for (int k = 0; k < 3; ++k)
        if (n[k] >= t->n_species || !is_positive(x[2 + k])) return mlpot_refuse(r, "%ssizes: no such triplets", r->prefix);
    if (n[3] < 1 || n[3] > (1 << 20) || !(x[0] > 0.0) || !(x[1] > 0.0)) return mlpot_refuse(r, "%ssizes: no such triplets", r->prefix);
    c->centre = n[0];
    c->first = n[1];
    c->second = n[2];
    c->cutoff = x[0];
    c->cutoff_width = x[1];
    c->n_points = n[3];
    for (int a = 0; a < 3; ++a) c->per_scale[a] = 1 / x[2 + a];
    c->points = mlpot_doubles(r, "points", 3 * (int64_t)c->n_points);
    c->strengths = mlpot_doubles(r, "strengths", c->n_points);
    if (n[4]) read_table(r, n, x, c);
    if (n[7]) {
        t->variance.strengths = mlpot_doubles(r, "covariances", c->n_points);
        t->variance.prior = x[12];
        t->variance.spread = mlpot_packed_triangles(r, "spread", 1, c->n_points);
    }
    return r->failed ? -1 : 0;
}

static void read_spline(mlpot_reader *r, const char *format, int k, spline *s)
{
    char x[16], pieces[16];
    snprintf(x, sizeof x, format, k, 'x');
    snprintf(pieces, sizeof pieces, format, k, 'c');
    const int64_t n = mlpot_count(r, x);
    if (n < 0) return;
    if (n < 2 || n > MOST_KNOTS) {
        mlpot_refuse(r, "%s%s: no such spline", r->prefix, x);
        return;
    }
    s->n = (int)n;
    s->x = mlpot_doubles(r, x, n);
    s->pieces = mlpot_doubles(r, pieces, 4 * (n - 1));
    for (int64_t i = 1; s->x && i < n; ++i)
        if (!(s->x[i] > s->x[i - 1])) mlpot_refuse(r, "%s%s: knots do not ascend", r->prefix, x);
}

static void read_glue(mlpot_model *m, mlpot_reader *r, model_baseline *b)
{
    const int32_t *n_pairs = mlpot_integers(r, "n_pairs", 1, 0, 1 << 14);
    b->scales = mlpot_doubles(r, "scales", m->n_species);
    b->reaches = mlpot_doubles(r, "reaches", m->n_species);
    b->embeddings = mlpot_take(m, r, (size_t)m->n_species, sizeof *b->embeddings);
    b->pairs = mlpot_take(m, r, n_pairs ? (size_t)*n_pairs + 1 : 1, sizeof *b->pairs);
    if (r->failed) return;
    b->n_pairs = *n_pairs;
    for (int s = 0; s < m->n_species; ++s) read_spline(r, "f%d.%c", s, b->embeddings + s);
    const int32_t *kinds = mlpot_integers(r, "kinds", 2 * (int64_t)b->n_pairs, 0, (int64_t)m->n_species - 1);
    for (int k = 0; k < b->n_pairs && !r->failed; ++k) {
        b->pairs[k].first = kinds[2 * k];
        b->pairs[k].second = kinds[2 * k + 1];
        read_spline(r, "v%d.%c", k, &b->pairs[k].curve);
        if (!b->pairs[k].curve.n) mlpot_refuse(r, "%sv%d.x is missing", r->prefix, k);
    }
}

int mlpot_read_baseline(mlpot_model *m, mlpot_reader *r)
{
    model_baseline *b = &m->baseline;
    b->energies = mlpot_doubles(r, "b.energies", m->n_species);
    if (mlpot_count(r, "z.reals") >= 0) {
        b->zbl = mlpot_doubles(r, "z.reals", 12);
        b->radii = mlpot_doubles(r, "z.radii", m->n_species);
        for (int s = 0; b->radii && s < m->n_species; ++s)
            if (!(b->radii[s] > 0.0)) mlpot_refuse(r, "z.radii: no such radius");
    }
    if (mlpot_count(r, "g.n_pairs") >= 0) {
        strcpy(r->prefix, "g.");
        read_glue(m, r, b);
        r->prefix[0] = 0;
    }
    return r->failed ? -1 : 0;
}
