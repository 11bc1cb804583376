/* Radial functions of the current neighbours from a Hermite table; mixed channels are sums of its columns, which takes less
 * time than to read a table of their own: that of all columns fits the caches. */
#pragma once
#include "hermite.h"
#include "scratch.h"

/* Knots (6, size) at both ends of an interval, with the weights of lane `lane`. */
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

/* `count` vectors of channels, from q on, of a neighbour: += eight columns of the table, or = where they are the `first` ones */
MLPOT_INLINE void mix_columns(const int count, const mlpot_density *d, const double *parts, int first, const double *columns,
                              double *out)
{
    mlpot_vector part[MLPOT_CHANNELS][2];
    for (int n = 0; n < MLPOT_CHANNELS; ++n)
        for (int u = 0; u < count; ++u) part[n][u] = ((const mlpot_vector *)(parts + (ptrdiff_t)n * d->n_channels))[u];
    for (int l = 0; l <= d->l_max; ++l, columns += d->n_radial, out += d->n_channels) {
        mlpot_vector sum[2];
        for (int u = 0; u < count; ++u) sum[u] = first ? (mlpot_vector){0} : ((mlpot_vector *)out)[u];
        for (int n = 0; n < MLPOT_CHANNELS; ++n)
            for (int u = 0; u < count; ++u) sum[u] += columns[n] * part[n][u];
        for (int u = 0; u < count; ++u) ((mlpot_vector *)out)[u] = sum[u];
    }
}

/* Vectors of channels that share a load of a column: two fit the registers of AVX-512 with their parts. */
#define SHARED (MLPOT_LANES == 8 ? 2 : 1)

/* Channels (l_max + 1, n_channels) of a neighbour from columns (l_max + 1, n_radial) of the table */
static void mix_radial(const mlpot_density *d, int species, const double *columns, double *out)
{
    for (int n = 0; n < d->n_radial; n += MLPOT_CHANNELS) {
        const double *parts = d->mixing + ((ptrdiff_t)species * d->n_radial + n) * d->n_channels;
        int q = 0;
        for (; q + SHARED * MLPOT_LANES <= d->n_channels; q += SHARED * MLPOT_LANES)
            mix_columns(SHARED, d, parts + q, n == 0, columns + n, out + q);
        for (; q < d->n_channels; q += MLPOT_LANES) mix_columns(1, d, parts + q, n == 0, columns + n, out + q);
    }
}

/* Radial functions of one neighbour with the weights of values or of slopes. */
MLPOT_INLINE void radial_of(const mlpot_density *d, int species, const double *knots, const mlpot_vector *weight, int lane,
                            double *columns, double *out)
{
    const int size = (d->l_max + 1) * d->n_radial;
    combine(knots, size, weight, lane, d->mixing ? columns : out);
    if (d->mixing) mix_radial(d, species, columns, out);
}

MLPOT_INLINE void fill_radial(const mlpot_density *d, const mlpot_pairs *p, scratch *s, int slopes)
{
    const ptrdiff_t apart = (ptrdiff_t)3 * (d->l_max + 1) * d->n_radial;
    for (int begin = 0; begin < s->n; begin += MLPOT_LANES) {
        mlpot_vector distances = (mlpot_vector){0} + d->cutoff, slope[6];
        for (int k = begin; k < begin + MLPOT_LANES && k < s->n; ++k)
            distances[k - begin] = p->distances[s->pair[k]];
        const place at = place_of(&d->grid, distances);
        if (slopes) slope_weights((mlpot_vector){0} + d->grid.per_step, at.t, slope);
        for (int k = begin; k < begin + MLPOT_LANES && k < s->n; ++k) {
            const int species = p->species[p->j[s->pair[k]]], lane = k - begin;
            const double *knots = d->table + at.knot[lane] * apart;
            radial_of(d, species, knots, at.weight, lane, s->columns, s->radial + (int64_t)k * s->radial_stride);
            if (slopes) radial_of(d, species, knots, slope, lane, s->columns, s->slope + (int64_t)k * s->radial_stride);
        }
    }
}

static void radial_values(const mlpot_density *d, const mlpot_pairs *p, scratch *s) { fill_radial(d, p, s, 0); }

static void radial_slopes(const mlpot_density *d, const mlpot_pairs *p, scratch *s) { fill_radial(d, p, s, 1); }
