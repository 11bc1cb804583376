/* Evaluation of all terms of a model: the input is checked, the output arrays belong to the caller. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "pair_gradients.h"

/* Atoms closer than this overlap, A. */
#define OVERLAP 1e-3

int mlpot_say(char *error, size_t error_size, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (error && error_size) vsnprintf(error, error_size, format, arguments);
    va_end(arguments);
    return status;
}

/* An array that is not NULL even if it is empty. */
static void *zeros(size_t n, size_t size) { return calloc(n ? n : 1, size); }

static int check_sizes(const mlpot_input *in, char *error, size_t error_size)
{
    if (in->size != sizeof *in)
        return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "mlpot_input: size is %zu, here %zu: set it, or compile again", in->size,
                         sizeof *in);
    if (in->n_centres < 0 || in->n_atoms < in->n_centres || in->n_atoms > INT32_MAX)
        return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "n_centres = %lld of n_atoms = %lld: must be from 0 on, centres first",
                         (long long)in->n_centres, (long long)in->n_atoms);
    if (in->offsets[0] != 0) return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "offsets must begin with 0");
    for (int64_t i = 0; i < in->n_centres; ++i)
        if (in->offsets[i + 1] < in->offsets[i] || in->offsets[i + 1] - in->offsets[i] > MLPOT_MOST_NEIGHBOURS)
            return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "offsets: centre %lld has %lld neighbours, not 0 to %d", (long long)i,
                             (long long)(in->offsets[i + 1] - in->offsets[i]), MLPOT_MOST_NEIGHBOURS);
    if (in->offsets[in->n_centres] > INT32_MAX)
        return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "%lld pairs are too many; divide the atoms among more processes",
                         (long long)in->offsets[in->n_centres]);
    return MLPOT_OK;
}

static int place_atoms(evaluation *e, char *error, size_t error_size)
{
    for (int64_t i = 0; i < e->input->n_atoms; ++i) {
        const int32_t z = e->input->numbers[i];
        e->species[i] = z < 0 || z > 127 ? -1 : e->model->index[z];
        if (e->species[i] < 0)
            return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "atom %lld has atomic number %d, which the model does not know",
                             (long long)i, z);
    }
    return MLPOT_OK;
}

static int measure_pairs(evaluation *e, char *error, size_t error_size)
{
    for (int64_t p = 0; p < e->n_pairs; ++p) {
        const double *v = e->input->vectors + 3 * p;
        const int32_t j = e->input->neighbours[p];
        if (j < 0 || j >= e->input->n_atoms)
            return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "pair %lld: neighbour %d is none of the %lld atoms", (long long)p, j,
                             (long long)e->input->n_atoms);
        e->distances[p] = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        if (!(e->distances[p] > OVERLAP) || !isfinite(e->distances[p]))
            return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "pair %lld: atoms are %g A apart", (long long)p, e->distances[p]);
    }
    return MLPOT_OK;
}

/* Zeros that `release` frees; NULL, and `failed`, if out of memory. */
static void *take(evaluation *e, size_t n, size_t size)
{
    void *array = zeros(n, size);
    if (array) e->owned[e->n_owned++] = array;
    else e->failed = 1;
    return array;
}

static void release(evaluation *e)
{
    while (e->n_owned) free(e->owned[--e->n_owned]);
}

