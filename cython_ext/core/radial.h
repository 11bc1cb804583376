/* Radial functions of the neighbours in hand, from their species' Hermite tables. */
#pragma once
#include "hermite.h"
#include "scratch.h"

/* Knots (6, size) at both ends of an interval, weighted as lane `lane` says. */
MLPOT_INLINE void combine(const double *knots, int size, const mlpot_vector *weight, int lane, double *out)
{
    double w[6];
    for (int a = 0; a < 6; ++a) w[a] = weight[a][lane];
    for (int k = 0; k < size; k += MLPOT_LANES) {
        mlpot_vector sum = {0};
        for (int a = 0; a < 6; ++a) sum += w[a] * *(const mlpot_vector *)(knots + (int64_t)a * size + k);
        *(mlpot_vector *)(out + k) = sum;
    }
}

MLPOT_INLINE void fill_radial(const mlpot_density *d, const mlpot_pairs *p, scratch *s, int slopes)
{
    for (int begin = 0, g = 0; begin < s->n; begin += MLPOT_LANES) {
        mlpot_vector distances = (mlpot_vector){0} + d->cutoff, slope[6];
        for (int k = begin; k < begin + MLPOT_LANES && k < s->n; ++k)
            distances[k - begin] = p->distances[s->pair[k]];
        const place at = place_of(&d->grid, distances);
        if (slopes) slope_weights(&d->grid, at.t, slope);
        for (int k = begin; k < begin + MLPOT_LANES && k < s->n; ++k) {
            while (k >= s->group_end[g]) ++g;
            const int size = (d->l_max + 1) * d->width[g], lane = k - begin;
            const double *knots = d->tables + d->table_of[p->species[p->j[s->pair[k]]]] + (int64_t)at.knot[lane] * 3 * size;
            combine(knots, size, at.weight, lane, s->radial + (int64_t)k * s->radial_stride);
            if (slopes) combine(knots, size, slope, lane, s->slope + (int64_t)k * s->radial_stride);
        }
    }
}

static void radial_values(const mlpot_density *d, const mlpot_pairs *p, scratch *s) { fill_radial(d, p, s, 0); }

static void radial_slopes(const mlpot_density *d, const mlpot_pairs *p, scratch *s) { fill_radial(d, p, s, 1); }
