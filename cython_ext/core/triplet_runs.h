/* Factors of runs of triplets: a first neighbour with the second ones of slots k, k + 1, ..., as many vectors as fit the registers.
 *
 * Loops over a run have a length that the compiler knows: what decides between kinds of factors is decided once for all of it, and
 * its vectors do not wait for each other. */
#pragma once
#include "shells.h"

enum { ALONG, X, Y, Z, N_GRADIENTS };

/* Vectors of a run, at most. */
#define RUN 4
#define EACH_OF_RUN _Pragma("GCC unroll 4") for (int v = 0; v < count; ++v)

typedef struct {
    shell_memory near;
    int n_radial;            /* curves of r_ij and r_ik */
    double *values, *slopes; /* (n_radial, capacity) curves times weights, neighbours side by side */
    double *by_value;        /* (n_radial, capacity) dE/d of these values */
    mlpot_vector *by_first;  /* (n_shapes) of one neighbour */
    double *gradients;       /* (N_GRADIENTS, capacity) dE/d of the length of every slot, but for `by_value`, and of its unit vector X, Y, Z */
    mlpot_vector *sums;      /* (n_functions) */
    mlpot_vector *apart, *d_apart;     /* (n_apart, RUN) functions of r_jk, and their slopes divided by it */
    mlpot_vector *angular, *d_angular; /* (n_angular, RUN) without their constant factors */
    mlpot_vector *curve, *d_curve;     /* (n_columns) of r_jk or the angle */
    double *cotangent, *d_cotangent;   /* (n_functions) of one pair of groups, times the factors of `angular`, `d_angular` */
    double *d_of_first;                /* (n_functions) d_cotangent times the values of one neighbour */
    int n_apart;             /* polynomials, then columns of curves */
    double *memory;
} triplet_functions_memory;

typedef struct {
    mlpot_vector unit[RUN][3], cosine[RUN];     /* unit vectors of the second neighbours */
    mlpot_vector distance[RUN], squares[RUN];   /* r_k, r_jk^2, where there are functions of r_jk */
    mlpot_vector mask;                        /* 0 where a lane of the first vector does not count; those of the others all do */
    double first[3];                          /* unit vector of the first neighbour */
} triplet_run;

MLPOT_INLINE mlpot_vector roots(mlpot_vector x)
{
    for (int lane = 0; lane < MLPOT_LANES; ++lane) x[lane] = sqrt(x[lane]);
    return x;
}

/* Second neighbours from slot k on, of which only those beyond `after` count. */
MLPOT_INLINE void gather_run(const int count, const shell_memory *s, int j, int k, int after, triplet_run *at)
{
    const double *of_first = s->unit + j / MLPOT_LANES * 3 * MLPOT_LANES + j % MLPOT_LANES;
    for (int a = 0; a < 3; ++a) at->first[a] = of_first[a * MLPOT_LANES];
    EACH_OF_RUN
    {
        for (int a = 0; a < 3; ++a) at->unit[v][a] = ((const mlpot_vector *)(s->unit + 3 * (k + v * MLPOT_LANES)))[a];
        at->cosine[v] = at->unit[v][0] * at->first[0] + at->unit[v][1] * at->first[1] + at->unit[v][2] * at->first[2];
    }
    at->mask = (mlpot_vector){0} + 1.0;
    for (int lane = 0; lane < MLPOT_LANES && k + lane <= after; ++lane) at->mask[lane] = 0.0;
}

