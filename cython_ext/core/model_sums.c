/* Sums over the terms of a model, including quantities needed for the uncertainty. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* The neighbour list in the layout for the loops of a term. */
static mlpot_pairs pairs_of(const model_term *t, evaluation *e)
{
    const mlpot_input *in = e->input;
    for (int64_t i = 0; i < in->n_atoms; ++i) e->term_species[i] = t->index[e->species[i]];
    return (mlpot_pairs){.species = e->term_species, .j = in->neighbours, .offsets = in->offsets, .vectors = in->vectors,
                         .distances = e->distances};
}

/* Centres treated as an element; returns their number. */
static int64_t find_centres(evaluation *e, int32_t number)
{
    int64_t n = 0;
    for (int64_t i = 0; i < e->input->n_centres; ++i)
        if (e->model->counts_as[e->species[i]] == number) e->centres[n++] = (int32_t)i;
    return n;
}

/* Place of a term among those with representatives, -1 for others. */
static int place_of_term(const mlpot_model *m, int term)
{
    for (int k = 0; k < m->uncertainty.n_terms; ++k)
        if (m->uncertainty.terms[k] == term) return k;
    return -1;
}

/* (n_centres, n_other) covariances for the leading columns of a part's triangles, after a 1 for its lone atom. */
static double *seen_before(const evaluation *e, const many_body_part *p, int64_t n)
{
    const int n_other = p->kernels.n_other;
    double *seen = calloc((size_t)e->input->n_centres * n_other + 1, sizeof *seen);
    for (int64_t k = 0; seen && k < n; ++k) {
        double *own = seen + (int64_t)e->centres[k] * n_other;
        const double *all = e->covariances + (int64_t)e->centres[k] * e->model->uncertainty.n;
        if (p->lone) *own++ = 1.0;
        for (int c = 0; c < p->n_before; ++c) own[c] = all[p->before[c]];
    }
    return seen;
}

/* Unexplained variances of the instances of a part: prior - |G k|^2. */
static void add_left(evaluation *e, const model_term *t, int64_t n)
{
    const mlpot_model *m = e->model;
    for (int64_t k = 0; k < n; ++k) {
        const int32_t i = e->centres[k];
        const double prior = t->prior[t->index[m->index[m->counts_as[e->species[i]]]]];
        e->variances[i] += prior + m->uncertainty.reals[REGULARISATION] - e->explained[i];
        e->explained[i] = 0.0;
    }
}

static void add_mapped(evaluation *e, const mlpot_pairs *pairs, const many_body_part *p, int64_t n, const mlpot_results *r)
{
    /* without weights and anything wanted of its points: references of an imported model */
    if (!p->is_linear && !p->kernels.energy.n && !r->covariances && !r->explained) return;
    const int64_t found = mlpot_mapped_energies(&p->map, pairs, p->is_linear ? NULL : &p->kernels, p->is_linear ? &p->linear : NULL,
                                                e->input->n_centres, n, e->centres, e->input->n_threads, r);
    if (found < 0) e->failed = 1;
    if (found > 0 && !e->status)
        e->status = mlpot_say(e->error, e->error_size, MLPOT_BAD_ARGUMENT,
                              "all features of atom %lld are zero; fit the model with an offset, for example 3.0", (long long)found - 1);
}

static void add_part(evaluation *e, const model_term *t, const mlpot_pairs *pairs, const many_body_part *p, int place, int column)
{
    const model_uncertainty *u = &e->model->uncertainty;
    mlpot_results r = {.energies = e->energies, .pair_gradients = e->gradients};
    const int64_t n = find_centres(e, p->number);
    const int independent = e->explained && u->kind == INDEPENDENT;
    const int last = e->covariances && e->explained && place == u->n_terms - 1 && p->kernels.n_spreads == 2;
    double *seen = NULL;
    if (!n) return;
    if (place >= 0) r.members = e->members;
    if (e->covariances && place >= 0) {
        r.covariances = e->covariances + column;
        r.covariance_stride = u->n;
    }
    if (last || independent) r.explained = e->explained;
    if (last) {
        r.other = seen = seen_before(e, p, n);
        r.other_stride = p->kernels.n_other;
        if (!seen) {
            e->failed = 1;
            return;
        }
    }
    if (t->kind == FEATURE_TERM) add_mapped(e, pairs, p, n, &r);
    else if (mlpot_local_energies(&p->density, pairs, &p->kernels, e->input->n_centres, n, e->centres, e->input->n_threads, &r))
        e->failed = 1;
    if (independent) add_left(e, t, n);
    free(seen);
}

