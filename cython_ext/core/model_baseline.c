/* Baseline energy of a model: isolated atoms, a screened nuclear repulsion, a tabulated potential; see
 * mlpot/terms/baseline.py and mlpot/terms/glue.py, whose numbers are in the file. */
#include <math.h>

#include "model.h"

/* Indices into z.reals */
enum { COULOMB, REPULSION_REACH, FULL, ABSENT, WEIGHTS, RATES = WEIGHTS + 4 };

static double value_and_slope(const spline *s, double x, double *slope)
{
    const double inside = x < s->x[0] ? s->x[0] : x > s->x[s->n - 1] ? s->x[s->n - 1] : x;
    int low = 0, high = s->n - 1;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (s->x[middle] <= inside) low = middle;
        else high = middle;
    }
    const double t = inside - s->x[low];
    const double *c = s->pieces + low;
    const int n = s->n - 1;
    *slope = (3.0 * c[0] * t + 2.0 * c[n]) * t + c[2 * n];
    return ((c[0] * t + c[n]) * t + c[2 * n]) * t + c[3 * n] + *slope * (x - inside);
}

/* Switched repulsion (Ziegler, Biersack and Littmark) of two atoms at a distance, eV, and its slope. */
static double repulsion(const model_baseline *b, int i, int j, double z_i, double z_j, double r, double *slope)
{
    const double *zbl = b->zbl, bond = b->radii[i] + b->radii[j], width = (zbl[ABSENT] - zbl[FULL]) * bond;
    const double screening = 0.46850 / (pow(z_i, 0.23) + pow(z_j, 0.23)), coulomb = zbl[COULOMB] * z_i * z_j / r;
    double t = (r - zbl[FULL] * bond) / width, phi = 0.0, phi_slope = 0.0;
    if (!(t < 1.0)) return *slope = 0.0;
    if (t < 0.0) t = 0.0;
    for (int k = 0; k < 4; ++k) {
        const double decay = zbl[WEIGHTS + k] * exp(-zbl[RATES + k] * (r / screening));
        phi += decay;
        phi_slope -= decay * zbl[RATES + k] / screening;
    }
    const double step = 1.0 - t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
    const double step_slope = -30.0 * t * t * (1.0 - t) * (1.0 - t) / width;
    *slope = coulomb * (phi_slope - phi / r) * step + coulomb * phi * step_slope;
    return coulomb * phi * step;
}

static void add_along(evaluation *e, int64_t pair, double slope)
{
    for (int x = 0; x < 3; ++x) e->gradients[3 * pair + x] += slope / e->distances[pair] * e->input->vectors[3 * pair + x];
}

static void add_repulsion(const model_baseline *b, evaluation *e, int64_t i)
{
    const int32_t *z = e->model->species;
    const int own = e->species[i];
    for (int64_t p = e->input->offsets[i]; p < e->input->offsets[i + 1]; ++p) {
        const int other = e->species[e->input->neighbours[p]];
        double slope;
        if (!(e->distances[p] < b->zbl[REPULSION_REACH])) continue;
        e->energies[i] += 0.5 * repulsion(b, own, other, z[own], z[other], e->distances[p], &slope);
        add_along(e, p, 0.5 * slope);
    }
}

static void add_embedding(const model_baseline *b, evaluation *e, int64_t i)
{
    const spline *embedding = b->embeddings + e->species[i];
    double density = 0.0, slope = 0.0;
    for (int64_t p = e->input->offsets[i]; p < e->input->offsets[i + 1]; ++p) {
        const int other = e->species[e->input->neighbours[p]];
        const double depth = b->reaches[other] - e->distances[p];
        if (depth > 0.0) density += b->scales[other] * depth * depth * depth;
    }
    if (!embedding->n) return;
    e->energies[i] += value_and_slope(embedding, density, &slope);
    for (int64_t p = e->input->offsets[i]; p < e->input->offsets[i + 1]; ++p) {
        const int other = e->species[e->input->neighbours[p]];
        const double depth = b->reaches[other] - e->distances[p];
        if (depth > 0.0) add_along(e, p, -3.0 * slope * b->scales[other] * depth * depth);
    }
}

static void add_pair_potentials(const model_baseline *b, evaluation *e, int64_t i)
{
    for (int64_t p = e->input->offsets[i]; p < e->input->offsets[i + 1]; ++p) {
        const int own = e->species[i], other = e->species[e->input->neighbours[p]];
        for (int k = 0; k < b->n_pairs; ++k) {
            const glue_pair *kind = b->pairs + k;
            const int same = (kind->first == own && kind->second == other) || (kind->first == other && kind->second == own);
            double slope;
            if (!same || !(e->distances[p] < kind->curve.x[kind->curve.n - 1])) continue;
            e->energies[i] += 0.5 * value_and_slope(&kind->curve, e->distances[p], &slope);
            add_along(e, p, 0.5 * slope);
        }
    }
}

void mlpot_add_baseline(const model_baseline *b, evaluation *e)
{
    for (int64_t i = 0; i < e->input->n_centres; ++i) {
        e->energies[i] += b->energies[e->species[i]];
        if (b->scales) {
            add_embedding(b, e, i);
            add_pair_potentials(b, e, i);
        }
        if (b->zbl) add_repulsion(b, e, i);
    }
}
