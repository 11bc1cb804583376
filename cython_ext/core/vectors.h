/* Vectors of the instruction set that a file is compiled for: MLPOT_LANES doubles, set by isa_*.c. */
#ifndef MLPOT_VECTORS_H
#define MLPOT_VECTORS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mlpot_tables.h"

#define MLPOT_INLINE static inline __attribute__((always_inline))

typedef double mlpot_vector __attribute__((vector_size(8 * MLPOT_LANES), aligned(8 * MLPOT_LANES)));
typedef float mlpot_single __attribute__((vector_size(8 * MLPOT_LANES), aligned(8 * MLPOT_LANES)));

/* Vectors in a panel: as many centres share a row of features. */
#define MLPOT_PARTS (MLPOT_PANEL / MLPOT_LANES)
/* Centres processed together between two products: their data stay in the L2 cache. */
#define MLPOT_BLOCK 64
/* Centres processed together in loops without products. */
#define MLPOT_FEW MLPOT_PANEL

/* A thread without a block would only wait at the barrier. */
#define BLOCKS(n_centres, size) (((n_centres) + (size)-1) / (size))
#define BLOCK_SIZE(n_centres, block, size) \
    (int)((n_centres) - (block) * (size) < (size) ? (n_centres) - (block) * (size) : (size))
static int team(int n_threads, int64_t n_blocks) { return n_blocks < n_threads ? (int)n_blocks : n_threads; }

/* Keeps in a register what is used twice: as a memory operand it is loaded for each use, and loads cost as much as products. */
#if defined(__x86_64__) && defined(__GNUC__)
#define KEEP(vector) __asm__("" : "+v"(vector))
#else
#define KEEP(vector) ((void)(vector))
#endif

MLPOT_INLINE mlpot_vector whole_power(mlpot_vector x, int exponent)
{
    mlpot_vector result = (mlpot_vector){0} + 1.0;
    for (; exponent > 0; exponent >>= 1, x *= x)
        if (exponent & 1) result *= x;
    return result;
}

#ifdef __clang__
#define SHUFFLE(places, x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(places, x, y, ...) __builtin_shuffle(x, y, (places){__VA_ARGS__})
#endif
#define LIST(...) __VA_ARGS__
#define EXCHANGE(row, places, r, a, b, low, high)    \
    {                                                \
        const row x = r[a], y = r[b];                \
        r[a] = SHUFFLE(places, x, y, low);           \
        r[b] = SHUFFLE(places, x, y, high);          \
    }

/* Eight rows of eight numbers become columns; `row` is their type, `places` that of as many integers of the same size. */
#define TRANSPOSE_EIGHT(row, places, r)                                                                                        \
    _Pragma("GCC unroll 4") for (int i = 0; i < 8; i += 2)                                                                     \
        EXCHANGE(row, places, r, i, i + 1, LIST(0, 8, 2, 10, 4, 12, 6, 14), LIST(1, 9, 3, 11, 5, 13, 7, 15))                   \
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; ++i)                                                                        \
        EXCHANGE(row, places, r, i + i / 2 * 2, i + i / 2 * 2 + 2, LIST(0, 1, 8, 9, 4, 5, 12, 13),                             \
                 LIST(2, 3, 10, 11, 6, 7, 14, 15))                                                                             \
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; ++i)                                                                        \
        EXCHANGE(row, places, r, i, i + 4, LIST(0, 1, 2, 3, 8, 9, 10, 11), LIST(4, 5, 6, 7, 12, 13, 14, 15))

typedef int64_t lane_places __attribute__((vector_size(8 * MLPOT_LANES)));

/* In pairs, so that no addition waits for all the others. */
MLPOT_INLINE double sum_lanes(mlpot_vector v)
{
#if MLPOT_LANES == 8
    v += SHUFFLE(lane_places, v, v, 4, 5, 6, 7, 0, 1, 2, 3);
#endif
#if MLPOT_LANES >= 4
    return (v[0] + v[2]) + (v[1] + v[3]);
#else
    return v[0] + v[1];
#endif
}

/* A block of (lanes, lanes) numbers, its rows `apart` from each other, becomes columns of another. */
MLPOT_INLINE void transpose_block(const double *from, ptrdiff_t apart, double *to, ptrdiff_t to_apart)
{
    mlpot_vector r[MLPOT_LANES];
    for (int i = 0; i < MLPOT_LANES; ++i) memcpy(&r[i], from + i * apart, sizeof r[i]);
#if MLPOT_LANES == 8
    TRANSPOSE_EIGHT(mlpot_vector, lane_places, r)
#elif MLPOT_LANES == 4
    EXCHANGE(mlpot_vector, lane_places, r, 0, 1, LIST(0, 4, 2, 6), LIST(1, 5, 3, 7))
    EXCHANGE(mlpot_vector, lane_places, r, 2, 3, LIST(0, 4, 2, 6), LIST(1, 5, 3, 7))
    EXCHANGE(mlpot_vector, lane_places, r, 0, 2, LIST(0, 1, 4, 5), LIST(2, 3, 6, 7))
    EXCHANGE(mlpot_vector, lane_places, r, 1, 3, LIST(0, 1, 4, 5), LIST(2, 3, 6, 7))
#else
    EXCHANGE(mlpot_vector, lane_places, r, 0, 1, LIST(0, 2), LIST(1, 3))
#endif
    for (int i = 0; i < MLPOT_LANES; ++i) memcpy(to + i * to_apart, &r[i], sizeof r[i]);
}

/* Coefficients (lanes, n_lm, n_channels) -> (n_channels, n_lm, lanes) and back. The orders of a channel, which are summed over,
 * come to lie side by side: with 64 channels between them they would all compete for the same few lines of the cache. */
MLPOT_INLINE void to_lanes(ptrdiff_t n_lm, ptrdiff_t n_channels, const double *rows, double *lanes)
{
    for (ptrdiff_t q = 0; q < n_channels; q += MLPOT_LANES)
        for (ptrdiff_t lm = 0; lm < n_lm; ++lm)
            transpose_block(rows + lm * n_channels + q, n_lm * n_channels, lanes + (q * n_lm + lm) * MLPOT_LANES,
                            n_lm * MLPOT_LANES);
}

MLPOT_INLINE void from_lanes(ptrdiff_t n_lm, ptrdiff_t n_channels, const double *lanes, double *rows)
{
    for (ptrdiff_t q = 0; q < n_channels; q += MLPOT_LANES)
        for (ptrdiff_t lm = 0; lm < n_lm; ++lm)
            transpose_block(lanes + (q * n_lm + lm) * MLPOT_LANES, n_lm * MLPOT_LANES, rows + lm * n_channels + q,
                            n_lm * n_channels);
}

static void *aligned(size_t n_doubles)
{
    size_t bytes = (n_doubles * sizeof(double) + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

#endif
