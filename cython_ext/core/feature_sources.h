/* One interface to all sums of which features are maps: values of some centres, and pullbacks of several cotangents at once, which
 * share what is known of the neighbours. */
#pragma once
#include "angle_histogram_loops.h"
#include "bispectrum_loops.h"
#include "feature_maps.h"
#include "moments.h"
#include "triplet_functions.h"

typedef union {
    moments_memory moments;
    triplet_functions_memory triplets;
    sphere_memory spheres;
    histogram_memory histograms;
} source_memory;

static int source_create(const mlpot_source *s, const mlpot_pairs *p, int64_t n_atoms, source_memory *w)
{
    switch (s->kind) {
    case MLPOT_MOMENTS: return moments_create(&s->moments, p, n_atoms, &w->moments);
    case MLPOT_TRIPLETS: return triplet_functions_create(&s->triplets, p, n_atoms, &w->triplets);
    case MLPOT_BISPECTRUM: return sphere_create(&s->bispectrum, p, n_atoms, 0, &w->spheres);
    default: return histogram_create(&s->histograms, p, n_atoms, &w->histograms);
    }
}

static void source_free(const mlpot_source *s, source_memory *w)
{
    switch (s->kind) {
    case MLPOT_MOMENTS: moments_free(&w->moments); break;
    case MLPOT_TRIPLETS: triplet_functions_free(&w->triplets); break;
    case MLPOT_BISPECTRUM: free(w->spheres.memory); break;
    default: histogram_free(&w->histograms);
    }
}

/* Centres that are processed together. */
MLPOT_INLINE int centres_at_once(const mlpot_source *s) { return s->kind == MLPOT_BISPECTRUM ? MLPOT_LANES : 1; }

/* Sums of `count` centres, at most `centres_at_once`; rows are `apart`. */
static void source_values(const mlpot_source *s, const mlpot_pairs *p, const int32_t *centres, int count, source_memory *w,
                          double *out, ptrdiff_t apart)
{
    switch (s->kind) {
    case MLPOT_MOMENTS: moments_of_centre(&s->moments, p, centres[0], &w->moments, out); break;
    case MLPOT_TRIPLETS:
        place_triplets(&s->triplets, p, centres[0], 0, &w->triplets);
        triplets_of_centre(&s->triplets, NULL, out, &w->triplets);
        break;
    case MLPOT_BISPECTRUM:
        place_spheres(&s->bispectrum, p, centres, count, &w->spheres);
        sphere_values(&s->bispectrum, count, &w->spheres, out, apart);
        break;
    default:
        place_triangles(&s->histograms, p, centres[0], 0, &w->histograms);
        histograms_of_centre(&s->histograms, out, &w->histograms);
    }
}

static void place_source(const mlpot_source *s, const mlpot_pairs *p, const int32_t *centres, int count, source_memory *w)
{
    switch (s->kind) {
    case MLPOT_MOMENTS: slopes_of_moments(&s->moments, p, centres[0], &w->moments); break;
    case MLPOT_TRIPLETS: place_triplets(&s->triplets, p, centres[0], 1, &w->triplets); break;
    case MLPOT_BISPECTRUM: place_spheres(&s->bispectrum, p, centres, count, &w->spheres); break;
    default: place_triangles(&s->histograms, p, centres[0], 1, &w->histograms);
    }
}

/* Of the centres that were placed; rows of cotangents are `apart`. */
static void pull_back_source(const mlpot_source *s, int count, const double *cotangent, ptrdiff_t apart, source_memory *w,
                             const pair_sink *to)
{
    switch (s->kind) {
    case MLPOT_MOMENTS: pull_back_moments(&s->moments, cotangent, &w->moments, to); break;
    case MLPOT_TRIPLETS: pull_back_triplets(&s->triplets, cotangent, &w->triplets, to); break;
    case MLPOT_BISPECTRUM: sphere_vjp(&s->bispectrum, count, cotangent, apart, &w->spheres, to); break;
    default: pull_back_histograms(&s->histograms, cotangent, &w->histograms, to);
    }
}
