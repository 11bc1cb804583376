/* Many-body terms with mapped features from a model file: maps, and linear potentials; model_sources.c reads what is mapped. */
#include <string.h>

#include "model.h"

#define MOST_VALUES (1 << 24)
#define MOST_SOURCES 64

static void read_sources(mlpot_model *m, mlpot_reader *r, model_term *t)
{
    const int32_t *n = mlpot_integers(r, "n_sources", 1, 1, MOST_SOURCES);
    if (!n) return;
    t->n_sources = *n;
    t->sources = mlpot_take(m, r, (size_t)*n, sizeof *t->sources);
    for (int k = 0; k < *n && !r->failed; ++k) {
        const size_t outside = mlpot_enter(r, "q%d.", k);
        const int64_t n_values = mlpot_read_source(m, r, t->n_species, t->sources + k);
        if (!r->failed && (t->n_values += n_values) > MOST_VALUES) mlpot_refuse(r, "%ssizes: too many sums", r->prefix);
        if (!r->failed) r->prefix[outside] = 0;
    }
}

static void read_map(mlpot_reader *r, const model_term *t, mlpot_feature_map *f)
{
    const int32_t *n = mlpot_sizes(r, "f.sizes", 2); /* features, entries of the matrix */
    const double *offset = mlpot_doubles(r, "f.offset", 1);
    if (!n || !offset) return;
    if (n[0] < 1 || n[0] > MOST_VALUES || !(*offset >= 0.0)) {
        mlpot_refuse(r, "%sf.sizes: no such features", r->prefix);
        return;
    }
    *f = (mlpot_feature_map){.n_sources = t->n_sources, .sources = t->sources, .n_values = (int)t->n_values, .n_features = n[0]};
    f->offset = *offset;
    f->rows = mlpot_ascending(r, "f.rows", (int64_t)n[0] + 1, 0, n[1]);
    f->columns = mlpot_integers(r, "f.columns", n[1], 0, t->n_values - 1);
    f->coefficients = mlpot_doubles(r, "f.coefficients", n[1]);
    f->shift = mlpot_doubles(r, "f.shift", n[0]);
}

/* An ensemble's weights of the known points; everything else that members need is in the map. */
static void read_mapped_members(mlpot_reader *r, many_body_part *p, int n_mapped)
{
    mlpot_members *e = &p->members;
    mlpot_read_member_weights(r, p, n_mapped);
    if (!r->failed && e->n_axes) mlpot_refuse(r, "%sm.sizes: axes are for densities", r->prefix);
    if (!r->failed && e->n_features != mlpot_round_up(n_mapped, MLPOT_TILE))
        mlpot_refuse(r, "%sm.sizes: an ensemble needs all features", r->prefix);
    if (!r->failed) p->kernels.members = e;
}

static void read_linear(mlpot_reader *r, many_body_part *p)
{
    const int n = p->map.n_features, n_rows = mlpot_round_up(n, MLPOT_TILE);
    const double *constant = mlpot_doubles(r, "l.constant", 1);
    p->linear.slopes = mlpot_doubles(r, "l.slopes", n_rows);
    if (mlpot_count(r, "l.curvatures") >= 0) p->linear.curvatures = mlpot_packed_rows(r, "l.curvatures", n, n);
    if (r->failed) return;
    p->linear.constant = *constant;
    p->is_linear = 1;
    if (p->map.offset > 0.0) mlpot_refuse(r, "%sf.offset: a linear potential has none", r->prefix);
}

int mlpot_read_features(mlpot_model *m, mlpot_reader *r, model_term *t)
{
    const int32_t *n_parts = mlpot_integers(r, "n_parts", 1, 1, t->n_species);
    t->prior = mlpot_doubles(r, "prior", t->n_species);
    if (!n_parts) return -1;
    t->n_parts = *n_parts;
    t->parts = mlpot_take(m, r, (size_t)t->n_parts, sizeof *t->parts);
    if (!r->failed) read_sources(m, r, t);
    for (int k = 0; k < t->n_parts && !r->failed; ++k) {
        many_body_part *p = t->parts + k;
        const size_t outside = mlpot_enter(r, "p%d.", k);
        const int32_t *number = mlpot_integers(r, "number", 1, 1, 127);
        if (number) p->number = *number;
        read_map(r, t, &p->map);
        const int n_mapped = mlpot_n_mapped(&p->map);
        if (!r->failed && mlpot_count(r, "l.slopes") >= 0) {
            read_linear(r, p);
        } else {
            if (!r->failed) mlpot_read_points(r, p, n_mapped);
            if (!r->failed && p->kernels.energy.single) mlpot_refuse(r, "%se.single: is for densities", r->prefix);
            if (!r->failed && mlpot_count(r, "m.sizes") >= 0) read_mapped_members(r, p, n_mapped);
            if (!r->failed && mlpot_count(r, "s.sizes") >= 0) mlpot_read_spread(r, p);
        }
        if (!r->failed) r->prefix[outside] = 0;
    }
    return r->failed ? -1 : 0;
}