static void allocate(evaluation *e, const mlpot_output *out)
{
    const size_t n = (size_t)e->input->n_centres, n_atoms = (size_t)e->input->n_atoms, n_pairs = (size_t)e->n_pairs;
    const model_uncertainty *u = &e->model->uncertainty;
    const mlpot_sums *sums = out->sums;
    e->species = take(e, n_atoms, sizeof *e->species);
    e->term_species = take(e, n_atoms, sizeof *e->term_species);
    e->centres = take(e, n, sizeof *e->centres);
    e->distances = take(e, n_pairs, sizeof *e->distances);
    e->gradients = out->pair_gradients;
    if (e->gradients) memset(e->gradients, 0, sizeof(double) * 3 * n_pairs);
    else e->gradients = take(e, 3 * n_pairs, sizeof *e->gradients);
    if (sums) {
        e->variances = sums->variances;
        if (u->kind == INDEPENDENT) {
            if (e->variances) e->explained = take(e, n, sizeof *e->explained);
            return;
        }
        e->covariances = sums->covariances;
        e->explained = sums->explained;
        e->members = (mlpot_member_sums){sums->member_gradients, sums->member_forces, sums->member_virial};
    } else if (out->uncertainty) {
        memset(out->uncertainty->member_forces, 0, sizeof(double) * 3 * MLPOT_MEMBERS * n_atoms);
        memset(out->uncertainty->member_virial, 0, sizeof out->uncertainty->member_virial);
        e->variances = take(e, n, sizeof *e->variances);
        e->explained = take(e, 2 * n, sizeof *e->explained);
        if (u->kind != ENSEMBLE) return;
        e->covariances = take(e, n * (size_t)u->n, sizeof *e->covariances);
        e->members = (mlpot_member_sums){.forces = out->uncertainty->member_forces, .virial = out->uncertainty->member_virial};
    }
}

static void write_outputs(const evaluation *e, mlpot_output *out)
{
    const mlpot_input *in = e->input;
    memset(out->virial, 0, sizeof out->virial);
    mlpot_add_virial(e->n_pairs, in->vectors, e->gradients, out->virial);
    if (out->forces) memset(out->forces, 0, sizeof(double) * 3 * (size_t)in->n_atoms);
    if (out->virials) memset(out->virials, 0, sizeof(double) * 9 * (size_t)in->n_centres);
    for (int64_t i = 0; i < in->n_centres; ++i) {
        const int64_t first = in->offsets[i], n = in->offsets[i + 1] - first;
        for (int64_t p = first; out->forces && p < first + n; ++p)
            mlpot_add_pair_forces(i, in->neighbours[p], 1, e->gradients + 3 * p, 1, out->forces, 1);
        if (out->virials) mlpot_add_virial(n, in->vectors + 3 * first, e->gradients + 3 * first, out->virials + 9 * i);
    }
}

static int check_output(const mlpot_model *model, const mlpot_output *out, char *error, size_t error_size)
{
    const int kind = model->uncertainty.kind;
    if (out->size != sizeof *out || (out->uncertainty && out->uncertainty->size != sizeof *out->uncertainty)
        || (out->sums && out->sums->size != sizeof *out->sums) || !out->energies)
        return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "mlpot_output: set size and energies, and the size of uncertainty or sums");
    if (out->uncertainty && out->sums) return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "mlpot_output: ask for uncertainty or sums");
    if ((out->uncertainty || out->sums) && kind == NO_UNCERTAINTY)
        return mlpot_say(error, error_size, MLPOT_NO_UNCERTAINTY, "the model was exported without uncertainty");
    if (out->uncertainty && kind == SUMS)
        return mlpot_say(error, error_size, MLPOT_NO_UNCERTAINTY, "the model has tables for the sums behind its uncertainty only");
    return MLPOT_OK;
}

int mlpot_evaluate(const mlpot_model *model, const mlpot_input *in, mlpot_output *out, char *error, size_t error_size)
{
    int status = check_output(model, out, error, error_size);
    if (!status) status = check_sizes(in, error, error_size);
    if (status) return status;
    evaluation e = {.model = model, .input = in, .n_pairs = in->offsets[in->n_centres], .energies = out->energies, .error = error,
                    .error_size = error_size};
    allocate(&e, out);
    if (e.failed) {
        release(&e);
        return mlpot_say(error, error_size, MLPOT_OUT_OF_MEMORY, "no memory for %lld pairs", (long long)e.n_pairs);
    }
    if (!(status = place_atoms(&e, error, error_size)) && !(status = measure_pairs(&e, error, error_size))) {
        memset(out->energies, 0, sizeof(double) * (size_t)in->n_centres);
        mlpot_add_terms(&e);
        mlpot_add_baseline(&model->baseline, &e);
        write_outputs(&e, out);
        if (out->uncertainty) mlpot_report_uncertainty(&e, out->uncertainty);
        status = e.status;
        if (e.failed) status = mlpot_say(error, error_size, MLPOT_OUT_OF_MEMORY, "no memory for the neighbours of an atom");
    }
    release(&e);
    return status;
}
