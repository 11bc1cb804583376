/* k(s) = exp((s - 1) / length_scale^2) of the overlap s of two environments: a Gaussian of the distance of normalised features. */
#pragma once
#include "exponential.h"

MLPOT_INLINE void gaussian_kernel(double per_square, mlpot_vector s, mlpot_vector *value, mlpot_vector *slope)
{
    *value = exponential(per_square * (s - 1.0));
    *slope = per_square * *value;
}
