/* The exponential function of vectors. */
#pragma once
#include "vectors.h"

typedef int64_t long_integers __attribute__((vector_size(8 * MLPOT_LANES)));

/* exp(x) for x <= 0, accurate to the last one or two digits: 2^n exp(r), |r| <= ln(2) / 2, Taylor's polynomial of degree 12. */
MLPOT_INLINE mlpot_vector exponential(mlpot_vector x)
{
    static const double inverse_factorial[] = {1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
                                               1. / 5040,      1. / 720,      1. / 120,     1. / 24,     1. / 6,
                                               1. / 2,         1.,            1.};
    const double shift = 0x1.8p52;
    const mlpot_vector least = (mlpot_vector){0} - 708.0;
    const long_integers below = x < least;
    x = (mlpot_vector)(((long_integers)x & ~below) | ((long_integers)least & below));
    const mlpot_vector shifted = x * 1.44269504088896340736 + shift, n = shifted - shift;
    const mlpot_vector r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    mlpot_vector sum = (mlpot_vector){0} + inverse_factorial[0];
    for (int k = 1; k < 13; ++k) sum = sum * r + inverse_factorial[k];
    return sum * (mlpot_vector)(((long_integers)shifted + 1023) << 52);
}