static void add_pair_term(evaluation *e, const model_term *t, const mlpot_pairs *pairs, int place)
{
    const model_uncertainty *u = &e->model->uncertainty;
    double *covariances = e->covariances && place >= 0 ? e->covariances + u->starts[place] : NULL;
    double *variances = u->kind == INDEPENDENT || (place >= 0 && u->pairs_count) ? e->variances : NULL;
    if (mlpot_pair_sums(&t->pair, pairs, e->input->n_centres, e->input->n_threads, e->energies, e->gradients, covariances, u->n,
                        variances))
        e->failed = 1;
    if ((e->members.gradients || e->members.forces) && place >= 0
        && mlpot_pair_member_gradients(&t->members, pairs, e->input->n_centres, e->input->n_threads, &e->members))
        e->failed = 1;
}

/* Refuses atoms that come closer than the distance at which a bispectrum begins; the first reason to refuse a structure stays. */
static void check_distances(evaluation *e, const model_term *t)
{
    for (int s = 0; s < t->n_sources; ++s) {
        const double start = t->sources[s].kind == MLPOT_BISPECTRUM ? t->sources[s].bispectrum.start : 0.0;
        for (int64_t i = 0; start > 0.0 && i < e->input->n_centres; ++i)
            for (int64_t p = e->input->offsets[i]; p < e->input->offsets[i + 1]; ++p)
                if (e->distances[p] < start && !e->status)
                    e->status = mlpot_say(e->error, e->error_size, MLPOT_BAD_ARGUMENT,
                                          "atoms %lld and %d are %.3f A apart, closer than rmin0 = %g A, where the bispectrum is not "
                                          "defined; fit with a smaller rmin0", (long long)i, e->input->neighbours[p], e->distances[p],
                                          start);
    }
}

static void add_term(evaluation *e, int k)
{
    const model_term *t = e->model->terms + k;
    const mlpot_pairs pairs = pairs_of(t, e);
    const int place = place_of_term(e->model, k);
    const model_uncertainty *u = &e->model->uncertainty;
    check_distances(e, t);
    int column = place < 0 ? 0 : u->starts[place];
    if (t->kind == PAIR_TERM) add_pair_term(e, t, &pairs, place);
    if (t->kind == TRIPLET_TERM
        && mlpot_triplet_sums(&t->triplets, &t->variance, &pairs, e->input->n_centres, e->input->n_threads, e->energies, e->gradients,
                              u->kind == INDEPENDENT ? e->variances : NULL))
        e->failed = 1;
    for (int p = 0; is_many_body(t) && p < t->n_parts; column += t->parts[p++].kernels.known.n)
        add_part(e, t, &pairs, t->parts + p, place, column);
}

/* Prior variances of the many-body terms that have representatives. */
static void add_priors(evaluation *e)
{
    const mlpot_model *m = e->model;
    const model_uncertainty *u = &m->uncertainty;
    for (int k = u->n_pair_terms; k < u->n_terms; ++k) {
        const model_term *t = m->terms + u->terms[k];
        for (int64_t i = 0; i < e->input->n_centres; ++i)
            e->variances[i] += t->prior[t->index[m->index[m->counts_as[e->species[i]]]]];
    }
}

void mlpot_add_terms(evaluation *e)
{
    const model_uncertainty *u = &e->model->uncertainty;
    if (!e->input->n_centres) return;
    /* the triangles of the last one go over the covariances with the points of all others */
    const int last = u->n_terms > u->n_pair_terms ? u->terms[u->n_terms - 1] : -1;
    for (int k = 0; k < e->model->n_terms; ++k)
        if (k != last) add_term(e, k);
    if (last >= 0) add_term(e, last);
    if (e->variances) add_priors(e);
}