/* Curves at x, (n_columns, lanes). Not inlined, like all that takes long: what surrounds it keeps its registers. */
static __attribute__((noinline)) void curves_of_lanes(const mlpot_curves *t, mlpot_vector x, int slopes, double *out, double *d_out)
{
    const double *knots[MLPOT_LANES];
    mlpot_vector value[6], slope[6];
    double rows[2][MLPOT_LANES][MLPOT_CHANNELS] __attribute__((aligned(64)));
    locate(t, x, knots, value, slopes ? slope : NULL);
    for (int n = 0; n < t->n_columns; n += MLPOT_CHANNELS, out += MLPOT_CHANNELS * MLPOT_LANES) {
        for (int lane = 0; lane < MLPOT_LANES; ++lane)
            for (int part = 0; part < MLPOT_CHANNELS; part += MLPOT_LANES) {
                mlpot_vector sum = {0}, d_sum = {0};
                for (int a = 0; a < 6; ++a) {
                    const mlpot_vector knot = *(const mlpot_vector *)(knots[lane] + (ptrdiff_t)a * t->n_columns + n + part);
                    sum += value[a][lane] * knot;
                    if (slopes) d_sum += slope[a][lane] * knot;
                }
                *(mlpot_vector *)(rows[0][lane] + part) = sum;
                if (slopes) *(mlpot_vector *)(rows[1][lane] + part) = d_sum;
            }
        for (int part = 0; part < MLPOT_CHANNELS; part += MLPOT_LANES) {
            transpose_block(rows[0][0] + part, MLPOT_CHANNELS, out + part * MLPOT_LANES, MLPOT_LANES);
            if (slopes) transpose_block(rows[1][0] + part, MLPOT_CHANNELS, d_out + part * MLPOT_LANES, MLPOT_LANES);
        }
        if (slopes) d_out += MLPOT_CHANNELS * MLPOT_LANES;
    }
}

/* r_jk^2, not from the cosine: the digits of close neighbours would be lost. */
MLPOT_INLINE void squares_of_run(const int count, const shell_memory *s, int j, int k, triplet_run *at)
{
    EACH_OF_RUN
    {
        at->distance[v] = *(const mlpot_vector *)(s->distance + k + v * MLPOT_LANES);
        at->squares[v] = (mlpot_vector){0};
        for (int a = 0; a < 3; ++a) {
            const mlpot_vector apart = at->unit[v][a] * at->distance[v] - at->first[a] * s->distance[j];
            at->squares[v] += apart * apart;
        }
    }
}

/* Polynomials of r_jk^2 take no root, and read no table at scattered places. */
MLPOT_INLINE void polynomials_apart(const int count, const mlpot_even_polynomials *t, const triplet_run *at, int slopes,
                                    triplet_functions_memory *w)
{
    for (int n = 0; n < t->n; ++n) {
        const double *c = t->coefficients + (ptrdiff_t)n * (t->degree + 1), end = t->end_squares[n], scale = 2.0 / end;
        mlpot_vector x[RUN], h[RUN], d_h[RUN];
        EACH_OF_RUN
        {
            x[v] = scale * at->squares[v] - 1.0;
            h[v] = (mlpot_vector){0} + c[0];
            d_h[v] = (mlpot_vector){0};
        }
        for (int k = 1; k <= t->degree; ++k)
            EACH_OF_RUN
            {
                if (slopes) d_h[v] = d_h[v] * x[v] + h[v];
                h[v] = h[v] * x[v] + c[k];
            }
        EACH_OF_RUN
        {
            mlpot_vector near;
            for (int lane = 0; lane < MLPOT_LANES; ++lane) near[lane] = at->squares[v][lane] < end ? 1.0 : 0.0;
            w->apart[n * RUN + v] = near * h[v];
            if (slopes) w->d_apart[n * RUN + v] = 2.0 * scale * near * d_h[v];
        }
    }
}

static __attribute__((noinline)) void curves_apart(const mlpot_triplet_functions *t, const triplet_run *at, int v, int slopes,
                                                   triplet_functions_memory *w)
{
    const mlpot_vector between = roots(at->squares[v]);
    mlpot_vector inverse;
    for (int lane = 0; lane < MLPOT_LANES; ++lane) inverse[lane] = between[lane] > 0.0 ? 1.0 / between[lane] : 0.0;
    curves_of_lanes(&t->apart, between, slopes, (double *)w->curve, (double *)w->d_curve);
    for (int n = 0; n < t->apart.n_columns; ++n) {
        w->apart[(t->even.n + n) * RUN + v] = w->curve[n];
        if (slopes) w->d_apart[(t->even.n + n) * RUN + v] = w->d_curve[n] * inverse;
    }
}

/* Windows of the angle: sin(theta / 2) and cos(theta / 2) are half the lengths of a difference and of a sum of unit vectors,
 * which keeps the digits of nearly collinear triplets. */
