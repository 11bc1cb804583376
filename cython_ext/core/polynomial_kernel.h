/* k(s) = s^zeta of the overlap s of two environments. */
#pragma once
#include "vectors.h"

/* zeta where it is a whole number, otherwise 0. */
MLPOT_INLINE int whole_exponent(double zeta) { return zeta == floor(zeta) && zeta < 64 ? (int)zeta : 0; }

/* s^(zeta-1); negative overlaps count as 0 unless zeta is an integer */
MLPOT_INLINE mlpot_vector power_below(mlpot_vector s, double zeta, int whole)
{
    if (whole > 0) return whole_power(s, whole - 1);
    mlpot_vector below;
    for (int lane = 0; lane < MLPOT_LANES; ++lane) below[lane] = s[lane] > 0.0 ? pow(s[lane], zeta - 1.0) : 0.0;
    return below;
}

MLPOT_INLINE void polynomial_kernel(double zeta, int whole, mlpot_vector s, mlpot_vector *value, mlpot_vector *slope)
{
    const mlpot_vector below = power_below(s, zeta, whole);
    *value = below * s;
    *slope = zeta * below;
}
