/* Loading of a model; see model_file.h for the container, models/core_file.py for its contents. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define LARGEST_COUNT (1 << 28)
#define MOST_REPRESENTATIVES (1 << 16)

void *mlpot_take(mlpot_model *m, mlpot_reader *r, size_t n, size_t size)
{
    const size_t bytes = (64 + n * size + 63) / 64 * 64;
    block_of_memory *block = n < ((size_t)1 << 48) / size ? aligned_alloc(64, bytes) : NULL;
    if (!block) {
        mlpot_refuse(r, "no memory for %zu numbers of the model", n);
        return NULL;
    }
    memset(block, 0, bytes);
    block->next = m->blocks;
    m->blocks = block;
    return (char *)block + 64;
}

const int32_t *mlpot_sizes(mlpot_reader *r, const char *name, int64_t count)
{
    return mlpot_integers(r, name, count, 0, LARGEST_COUNT);
}

const double *mlpot_packed_rows(mlpot_reader *r, const char *name, int n_rows, int n_columns)
{
    return mlpot_doubles(r, name, (int64_t)mlpot_packed_size(MLPOT_TILE, n_rows, n_columns));
}

const double *mlpot_packed_triangles(mlpot_reader *r, const char *name, int n_triangles, int n)
{
    return mlpot_doubles(r, name, mlpot_product(n_triangles, (int64_t)mlpot_packed_lower_size(n), 1, 1));
}

static int read_species(mlpot_model *m, mlpot_reader *r)
{
    const int64_t n = mlpot_count(r, "species");
    if (n < 1 || n > 118) return mlpot_refuse(r, "species: %lld elements", (long long)n);
    m->n_species = (int)n;
    m->species = mlpot_integers(r, "species", n, 1, 118);
    m->counts_as = mlpot_integers(r, "counts_as", n, 1, 118);
    if (r->failed) return -1;
    memset(m->index, -1, sizeof m->index);
    for (int s = 0; s < m->n_species; ++s) {
        if (s && m->species[s] <= m->species[s - 1]) return mlpot_refuse(r, "species: do not ascend");
        m->index[m->species[s]] = (int16_t)s;
    }
    for (int s = 0; s < m->n_species; ++s)
        if (m->index[m->counts_as[s]] < 0) return mlpot_refuse(r, "counts_as: element %d is not the model's", m->counts_as[s]);
    return 0;
}

/* Where the model's elements are among those of a term: as what they are in a many-body term, as what they count in others. */
static int place_species(mlpot_model *m, mlpot_reader *r, model_term *t)
{
    const int32_t *wanted = is_many_body(t) ? m->species : m->counts_as;
    const int64_t n = mlpot_count(r, "species");
    if (n < 1 || n > 118) return mlpot_refuse(r, "%sspecies: %lld elements", r->prefix, (long long)n);
    const int32_t *species = mlpot_integers(r, "species", n, 1, 118);
    t->n_species = (int)n;
    t->index = mlpot_take(m, r, (size_t)m->n_species, sizeof *t->index);
    if (r->failed) return -1;
    for (int s = 0; s < m->n_species; ++s) {
        int k = 0;
        while (k < t->n_species && species[k] != wanted[s]) ++k;
        if (k == t->n_species) return mlpot_refuse(r, "%sspecies: element %d is missing", r->prefix, wanted[s]);
        t->index[s] = k;
    }
    return 0;
}

static int read_terms(mlpot_model *m, mlpot_reader *r)
{
    const int32_t *n = mlpot_integers(r, "n_terms", 1, 0, 1000);
    if (!n) return -1;
    m->n_terms = *n;
    m->terms = mlpot_take(m, r, (size_t)*n + 1, sizeof *m->terms);
    for (int k = 0; k < m->n_terms && !r->failed; ++k) {
        model_term *t = m->terms + k;
        snprintf(r->prefix, sizeof r->prefix, "t%d.", k);
        const int32_t *kind = mlpot_integers(r, "type", 1, 0, N_TERM_KINDS - 1);
        if (!kind) break;
        t->kind = *kind;
        if (place_species(m, r, t)) break;
        if (t->kind == SOAP_TERM) mlpot_read_soap(m, r, t);
        if (t->kind == PAIR_TERM) mlpot_read_pair(m, r, t);
        if (t->kind == TRIPLET_TERM) mlpot_read_triplets(r, t);
        if (t->kind == FEATURE_TERM) mlpot_read_features(m, r, t);
    }
    if (!r->failed) r->prefix[0] = 0;
    return r->failed ? -1 : 0;
}