static __attribute__((noinline)) void angle_windows(const mlpot_triplet_functions *t, const triplet_run *at, int v, int slopes,
                                                    triplet_functions_memory *w)
{
    mlpot_vector less = {0}, more = {0}, place, inner;
    for (int a = 0; a < 3; ++a) {
        less += (at->unit[v][a] - at->first[a]) * (at->unit[v][a] - at->first[a]);
        more += (at->unit[v][a] + at->first[a]) * (at->unit[v][a] + at->first[a]);
    }
    for (int lane = 0; lane < MLPOT_LANES; ++lane) {
        const int acute = at->cosine[v][lane] >= 0.0;
        const double half = 0.5 * sqrt(acute ? less[lane] : more[lane]);
        place[lane] = acute ? half : 1.41421356237309504880 - half;
        inner[lane] = -0.25 / (half > 1e-9 ? half : 1e-9); /* the slope of a curve at either end is 0 */
    }
    curves_of_lanes(&t->windows, place, slopes, (double *)w->curve, (double *)w->d_curve);
    for (int a = 0; a < t->n_angular; ++a) {
        if (t->window[a] < 0) continue;
        w->angular[a * RUN + v] = w->curve[t->window[a]];
        if (slopes) w->d_angular[a * RUN + v] = w->d_curve[t->window[a]] * inner;
    }
}

/* x^exponent */
MLPOT_INLINE void run_of_powers(const int count, const mlpot_vector *x, int exponent, mlpot_vector *out)
{
    mlpot_vector square[RUN];
    EACH_OF_RUN
    {
        square[v] = x[v];
        out[v] = exponent & 1 ? x[v] : (mlpot_vector){0} + 1.0;
    }
    while (exponent >>= 1) {
        EACH_OF_RUN square[v] *= square[v];
        if (exponent & 1) EACH_OF_RUN out[v] *= square[v];
    }
}

/* A power that is not whole; its base is never below 0. */
static __attribute__((noinline)) mlpot_vector broken_power(mlpot_vector x, double exponent)
{
    for (int lane = 0; lane < MLPOT_LANES; ++lane) x[lane] = pow(x[lane] > 0.0 ? x[lane] : 0.0, exponent);
    return x;
}

/* ((1 + lambda cos) / 2)^zeta, and ^(zeta - 1) for its slope */
MLPOT_INLINE void angle_powers(const int count, const mlpot_triplet_functions *t, const triplet_run *at, int slopes,
                               triplet_functions_memory *w)
{
    for (int a = 0; a < t->n_angular; ++a) {
        if (t->window[a] >= 0) continue;
        const double zeta = t->zeta[a], half = 0.5 * t->lambda[a];
        mlpot_vector base[RUN], below[RUN];
        EACH_OF_RUN base[v] = 0.5 + half * at->cosine[v];
        if (zeta == (int)zeta)
            run_of_powers(count, base, (int)zeta - 1, below);
        else
            EACH_OF_RUN below[v] = broken_power(base[v], zeta - 1.0);
        EACH_OF_RUN
        {
            w->angular[a * RUN + v] = base[v] * below[v];
            if (slopes) w->d_angular[a * RUN + v] = below[v];
        }
    }
}

MLPOT_INLINE void factors_of_run(const int count, const mlpot_triplet_functions *t, const triplet_run *at, int slopes,
                                 triplet_functions_memory *w)
{
    polynomials_apart(count, &t->even, at, slopes, w);
    for (int v = 0; v < count && t->apart.n_segments; ++v) curves_apart(t, at, v, slopes, w);
    for (int v = 0; v < count && t->windows.n_segments; ++v) angle_windows(t, at, v, slopes, w);
    angle_powers(count, t, at, slopes, w);
}

/* Constant factors of an angular factor and of its slope: A = 2 ((1 + lambda cos) / 2)^zeta */
MLPOT_INLINE double angular_factor(const mlpot_triplet_functions *t, int a) { return t->window[a] < 0 ? 2.0 : 1.0; }
MLPOT_INLINE double d_angular_factor(const mlpot_triplet_functions *t, int a)
{
    return t->window[a] < 0 ? t->lambda[a] * t->zeta[a] : 1.0;
}
