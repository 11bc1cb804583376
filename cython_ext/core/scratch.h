/* Work memory of one thread, and the neighbours of the current centre. */
#pragma once
#include "vectors.h"

typedef struct {
    int capacity;            /* capacity in neighbours, a multiple of MLPOT_LANES */
    int n;                   /* neighbours of the current centre */
    int32_t *pair;           /* (capacity) index of the pair, sorted by group of channels */
    int *group_end;          /* (n_groups) */
    int radial_stride;       /* (l_max + 1) * widest block */
    double *inverse;         /* (capacity) 1 / distance */
    double *unit;            /* (capacity / lanes, 3, lanes) unit vectors */
    double *columns;         /* (l_max + 1, n_radial) of one neighbour, before they are mixed */
    double *radial, *slope;  /* (capacity, radial_stride) */
    double *ylm;             /* (capacity / lanes, n_harmonics, lanes) */
    double *grad;            /* (capacity / lanes, n_harmonics, 3, lanes) gradients of the solid harmonics */
    double *sums;            /* (capacity, 4, lanes) of gradients */
    double *c;               /* (lanes, n_harmonics, n_channels) as many centres, or one */
    void *memory;
} scratch;

/* whole cache lines: every array of doubles begins on one */
static size_t lines(size_t n) { return (n + 7) / 8 * 8; }

static int widest(const mlpot_density *d)
{
    int w = 0;
    for (int g = 0; g < d->n_groups; ++g)
        if (d->width[g] > w) w = d->width[g];
    return w;
}

static int scratch_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, scratch *s)
{
    int64_t most = 1;
    for (int64_t i = 0; i < n_atoms; ++i)
        if (p->offsets[i + 1] - p->offsets[i] > most) most = p->offsets[i + 1] - p->offsets[i];
    size_t capacity = lines((size_t)most);
    size_t n_lm = (size_t)mlpot_n_harmonics(d), n_radial = (size_t)(d->l_max + 1) * widest(d);
    size_t n_columns = (size_t)(d->l_max + 1) * d->n_radial;
    size_t sizes[] = {lines((capacity + 1) / 2), lines((size_t)d->n_groups / 2 + 1), capacity, 3 * capacity, n_columns,
                      capacity * n_radial, capacity * n_radial, capacity * n_lm, 3 * capacity * n_lm,
                      4 * capacity * MLPOT_LANES,
                      n_lm * d->n_channels * MLPOT_LANES};
    size_t total = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; ++k) total += sizes[k];
    double *memory = aligned(total);
    if (!memory) return -1;
    memset(memory, 0, total * sizeof(double));
    s->memory = memory;
    s->capacity = (int)capacity;
    s->n = 0;
    s->radial_stride = (int)n_radial;
    s->pair = (int32_t *)memory;
    s->group_end = (int *)(memory += sizes[0]);
    s->inverse = (memory += sizes[1]);
    s->unit = (memory += sizes[2]);
    s->columns = (memory += sizes[3]);
    s->radial = (memory += sizes[4]);
    s->slope = (memory += sizes[5]);
    s->ylm = (memory += sizes[6]);
    s->grad = (memory += sizes[7]);
    s->sums = (memory += sizes[8]);
    s->c = memory + sizes[9];
    return 0;
}

static void scratch_free(scratch *s)
{
    free(s->memory);
    s->memory = NULL;
}

/* Neighbours within the cutoff, ordered by the block of channels they fill (a stable counting sort). */
static void gather_neighbours(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, scratch *s)
{
    int n = 0;
    for (int g = 0; g < d->n_groups; ++g) {
        for (int64_t k = p->offsets[centre]; k < p->offsets[centre + 1]; ++k)
            if (p->distances[k] < d->cutoff && d->group[p->species[p->j[k]]] == g) s->pair[n++] = (int32_t)k;
        s->group_end[g] = n;
    }
    s->n = n;
    for (int k = 0; k < n; ++k) {
        int64_t pair = s->pair[k];
        const double inverse = s->inverse[k] = 1.0 / p->distances[pair];
        double *unit = s->unit + (k / MLPOT_LANES) * 3 * MLPOT_LANES + k % MLPOT_LANES;
        for (int a = 0; a < 3; ++a) unit[a * MLPOT_LANES] = p->vectors[3 * pair + a] * inverse;
    }
    for (int k = n; k % MLPOT_LANES; ++k) {  /* idle lanes hold a harmless direction */
        double *unit = s->unit + (k / MLPOT_LANES) * 3 * MLPOT_LANES + k % MLPOT_LANES;
        unit[0] = unit[MLPOT_LANES] = 0.0;
        unit[2 * MLPOT_LANES] = 1.0;
    }
}