/* The model of an opened reader; NULL, with everything freed, if it failed. */
static mlpot_model *read_model(mlpot_reader *r, int failed)
{
    mlpot_model *m = calloc(1, sizeof *m);
    if (!m) {
        mlpot_refuse(r, "no memory");
        free(r->bytes);
        free(r->listed);
        return NULL;
    }
    m->bytes = r->bytes;
    failed = failed || read_species(m, r);
    const double *cutoff = failed ? NULL : mlpot_doubles(r, "cutoff", 1);
    if (cutoff) m->cutoff = *cutoff;
    if (cutoff && !(m->cutoff > 0.0 && m->cutoff < 1000.0)) mlpot_refuse(r, "cutoff = %g: no such distance", m->cutoff);
    failed = failed || r->failed || read_terms(m, r) || mlpot_read_baseline(m, r) || mlpot_read_uncertainty(m, r);
    free(r->listed);
    if (!failed) return m;
    mlpot_free(m);
    return NULL;
}

mlpot_model *mlpot_load(const char *path, char *error, size_t error_size)
{
    mlpot_reader r;
    const int failed = mlpot_open(&r, path, error, error_size);
    return read_model(&r, failed);
}

mlpot_model *mlpot_load_tables(const mlpot_table *tables, size_t n, char *error, size_t error_size)
{
    mlpot_reader r;
    const int failed = mlpot_open_tables(&r, tables, n, error, error_size);
    return read_model(&r, failed);
}

void mlpot_free(mlpot_model *model)
{
    if (!model) return;
    while (model->blocks) {
        block_of_memory *next = model->blocks->next;
        free(model->blocks);
        model->blocks = next;
    }
    free(model->bytes);
    free(model);
}

int mlpot_version(void) { return MLPOT_CORE_VERSION; }
double mlpot_cutoff(const mlpot_model *model) { return model->cutoff; }
int mlpot_n_species(const mlpot_model *model) { return model->n_species; }
const int32_t *mlpot_species(const mlpot_model *model) { return model->species; }

int mlpot_n_representatives(const mlpot_model *model)
{
    return model->uncertainty.kind == NO_UNCERTAINTY ? -1 : model->uncertainty.n;
}

/* Representatives of the pair terms alone, by element. */
static void read_alone(mlpot_model *m, mlpot_reader *r, model_uncertainty *u)
{
    u->alone = mlpot_take(m, r, (size_t)m->n_species, sizeof *u->alone);
    for (int s = 0; s < m->n_species && !r->failed; ++s) {
        pair_representatives *p = u->alone + s;
        char columns[24], triangles[24];
        snprintf(columns, sizeof columns, "s%d.columns", s);
        snprintf(triangles, sizeof triangles, "s%d.triangles", s);
        const int64_t n = mlpot_count(r, columns);
        p->columns = mlpot_integers(r, columns, n, 0, (int64_t)u->n - 1);
        p->n = (int)n;
        p->triangles = mlpot_doubles(r, triangles, mlpot_product(2, n, n, 1));
    }
}

/* Leading columns of the triangles of the last many-body term. */
static void read_before(mlpot_model *m, mlpot_reader *r, model_uncertainty *u)
{
    model_term *last = m->terms + u->terms[u->n_terms - 1];
    for (int k = 0; k < last->n_parts && !r->failed; ++k) {
        many_body_part *p = last->parts + k;
        char before[24], lone[24];
        if (u->kind == SUMS && !p->kernels.n_spreads) continue;
        snprintf(before, sizeof before, "p%d.before", k);
        snprintf(lone, sizeof lone, "p%d.lone", k);
        const int64_t n = mlpot_count(r, before);
        const int32_t *is_lone = mlpot_integers(r, lone, 1, 0, 1);
        p->before = mlpot_integers(r, before, n, 0, (int64_t)u->starts[u->n_terms - 1] - 1);
        if (r->failed) return;
        p->n_before = (int)n;
        p->lone = *is_lone;
        if (p->n_before + p->lone != p->kernels.n_other || p->kernels.n_spreads != 2)
            mlpot_refuse(r, "%s%s: does not fit the triangles", r->prefix, before);
    }
}

/* Check that the last term has points for every element of the model. */
static void check_served(mlpot_model *m, mlpot_reader *r, const model_uncertainty *u)
{
    const model_term *last = m->terms + u->terms[u->n_terms - 1];
    for (int s = 0; s < m->n_species; ++s) {
        int found = 0;
        for (int k = 0; k < last->n_parts; ++k) found |= last->parts[k].number == m->counts_as[s];
        if (!found) mlpot_refuse(r, "%sterms: element %d has no points in the last term", r->prefix, m->species[s]);
    }
}

