/* Vectors of the instruction set that a file is compiled for: MLPOT_LANES doubles, set by isa_*.c. */
#ifndef MLPOT_VECTORS_H
#define MLPOT_VECTORS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mlpot_core.h"

#define MLPOT_INLINE static inline __attribute__((always_inline))

typedef double mlpot_vector __attribute__((vector_size(8 * MLPOT_LANES), aligned(8 * MLPOT_LANES)));
typedef float mlpot_single __attribute__((vector_size(8 * MLPOT_LANES), aligned(8 * MLPOT_LANES)));

/* Vectors in a panel: as many centres share a row of features. */
#define MLPOT_PARTS (MLPOT_PANEL / MLPOT_LANES)
/* Centres treated together between two products: what they need stays in the L2 cache. */
#define MLPOT_BLOCK 64
/* Centres treated together where there are no products. */
#define MLPOT_FEW MLPOT_PANEL

/* A thread without a block would only spin at the barrier. */
#define BLOCKS(n_centres, size) (((n_centres) + (size)-1) / (size))
#define BLOCK_SIZE(n_centres, block, size) \
    (int)((n_centres) - (block) * (size) < (size) ? (n_centres) - (block) * (size) : (size))
static int team(int n_threads, int64_t n_blocks) { return n_blocks < n_threads ? (int)n_blocks : n_threads; }

MLPOT_INLINE double sum_lanes(mlpot_vector v)
{
    double sum = 0.0;
    for (int lane = 0; lane < MLPOT_LANES; ++lane) sum += v[lane];
    return sum;
}

/* (lanes, size) -> (size, lanes), idle lanes 0, and back: along rows, since what lies far apart costs a line for each element
 * unless the next ones come right after it. */
MLPOT_INLINE void to_lanes(ptrdiff_t size, const double *rows, double *lanes)
{
    for (ptrdiff_t k = 0; k < size; ++k) {
        mlpot_vector v;
        for (int lane = 0; lane < MLPOT_LANES; ++lane) v[lane] = rows[lane * size + k];
        ((mlpot_vector *)lanes)[k] = v;
    }
}

MLPOT_INLINE void from_lanes(ptrdiff_t size, const double *lanes, double *rows)
{
    for (ptrdiff_t k = 0; k < size; ++k)
        for (int lane = 0; lane < MLPOT_LANES; ++lane) rows[lane * size + k] = lanes[k * MLPOT_LANES + lane];
}

static void *aligned(size_t n_doubles)
{
    size_t bytes = (n_doubles * sizeof(double) + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

#endif
