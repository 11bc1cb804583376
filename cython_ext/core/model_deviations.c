/* Uncertainty of a model: contributions of centres, then calibrated deviations. For formulas see mlpot/uncertainty:
 * representatives.py (posterior, unexplained), variances.py and calibration.py (deviations), reaction.py (shares). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define POWER 3

static double at_least(double x, double least) { return x > least ? x : least; }

/* |G (k - l)|^2 of representatives of pair terms alone. */
static double squared_norm(const pair_representatives *p, const double *triangle, const double *covariances, const double *lone)
{
    double total = 0.0;
    for (int row = 0; row < p->n; ++row, triangle += p->n) {
        double sum = 0.0;
        for (int c = 0; c <= row; ++c)
            sum += triangle[c] * (covariances[p->columns[c]] - (lone ? lone[p->columns[c]] : 0.0));
        total += sum * sum;
    }
    return total;
}

static void explain_pairs(const evaluation *e)
{
    const model_uncertainty *u = &e->model->uncertainty;
    for (int64_t i = 0; u->alone && i < e->input->n_centres; ++i) {
        const int s = e->species[i];
        const pair_representatives *p = u->alone + s;
        const double *covariances = e->covariances + i * u->n;
        e->explained[2 * i] = squared_norm(p, p->triangles, covariances, NULL);
        e->explained[2 * i + 1] = squared_norm(p, p->triangles + (size_t)p->n * p->n, covariances, u->lone + (int64_t)s * u->n);
    }
}

/* Share of the variance owed by atom j for an atom at this distance; 0 far beyond contact. */
static double weight(const mlpot_model *m, int i, int j, double distance)
{
    const double *reals = m->uncertainty.reals, gap = distance - m->uncertainty.radii[i] - m->uncertainty.radii[j];
    if (!(distance < m->cutoff) || !(gap < reals[REACH] * reals[DECAY])) return 0.0;
    return exp(-2.0 * at_least(gap, 0.0) / reals[DECAY]);
}

static void report_centre(const evaluation *e, int64_t i, mlpot_uncertainty *out)
{
    const model_uncertainty *u = &e->model->uncertainty;
    const int s = e->species[i];
    const double unexplained = at_least(e->variances[i] - e->explained[2 * i], 0.0);
    double strongest = 0.0, crowding = 0.0;
    for (int64_t p = e->input->offsets[i]; p < e->input->offsets[i + 1]; ++p) {
        const double *g = e->gradients + 3 * p;
        strongest = at_least(g[0] * g[0] + g[1] * g[1] + g[2] * g[2], strongest);
        crowding += weight(e->model, s, e->species[e->input->neighbours[p]], e->distances[p]);
    }
    out->posterior[i] = e->explained[2 * i + 1];
    out->unexplained[i] = at_least(unexplained - u->expected[s], 0.0);
    out->novelty[i] = sqrt(unexplained / u->known[s]);
    out->strongest[i] = 2.0 * sqrt(strongest);
    out->crowding[i] = crowding;
    for (int k = 0; k < u->n; ++k)
        out->covariances[k] += e->covariances[i * u->n + k] - (u->is_lone[s] ? u->lone[(int64_t)s * u->n + k] : 0.0);
}

void mlpot_report_uncertainty(const evaluation *e, mlpot_uncertainty *out)
{
    const size_t n = (size_t)e->input->n_centres;
    double *of_centres[] = {out->posterior, out->unexplained, out->novelty, out->strongest, out->crowding};
    for (int k = 0; k < 5; ++k) memset(of_centres[k], 0, sizeof(double) * n);
    if (e->model->uncertainty.kind == INDEPENDENT) {
        for (size_t i = 0; i < n; ++i) out->unexplained[i] = at_least(e->variances[i], 0.0);
        return;
    }
    memset(out->covariances, 0, sizeof(double) * (size_t)e->model->uncertainty.n);
    explain_pairs(e);
    for (size_t i = 0; i < n; ++i) report_centre(e, (int64_t)i, out);
}

static int refuse_without(const mlpot_model *m, int of_forces, char *error, size_t error_size)
{
    if (m->uncertainty.kind == ENSEMBLE || (m->uncertainty.kind == INDEPENDENT && !of_forces)) return MLPOT_OK;
    return mlpot_say(error, error_size, MLPOT_NO_UNCERTAINTY, "the model has no uncertainty of %s", of_forces ? "forces" : "energies");
}

/* Atoms (n) of elements that the model knows. */
static int check_numbers(const mlpot_model *m, const int32_t *numbers, int64_t n, char *error, size_t error_size)
{
    for (int64_t i = 0; i < n; ++i)
        if (numbers[i] < 0 || numbers[i] > 127 || m->index[numbers[i]] < 0)
            return mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "atom %lld has atomic number %d, which the model does not know",
                             (long long)i, numbers[i]);
    return MLPOT_OK;
}

