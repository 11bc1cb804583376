/* Radial functions of the neighbours in hand, from quintic Hermite tables (mlpot/descriptors/radial_table.py). */
#pragma once
#include "scratch.h"

typedef struct {
    const double *left;         /* (3, l_max + 1, width) at the left knot; the right one follows */
    double value[6], slope[6];  /* Hermite weights: value, slope, curvature at the left knot, then the right */
} interval;

MLPOT_INLINE interval locate(const mlpot_density *d, const double *table, int size, double distance)
{
    const double x = (distance - d->start) / d->step, per_step = 1.0 / d->step;
    int k = (int)x;
    if (k > d->n_intervals - 1) k = d->n_intervals - 1;
    const double t = x - k, s = 1.0 - t, t2 = t * t, s2 = s * s, t3 = t2 * t, s3 = s2 * s;
    const int64_t knot = k + (k >= d->kink);
    return (interval){
        table + knot * 3 * size,
        {s3 * (1 + 3 * t + 6 * t2), s3 * t * (1 + 3 * t), 0.5 * s3 * t2,
         t3 * (1 + 3 * s + 6 * s2), -t3 * s * (1 + 3 * s), 0.5 * t3 * s2},
        {-30 * t2 * s2 * per_step, s2 * (1 - 3 * t) * (1 + 5 * t) * per_step, 0.5 * s2 * t * (2 - 5 * t) * per_step,
         30 * t2 * s2 * per_step, t2 * (1 - 3 * s) * (1 + 5 * s) * per_step, -0.5 * t2 * s * (2 - 5 * s) * per_step}};
}

MLPOT_INLINE void combine(const double *knots, int size, const double *weights, double *out)
{
    for (int k = 0; k < size; k += MLPOT_LANES) {
        mlpot_vector sum = {0};
        for (int a = 0; a < 6; ++a) sum += weights[a] * *(const mlpot_vector *)(knots + (int64_t)a * size + k);
        *(mlpot_vector *)(out + k) = sum;
    }
}

MLPOT_INLINE void fill_radial(const mlpot_density *d, const mlpot_pairs *p, scratch *s, int slopes)
{
    for (int k = 0, g = 0; k < s->n; ++k) {
        while (k >= s->group_end[g]) ++g;
        const int size = (d->l_max + 1) * d->width[g];
        const int64_t pair = s->pair[k];
        const double *table = d->tables + d->table_of[p->species[p->j[pair]]];
        const interval at = locate(d, table, size, p->distances[pair]);
        combine(at.left, size, at.value, s->radial + (int64_t)k * s->radial_stride);
        if (slopes) combine(at.left, size, at.slope, s->slope + (int64_t)k * s->radial_stride);
    }
}

static void radial_values(const mlpot_density *d, const mlpot_pairs *p, scratch *s) { fill_radial(d, p, s, 0); }

static void radial_slopes(const mlpot_density *d, const mlpot_pairs *p, scratch *s) { fill_radial(d, p, s, 1); }
