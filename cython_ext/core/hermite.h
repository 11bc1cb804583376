/* Quintic Hermite tables (mlpot/descriptors/radial_table.py), MLPOT_LANES places at a time.
 *
 * Knots k at start + k / per_step hold value, step * slope and step^2 * curvature of every column; the knot `kink` is
 * stored twice, so an interval reads two adjacent knots and never interpolates across a jump of the curvature. */
#pragma once
#include "vectors.h"

typedef int32_t integers __attribute__((vector_size(4 * MLPOT_LANES)));

typedef struct {
    integers knot;          /* left knot as stored; the right one follows */
    mlpot_vector t;         /* place in the interval, 0 to 1 */
    mlpot_vector weight[6]; /* weights of value, slope, curvature at the left knot, then at the right one */
} place;

/* Weights of the values at t in [0, 1] of an interval. */
MLPOT_INLINE void value_weights(mlpot_vector t, mlpot_vector *weight)
{
    const mlpot_vector s = 1.0 - t, t3 = t * t * t, s3 = s * s * s;
    weight[0] = s3 * (1.0 + 3.0 * t + 6.0 * t * t);
    weight[1] = s3 * t * (1.0 + 3.0 * t);
    weight[2] = 0.5 * s3 * t * t;
    weight[3] = t3 * (1.0 + 3.0 * s + 6.0 * s * s);
    weight[4] = -t3 * s * (1.0 + 3.0 * s);
    weight[5] = 0.5 * t3 * s * s;
}

MLPOT_INLINE place place_of(const mlpot_grid *grid, mlpot_vector distance)
{
    place at;
    const mlpot_vector x = (distance - grid->start) * grid->per_step;
    integers k = __builtin_convertvector(x, integers);
    const integers last = (integers){0} + (grid->n_intervals - 1), beyond = k > last;
    k = (k & ~beyond) | (last & beyond);
    at.knot = k - (k >= grid->kink); /* a true comparison is -1 */
    at.t = x - __builtin_convertvector(k, mlpot_vector);
    value_weights(at.t, at.weight);
    return at;
}

/* Weights of the slopes in the same order. */
MLPOT_INLINE void slope_weights(mlpot_vector per_step, mlpot_vector t, mlpot_vector *weight)
{
    const mlpot_vector s = 1.0 - t, t2 = t * t * per_step, s2 = s * s * per_step;
    weight[0] = -30.0 * t * t * s2;
    weight[1] = s2 * (1.0 - 3.0 * t) * (1.0 + 5.0 * t);
    weight[2] = 0.5 * s2 * t * (2.0 - 5.0 * t);
    weight[3] = 30.0 * s * s * t2;
    weight[4] = t2 * (1.0 - 3.0 * s) * (1.0 + 5.0 * s);
    weight[5] = -0.5 * t2 * s * (2.0 - 5.0 * s);
}

