/* Energies of many-body terms whose features are affine maps of sums over neighbours and triplets.
 *
 *   v          sums of all sources, one after the other, in the order of their own outputs
 *   f = A v + b                                      A, b: of the centre's element, with means and deviations of the data in them
 *   p = (f, offset) / |(f, offset)|                  compared with points by a kernel, as in mlpot_tables.h
 *   e = constant + slopes . f + f . C f / 2          linear potentials, without points */
#ifndef MLPOT_FEATURE_MAPS_H
#define MLPOT_FEATURE_MAPS_H

#include "acsf.h"
#include "angle_histograms.h"
#include "bispectrum.h"
#include "mlpot_tables.h"

enum { MLPOT_MOMENTS, MLPOT_TRIPLETS, MLPOT_BISPECTRUM, MLPOT_HISTOGRAMS, MLPOT_SOURCES };

/* What is summed; `kind` tells which member counts. */
typedef struct {
    int kind;
    mlpot_moments moments;
    mlpot_triplet_functions triplets;
    mlpot_bispectrum bispectrum;
    mlpot_angle_histograms histograms;
} mlpot_source;

typedef struct {
    int n_sources;
    const mlpot_source *sources;
    int n_values;                /* sums of all sources */
    int n_features;              /* rows of A */
    const int32_t *rows;         /* (n_features + 1) first entry of every row of A */
    const int32_t *columns;      /* (n_entries) */
    const double *coefficients;  /* (n_entries) */
    const double *shift;         /* (n_features) b */
    double offset;               /* 0: none */
} mlpot_feature_map;

/* A polynomial of features that are not normalised, without an offset. */
typedef struct {
    double constant;             /* eV */
    const double *slopes;        /* (n_features rounded up to MLPOT_TILE) eV, the rest 0 */
    const double *curvatures;    /* C from mlpot_pack with MLPOT_TILE: (n_features, n_features); NULL: 0 */
} mlpot_linear_model;

static inline int mlpot_n_values(const mlpot_source *s)
{
    switch (s->kind) {
    case MLPOT_MOMENTS: return mlpot_n_moments(&s->moments);
    case MLPOT_TRIPLETS: return mlpot_n_triplet_functions(&s->triplets);
    case MLPOT_BISPECTRUM: return s->bispectrum.n_features;
    default: return mlpot_n_histograms(&s->histograms) * s->histograms.n_bins;
    }
}
/* Features with the offset. */
static inline int mlpot_n_mapped(const mlpot_feature_map *f) { return f->n_features + (f->offset > 0.0); }

/* As mlpot_local_energies, with kernels of points, or with a linear model (then `m` is NULL). 0, -1 if out of memory, or, without an
 * offset, 1 + the first centre whose features are all 0 and have no direction. */
int64_t mlpot_mapped_energies(const mlpot_feature_map *f, const mlpot_pairs *p, const mlpot_kernel_model *m,
                              const mlpot_linear_model *linear, int64_t n_atoms, int64_t n_centres, const int32_t *centres,
                              int n_threads, const mlpot_results *r);

#endif
