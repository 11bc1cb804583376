/* Pair gradients of an ensemble for the centres of a block, and their way to forces: a block stays in the cache, where gradients of
 * all pairs would pass through memory several times. Threads compute blocks in any order and add them up in that of the blocks, so
 * results are bitwise the same for any number of threads. */
#pragma once
#include "pair_gradients.h"
#include "scratch.h"

typedef float of_members __attribute__((vector_size(4 * MLPOT_MEMBERS), aligned(4 * MLPOT_MEMBERS)));
typedef double in_double __attribute__((vector_size(8 * MLPOT_MEMBERS), aligned(8 * MLPOT_MEMBERS)));
#define OF_PAIR (3 * MLPOT_MEMBERS)

typedef struct {
    int n;                   /* neighbours in hand */
    int32_t *pairs;          /* (capacity) */
    float *gradients;        /* (capacity, 3, MLPOT_MEMBERS) */
    int ends[MLPOT_BLOCK];   /* of the neighbours of each centre */
    double virial[9 * MLPOT_MEMBERS];
} member_block;

/* Room for the neighbours of any block; centres NULL: the first ones. */
static int member_block_create(const mlpot_pairs *p, int64_t n_centres, const int32_t *centres, member_block *b)
{
    int64_t most = 1;
    for (int64_t begin = 0; begin < n_centres; begin += MLPOT_BLOCK) {
        int64_t n = 0;
        for (int64_t k = begin; k < n_centres && k < begin + MLPOT_BLOCK; ++k) {
            const int64_t centre = centres ? centres[k] : k;
            n += p->offsets[centre + 1] - p->offsets[centre];
        }
        if (n > most) most = n;
    }
    const size_t n_gradients = lines((size_t)most * OF_PAIR / 2);
    double *memory = aligned(n_gradients + lines((size_t)most / 2 + 1));
    b->gradients = (float *)memory;
    b->pairs = (int32_t *)(memory + n_gradients);
    return memory ? 0 : -1;
}

static void member_block_begin(member_block *b)
{
    b->n = 0;
    memset(b->virial, 0, sizeof b->virial);
}

/* All neighbours of n centres in turn, without gradients yet; `shift` of every centre: numbers of its pairs minus their rows. */
static void member_block_place(const mlpot_pairs *p, int n, const int32_t *centres, int64_t *shift, member_block *b)
{
    for (int k = 0; k < n; b->ends[k++] = b->n) {
        const int64_t begin = p->offsets[centres[k]], end = p->offsets[centres[k] + 1];
        shift[k] = begin - b->n;
        for (int64_t pair = begin; pair < end; ++pair) b->pairs[b->n++] = (int32_t)pair;
    }
    memset(b->gradients, 0, sizeof(float) * OF_PAIR * (size_t)b->n);
}

/* The virial of centre `k` of the block, whose gradients are complete. */
static void member_block_virial(const mlpot_pairs *p, int k, member_block *b)
{
    in_double sums[6]; /* xx, yy, zz, yz, xz, xy */
    for (int a = 0; a < 6; ++a) sums[a] = (in_double){0};
    for (int row = k ? b->ends[k - 1] : 0; row < b->ends[k]; ++row) {
        const double *vector = p->vectors + 3 * (int64_t)b->pairs[row];
        const of_members *single = (const of_members *)(b->gradients + (ptrdiff_t)row * OF_PAIR);
        in_double gradient[3];
        for (int a = 0; a < 3; ++a) {
            gradient[a] = __builtin_convertvector(single[a], in_double);
            sums[a] += vector[a] * gradient[a];
        }
        sums[3] += vector[1] * gradient[2] + vector[2] * gradient[1];
        sums[4] += vector[0] * gradient[2] + vector[2] * gradient[0];
        sums[5] += vector[0] * gradient[1] + vector[1] * gradient[0];
    }
    mlpot_add_column_virials(MLPOT_MEMBERS, (const double *)sums, b->virial);
}

/* Centre `k` of the block is complete: its neighbours are those behind the ones before. */
static void member_block_end(const mlpot_pairs *p, int k, member_block *b)
{
    b->ends[k] = b->n;
    member_block_virial(p, k, b);
}

/* All of a block with n centres, from the first one on where `centres` is NULL. */
static void member_block_add(const mlpot_pairs *p, int n, int64_t first, const int32_t *centres, const member_block *b,
                             const mlpot_member_sums *to)
{
    for (int row = 0; to->gradients && row < b->n; ++row)
        for (int c = 0; c < OF_PAIR; ++c) to->gradients[(int64_t)b->pairs[row] * OF_PAIR + c] += b->gradients[(ptrdiff_t)row * OF_PAIR + c];
    if (!to->forces) return;
    for (int k = 0, row = 0; k < n; row = b->ends[k++])
        mlpot_add_centre_forces(centres ? centres[k] : first + k, b->ends[k] - row, b->pairs + row, p->j, OF_PAIR,
                                b->gradients + (ptrdiff_t)row * OF_PAIR, to->forces);
    for (int c = 0; c < 9 * MLPOT_MEMBERS; ++c) to->virial[c] += b->virial[c];
}