/* Calibrated deviations of the force on one atom by itself, from the members' forces (3, MLPOT_MEMBERS); their mean square. */
static double deviations_of(const model_uncertainty *u, int s, const double *members, double strongest, double *forces_std)
{
    double variances[3], mean = 0.0, total = 0.0;
    for (int x = 0; x < 3; ++x) {
        variances[x] = 0.0;
        for (int k = 0; k < MLPOT_MEMBERS; ++k)
            variances[x] += members[x * MLPOT_MEMBERS + k] * members[x * MLPOT_MEMBERS + k] / MLPOT_MEMBERS;
        mean += variances[x] / 3.0;
    }
    const double symmetric = u->reals[SYMMETRIC], others = hypot(u->floors[s], u->growths[s] * pow(strongest, POWER));
    for (int x = 0; x < 3; ++x) {
        const double left_open = sqrt(sqrt(variances[x] * mean));
        const double noise = left_open > symmetric ? u->noises[s] : 0.0;
        const double scaled = u->factors[s] * hypot(left_open, u->reals[SHARE] * noise);
        forces_std[x] = hypot(scaled, scaled > symmetric ? others : 0.0);
        total += forces_std[x] * forces_std[x];
    }
    return total / 3.0;
}

int mlpot_deviations(const mlpot_model *model, const mlpot_input *in, const mlpot_uncertainty *parts, double *energies_std,
                     double *forces_std, double *owed, char *error, size_t error_size)
{
    const model_uncertainty *u = &model->uncertainty;
    int status = refuse_without(model, forces_std || owed, error, error_size);
    if (!status) status = check_numbers(model, in->numbers, in->n_centres, error, error_size);
    if (!status && (!forces_std != !owed))
        status = mlpot_say(error, error_size, MLPOT_BAD_ARGUMENT, "forces_std and owed: give both, or NULL for both");
    if (status) return status;
    const double scale = u->reals[ENERGY_SCALE] * u->reals[ENERGY_SCALE], noise = u->reals[ENERGY_NOISE];
    for (int64_t i = 0; i < in->n_centres; ++i) {
        energies_std[i] = sqrt(scale * (parts->posterior[i] + noise * noise) + parts->unexplained[i]);
        if (!owed) continue;
        const double square = deviations_of(u, model->index[in->numbers[i]], parts->member_forces + 3 * MLPOT_MEMBERS * i,
                                            parts->strongest[i], forces_std + 3 * i);
        owed[i] = square / at_least(parts->crowding[i], 1.0);
    }
    return MLPOT_OK;
}

int mlpot_share_deviations(const mlpot_model *model, const mlpot_input *in, const double *owed, double *forces_std, char *error,
                           size_t error_size)
{
    const model_uncertainty *u = &model->uncertainty;
    int status = refuse_without(model, 1, error, error_size);
    if (!status) status = check_numbers(model, in->numbers, in->n_atoms, error, error_size);
    for (int64_t i = 0; !status && i < in->n_centres; ++i) {
        double *own = forces_std + 3 * i, reaction = 0.0;
        const double square = (own[0] * own[0] + own[1] * own[1] + own[2] * own[2]) / 3.0;
        for (int64_t p = in->offsets[i]; p < in->offsets[i + 1]; ++p) {
            const int32_t j = in->neighbours[p];
            const double *v = in->vectors + 3 * p;
            if (in->numbers[j] == in->numbers[i]) continue;
            const double distance = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
            const double w = weight(model, model->index[in->numbers[i]], model->index[in->numbers[j]], distance);
            reaction = at_least(u->reals[CANCELLED] * w * owed[j], reaction);
        }
        if (!(square > u->reals[SYMMETRIC] * u->reals[SYMMETRIC]) || !(reaction > square)) continue;
        for (int x = 0; x < 3; ++x) own[x] *= sqrt(reaction / square);
    }
    return status;
}

/* |R^-T k|^2 */
static int posterior_of(const model_uncertainty *u, const double *covariances, double *found)
{
    double *x = calloc((size_t)u->n + 1, sizeof *x);
    if (!x) return -1;
    *found = 0.0;
    memcpy(x, covariances, sizeof(double) * (size_t)u->n);
    for (int row = 0; row < u->n; ++row) {
        const double *upper = u->upper + (int64_t)row * u->n;
        x[row] /= upper[row];
        for (int c = row + 1; c < u->n; ++c) x[c] -= upper[c] * x[row];
        *found += x[row] * x[row];
    }
    free(x);
    return 0;
}

int mlpot_total_deviations(const mlpot_model *model, int64_t n_atoms, const double *covariances, double unexplained,
                           const double *member_virial, double *energy_std, double *virial_std, char *error, size_t error_size)
{
    const model_uncertainty *u = &model->uncertainty;
    const int status = refuse_without(model, virial_std != NULL, error, error_size);
    if (status) return status;
    double posterior = 0.0;
    const double scale = u->reals[ENERGY_SCALE], noise = u->reals[ENERGY_NOISE], of_virial = u->reals[VIRIAL_NOISE];
    if (u->n && posterior_of(u, covariances, &posterior)) return mlpot_say(error, error_size, MLPOT_OUT_OF_MEMORY, "no memory");
    *energy_std = sqrt(scale * scale * (posterior + (double)n_atoms * noise * noise) + unexplained);
    for (int a = 0; virial_std && a < 9; ++a) {
        double mean = 0.0;
        for (int k = 0; k < MLPOT_MEMBERS; ++k)
            mean += member_virial[a * MLPOT_MEMBERS + k] * member_virial[a * MLPOT_MEMBERS + k] / MLPOT_MEMBERS;
        virial_std[a] = u->reals[STRESS_SCALE] * sqrt(mean + (double)n_atoms * of_virial * of_virial);
    }
    return MLPOT_OK;
}