/* Check that the columns of every term match its covariances, and that it has members; returns the end of the last columns. */
static int64_t check_columns(mlpot_model *m, mlpot_reader *r, const model_uncertainty *u)
{
    int64_t end = 0;
    for (int k = 0; k < u->n_terms && !r->failed; ++k) {
        const model_term *t = m->terms + u->terms[k];
        int64_t n = t->kind == PAIR_TERM ? t->pair.n_sparse : 0;
        int with_members = t->kind == PAIR_TERM ? t->members.along != NULL : 1;
        for (int p = 0; is_many_body(t) && p < t->n_parts; ++p) {
            n += t->parts[p].kernels.known.n;
            with_members &= t->parts[p].kernels.members != NULL;
        }
        if ((k < u->n_pair_terms ? t->kind != PAIR_TERM : !is_many_body(t)) || !with_members || u->starts[k] < end
            || (u->kind == ENSEMBLE && u->starts[k] != end) || u->starts[k] + n > u->n)
            mlpot_refuse(r, "%sterms: term %d has no such representatives", r->prefix, u->terms[k]);
        end = u->starts[k] + n;
    }
    return end;
}

/* Terms with representatives, and the columns of each. */
static void read_representatives(mlpot_model *m, mlpot_reader *r, model_uncertainty *u)
{
    const int32_t *n = mlpot_sizes(r, "sizes", 4); /* representatives, terms that have them, pair terms among these, whether these count */
    if (!n) return;
    if (n[0] > MOST_REPRESENTATIVES || (n[1] < 1 && u->kind == ENSEMBLE) || n[1] > m->n_terms || n[2] > n[1]) {
        mlpot_refuse(r, "%ssizes: no such representatives", r->prefix);
        return;
    }
    u->n = n[0];
    u->n_terms = n[1];
    u->n_pair_terms = n[2];
    u->pairs_count = n[3];
    u->terms = mlpot_integers(r, "terms", u->n_terms, 0, (int64_t)m->n_terms - 1);
    u->starts = mlpot_integers(r, "starts", u->n_terms, 0, u->n);
    const int64_t end = r->failed ? 0 : check_columns(m, r, u);
    if (!r->failed && u->kind == ENSEMBLE && end != u->n) mlpot_refuse(r, "%sstarts: does not end at all representatives", r->prefix);
    if (!r->failed && u->n_terms > u->n_pair_terms) read_before(m, r, u);
}

static void read_ensemble(mlpot_model *m, mlpot_reader *r, model_uncertainty *u)
{
    u->upper = mlpot_doubles(r, "upper", mlpot_product(u->n, u->n, 1, 1));
    u->expected = mlpot_doubles(r, "expected", m->n_species);
    u->known = mlpot_doubles(r, "known", m->n_species);
    u->noises = mlpot_doubles(r, "noises", m->n_species);
    u->factors = mlpot_doubles(r, "factors", m->n_species);
    u->floors = mlpot_doubles(r, "floors", m->n_species);
    u->growths = mlpot_doubles(r, "growths", m->n_species);
    u->radii = mlpot_doubles(r, "radii", m->n_species);
    u->is_lone = mlpot_integers(r, "is_lone", m->n_species, 0, 1);
    u->lone = mlpot_doubles(r, "lone", mlpot_product(m->n_species, u->n, 1, 1));
    if (r->failed) return;
    if (u->n_pair_terms == u->n_terms) read_alone(m, r, u);
    else check_served(m, r, u);
}

int mlpot_read_uncertainty(mlpot_model *m, mlpot_reader *r)
{
    model_uncertainty *u = &m->uncertainty;
    strcpy(r->prefix, "u.");
    const int32_t *kind = mlpot_integers(r, "kind", 1, 0, N_UNCERTAINTIES - 1);
    if (!kind) return -1;
    u->kind = *kind;
    if (u->kind == INDEPENDENT || u->kind == ENSEMBLE) u->reals = mlpot_doubles(r, "reals", N_REALS);
    if (u->kind == ENSEMBLE || u->kind == SUMS) read_representatives(m, r, u);
    if (u->kind == ENSEMBLE && !r->failed) read_ensemble(m, r, u);
    for (int k = 0; u->kind == INDEPENDENT && k < m->n_terms && !r->failed; ++k) {
        const model_term *t = m->terms + k;
        if ((t->kind == PAIR_TERM && !t->pair.instance) || (t->kind == TRIPLET_TERM && !t->variance.spread))
            mlpot_refuse(r, "%skind: term %d has no variances", r->prefix, k);
        for (int p = 0; is_many_body(t) && p < t->n_parts; ++p)
            if (t->parts[p].kernels.n_spreads != 1 || t->parts[p].kernels.n_other)
                mlpot_refuse(r, "%skind: term %d has no variances", r->prefix, k);
    }
    r->prefix[0] = 0;
    return r->failed ? -1 : 0;
}
