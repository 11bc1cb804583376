/* Memory of one thread, and the neighbours of the centre in hand. */
#include <stdlib.h>
#include <string.h>

#include "mlpot_core.h"

void *mlpot_aligned(size_t n_doubles)
{
    size_t bytes = (n_doubles * sizeof(double) + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

static size_t round_up(size_t n) { return (n + MLPOT_LANES - 1) / MLPOT_LANES * MLPOT_LANES; }

static int widest(const mlpot_density *d)
{
    int w = 0;
    for (int g = 0; g < d->n_groups; ++g)
        if (d->width[g] > w) w = d->width[g];
    return w;
}

int mlpot_scratch_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, mlpot_scratch *s)
{
    int64_t most = 1;
    for (int64_t i = 0; i < n_atoms; ++i)
        if (p->offsets[i + 1] - p->offsets[i] > most) most = p->offsets[i + 1] - p->offsets[i];
    size_t capacity = round_up((size_t)most);
    size_t n_lm = (size_t)mlpot_n_harmonics(d), n_radial = (size_t)(d->l_max + 1) * widest(d);
    size_t sizes[] = {round_up((capacity + 1) / 2), round_up((size_t)d->n_groups / 2 + 1), 3 * capacity,
                      capacity * n_radial, capacity * n_radial, capacity * n_lm, 3 * capacity * n_lm,
                      n_lm * d->n_channels};
    size_t total = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; ++k) total += sizes[k];
    double *memory = mlpot_aligned(total);
    if (!memory) return -1;
    memset(memory, 0, total * sizeof(double));
    s->memory = memory;
    s->capacity = (int)capacity;
    s->n = 0;
    s->radial_stride = (int)n_radial;
    s->pair = (int32_t *)memory;
    s->group_end = (int *)(memory += sizes[0]);
    s->unit = (memory += sizes[1]);
    s->radial = (memory += sizes[2]);
    s->slope = (memory += sizes[3]);
    s->ylm = (memory += sizes[4]);
    s->grad = (memory += sizes[5]);
    s->c = memory + sizes[6];
    return 0;
}

void mlpot_scratch_free(mlpot_scratch *s)
{
    free(s->memory);
    s->memory = NULL;
}

/* Neighbours within the cutoff, ordered by the block of channels they fill (a stable counting sort). */
void mlpot_gather_neighbours(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s)
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
        double inverse = 1.0 / p->distances[pair];
        double *unit = s->unit + (k / MLPOT_LANES) * 3 * MLPOT_LANES + k % MLPOT_LANES;
        for (int a = 0; a < 3; ++a) unit[a * MLPOT_LANES] = p->vectors[3 * pair + a] * inverse;
    }
    for (int k = n; k % MLPOT_LANES; ++k) {  /* idle lanes hold a harmless direction */
        double *unit = s->unit + (k / MLPOT_LANES) * 3 * MLPOT_LANES + k % MLPOT_LANES;
        unit[0] = unit[MLPOT_LANES] = 0.0;
        unit[2 * MLPOT_LANES] = 1.0;
    }
}
